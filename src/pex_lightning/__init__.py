"""Policy Expansion (PEX, arXiv 2302.00935) on PyTorch Lightning and TorchRL.

Importing this package is cheap: torch is loaded when a submodule needs it. Importing
`pex_lightning.envs` registers the environments with gymnasium.
"""

from pex_lightning.version import __version__

__all__ = ["__version__"]
