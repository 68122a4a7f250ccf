"""Executes the updates of a run and decides which of them are compiled."""

from __future__ import annotations

import logging
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.plugins import MixedPrecision
from tensordict import TensorDictBase
from torch.optim.adam import Adam

from pex_lightning.errors import UserError
from pex_lightning.updates.batch import Batch, Diagnostics, batches
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.compilation.compiler import (
    CompilationError,
    Compiler,
    Function,
    PendingFunction,
    has_compiler,
)
from pex_lightning.updates.compiled import CompileChoice, CompiledUpdate
from pex_lightning.updates.compiled_policy import CompiledPolicy
from pex_lightning.updates.loss_watch import LossWatch
from pex_lightning.updates.plain import PlainUpdate
from pex_lightning.updates.rule import UpdateRule

_log = logging.getLogger(__name__)

WORTH_COMPILING = 100_000
"""Updates in a CPU run above which compiling, about 30 s the first time, saves time overall."""

PLAIN_UPDATES = 2_000
"""Plain updates at the start of a CPU run, during which the compiler works.

The number does not depend on when the compiler is done, so that runs are reproducible.
"""


class UpdateExecutor:
    """Executes the updates of a run, plain or compiled.

    If updates are compiled, so is the policy that collects in this process.

    Args:
        rule: The module that learns, in a trainer that has begun to train.
        choice: Whether the user wants the updates to be compiled.
        clipping: Limit of the gradient.
        collecting: The policy that collects in this process; None if there is none.

    Attributes:
        compiles: Whether updates are compiled, possibly after some plain ones.

    Raises:
        UserError: The user demands compiled updates, but they are not possible.
    """

    def __init__(
        self,
        rule: UpdateRule,
        choice: CompileChoice,
        clipping: Clipping,
        collecting: CompiledPolicy | None,
    ) -> None:
        self._rule = rule
        optimizer: Any = rule.optimizers(use_pl_optimizer=False)
        self._optimizer: Adam = optimizer
        self._choice = choice
        self._clipping = clipping
        self._plain = PlainUpdate(rule, clipping)
        self._watch = LossWatch()
        on_cuda = rule.device.type == "cuda"
        # On a GPU, acting on one state is bound by kernel launches, compiled or not.
        self._collecting = None if on_cuda else collecting
        self._plain_updates = 0 if choice is True or on_cuda else PLAIN_UPDATES
        self._compiler: Compiler | None = None
        self._update: CompiledUpdate | None = None
        self._act: PendingFunction | None = None
        self._failure: str | None = None
        self._results: Diagnostics = {}
        unknown = rule.learning_rate_factors(rule.global_step).keys() - self._plain.groups
        if unknown:
            raise UserError(
                f"learning_rate_factors() names {', '.join(sorted(unknown))}, but the parameter "
                f"groups are {', '.join(sorted(self._plain.groups))}."
            )
        self.compiles = self._decide()
        self._set_learning_rates()

    def run(self, chunk: TensorDictBase) -> Diagnostics:
        """Take one gradient step for each of the `K` batches of a chunk `[K, B]`.

        Returns:
            The diagnostics of the last batch.

        Raises:
            UserError: The user demands compiled updates and compiling failed, or the compiled
                update no longer fits the batch or the module.
        """
        compiled = self._compiled_for(next(batches(chunk)))
        # An update of the critic alone gives only a part of the results.
        results = self._results
        if compiled is None:
            for batch in batches(chunk):
                results = {**results, **self._plain(batch)}
                self._set_learning_rates()
            self._results = results
            return self._watch.keep(results, chunk, self._rule.global_step)
        # Count the step in `global_step`, as Lightning's optimizer wrapper does.
        loop = self._rule.trainer.fit_loop.epoch_loop
        progress = loop.manual_optimization.optim_step_progress
        for batch in batches(chunk):
            results = {**results, **compiled(batch)}
            progress.increment_ready()
            progress.increment_completed()
            self._set_learning_rates()
        # The next replay of a CUDA graph overwrites the results.
        self._results = {name: value.clone() for name, value in results.items()}
        return self._watch.keep(self._results, chunk, self._rule.global_step)

    def check_losses(self) -> None:
        """Make sure that the losses of the last chunk were finite; call it between chunks.

        Raises:
            UserError: One was not.
        """
        self._watch.check()

    def _set_learning_rates(self) -> None:
        factors = self._rule.learning_rate_factors(self._rule.global_step)
        for group in self._optimizer.param_groups:
            group["lr"] = self._rule.learning_rate * factors.get(group["name"], 1.0)

    def _compiled_for(self, batch: Batch) -> CompiledUpdate | None:
        """The compiled update for batches like this one; None if the next updates are plain."""
        if not self.compiles:
            return None
        if self._update is None and self._failure is None:
            self._begin(batch)
        if self._update is None or not self._update.ready:
            if self._rule.global_step < self._plain_updates:
                return None
            self._finish()
        if self._update is not None:
            self._update.check(batch)
        return self._update

    def end(self) -> None:
        """Release the compiled functions and end the compiler."""
        self._update, self._act = None, None
        self._end_compiler()

    def _decide(self) -> bool:
        enough = self._rule.trainer.max_steps >= WORTH_COMPILING
        pays = enough or self._rule.device.type == "cuda"
        if self._choice is False or (self._choice == "auto" and not pays):
            return False
        obstacle = obstacle_to_compiling(self._rule, self._rule.trainer)
        if self._true_everywhere(obstacle is None):
            return True
        obstacle = obstacle or "another process of this run cannot compile"
        if self._choice is True:
            raise UserError(f"--model.compile_update true, but {obstacle}. Give auto or false.")
        _log.warning("The update is not compiled, so it is slower: %s.", obstacle)
        return False

    def _true_everywhere(self, here: bool) -> bool:
        """Whether `here` is true in all processes of the run; all of them have to call this."""
        strategy: Any = self._rule.trainer.strategy
        return bool(strategy.reduce_boolean_decision(here, all=True))

    def _begin(self, batch: Batch) -> None:
        """Begin to compile; a failure is stored for `_finish`, which all processes call."""
        world_size = self._rule.trainer.world_size
        self._compiler = Compiler()
        try:
            self._update = CompiledUpdate(
                self._rule,
                self._optimizer,
                batch,
                self._compiler,
                self._clipping,
                all_reduce=torch.distributed.all_reduce if world_size > 1 else None,
                world_size=world_size,
            )
        except CompilationError as error:
            self._failure = str(error)
            return
        if self._collecting is not None:
            try:
                self._act = self._collecting.begin(self._compiler, batch.observation[:1])
            except CompilationError as error:
                _log.warning("The policy that collects is not compiled, so it is slower: %s", error)
        if self._update.waits:
            plain = f"the plain one goes on until update {self._plain_updates:,}"
            waits = self._rule.global_step >= self._plain_updates
            _log.info(
                "Compiling the update, which takes half a minute the first time; %s "
                "(--model.compile_update false does without).",
                "waiting for it" if waits else plain,
            )

    def _finish(self) -> None:
        """Wait for the compiler; switch to the compiled update in all processes or in none."""
        act: Function | None = None
        try:
            if self._update is not None and self._failure is None:
                self._update.finish()
                act = None if self._act is None else self._act.finish()
        except CompilationError as error:
            self._failure = str(error)
        finally:
            self._end_compiler()
        if not self._true_everywhere(self._failure is None):
            self._go_on_plain(self._failure or "another process of this run could not")
            return
        if self._collecting is not None and act is not None:
            self._collecting.use(act)
        # Free the gradients of the plain updates; the compiled one does not use `.grad`.
        self._rule.zero_grad()

    def _go_on_plain(self, reason: str) -> None:
        """Give up compiling, which failed; go on with plain updates or raise."""
        self.compiles = False
        self.end()
        if self._choice is True:
            raise UserError(
                f"--model.compile_update true, but compiling failed: {reason}. Give false."
            )
        _log.warning("The update is not compiled, so it is slower: compiling failed: %s", reason)

    def _end_compiler(self) -> None:
        if self._compiler is not None:
            self._compiler.close()
            self._compiler = None


def obstacle_to_compiling(rule: UpdateRule, trainer: Trainer) -> str | None:
    """Why a module's updates cannot be compiled with a trainer, or None."""
    device = trainer.strategy.root_device.type
    if scales_gradients(trainer):
        return "--trainer.precision 16-mixed scales gradients, which is not compiled"
    if device not in ("cpu", "cuda"):
        return f"updates on {device} are not compiled"
    if device == "cpu" and not has_compiler():
        return "there is no C++ compiler in the path (g++, clang++ on macOS, or $CXX)"
    return rule.uncompiled_reason()


def scales_gradients(trainer: Trainer) -> bool:
    """Whether the trainer's precision multiplies losses by a factor."""
    plugin = trainer.precision_plugin
    return isinstance(plugin, MixedPrecision) and plugin.scaler is not None
