"""What every method states, and what is the same in all of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import nn

from pex_lightning.algorithms.checks import (
    check_can_be_made_again,
    check_clipping,
    check_has_its_parameters,
    check_one,
    check_precision,
    method_name,
)
from pex_lightning.algorithms.networks import Networks
from pex_lightning.algorithms.saved import load_extras, save_extras
from pex_lightning.data.description import DataDescription
from pex_lightning.data.stage_data import stage_data
from pex_lightning.errors import UserError, check_range
from pex_lightning.handover import Checkpoint, check_hand_over
from pex_lightning.handover.checkpoint import PLACES, Part
from pex_lightning.handover.moments import check_restored, take_moments
from pex_lightning.nn.distributions import Distribution
from pex_lightning.policies.acting import ActingPolicy, Episode
from pex_lightning.seeding import derive_seed, global_seed, set_random_state
from pex_lightning.updates.batch import Diagnostics
from pex_lightning.updates.clipping import ClipAlgorithm, Clipping
from pex_lightning.updates.compiled import CompileChoice
from pex_lightning.updates.compiled_policy import CompiledPolicy
from pex_lightning.updates.executor import UpdateExecutor
from pex_lightning.updates.rule import UpdateRule


class Algorithm(UpdateRule):
    """Base of every method: `training_step` takes a chunk and updates, nothing else.

    A chunk is a TensorDict `[K, B]` in TED layout; each of its `K` batches is one gradient
    step and one `trainer.global_step`. A method states in one file what it takes over
    (`takes`, `start`), whether it acts (`acts`), its networks (`build`), its parameter
    groups (`groups`), its losses (`losses`, `after_step`), its schedules
    (`learning_rate_factors`, `follow`) and who acts (`acting_policy`). The terms of
    `losses` and the `groups` have the same names. A constructor passes on what it does not use
    by `**kwargs`, so that a hyper-parameter stands once.

    Args:
        gamma: Discount a step.
        tau: Polyak step of the target critic.
        learning_rate: Of Adam, for all networks.
        hidden_dims: Sizes of every network's hidden layers.
        num_q: Number of Q-functions; the smallest value counts.
        min_q_of: Number of target Q-functions, drawn at random for every use, of which the
            smallest value counts; all by default. RLPD (arXiv 2302.02948) has 2 of 10.
        layer_norm: Whether the critic's hidden layers are normalised before the ReLU, as in RLPD.
        policy_distribution: `gaussian`, whose standard deviation does not depend on the state and
            whose samples are clipped to the action space, or `squashed_gaussian`, SAC's.
        actor_every: Updates for each of which the critic learns, and in the last of which the other
            groups do too; RLPD has 20, and as many updates for each environment step.
        gradient_clip_val: Largest norm (or value) of the gradient over all networks together;
            off by default.
        gradient_clip_algorithm: Clip by `norm` or by `value`.
        compile_update: Whether to compile the whole update into one function: faster, and equal
            up to rounding; Lightning's hooks between backward and step are not called then.
            `auto` does on a GPU, and on a CPU in runs of 100,000 updates or more where there is
            a C++ compiler; there the first 2,000 updates are plain, while another process
            compiles. `true` compiles all of them, and waits for that. Settings such as `beta`
            are compiled in: what a callback makes of them later has no effect.

    Attributes:
        takes: Parts of an offline checkpoint that the method starts from; empty if it starts from
            nothing. A class states it, or a constructor where settings decide.
        acts: Whether it steps an environment while it learns.
        places: Under which prefix of its state dict lies what it can hand over.
        diagnostics: Scalars of the last update, on the device.
        resumed: Whether a checkpoint of this very method was loaded.

    Raises:
        UserError: A value is outside of its range.
    """

    takes: frozenset[Part] = frozenset()
    acts: ClassVar[bool] = False
    places: ClassVar[Mapping[Part, str]] = PLACES

    def __init__(
        self,
        gamma: float = 0.99,
        tau: float = 0.005,
        learning_rate: float = 3e-4,
        hidden_dims: Sequence[int] = (256, 256),
        num_q: int = 2,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: ClipAlgorithm = "norm",
        compile_update: CompileChoice = "auto",
        min_q_of: int | None = None,
        layer_norm: bool = False,
        policy_distribution: Distribution = "gaussian",
        actor_every: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        hidden_dims = [int(size) for size in hidden_dims]
        check_range("--model.gamma", gamma, 0.0 <= gamma <= 1.0, "between 0 and 1")
        check_range("--model.tau", tau, 0.0 < tau <= 1.0, "above 0 and at most 1")
        check_range("--model.learning_rate", learning_rate, learning_rate > 0.0, "above 0")
        check_range("--model.actor_every", actor_every, actor_every >= 1, "at least 1")
        clip_fits = gradient_clip_val is None or gradient_clip_val > 0.0
        check_range("--model.gradient_clip_val", gradient_clip_val, clip_fits, "above 0")
        # The arguments of all constructors of the class, those of a subclass too.
        self.save_hyperparameters()
        self.hparams["hidden_dims"] = hidden_dims
        self.gamma = gamma
        self.tau = tau
        self.learning_rate = learning_rate
        self.networks = Networks(hidden_dims, num_q, min_q_of, layer_norm, policy_distribution)
        self.actor_every = actor_every
        self.clipping = Clipping(gradient_clip_val, gradient_clip_algorithm)
        self.compile_update = compile_update
        self.diagnostics: Diagnostics = {}
        self.resumed = False
        self._given: tuple[Checkpoint, ...] = ()
        self._continued: list[tuple[Checkpoint, tuple[str, ...]]] = []
        self._executor: UpdateExecutor | None = None
        self._collecting: CompiledPolicy | None = None
        self.description: DataDescription | None = None
        self._random_state: Mapping[str, Any] | None = None

    @abstractmethod
    def build(self, data: DataDescription) -> None:
        """Create the networks for this environment."""

    def start(self, given: Sequence[Checkpoint]) -> None:
        """Take over from checkpoints what `takes` says; the networks are there."""

    @abstractmethod
    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """The parameters that learn, in named groups; one Adam trains them."""

    @abstractmethod
    def acting_policy(self) -> ActingPolicy:
        """The policy that collects and is evaluated; it shares this module's parameters."""

    def follow(self, step: int) -> None:
        """Fill buffers that depend on the number of updates: at the start and after every chunk.

        Fill them in place: a new tensor in their place is not what compiled code and the processes
        that collect read.
        """

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Called after every evaluation, in all processes of a run, with its `eval/*`."""

    def on_episodes(self, episodes: Sequence[Episode]) -> None:
        """Called when frames were collected, in all processes, with what ended in this one."""

    def check_files(self, data: DataDescription) -> None:
        """Read the files that settings name, before any stage begins; there are none by default.

        Raises:
            UserError: One cannot be read, or does not fit.
        """

    def name_members(self, members: Mapping[str, Any]) -> None:
        """Name again what a loaded module needs that no checkpoint holds, by members' names.

        Raises:
            UserError: The method has no such members.
        """
        if members:
            raise UserError(f"{method_name(type(self))} has no members to be named.")

    def hand_over(self, *checkpoints: Checkpoint) -> None:
        """Start from these checkpoints; call it before training. A resume needs none.

        Raises:
            UserError: The method takes nothing over, or not these.
        """
        if not self.takes:
            raise UserError(f"{method_name(type(self))} takes nothing over from a checkpoint.")
        self.check_given(checkpoints)
        self._given = checkpoints

    def check_given(self, given: Sequence[Checkpoint]) -> None:
        """Refuse checkpoints that the method cannot start from together.

        Raises:
            UserError: There are others than one, which most methods start from.
        """
        check_one(self, [checkpoint.path for checkpoint in given])

    def attach(self, data: DataDescription) -> None:
        """Build the networks for `data`, and start from what was handed over.

        Raises:
            UserError: A checkpoint that was handed over does not fit.
        """
        for checkpoint in self._given:
            check_hand_over(checkpoint, data, self.takes, self.hparams)
        self.description = data
        self.build(data)
        if self._given:
            self._start()
        self.follow(0)

    def _start(self) -> None:
        paths = ", ".join(str(checkpoint.path) for checkpoint in self._given)
        try:
            self.start(self._given)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"{method_name(type(self))} cannot start from {paths}: {error}"
            ) from error

    def continue_moments(self, checkpoint: Checkpoint, *groups: str) -> None:
        """Let Adam go on with a checkpoint's moments in these groups; call it in `start`.

        An Adam that starts from nothing moves every parameter by its full learning rate at first,
        however small its gradients are, and so shakes a network that has converged.
        """
        self._continued.append((checkpoint, groups))

    @property
    def compiles(self) -> bool:
        """Whether updates are compiled, perhaps not the first ones; known when training starts."""
        return self._executor is not None and self._executor.compiles

    def collecting_policy(self) -> CompiledPolicy:
        """The acting policy for an environment of this process, on a CPU compiled with updates."""
        policy = CompiledPolicy(self.acting_policy())
        self.hold_unregistered("_collecting", policy)
        return policy

    def hold_unregistered(self, name: str, module: nn.Module | None) -> None:
        """Keep a module whose parameters are in the state dict already, by other names."""
        object.__setattr__(self, name, module)

    def configure_model(self) -> None:
        """Build the networks once, from what the data module describes."""
        check_precision(self.trainer.precision, "--trainer")
        check_clipping(self.trainer, self.clipping)
        check_can_be_made_again(self)
        if self.description is None:
            self.attach(stage_data(self.trainer).describe())

    def configure_optimizers(self) -> torch.optim.Adam:
        """One fused Adam with the groups that the method states.

        Raises:
            UserError: The method starts from an offline stage and was given none, or the moments
                of what it was given are damaged.
        """
        if self.takes and not self._given and not self.resumed:
            raise UserError(
                f"{method_name(type(self))} needs an offline stage to start from: "
                "--offline.ckpt_path FILE takes a finished one, an `offline` section in the "
                "configuration trains one; from Python, call hand_over() first."
            )
        groups = [{"name": name, "params": list(found)} for name, found in self.groups().items()]
        acting = {"acting_policy()": self.acting_policy().parameters()}
        check_has_its_parameters(self, {**self.groups(), **acting})
        optimizer = torch.optim.Adam(groups, lr=self.learning_rate, fused=True)
        for checkpoint, names in self._continued:
            take_moments(optimizer, checkpoint, names)
        return optimizer

    def on_train_batch_start(self, batch: TensorDictBase, batch_idx: int) -> None:
        """Stop where the losses of the chunk before are not finite."""
        assert self._executor is not None
        self._executor.check_losses()

    def training_step(self, chunk: TensorDictBase, batch_idx: int) -> None:
        """One gradient step for each of the chunk's `K` batches."""
        assert self._executor is not None
        self.diagnostics = self._executor.run(chunk)
        self.follow(self.global_step)

    def on_train_start(self) -> None:
        """Give this process its own random stream, or the one it was interrupted with."""
        self.follow(self.global_step)
        if self.resumed:
            check_restored(self.trainer.optimizers[0], self.trainer.ckpt_path)
        rank = self.global_rank
        if self._random_state is not None and rank == 0:
            set_random_state(self._random_state)
        else:
            torch.manual_seed(derive_seed("train", global_seed(), rank, self.global_step))
        self._random_state = None
        self._executor = UpdateExecutor(self, self.compile_update, self.clipping, self._collecting)

    def on_train_end(self) -> None:
        """Let go of what was compiled, and of the memory that it holds."""
        if self._executor is not None:
            self._executor.check_losses()
            self._executor.end()
        self.hold_unregistered("_collecting", None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what this is, and keep the random state and the data module's."""
        assert self.description is not None
        save_extras(self, checkpoint, self.description, self.acting_policy().members)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take back what `on_save_checkpoint` kept; random states when training starts."""
        self._random_state = load_extras(self.trainer, checkpoint)
        self.resumed = True
