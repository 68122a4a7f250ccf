from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from tensordict import TensorDict

from pex_lightning.data.collection import frames
from pex_lightning.policies.policy_set import Choice

LIMIT = 5


class Script:
    """Acts by the count of its calls, which is also what it says of the choice."""

    def __init__(self) -> None:
        self.calls = 0
        self.seen: list[torch.Tensor] = []

    def act(self, observation: torch.Tensor) -> Choice:
        assert observation.shape == (1, 3)
        self.seen.append(observation[0].clone())
        self.calls += 1
        share = (self.calls % 4) / 4
        return Choice(
            torch.tensor([[share - 0.5, 0.25]]),
            torch.tensor([self.calls % 2]),
            torch.tensor([[share, 1 - share]]),
        )


def collect(toy: Any, count: int, actor: Any = None, **kwargs: Any) -> TensorDict:
    source = frames(actor or Script(), toy.env, kwargs, seed=3, device=torch.device("cpu"))
    rows = torch.cat(list(islice(source, count)))
    source.close()
    return rows


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

        def act(self, observation: torch.Tensor) -> Choice:
            return replace(super().act(observation), action=torch.full((1, 2), self.level))

    actor = Constant()
    source = frames(actor, toy.env, {}, seed=3, device=torch.device("cpu"))
    levels = [0.0, 0.25, -0.25, 0.5, 0.125, 0.75, 0.0]
    for level in levels:
        actor.level = level
        assert next(source)["action"].tolist() == [[level, level]]
    source.close()


def test_a_frame_is_not_overwritten_by_the_next(toy: Any) -> None:
    source = frames(Script(), toy.env, {}, seed=3, device=torch.device("cpu"))
    first = next(source)
    kept = first.clone()
    second = next(source)
    keys = list(kept.keys(include_nested=True, leaves_only=True))
    assert all(torch.equal(first[key], kept[key]) for key in keys)
    assert not torch.equal(second["observation"], kept["observation"])
    source.close()


def test_a_frame_is_flat(toy: Any) -> None:
    source = frames(Script(), toy.env, {}, seed=3, device=torch.device("cpu"))
    for frame in islice(source, 7):
        assert frame.batch_size == (1,)
        assert frame["next", "reward"].shape == (1, 1)
        assert frame["observation"].shape == (1, 3)
        assert frame["observation"].dtype == torch.float32
        assert frame["next", "terminated"].dtype == torch.bool
    source.close()
