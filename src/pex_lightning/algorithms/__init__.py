"""LightningModules, one a method, and how to get one back from its checkpoint."""

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.algorithms.iql import IQL
from pex_lightning.algorithms.load import ALGORITHMS, load_algorithm
from pex_lightning.algorithms.online_iql import OnlineIQL
from pex_lightning.algorithms.pex import PEX

__all__ = ["ALGORITHMS", "IQL", "PEX", "Algorithm", "OnlineIQL", "load_algorithm"]
