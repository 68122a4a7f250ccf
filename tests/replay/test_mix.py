import pytest
import torch
from tensordict import TensorDict
from torchrl.data import ReplayBuffer

from pex_lightning.datasets.transitions import Transitions
from pex_lightning.replay.mix import dataset_buffer, online_buffer, sample_chunk


def rows(start: int, stop: int) -> TensorDict:
    """Transitions whose every number is the row's own."""
    number = torch.arange(start, stop, dtype=torch.float32)[:, None]
    flags = torch.zeros_like(number, dtype=torch.bool)
    return TensorDict(
        {
            "observation": number,
            "action": number + 0.25,
            "policy_index": number[:, 0].long() % 2,
            "next": {
                "observation": number + 0.5,
                "reward": number + 0.75,
                "terminated": number.long() % 3 == 0,
                "truncated": flags,
                "done": flags,
            },
        },
        batch_size=[stop - start],
    )


def filled(start: int, stop: int, capacity: int) -> ReplayBuffer:
    buffer = online_buffer(capacity)
    buffer.extend(rows(start, stop))
    return buffer


def numbers(chunk: TensorDict) -> torch.Tensor:
    return chunk["observation"][..., 0]


@pytest.mark.parametrize(
    ("fraction", "from_offline"), [(0.0, 0), (0.25, 5), (0.5, 10), (0.52, 10), (1.0, 20)]
)
def test_every_batch_has_the_exact_share_of_offline_rows(
    fraction: float, from_offline: int
) -> None:
    chunk = sample_chunk(
        dataset_buffer(Transitions(rows(0, 100), "rows")),
        filled(1000, 1050, 64),
        updates=7,
        batch_size=20,
        offline_fraction=fraction,
        seed=3,
    )
    assert chunk.batch_size == (7, 20)
    assert (numbers(chunk) < 100).sum(-1).tolist() == [from_offline] * 7
    online = numbers(chunk)[numbers(chunk) >= 100]
    assert ((online >= 1000) & (online < 1050)).all()


def test_without_an_online_buffer_everything_is_offline() -> None:
    chunk = sample_chunk(
        dataset_buffer(Transitions(rows(0, 9), "rows")),
        None,
        updates=2,
        batch_size=8,
        offline_fraction=0.0,
        seed=0,
    )
    assert chunk.batch_size == (2, 8)
    assert (numbers(chunk) < 9).all()


def test_the_columns_of_a_row_stay_together() -> None:
    chunk = sample_chunk(
        dataset_buffer(Transitions(rows(0, 100), "rows")),
        filled(100, 164, 64),
        updates=5,
        batch_size=32,
        offline_fraction=0.5,
        seed=0,
    )
    number = chunk["observation"]
    assert torch.equal(chunk["action"], number + 0.25)
    assert torch.equal(chunk["next", "observation"], number + 0.5)
    assert torch.equal(chunk["next", "reward"], number + 0.75)
    assert torch.equal(chunk["next", "terminated"], number.long() % 3 == 0)


def test_the_same_seed_draws_the_same_rows_whatever_was_drawn_before() -> None:
    offline, online = dataset_buffer(Transitions(rows(0, 1000), "rows")), filled(1000, 2000, 1000)

    def draw(seed: int) -> torch.Tensor:
        torch.rand(int(torch.randint(5, ())))
        return numbers(
            sample_chunk(offline, online, updates=3, batch_size=16, offline_fraction=0.5, seed=seed)
        )

    first = draw(5)
    assert not torch.equal(first, draw(6))
    assert torch.equal(first, draw(5))
    # Offline and online rows are drawn independently.
    assert not torch.equal(first[:, :8] + 1000, first[:, 8:])


def sample_rows(buffer: ReplayBuffer, count: int, seed: int) -> TensorDict:
    chunk = sample_chunk(buffer, None, updates=1, batch_size=count, offline_fraction=1.0, seed=seed)
    return chunk[0]


def test_sampling_leaves_torchs_own_random_stream_alone() -> None:
    torch.manual_seed(1)
    expected = torch.rand(4)
    torch.manual_seed(1)
    sample_rows(dataset_buffer(Transitions(rows(0, 50), "rows")), 20, seed=9)
    assert torch.equal(torch.rand(4), expected)


def test_rows_are_drawn_uniformly() -> None:
    drawn = numbers(
        sample_rows(dataset_buffer(Transitions(rows(0, 10), "rows")), 20_000, seed=0)
    ).long()
    share = drawn.bincount(minlength=10) / 20_000
    torch.testing.assert_close(share, torch.full((10,), 0.1), atol=0.01, rtol=0)


def test_a_full_online_buffer_forgets_its_oldest_rows() -> None:
    buffer = online_buffer(8)
    for start in range(0, 20, 5):
        buffer.extend(rows(start, start + 5))
        expected = set(range(max(0, start + 5 - 8), start + 5))
        assert set(numbers(sample_rows(buffer, 400, seed=start)).long().tolist()) == expected
    # Row r lies at r modulo the capacity.
    assert numbers(buffer[torch.arange(12, 20) % 8]).tolist() == list(range(12, 20))


def test_a_dataset_cannot_be_added_to_and_is_not_copied() -> None:
    data = rows(0, 10)
    buffer = dataset_buffer(Transitions(data, "rows"))
    with pytest.raises(RuntimeError):
        buffer.extend(rows(0, 1))
    data["observation"][3] = -7.0
    assert buffer[3]["observation"].item() == -7.0


def test_rows_that_are_no_transitions_are_never_drawn() -> None:
    kept = torch.tensor([0, 2, 3, 7], dtype=torch.int32)
    buffer = dataset_buffer(Transitions(rows(0, 8), "rows", kept))
    drawn = numbers(sample_rows(buffer, 4_000, seed=1)).long()
    share = drawn.bincount(minlength=8) / 4_000
    assert share[[1, 4, 5, 6]].sum() == 0
    torch.testing.assert_close(share[kept.long()], torch.full((4,), 0.25), atol=0.03, rtol=0.0)
    again = numbers(sample_rows(buffer, 4_000, seed=1)).long()
    assert torch.equal(drawn, again)
