"""A policy back from a run, to be asked for actions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pex_lightning.algorithms import Algorithm, load_algorithm
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.policies.acting import ActingPolicy
from pex_lightning.seeding import own_random_stream

if TYPE_CHECKING:
    from tensordict.nn import TensorDictModuleBase

Which = Literal["last", "best"]
Observations = TypeVar("Observations", Tensor, npt.NDArray[Any])


@dataclass(frozen=True)
class LastChoice:
    """Who acted in the last call of `predict`, for each of its `B` observations.

    Attributes:
        policy_index: [B] int64, indices into `members`; -1 where the method does not say.
        members: [B] names of who acted.
        probs: [B, M] float32, the probability with which each member would act if the choice
            were drawn; 0 where the method does not say.
    """

    policy_index: npt.NDArray[np.int64]
    members: tuple[str, ...]
    probs: npt.NDArray[np.float32]


class LoadedPolicy:
    """The policy of a checkpoint, with what it remembers within episodes.

    A few methods let a guide act at the beginning of an episode, or for several steps in a row, and
    remember how long. This memory is kept here, one for each row of what `predict` is given, and
    `reset` begins an episode. Policies without memory need no `reset`.

    Args:
        policy: Who acts, on its device.
        checkpoint: Where it comes from.
        seed: Of the actions that are drawn at random.
    """

    def __init__(self, policy: ActingPolicy, checkpoint: Checkpoint, seed: int = 0) -> None:
        self.policy = policy
        self.checkpoint = checkpoint
        self.device = _device_of(policy)
        self.last_choice: LastChoice | None = None
        self._memory: Tensor | None = None
        with own_random_stream(seed, self.device):
            self._random = _random_state(self.device)

    @property
    def members(self) -> tuple[str, ...]:
        """Names of the policies that act, in the order of `policy_index`."""
        return self.policy.members

    @property
    def env(self) -> EnvSpec:
        """The environment that it was trained in: id, sizes and action bounds."""
        return self.checkpoint.header.data.env

    @property
    def memory_size(self) -> int:
        """Floats that are remembered from step to step; 0 if nothing is."""
        return self.policy.memory_size

    def predict(
        self, observation: Observations, deterministic: bool = True, *, seed: int | None = None
    ) -> Observations:
        """Actions for observations, inside the action space.

        Args:
            observation: One observation `[obs_dim]` or many `[B, obs_dim]`, NumPy or a tensor on
                any device, of any type of real numbers.
            deterministic: Whether to leave nothing to chance: modes, and of several members the
                best choice. It is what `pex-lightning test` does where that draws nothing; methods
                with `eval_epsilon` draw there with that probability, and never do here. A choice
                that favours no member takes that of the largest value, and a learner that is
                being admitted counts once its share is 0.5. False draws as in training.
            seed: Of this call's random numbers; by default the policy's own stream goes on.

        Returns:
            `[action_dim]` or `[B, action_dim]` float32, NumPy or a tensor on the device of the
            observation, as that was given.

        Raises:
            ValueError: The observation has another shape, or holds NaN or infinity, or the number
                of rows changed within episodes of a policy that remembers.
        """
        states = self._checked(observation)
        remembers = self.policy.remembers(deterministic)
        memory = self._memory_for(states) if remembers else self.policy.initial_memory(states)
        with torch.no_grad():
            if deterministic:
                choice = self.policy.decide(states, memory)
            else:
                choice = self._drawn(states, memory, seed)
        if remembers:
            self._memory = choice.memory
        index = choice.policy_index.cpu().numpy()
        names = tuple(self.members[i] if i >= 0 else "" for i in index)
        self.last_choice = LastChoice(index, names, choice.choice_probs.float().cpu().numpy())
        action = choice.action.float()
        action = action[0] if observation.ndim == 1 else action
        if isinstance(observation, Tensor):
            return action.to(observation.device)
        return action.cpu().numpy()

    def reset(self, mask: npt.ArrayLike | Tensor | None = None) -> None:
        """Begin an episode: forget what is remembered.

        Args:
            mask: [B] bool, the rows whose episodes begin; by default all, and their number may be
                another one from now on.

        Raises:
            ValueError: The mask has another length than the last observations.
        """
        if mask is None:
            self._memory = None
            return
        rows = torch.as_tensor(mask, dtype=torch.bool).to(self.device)
        if self._memory is None:
            return
        if rows.shape != self._memory.shape[:1]:
            raise ValueError(
                f"reset: the mask has shape {list(rows.shape)}, expected "
                f"[{self._memory.shape[0]}], a value for each of the last observations."
            )
        self._memory = torch.where(rows.unsqueeze(-1), 0.0, self._memory)

    def as_tensordict_module(self, deterministic: bool = True) -> TensorDictModuleBase:
        """A `TensorDictModule` for TorchRL's environments and collectors.

        It reads `observation` and writes `action`, `policy_index` and `choice_probs`. It shares
        the parameters, but not the memory: that travels in the TensorDict (`policy_memory`), and
        needs `is_init`, which `torchrl.envs.InitTracker` writes.

        Args:
            deterministic: As for `predict`; False draws from torch's global generator.
        """
        from pex_lightning.export.td_module import ActingModule  # noqa: PLC0415

        return ActingModule(self.policy, self.device, deterministic)

    def __repr__(self) -> str:
        header = self.checkpoint.header
        return (
            f"LoadedPolicy({header.algorithm}, {self.env.id}, members={self.members}, "
            f"updates={header.gradient_steps}, device={str(self.device)!r})"
        )

    def _checked(self, observation: Tensor | npt.NDArray[Any]) -> Tensor:
        size = self.env.obs_dim
        wanted = f"an array or a tensor of shape [{size}] or [B, {size}] ({self.env.id})"
        if not isinstance(observation, (np.ndarray, Tensor)):
            raise ValueError(f"observation: found {type(observation).__name__}, expected {wanted}.")
        if observation.ndim not in (1, 2) or observation.shape[-1] != size or not len(observation):
            raise ValueError(
                f"observation: found the shape {list(observation.shape)}, expected {wanted}."
            )
        real = isinstance(observation, Tensor) or observation.dtype.kind in "fiub"
        if not real or (isinstance(observation, Tensor) and observation.is_complex()):
            raise ValueError(f"observation: found {observation.dtype}, expected real numbers.")
        states = torch.as_tensor(observation).detach().to(self.device, torch.float32)
        states = states.reshape(-1, size)
        finite = torch.isfinite(states).all(-1)
        if not finite.all():
            raise ValueError(
                f"observation: {int((~finite).sum())} of {len(states)} rows hold NaN or infinity; "
                "a policy is only asked for finite numbers."
            )
        return states

    def _memory_for(self, states: Tensor) -> Tensor:
        if self._memory is None:
            return self.policy.initial_memory(states)
        if self._memory.shape[0] != states.shape[0]:
            raise ValueError(
                f"observation: found {states.shape[0]} rows after {self._memory.shape[0]}; this "
                "policy remembers something for each row within an episode. Call reset() first."
            )
        return self._memory

    def _drawn(self, states: Tensor, memory: Tensor, seed: int | None) -> Any:
        with own_random_stream(0 if seed is None else seed, self.device):
            if seed is None:
                _set_random_state(self._random, self.device)
            choice = self.policy.act(states, memory)
            if seed is None:
                self._random = _random_state(self.device)
        return choice


def load_policy(
    path_or_run: str | Path,
    *,
    checkpoint: Which = "last",
    device: torch.device | str = "cpu",
    seed: int = 0,
    method: type[Algorithm] | None = None,
    members: Mapping[str, Any] | None = None,
) -> LoadedPolicy:
    """Load the policy of a run, without executing anything that its files contain.

    Args:
        path_or_run: A checkpoint, or the folder of a run or of one of its stages. Of a run, the
            online stage is taken if it has checkpoints, else the offline stage.
        checkpoint: Which checkpoint of a folder: `last`, or `best`, that of the best evaluation.
        device: Where the policy computes.
        seed: Of the actions that are drawn at random.
        method: The method's class, if it is none of this package's.
        members: By name, what the policy set has that is code (a function, a path, or
            `module:function`).

    Raises:
        UserError: There is no such checkpoint, it cannot be read, or the device cannot be used.
    """
    found = read_checkpoint(find_checkpoint(path_or_run, checkpoint))
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"device {device} cannot be used here: {error}") from error
    module = load_algorithm(found, method, members).to(device).eval().requires_grad_(False)
    return LoadedPolicy(module.acting_policy().eval(), found, seed)


def find_checkpoint(path_or_run: str | Path, checkpoint: Which = "last") -> Path:
    """The checkpoint of a run's folder, of a stage's folder, or the file itself.

    Raises:
        UserError: There is none.
    """
    if checkpoint not in get_args(Which):
        raise UserError(f"checkpoint is {checkpoint!r:.100}; it must be last or best.")
    path = Path(path_or_run)
    if not path.is_dir():
        # A file, or nothing, which reading it says.
        return path
    for stage in ("online", "offline", "."):
        found = path / stage / "checkpoints" / f"{checkpoint}.ckpt"
        if found.parent.is_dir() and any(found.parent.glob("*.ckpt")):
            if found.is_file():
                return found
            there = sorted(file.name for file in found.parent.glob("*.ckpt"))
            raise UserError(
                f"{found.parent} has no {found.name}, but {', '.join(there[:5])}. Give one of "
                "them, or another folder."
            )
    raise UserError(
        f"{path} is a folder without checkpoints. Give a run's folder (runs/NAME), one of its "
        "stages (runs/NAME/online), or a checkpoint."
    )


def _device_of(policy: ActingPolicy) -> torch.device:
    for tensor in (*policy.parameters(), *policy.buffers()):
        return tensor.device
    return torch.device("cpu")


def _random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_random_state(state: Tensor, device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
