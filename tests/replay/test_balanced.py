import math
from typing import Any

import pytest
import torch
from tensordict import TensorDict
from torchrl.data import ReplayBuffer

from pex_lightning.datasets.transitions import Transitions
from pex_lightning.errors import UserError
from pex_lightning.replay.balanced import BalancedReplay
from pex_lightning.replay.mix import dataset_buffer, online_buffer

CPU = torch.device("cpu")


def rows(start: int, stop: int, scale: float = 0.001) -> TensorDict:
    """Transitions whose every number is the row's own, times `scale`."""
    number = scale * torch.arange(start, stop, dtype=torch.float32)[:, None]
    flags = torch.zeros_like(number, dtype=torch.bool)
    following = {"observation": number, "reward": number, "terminated": flags}
    return TensorDict(
        {"observation": number, "action": number + 0.5, "next": following},
        batch_size=[stop - start],
    )


def filled(start: int, stop: int, capacity: int = 64, scale: float = 0.001) -> ReplayBuffer:
    buffer = online_buffer(capacity)
    buffer.extend(rows(start, stop, scale))
    return buffer


def replay(offline: int = 200, capacity: int = 64, fraction: float = 0.5) -> BalancedReplay:
    dataset = dataset_buffer(Transitions(rows(0, offline), "rows"))
    return BalancedReplay(dataset, capacity, fraction, seed=0, device=CPU)


def numbers(chunk: TensorDict) -> torch.Tensor:
    return (chunk["observation"][..., 0] * 1000).round()


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.9])
def test_the_first_chunk_has_the_share_that_was_asked_for(fraction: float) -> None:
    chunk = replay(fraction=fraction).draw(filled(1000, 1010), updates=40, batch_size=500, seed=1)
    assert chunk.batch_size == (40, 500)
    assert float((numbers(chunk) < 200).float().mean()) == pytest.approx(fraction, abs=0.02)
    assert (numbers(chunk) >= 1000).any()


def test_the_columns_of_a_row_stay_together() -> None:
    chunk = replay().draw(filled(1000, 1064), updates=5, batch_size=32, seed=3)
    torch.testing.assert_close(chunk["action"], chunk["observation"] + 0.5)
    assert torch.equal(chunk["next", "observation"], chunk["observation"])
    assert torch.equal(chunk["next", "reward"], chunk["observation"])
    assert chunk["next", "terminated"].shape == (5, 32, 1)


def test_rows_are_drawn_by_their_priorities() -> None:
    balanced, online = replay(offline=4, capacity=4), filled(1000, 1002, 4)
    balanced.draw(online, updates=1, batch_size=1, seed=0)
    balanced.offline_priority[:] = torch.tensor([4.0, 0.0, 1.0, 1.0])
    balanced.online_priority[:2] = torch.tensor([3.0, 1.0])
    found = numbers(balanced.draw(online, updates=1, batch_size=50_000, seed=5)).flatten()
    shares = [float((found == number).float().mean()) for number in (0, 1, 2, 3, 1000, 1001)]
    assert shares == pytest.approx([0.4, 0.0, 0.1, 0.1, 0.3, 0.1], abs=0.01)
    assert sum(shares) == pytest.approx(1.0)


def test_rows_that_are_no_transitions_are_never_drawn() -> None:
    kept = torch.tensor([1, 3, 5], dtype=torch.int32)
    dataset = dataset_buffer(Transitions(rows(0, 6), "rows", kept=kept))
    balanced = BalancedReplay(dataset, 4, 0.9, seed=0, device=CPU)
    chunk = balanced.draw(filled(1000, 1004, 4), updates=4, batch_size=100, seed=0)
    assert set(numbers(chunk).unique().tolist()) - {1000, 1001, 1002, 1003} == {1, 3, 5}


def test_the_priorities_of_drawn_rows_alone_change() -> None:
    balanced, online = replay(), filled(1000, 1010)
    chunk = balanced.draw(online, updates=2, batch_size=8, seed=0)
    drawn = {int(number) for number in numbers(chunk).flatten() if number < 200}
    changed = {int(i) for i in (balanced.offline_priority != 1.0).nonzero()}
    assert changed == drawn


def test_a_new_row_enters_with_the_largest_priority_so_far_also_where_the_ring_wraps() -> None:
    balanced, online = replay(offline=200, capacity=10, fraction=0.5), filled(1000, 1010, 10)
    balanced.draw(online, updates=2, batch_size=64, seed=0)
    assert balanced.state_dict(torch.arange(10))["largest"] == 200 / 10
    balanced.online_priority[:] = 0.5
    online.extend(rows(1010, 1013))
    balanced.added(torch.tensor([0, 1, 2]))
    assert balanced.online_priority.tolist() == [20.0] * 3 + [0.5] * 7


