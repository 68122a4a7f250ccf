"""What every algorithm shares: one Adam with named groups, the update loop, the checkpoint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule
from tensordict import TensorDictBase
from torch import Tensor, nn

from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError
from pex_lightning.handover import CHECKPOINT_KEY, CheckpointHeader
from pex_lightning.nn.critic import Critic
from pex_lightning.policies.policy_set import ActingPolicy
from pex_lightning.seeding import derive_seed, global_seed
from pex_lightning.updates.batch import Batch, batches
from pex_lightning.updates.compiled import (
    ClipAlgorithm,
    Clipping,
    CompileChoice,
    CompiledUpdate,
    Losses,
)
from pex_lightning.updates.compiled_policy import CompiledActor
from pex_lightning.updates.executor import Compiling, scales_gradients

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


class Algorithm(LightningModule, ABC):
    """Base of every learner: ``training_step`` takes a chunk and updates, nothing else.

    A chunk is a TensorDict ``[K, B]`` in TED layout; each of its ``K`` batches is one gradient
    step and one ``trainer.global_step``. Networks are built in ``configure_model``, when the data
    module has said what the environment looks like.

    Attributes:
        critic: Q, target and V, at the state-dict prefix ``critic.`` in every algorithm.
        diagnostics: Scalars of the last update, on the device.
        resumed: Whether a checkpoint of this very algorithm was loaded.
    """

    critic: Critic
    diagnostics: Mapping[str, Tensor]

    def __init__(
        self,
        *,
        tau: float,
        learning_rate: float,
        gradient_clip_val: float | None,
        gradient_clip_algorithm: ClipAlgorithm,
        compile_update: CompileChoice,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.compile_update = compile_update
        self.tau = tau
        self.learning_rate = learning_rate
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.diagnostics = {}
        self._compiling: Compiling | None = None
        self._collects: CompiledActor | None = None
        self._data: DataDescription | None = None
        self._random_state: Mapping[str, Any] | None = None
        self.resumed = False

    @abstractmethod
    def build(self, data: DataDescription) -> None:
        """Create the networks for this environment."""

    @abstractmethod
    def actor_parameters(self) -> Iterable[nn.Parameter]:
        """Parameters of the policy that learns."""

    @abstractmethod
    def losses(self, batch: Batch) -> Losses:
        """Every loss on one batch, computed from the networks as they are."""

    @abstractmethod
    def acting_policy(self) -> ActingPolicy:
        """The policy that collects and is evaluated; it shares this module's parameters.

        What its choices depend on beside them has to be in buffers: it may be compiled.
        """

    @property
    def compiles(self) -> bool:
        """Whether updates are compiled, perhaps not the first ones; known when training starts."""
        return self._compiling is not None and self._compiling.compiles

    def collecting_policy(self) -> CompiledActor:
        """The acting policy for an environment of this process, on a CPU compiled with updates."""
        self._collects = CompiledActor(self.acting_policy())
        return self._collects

    def after_step(self) -> None:
        """What follows the optimizer's step: the target's Polyak step."""
        self.critic.update_target(self.tau)

    def actor_learning_rate(self, step: int) -> float:
        """Factor on the actor's learning rate after ``step`` updates; 1 unless overridden."""
        del step
        return 1.0

    def configure_model(self) -> None:
        """Build the networks once, from what the data module describes."""
        self._check_precision()
        if hasattr(self, "critic"):
            return
        describe = getattr(self.trainer.datamodule, "describe", None)  # type: ignore[attr-defined]
        if describe is None:
            raise UserError(
                f"{type(self).__name__} needs a data module of pex-lightning (OfflineData or "
                "OnlineData), which says what the environment looks like; got "
                f"{type(self.trainer.datamodule).__name__}."  # type: ignore[attr-defined]
            )
        self.attach(describe())

    def attach(self, data: DataDescription) -> None:
        """Build the networks for ``data`` (outside of a trainer, to load a checkpoint say)."""
        self._data = data
        self.build(data)

    def configure_optimizers(self) -> torch.optim.Adam:
        """One fused Adam with the groups ``q``, ``v`` and ``actor``."""
        groups = [
            {"name": "q", "params": list(self.critic.q_net.parameters())},
            {"name": "v", "params": list(self.critic.v_net.parameters())},
            {"name": "actor", "params": list(self.actor_parameters())},
        ]
        return torch.optim.Adam(groups, lr=self.learning_rate, fused=True)

    def set_learning_rates(self, optimizer: torch.optim.Adam, step: int) -> None:
        """The rates after ``step`` updates: constant but for the actor's schedule.

        A function of the step alone, so that nothing of it has to be kept for a resume.
        """
        for group in optimizer.param_groups:
            factor = self.actor_learning_rate(step) if group["name"] == "actor" else 1.0
            group["lr"] = self.learning_rate * factor

    def training_step(self, chunk: TensorDictBase, batch_idx: int) -> None:
        """One gradient step for each of the chunk's ``K`` batches."""
        del batch_idx
        update = self._compiling.update_for(next(batches(chunk))) if self._compiling else None
        if update is not None:
            self._train_compiled(update, chunk)
            return
        optimizer: Any = self.optimizers()
        for batch in batches(chunk):
            losses = self.losses(batch)
            optimizer.zero_grad()
            self.manual_backward(losses.total)
            if self.gradient_clip_val is not None:
                self._clip_gradients(optimizer, self.gradient_clip_val)
            optimizer.step()
            self.after_step()
            self.set_learning_rates(optimizer, self.global_step)
        self.diagnostics = losses.diagnostics()

    def _train_compiled(self, update: CompiledUpdate, chunk: TensorDictBase) -> None:
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        # What Lightning's wrapper of the optimizer does: ``global_step`` counts gradient steps.
        progress = self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
        for batch in batches(chunk):
            diagnostics = update(batch)
            progress.increment_ready()
            progress.increment_completed()
            self.set_learning_rates(optimizer, self.global_step)
        # A recorded update writes the next ones into the same memory.
        self.diagnostics = {name: value.clone() for name, value in diagnostics.items()}

    def on_train_start(self) -> None:
        """Give this process its own random stream, or the one it was interrupted with."""
        rank = self.global_rank
        if self._random_state is not None and rank == 0:
            _set_random_state(self._random_state)
        else:
            torch.manual_seed(derive_seed("train", global_seed(), rank, self.global_step))
        self._random_state = None
        optimizer: Any = self.optimizers(use_pl_optimizer=False)
        self.set_learning_rates(optimizer, self.global_step)
        clipping = Clipping(self.gradient_clip_val, self.gradient_clip_algorithm)
        self._compiling = Compiling(self, optimizer, self.compile_update, clipping, self._collects)

    def on_train_end(self) -> None:
        """Let go of what was compiled, and of the memory that it holds."""
        if self._compiling is not None:
            self._compiling.end()
        self._collects = None

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what this is, and keep the random state."""
        assert self._data is not None
        env_steps = getattr(self.trainer.datamodule, "env_steps", 0)  # type: ignore[attr-defined]
        header = CheckpointHeader(type(self).__name__, self._data, self.global_step, env_steps)
        checkpoint[CHECKPOINT_KEY] = header.to_dict()
        checkpoint["random_state"] = _random_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the random state back; it is set when training starts."""
        self._random_state = checkpoint.get("random_state")
        self.resumed = True

    def _check_precision(self) -> None:
        check_precision(self.trainer.precision, "--trainer")
        if scales_gradients(self.trainer) and self.gradient_clip_val is not None:
            raise UserError(
                "--trainer.precision 16-mixed scales the gradients, which cannot be clipped "
                "before they are scaled back. Use bf16-mixed, or leave gradient_clip_val out."
            )

    def _clip_gradients(self, optimizer: Any, limit: float) -> None:
        """Clip over all networks together, as ``Trainer(gradient_clip_val=…)`` would."""
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if self.gradient_clip_algorithm == "norm":
            nn.utils.clip_grad_norm_(parameters, limit)
        else:
            nn.utils.clip_grad_value_(parameters, limit)


def check_precision(precision: str, flag: str) -> None:
    """Refuse a precision that cannot act in an environment.

    Args:
        precision: In Lightning's canonical form, for example ``"32-true"``.
        flag: Where the Trainer's arguments are on the command line; named in the error.

    Raises:
        UserError: It is none of ``PRECISIONS``.
    """
    if precision not in PRECISIONS:
        raise UserError(
            f"{flag}.precision is {precision}; environments speak float32, so it must be one of "
            f"{', '.join(PRECISIONS)}."
        )


def _random_state() -> dict[str, Any]:
    state: dict[str, Any] = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _set_random_state(state: Mapping[str, Any]) -> None:
    torch.set_rng_state(state["cpu"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
