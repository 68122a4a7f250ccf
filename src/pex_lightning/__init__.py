"""Policy Expansion (PEX, arXiv 2302.00935) on PyTorch Lightning and TorchRL.

Importing this package is cheap: torch is loaded when a submodule, or `load_policy`, needs it.
Importing `pex_lightning.envs` registers the environments with gymnasium.
"""

from typing import TYPE_CHECKING, Any

from pex_lightning.version import __version__

if TYPE_CHECKING:
    from pex_lightning.export.loaded import LoadedPolicy, load_policy

__all__ = ["LoadedPolicy", "__version__", "load_policy"]


def __getattr__(name: str) -> Any:
    if name not in ("LoadedPolicy", "load_policy"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from pex_lightning.export import loaded  # noqa: PLC0415

    return getattr(loaded, name)