def test_offline_rows_that_resemble_the_online_ones_are_drawn_more_often() -> None:
    """Half of the offline rows lie where the online ones do; their share must grow."""
    balanced = replay(offline=2000, capacity=1000)
    online = filled(1000, 2000, 1000)
    for seed in range(20):
        chunk = balanced.draw(online, updates=20, batch_size=128, seed=seed)
    priority = balanced.offline_priority
    assert priority[1000:].mean() > 1.3 * priority[:1000].mean()
    assert priority.mean() == pytest.approx(1.0, abs=0.25)
    assert numbers(chunk).isfinite().all()


def test_the_same_seed_draws_the_same_rows_and_torchs_generator_is_left_alone() -> None:
    chunks = []
    for _ in range(2):
        balanced, online = replay(), filled(1000, 1030)
        torch.manual_seed(3)
        for seed in range(3):
            chunk = balanced.draw(online, updates=3, batch_size=8, seed=seed)
        chunks.append(chunk)
        assert torch.equal(torch.rand(2), torch.rand(2, generator=torch.Generator().manual_seed(3)))
    assert torch.equal(numbers(chunks[0]), numbers(chunks[1]))


def test_it_goes_on_from_its_state_where_the_ring_was_turned() -> None:
    """A resume lays the rows from the first place on, in the order in which they came."""
    balanced, online = replay(capacity=10), filled(1000, 1010, 10)
    balanced.draw(online, updates=3, batch_size=16, seed=0)
    online.extend(rows(1010, 1014))
    balanced.added(torch.arange(4))
    state = balanced.state_dict((torch.arange(4, 14)) % 10)
    again = replay(capacity=10)
    again.load_state_dict(state, 10)
    assert torch.equal(again.offline_priority, balanced.offline_priority)
    assert torch.equal(again.online_priority[:6], balanced.online_priority[4:])
    assert torch.equal(again.online_priority[6:], balanced.online_priority[:4])
    turned = filled(1004, 1014, 10)
    ours = numbers(balanced.draw(online, updates=2, batch_size=8, seed=1))
    theirs = numbers(again.draw(turned, updates=2, batch_size=8, seed=1))
    known = ours < 200
    assert torch.equal(known, theirs < 200)
    assert torch.equal(ours[known], theirs[known])


def test_it_goes_on_exactly_where_the_ring_was_not_turned() -> None:
    balanced, online = replay(), filled(1000, 1010)
    balanced.draw(online, updates=3, batch_size=16, seed=0)
    again = replay()
    again.load_state_dict(balanced.state_dict(torch.arange(10)), 10)
    for seed in (1, 2, 3):
        ours = balanced.draw(online, updates=2, batch_size=8, seed=seed)
        theirs = again.draw(online, updates=2, batch_size=8, seed=seed)
        assert torch.equal(numbers(ours), numbers(theirs))
    assert torch.equal(balanced.offline_priority, again.offline_priority)


def test_a_state_from_before_the_first_chunk_is_a_beginning() -> None:
    again = replay()
    again.load_state_dict(replay().state_dict(torch.arange(3)), 3)
    online = filled(1000, 1010)
    first = replay().draw(online, updates=1, batch_size=8, seed=0)
    assert torch.equal(numbers(again.draw(online, updates=1, batch_size=8, seed=0)), numbers(first))


def test_a_smaller_buffer_takes_over_the_priorities_of_the_newest_rows() -> None:
    balanced, online = replay(capacity=10), filled(1000, 1010, 10)
    balanced.draw(online, updates=1, batch_size=8, seed=0)
    balanced.online_priority[:] = torch.arange(1.0, 11.0)
    again = replay(capacity=4)
    again.load_state_dict(balanced.state_dict(torch.arange(10)), 4)
    assert again.online_priority.tolist() == [7.0, 8.0, 9.0, 10.0]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["largest"], math.nan),
        (["largest"], -1.0),
        (["largest"], True),
        (["offline"], torch.ones(3)),
        (["offline"], torch.full((200,), math.nan)),
        (["offline"], torch.zeros(200)),
        (["online"], torch.ones(10, dtype=torch.float64)),
        (["online"], 3),
        (["density"], {}),
        (["density", "net"], {}),
        (["density", "adam", 0], {}),
        (["density", "adam", 0, "exp_avg"], torch.ones(2)),
        (["density", "adam", 0, "exp_avg"], torch.full((256, 2), math.nan)),
    ],
)
def test_an_altered_state_is_refused(path: list[Any], value: object) -> None:
    balanced, online = replay(), filled(1000, 1010)
    balanced.draw(online, updates=1, batch_size=8, seed=0)
    state = balanced.state_dict(torch.arange(10))
    replay().load_state_dict(state, 10)
    place: Any = state
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises((AttributeError, LookupError, TypeError, ValueError, RuntimeError)):
        replay().load_state_dict(state, 10)


def test_numbers_that_the_density_cannot_learn_from_are_told() -> None:
    online = filled(1, 4, scale=1e38)
    with pytest.raises(UserError, match=r"density ratio .* has diverged.*observation 3e\+38"):
        replay().draw(online, updates=5, batch_size=16, seed=0)
