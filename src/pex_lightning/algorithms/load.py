"""A method back from its checkpoint, by a known name or as a class that the user gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pex_lightning.algorithms.awac import AWAC, OnlineAWAC
from pex_lightning.algorithms.base import Algorithm
from pex_lightning.algorithms.bt import BT
from pex_lightning.algorithms.calql import CalQL, OnlineCalQL
from pex_lightning.algorithms.checks import method_name
from pex_lightning.algorithms.direct import Direct
from pex_lightning.algorithms.iql import IQL
from pex_lightning.algorithms.jsrl import JSRL
from pex_lightning.algorithms.online_iql import OnlineIQL
from pex_lightning.algorithms.pex import PEX
from pex_lightning.algorithms.rlpd import RLPD
from pex_lightning.algorithms.wsrl import WSRL
from pex_lightning.errors import UserError, shortened
from pex_lightning.handover import Checkpoint

ALGORITHMS: dict[str, type[Algorithm]] = {
    method.__name__: method
    for method in (
        IQL,
        OnlineIQL,
        PEX,
        Direct,
        AWAC,
        OnlineAWAC,
        JSRL,
        BT,
        RLPD,
        WSRL,
        CalQL,
        OnlineCalQL,
    )
}


def load_algorithm(
    checkpoint: Checkpoint,
    method: type[Algorithm] | None = None,
    members: Mapping[str, Any] | None = None,
) -> Algorithm:
    """Rebuild the module that wrote `checkpoint`, with its parameters.

    Args:
        checkpoint: The checkpoint.
        method: Its class, where that is none of this package's. A checkpoint names its class, but
            no module is imported because a file says so.
        members: By name, what the checkpoint's policy set has that is code (a function, a path, or
            `module:function`); also of that none is run because a file says so.

    Raises:
        UserError: The method is unknown or another one, or hyper-parameters or parameters do not
            fit it.
    """
    name, path = checkpoint.header.algorithm, checkpoint.path
    if method is None:
        method = ALGORITHMS.get(name)
    elif method_name(method) != name:
        raise UserError(f"--model is {method_name(method)}, but {path} is of {name}.")
    if method is None:
        raise UserError(
            f"{path} is of {name!r}, which is none of this package's methods "
            f"({', '.join(ALGORITHMS)}). If you trust that module, say so with --model {name}; "
            "from Python, give its class to load_algorithm."
        )
    try:
        module = method(**checkpoint.hyper_parameters)
        module.name_members(members or {})
        module.attach(checkpoint.header.data)
        module.load_state_dict(dict(checkpoint.state_dict))
    except UserError:
        raise
    except Exception as error:
        # Altered values reach constructors and networks of every kind.
        raise UserError(
            f"{path} does not fit its own description; it is damaged or was altered: "
            f"{shortened(' '.join(str(error).split()), 500)}"
        ) from error
    return module
