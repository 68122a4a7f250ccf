"""Whether a run's updates are compiled, from which one on, and what happens where that fails."""

from __future__ import annotations

import logging
from typing import Any, Protocol

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins import MixedPrecision
from torch.optim.adam import Adam

from pex_lightning.algorithms.batch import Batch
from pex_lightning.algorithms.compiled import Clipping, CompileChoice, CompiledUpdate, Learner
from pex_lightning.algorithms.compiled_actor import CompiledActor
from pex_lightning.compilation.compiler import CompilationError, Compiler, has_compiler
from pex_lightning.errors import UserError

_log = logging.getLogger(__name__)

WORTH_COMPILING = 100_000
"""Updates of a run on a CPU from which compiling, half a minute at first, is soon regained."""

PLAIN_UPDATES = 2_000
"""Updates with which a run on a CPU begins while it is being compiled.

A fixed number, whether the compiler is done sooner or later: the same run gives the same numbers.
"""


class TrainedLearner(Learner, Protocol):
    """A learner in a trainer, which is a ``LightningModule``."""

    @property
    def trainer(self) -> Trainer:
        """The trainer."""

    @property
    def global_step(self) -> int:
        """Updates so far."""

    @property
    def device(self) -> torch.device:
        """Where it learns."""

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients."""


class Compiling:
    """Compiles a run's update, and the policy that collects in this process with it.

    Args:
        learner: What learns.
        optimizer: Its Adam.
        choice: The user's.
        clipping: Limit of the gradient.
        actor: Collects in this process; None where nothing does.

    Attributes:
        compiles: Whether updates are compiled, the first ones perhaps excepted.

    Raises:
        UserError: The user wants it and it cannot be.
    """

    def __init__(
        self,
        learner: TrainedLearner,
        optimizer: Adam,
        choice: CompileChoice,
        clipping: Clipping,
        actor: CompiledActor | None,
    ) -> None:
        self._learner = learner
        self._optimizer = optimizer
        self._choice = choice
        self._clipping = clipping
        on_cuda = learner.device.type == "cuda"
        # One row on a GPU is bound by launches either way.
        self._actor = None if on_cuda else actor
        self._plain_updates = 0 if choice is True or on_cuda else PLAIN_UPDATES
        self._compiler: Compiler | None = None
        self._update: CompiledUpdate | None = None
        self.compiles = self._decided()

    def update_for(self, batch: Batch) -> CompiledUpdate | None:
        """What to do the next updates with, all of the same shape; None is the plain update.

        Raises:
            UserError: The user wants it compiled and that failed.
        """
        if not self.compiles:
            return None
        try:
            if self._update is None:
                self._update = self._begun(batch)
            if not self._update.ready:
                if self._learner.global_step < self._plain_updates:
                    return None
                self._finish(self._update)
        except CompilationError as error:
            self._go_on_plain(error)
        return self._update

    def end(self) -> None:
        """Let go of what was compiled, and of the compiler."""
        self._update = None
        self._end_compiler()

    def _decided(self) -> bool:
        if self._choice is False:
            return False
        obstacle = self._obstacle()
        if obstacle is not None and self._choice is True:
            raise UserError(f"--model.compile_update true, but {obstacle}. Give auto or false.")
        enough = self._learner.trainer.max_steps >= WORTH_COMPILING
        if self._choice == "auto" and not enough and self._learner.device.type != "cuda":
            return False
        if obstacle is not None:
            _log.warning("The update is not compiled, so it is slower: %s.", obstacle)
        return obstacle is None

    def _obstacle(self) -> str | None:
        device = self._learner.device.type
        if scales_gradients(self._learner.trainer):
            return "--trainer.precision 16-mixed scales gradients, which is not compiled"
        if device not in ("cpu", "cuda"):
            return f"updates on {device} are not compiled"
        if device == "cpu" and not has_compiler():
            return "there is no C++ compiler in the path (g++, clang++ on macOS, or $CXX)"
        return None

    def _begun(self, batch: Batch) -> CompiledUpdate:
        world_size = self._learner.trainer.world_size
        self._compiler = Compiler()
        update = CompiledUpdate(
            self._learner,
            self._optimizer,
            batch,
            self._compiler,
            self._clipping,
            all_reduce=torch.distributed.all_reduce if world_size > 1 else None,
            world_size=world_size,
        )
        if self._actor is not None:
            self._actor.begin(self._compiler, batch.observation[:1])
        if update.waits:
            plain = f"the plain one goes on until update {self._plain_updates:,}"
            waits = self._learner.global_step >= self._plain_updates
            _log.info(
                "Compiling the update, which takes half a minute the first time; %s "
                "(--model.compile_update false does without).",
                "waiting for it" if waits else plain,
            )
        return update

    def _finish(self, update: CompiledUpdate) -> None:
        """Wait for the compiler; all processes of a run go over to what it made, or none."""
        failure: CompilationError | None = None
        try:
            update.finish()
            if self._actor is not None:
                self._actor.finish()
        except CompilationError as error:
            failure = error
        finally:
            self._end_compiler()
        strategy: Any = self._learner.trainer.strategy
        if not strategy.reduce_boolean_decision(failure is None, all=True):
            raise failure or CompilationError("another process of this run could not")
        # The compiled update has none.
        self._learner.zero_grad()

    def _go_on_plain(self, error: CompilationError) -> None:
        """Compiling failed, before anything was changed."""
        if self._choice is True:
            raise UserError(
                f"--model.compile_update true, but compiling failed: {error}. Give false."
            ) from error
        _log.warning("The update is not compiled, so it is slower: compiling failed: %s", error)
        self.compiles = False
        self.end()

    def _end_compiler(self) -> None:
        if self._compiler is not None:
            self._compiler.close()
            self._compiler = None


def scales_gradients(trainer: Trainer) -> bool:
    """Whether the trainer's precision multiplies losses by a factor."""
    plugin = trainer.precision_plugin
    return isinstance(plugin, MixedPrecision) and plugin.scaler is not None
