from itertools import cycle
from typing import Any

import gymnasium
import pytest
import torch
from tensordict import TensorDict
from torchrl.collectors import Collector
from torchrl.envs import GymWrapper

from pex_lightning.collection.local import LocalCollection, PolicyModule
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.envs.make import make_env
from pex_lightning.policies.acting import ActingPolicy, Choice

LIMIT = 5


class Scripted(ActingPolicy):
    def evaluation_action(self, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        raise NotImplementedError


class Script(Scripted):
    """Acts by the count of its calls, which is also what it says of the choice."""

    def __init__(self) -> None:
        super().__init__(("one", "two"))
        self.calls = 0
        self.seen: list[torch.Tensor] = []

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        assert observation.shape == (1, 3)
        self.seen.append(observation[0].clone())
        self.calls += 1
        share = (self.calls % 4) / 4
        return Choice(
            torch.tensor([[share - 0.5, 0.25]]),
            torch.tensor([self.calls % 2]),
            torch.tensor([[share, 1 - share]]),
            memory,
        )


def local(toy: Any, actor: ActingPolicy, seed: int = 3, **kwargs: Any) -> LocalCollection:
    factory = EnvFactory.of(toy.env, kwargs)
    return LocalCollection(actor, factory, seed=seed, device=torch.device("cpu"))


def take(source: LocalCollection, count: int) -> TensorDict:
    (part,) = source.collect(count)
    assert part.environment == 0
    return part.frames


def collect(toy: Any, count: int, actor: Any = None, **kwargs: Any) -> TensorDict:
    """In pieces of one to four frames, across which episodes go on."""
    source = local(toy, actor or Script(), **kwargs)
    pieces, sizes = [], cycle((1, 4, 2))
    while count:
        pieces.append(take(source, min(count, next(sizes))))
        count -= pieces[-1].shape[0]
    source.close()
    return torch.cat(pieces)


def column(rows: TensorDict, *key: str) -> list[Any]:
    return rows[key].flatten().tolist()


def test_a_time_limit_truncates_and_never_terminates(toy: Any) -> None:
    rows = collect(toy, 12)
    assert not any(column(rows, "next", "terminated"))
    assert column(rows, "next", "truncated") == [(i + 1) % LIMIT == 0 for i in range(12)]
    assert column(rows, "next", "done") == column(rows, "next", "truncated")


def test_a_termination_is_not_a_time_out(toy: Any) -> None:
    rows = collect(toy, 8, terminates_after=3)
    assert column(rows, "next", "terminated") == [(i + 1) % 3 == 0 for i in range(8)]
    assert not any(column(rows, "next", "truncated"))


def test_an_episodes_last_next_observation_is_its_own(toy: Any) -> None:
    rows = collect(toy, 12)
    step = (rows["observation"][:, 0] * 10).round().int().tolist()
    following = (rows["next", "observation"][:, 0] * 10).round().int().tolist()
    assert step == [i % LIMIT for i in range(12)]
    assert following == [i % LIMIT + 1 for i in range(12)]
    assert column(rows, "next", "reward") == [i % LIMIT + 1.0 for i in range(12)]
    assert torch.equal(rows["next", "observation"][:, 2], rows["action"][:, 0])


def test_within_an_episode_the_next_observation_is_the_next_frames_own(toy: Any) -> None:
    rows = collect(toy, 12)
    goes_on = ~rows["next", "done"][:-1, 0]
    assert goes_on.sum() == 9
    following = rows["next", "observation"][:-1]
    assert torch.equal(following[goes_on], rows["observation"][1:][goes_on])
    assert not torch.isclose(following[~goes_on], rows["observation"][1:][~goes_on]).all(-1).any()


def test_rows_say_who_acted_and_what_they_saw(toy: Any) -> None:
    actor = Script()
    rows = collect(toy, 8, actor)
    calls = torch.arange(1, 9) + actor.calls - 8
    assert rows["policy_index"].tolist() == (calls % 2).tolist()
    assert torch.equal(rows["choice_probs"][:, 0], (calls % 4) / 4)
    assert torch.equal(rows["action"][:, 0], (calls % 4) / 4 - 0.5)
    assert torch.equal(rows["observation"], torch.stack(actor.seen[-8:]))


def test_the_actor_acts_once_for_every_frame(toy: Any) -> None:
    short, long = Script(), Script()
    collect(toy, 12, short)
    collect(toy, 24, long)
    assert long.calls - short.calls == 12


def test_a_change_of_the_actor_is_in_effect_at_the_next_frame(toy: Any) -> None:
    class Constant(Script):
        level = 0.0

        def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
            return super().act(observation, memory)._replace(action=torch.full((1, 2), self.level))

    actor = Constant()
    source = local(toy, actor)
    for level in [0.0, 0.25, -0.25, 0.5, 0.125, 0.75, 0.0]:
        actor.level = level
        assert take(source, 1)["action"].tolist() == [[level, level]]
    source.close()


def test_frames_are_not_overwritten_by_the_next(toy: Any) -> None:
    source = local(toy, Script())
    first = take(source, 3)
    kept = first.clone()
    second = take(source, 3)
    keys = list(kept.keys(include_nested=True, leaves_only=True))
    assert all(torch.equal(first[key], kept[key]) for key in keys)
    assert not torch.equal(second["observation"], kept["observation"])
    # Nor does writing into them reach the frames that follow.
    second["next", "done"].fill_(True)
    second["done"].fill_(True)
    third = take(source, 3)
    assert column(third, "next", "done") == [False, False, False]
    assert column(third, "done") == [False, False, False]
    source.close()


@pytest.mark.parametrize("count", [1, 7])
def test_frames_are_flat(count: int, toy: Any) -> None:
    source = local(toy, Script())
    frames = take(source, count)
    assert frames.batch_size == (count,)
    assert frames["next", "reward"].shape == (count, 1)
    assert frames["observation"].shape == (count, 3)
    assert frames["observation"].dtype == torch.float32
    assert frames["next", "terminated"].dtype == torch.bool
    source.close()


def test_frames_are_those_of_torchrls_own_wrapper() -> None:
    """Same keys, shapes, types and numbers, over ends of episodes by either kind."""
    seed, count, kwargs = 3, 60, {"max_episode_steps": 8}
    wrapped = GymWrapper(make_env("Hopper-v5", kwargs))
    wrapped.set_seed(seed)
    reference = Collector(
        wrapped,
        PolicyModule(Uniform(), torch.device("cpu")),
        frames_per_batch=count,
        track_traj_ids=False,
        trust_policy=True,
        auto_register_policy_transforms=False,
    )
    torch.manual_seed(0)
    expected = next(iter(reference))
    reference.shutdown()
    factory = EnvFactory.of("Hopper-v5", kwargs)
    source = LocalCollection(Uniform(), factory, seed=seed, device=torch.device("cpu"))
    torch.manual_seed(0)
    found = take(source, count)
    source.close()
    keys = set(expected.keys(include_nested=True, leaves_only=True))
    assert set(found.keys(include_nested=True, leaves_only=True)) == keys
    assert expected["next", "done"].sum() >= 7
    for key in keys:
        assert found[key].dtype == expected[key].dtype, key
        assert torch.equal(found[key], expected[key]), key


class Uniform(Scripted):
    """Random actions of Hopper's."""

    def __init__(self) -> None:
        super().__init__(("uniform",))

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        action = 2 * torch.rand(1, 3) - 1
        return Choice(action, torch.zeros(1, dtype=torch.int64), torch.ones(1, 1), memory)


class Clock(Scripted):
    """Remembers how many steps of the episode there were, and says so in its action."""

    def __init__(self) -> None:
        super().__init__(("clock",), memory_size=2)

    def act(self, observation: torch.Tensor, memory: torch.Tensor) -> Choice:
        assert memory.shape == (1, 2)
        action = torch.stack([memory[:, 0] / 10, memory[:, 1] / 10], -1)
        index = torch.zeros(1, dtype=torch.int64)
        following = memory + torch.tensor([1.0, 2.0])
        return Choice(action, index, torch.ones(1, 1), following)


def test_memory_is_kept_within_an_episode_and_zero_at_a_reset(toy: Any) -> None:
    rows = collect(toy, 3 * LIMIT + 2, Clock())
    steps = torch.arange(3 * LIMIT + 2) % LIMIT
    torch.testing.assert_close(rows["action"], torch.stack([steps / 10, 2 * steps / 10], -1))
    source = local(toy, Clock(), terminates_after=3)
    assert take(source, 7)["action"][:, 0].tolist() == pytest.approx([0, 0.1, 0.2, 0, 0.1, 0.2, 0])
    source.close()


@pytest.mark.parametrize("fails", [False, True])
def test_closing_closes_the_environment_even_if_that_fails(
    toy: Any, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    closed = []

    def close(env: gymnasium.Env) -> None:
        closed.append(env)
        if fails:
            raise RuntimeError("the simulator is gone")

    monkeypatch.setattr(gymnasium.Env, "close", close)
    source = local(toy, Script())
    take(source, 3)
    assert not closed
    source.close()
    source.close()
    assert len(closed) == 1
