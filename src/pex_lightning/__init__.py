"""Policy Expansion (PEX, arXiv 2302.00935) on PyTorch Lightning and TorchRL.

Importing this package is cheap: torch is loaded when a submodule, `load_policy` or
`train` needs it.
Importing `pex_lightning.envs` registers the environments with gymnasium.
"""

import importlib
from typing import TYPE_CHECKING, Any

from pex_lightning.version import __version__

if TYPE_CHECKING:
    from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
    from pex_lightning.callbacks.train import train
    from pex_lightning.export.loaded import LoadedPolicy, load_policy

__all__ = ["EvaluationSettings", "LoadedPolicy", "__version__", "load_policy", "train"]

_WHERE = {
    "EvaluationSettings": "callbacks.evaluation_settings",
    "LoadedPolicy": "export.loaded",
    "load_policy": "export.loaded",
    "train": "callbacks.train",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
