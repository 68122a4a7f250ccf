"""IQL that goes on learning while it acts (the row "Buffer" of PEX, arXiv 2302.00935)."""

from __future__ import annotations

from typing import Any

from pex_lightning.algorithms.iql import IQL


class OnlineIQL(IQL):
    """IQL's losses on a mix of offline rows and of what its own policy collects.

    It starts from nothing. With `--data.offline_fraction 0` it learns from what it collects
    alone, the row "Scratch" of the same paper.

    Args:
        cosine_decay: Whether the actor's learning rate falls to 0 along a cosine over the
            trainer's `max_steps`; off in the papers' online stages.
        kwargs: As for IQL.
    """

    acts = True

    def __init__(self, cosine_decay: bool = False, **kwargs: Any) -> None:
        super().__init__(cosine_decay=cosine_decay, **kwargs)
