"""This package's algorithms, updates, data and environments, built for a measurement.

All of the benchmarks' use of the package's Python interface is here, except for what the command
`pex-lightning fit` needs (`fit.py`) and for the scripts in `benchmarks/standalone/`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases.shared.setting import (
    ACTION_DIM,
    BATCH,
    BETA,
    ENVIRONMENT,
    EXPECTILE,
    GAMMA,
    HIDDEN,
    LEARNING_RATE,
    NUM_Q,
    OBS_DIM,
    TAU,
    Floats,
    Work,
    arrays,
    autocast,
    flat,
)
from pex_lightning.algorithms import IQL, PEX, Algorithm
from pex_lightning.collection.local import LocalCollection
from pex_lightning.data.description import DataDescription
from pex_lightning.datasets.arrays import Arrays, write_d4rl
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.evaluation.rollouts import Evaluator
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.replay.mix import dataset_buffer, sample_chunk
from pex_lightning.updates.batch import Batch
from pex_lightning.updates.compilation.compiler import Compiler
from pex_lightning.updates.compiled import CompiledUpdate
from pex_lightning.updates.compiled_policy import CompiledPolicy

Act = Callable[[Tensor], Tensor]
"""A policy: from an observation to an action."""


def new_iql(hidden_dims: Sequence[int] = HIDDEN, num_q: int = NUM_Q) -> IQL:
    """IQL with fresh networks, of the common sizes by default.

    Args:
        hidden_dims: Widths of the hidden layers.
        num_q: Number of Q networks.
    """
    torch.manual_seed(0)
    env = EnvSpec("none", {}, OBS_DIM, (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, 1)
    iql = IQL(
        expectile=EXPECTILE,
        beta=BETA,
        gamma=GAMMA,
        tau=TAU,
        learning_rate=LEARNING_RATE,
        hidden_dims=hidden_dims,
        num_q=num_q,
        cosine_decay=False,
    )
    iql.attach(_description(env))
    return iql


def new_pex() -> PEX:
    """PEX with fresh networks for AntMaze, as shipped but without an offline stage."""
    torch.manual_seed(0)
    pex = PEX(hidden_dims=HIDDEN, inv_temperature=10.0, imitates="batch")
    pex.attach(_description(env_spec(ENVIRONMENT, {})))
    # Otherwise it asks for an offline stage, whose weights make no difference to the speed.
    pex.resumed = True
    return pex


def new_pex_of(frozen: int) -> PEX:
    """PEX as in the paper, whose update asks all members, with so many frozen ones.

    Each has parameters of its own.
    """
    torch.manual_seed(0)
    places = list(range(1, frozen))
    pex = PEX(hidden_dims=HIDDEN, inv_temperature=10.0, grow_at=places)
    pex.attach(_description(env_spec(ENVIRONMENT, {})))
    for place in range(len(places)):
        env = env_spec(ENVIRONMENT, {})
        member = GaussianPolicy(env.obs_dim, env.action_low, env.action_high, HIDDEN)
        pex.policies.fill(place, member.state_dict())
    pex.resumed = True
    return pex


def acting_step(pex: PEX) -> Callable[[], object]:
    """A function that chooses an action to collect with, at one state."""
    policy, state = pex.acting_policy(), torch.zeros(1, OBS_DIM)
    memory = policy.initial_memory(state)
    return lambda: policy.act(state, memory)


def compiled_acting_step(pex: PEX) -> Callable[[], object]:
    """The same as a run does it that compiles its updates."""
    policy, state = CompiledPolicy(pex.acting_policy()), torch.zeros(1, OBS_DIM)
    compiler = Compiler()
    policy.use(policy.begin(compiler, state).finish())
    compiler.close()
    memory = policy.initial_memory(state)
    return lambda: policy.act(state, memory)


def _description(env: EnvSpec) -> DataDescription:
    return DataDescription(env, "none", "", RewardTransform())


def common_batches() -> list[Batch]:
    """The data that all libraries learn from, as this package's batches."""
    columns = [torch.from_numpy(column) for column in arrays()]
    return [Batch(*row) for row in zip(*columns, strict=True)]


def random_batches(number: int, rows: int) -> list[Batch]:
    """So many batches of so many rows each, from torch's random generator."""
    return [
        Batch(
            observation=torch.randn(rows, OBS_DIM),
            action=2 * torch.rand(rows, ACTION_DIM) - 1,
            reward=torch.randn(rows),
            terminated=torch.rand(rows) < 0.1,
            next_observation=torch.randn(rows, OBS_DIM),
        )
        for _ in range(number)
    ]


def plain_update(algorithm: Algorithm, batches: Iterable[Batch], precision: str) -> Work:
    """The update that `training_step` does without `compile_update`.

    There is no trainer, data module or schedule: batches are at hand, and are used in turn.
    """
    optimizer = algorithm.configure_optimizers()
    supply = cycle(batches)

    def step() -> None:
        with autocast(precision):
            losses = algorithm.losses(next(supply))
            optimizer.zero_grad()
            losses.total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            algorithm.after_step()

    return Work(step, lambda: _learnt(algorithm))


def compiled_update(algorithm: Algorithm, batches: Iterable[Batch], precision: str) -> Work:
    """The update that `training_step` does with `compile_update`; else as `plain_update`."""
    batches = list(batches)
    supply = cycle(batches)
    compiler = Compiler()
    with autocast(precision):
        update = CompiledUpdate(algorithm, algorithm.configure_optimizers(), batches[0], compiler)
    update.finish()
    compiler.close()

    def step() -> None:
        update(next(supply))

    return Work(step, lambda: _learnt(algorithm))


def _learnt(algorithm: Algorithm) -> Floats:
    """All parameters that are learnt, in one array."""
    return flat(parameter for parameter in algorithm.parameters() if parameter.requires_grad)


def collector(pex: PEX) -> Callable[[int], object]:
    """A function that takes so many steps in AntMaze, in this process, as the online stage does."""
    environment = EnvFactory.of(ENVIRONMENT, {})
    cpu = torch.device("cpu")
    return LocalCollection(pex.acting_policy(), environment, seed=0, device=cpu).collect


def critic_parameters(pex: PEX) -> Floats:
    """The parameters of its critic, in one array."""
    return flat(pex.critic.parameters())


def acting(pex: PEX) -> Act:
    """Its composite policy as an evaluation uses it."""
    policy = pex.acting_policy()

    def act(observation: Tensor) -> Tensor:
        return policy.evaluation_action(observation, policy.initial_memory(observation))[0]

    return act


def evaluation_as_in_fit(episodes: int) -> Callable[[Act], object]:
    """A function that runs a policy for so many episodes of AntMaze, as `fit` does it."""
    return Evaluator(ENVIRONMENT, {}, episodes=episodes).run


def evaluation_one_by_one(episodes: int) -> Callable[[Act], object]:
    """The same in one environment of this process, one episode after another."""
    return Evaluator(ENVIRONMENT, {}, episodes=episodes, num_envs=1, num_workers=1).run


def dataset_sampler(columns: Mapping[str, Any], updates: int) -> Callable[[int], object]:
    """A function that draws batches for so many updates from a dataset, given a seed."""
    buffer = dataset_buffer(Arrays(**columns).read(env_spec(ENVIRONMENT, {})).transitions)

    def sample(seed: int) -> object:
        return sample_chunk(
            buffer, None, updates=updates, batch_size=BATCH, offline_fraction=1.0, seed=seed
        )

    return sample


def write_dataset(path: Path, columns: Mapping[str, Any]) -> None:
    """Write a dataset as a file in D4RL's format."""
    write_d4rl(path, **columns)
