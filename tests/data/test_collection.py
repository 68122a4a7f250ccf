from itertools import islice
from typing import Any

import pytest
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


def collect(toy: Any, batches: int, size: int, actor: Any = None, **kwargs: Any) -> TensorDict:
    source = frames(
        actor or Script(),
        toy.env,
        kwargs,
        seed=3,
        device=torch.device("cpu"),
        frames_per_batch=size,
    )
    rows = torch.cat(list(islice(source, batches)))
    source.close()
    return rows


def column(rows: TensorDict, *key: str) -> list[Any]:
    return rows[key].flatten().tolist()


def test_a_time_limit_truncates_and_never_terminates(toy: Any) -> None:
    rows = collect(toy, 4, 3)
    assert not any(column(rows, "next", "terminated"))
    assert column(rows, "next", "truncated") == [(i + 1) % LIMIT == 0 for i in range(12)]
    assert column(rows, "next", "done") == column(rows, "next", "truncated")


def test_a_termination_is_not_a_time_out(toy: Any) -> None:
    rows = collect(toy, 2, 4, terminates_after=3)
    assert column(rows, "next", "terminated") == [(i + 1) % 3 == 0 for i in range(8)]
    assert not any(column(rows, "next", "truncated"))


def test_an_episodes_last_next_observation_is_its_own(toy: Any) -> None:
    rows = collect(toy, 4, 3)
    step = (rows["observation"][:, 0] * 10).round().int().tolist()
    following = (rows["next", "observation"][:, 0] * 10).round().int().tolist()
    assert step == [i % LIMIT for i in range(12)]
    assert following == [i % LIMIT + 1 for i in range(12)]
    assert column(rows, "next", "reward") == [i % LIMIT + 1.0 for i in range(12)]
    assert torch.equal(rows["next", "observation"][:, 2], rows["action"][:, 0])


def test_an_episode_goes_on_over_the_end_of_a_batch(toy: Any) -> None:
    whole, parts = collect(toy, 1, 12), collect(toy, 6, 2)
    for key in ("observation", "action", ("next", "observation"), ("next", "reward")):
        assert torch.equal(whole[key], parts[key]), key


def test_rows_say_who_acted_and_what_they_saw(toy: Any) -> None:
    actor = Script()
    rows = collect(toy, 2, 4, actor)
    calls = torch.arange(1, 9) + actor.calls - 8
    assert rows["policy_index"].tolist() == (calls % 2).tolist()
    assert torch.equal(rows["choice_probs"][:, 0], (calls % 4) / 4)
    assert torch.equal(rows["action"][:, 0], (calls % 4) / 4 - 0.5)
    assert torch.equal(rows["observation"], torch.stack(actor.seen[-8:]))


def test_the_actor_acts_once_for_every_frame(toy: Any) -> None:
    short, long = Script(), Script()
    collect(toy, 3, 4, short)
    collect(toy, 6, 4, long)
    assert long.calls - short.calls == 12


def test_a_batch_is_not_overwritten_by_the_next(toy: Any) -> None:
    source = frames(Script(), toy.env, {}, seed=3, device=torch.device("cpu"), frames_per_batch=2)
    first = next(source)
    kept = first["observation"].clone()
    next(source)
    assert torch.equal(first["observation"], kept)
    source.close()


@pytest.mark.parametrize("width", [1, 3])
def test_frames_are_flat(width: int, toy: Any) -> None:
    rows = collect(toy, 2, width)
    assert rows.batch_size == (2 * width,)
    assert rows["next", "reward"].shape == (2 * width, 1)
    assert rows["observation"].dtype == torch.float32
    assert rows["next", "terminated"].dtype == torch.bool
