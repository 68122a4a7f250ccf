"""One update of an algorithm of this package, plain or compiled, on batches that are at hand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import cycle

from cases.setting import Floats, Work, autocast, flat
from pex_lightning.algorithms import Algorithm
from pex_lightning.updates.batch import Batch
from pex_lightning.updates.compilation.compiler import Compiler
from pex_lightning.updates.compiled import CompiledUpdate


def plain(algorithm: Algorithm, batches: Iterable[Batch], precision: str) -> Work:
    """As ``training_step`` does it without ``compile_update``."""
    optimizer = algorithm.configure_optimizers()
    supply = cycle(batches)

    def step() -> None:
        with autocast(precision):
            losses = algorithm.losses(next(supply))
            optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            algorithm.after_step()

    return Work(step, lambda: learnt(algorithm))


def compiled(algorithm: Algorithm, batches: Iterable[Batch], precision: str) -> Work:
    """As ``training_step`` does it with ``compile_update``."""
    batches = list(batches)
    supply = cycle(batches)
    compiler = Compiler()
    with autocast(precision):
        update = CompiledUpdate(algorithm, algorithm.configure_optimizers(), batches[0], compiler)
    update.finish()
    compiler.close()

    def step() -> None:
        update(next(supply))

    return Work(step, lambda: learnt(algorithm))


def learnt(algorithm: Algorithm) -> Floats:
    """Its parameters, flat."""
    return flat(parameter for parameter in algorithm.parameters() if parameter.requires_grad)
