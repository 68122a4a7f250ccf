"""An algorithm back from its checkpoint, by a name from a fixed list."""

from __future__ import annotations

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.algorithms.iql import IQL
from pex_lightning.algorithms.pex import PEX
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint

ALGORITHMS: dict[str, type[Algorithm]] = {"IQL": IQL, "PEX": PEX}


def load_algorithm(checkpoint: Checkpoint) -> Algorithm:
    """Rebuild the module that wrote ``checkpoint``, with its parameters.

    Raises:
        UserError: The algorithm is unknown, or hyper-parameters or parameters do not fit it.
    """
    name, path = checkpoint.header.algorithm, checkpoint.path
    if name not in ALGORITHMS:
        raise UserError(f"{path} is of algorithm {name!r}; known are {', '.join(ALGORITHMS)}.")
    try:
        module = ALGORITHMS[name](**checkpoint.hyper_parameters)
        module.attach(checkpoint.header.data)
        module.load_state_dict(dict(checkpoint.state_dict))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} does not fit its own description; it is damaged or was altered: {error}"
        ) from error
    return module
