import math

import pytest
import torch
from tensordict import TensorDict

from pex_lightning.collection.statistics import OnlineStatistics


def frames(rewards: list[float], dones: list[int], chosen: list[int], p: float) -> TensorDict:
    size = len(rewards)
    return TensorDict(
        {
            "policy_index": torch.tensor(chosen),
            "choice_probs": torch.tensor([[p, 1 - p]]).expand(size, 2),
            "next": {
                "reward": torch.tensor(rewards)[:, None],
                "done": torch.tensor(dones)[:, None].bool(),
            },
        },
        batch_size=[size],
    )


def new() -> OnlineStatistics:
    statistics = OnlineStatistics()
    statistics.begin(("offline", "online"))
    return statistics


def test_returns_are_summed_over_batches() -> None:
    statistics = new()
    statistics.add(frames([1.0, 2.0, 4.0], [0, 1, 0], [0, 1, 1], 0.5))
    first = statistics.take()
    assert first["episode_return"] == 3.0
    assert first["episodes"] == 1.0
    statistics.add(frames([8.0], [0], [0], 0.5))
    assert "episode_return" not in statistics.take()
    statistics.add(frames([16.0, 1.0], [1, 1], [0, 0], 0.5))
    assert statistics.take()["episode_return"] == (4 + 8 + 16 + 1) / 2
    assert statistics.episodes == 3


def test_share_and_entropy_are_means_since_they_were_last_taken() -> None:
    statistics = new()
    statistics.add(frames([0.0] * 4, [0] * 4, [0, 0, 0, 1], 0.5))
    first = statistics.take()
    assert first["offline_policy_share"] == 0.75
    assert first["online_policy_share"] == 0.25
    assert first["choice_entropy"] == pytest.approx(math.log(2))
    statistics.add(frames([0.0] * 2, [0] * 2, [1, 1], 1.0))
    second = statistics.take()
    assert second["offline_policy_share"] == 0.0
    assert second["choice_entropy"] == pytest.approx(0.0, abs=1e-6)
    assert statistics.take() == {}


def test_the_recent_share_forgets_within_a_thousand_frames() -> None:
    statistics = new()
    assert statistics.recent_shares()["offline"] == 0.5
    statistics.add(frames([0.0] * 5000, [0] * 5000, [0] * 5000, 0.5))
    assert statistics.recent_shares()["offline"] > 0.99
    for _ in range(1000):
        statistics.add(frames([0.0], [0], [1], 0.5))
    assert statistics.recent_shares()["offline"] == pytest.approx(math.exp(-1), abs=0.01)


def test_the_number_of_episodes_survives_a_checkpoint() -> None:
    statistics, other = new(), new()
    statistics.add(frames([1.0, 1.0], [1, 1], [0, 0], 0.5))
    other.load_state_dict(statistics.state_dict())
    assert other.episodes == 2


def test_a_new_environment_drops_the_episode_under_way() -> None:
    statistics = new()
    statistics.add(frames([1.0, 2.0, 4.0], [0, 1, 0], [0, 0, 0], 0.5))
    statistics.begin(("offline", "online"))
    statistics.add(frames([8.0], [1], [0], 0.5))
    assert statistics.take()["episode_return"] == (3 + 8) / 2
    assert statistics.episodes == 2


def test_returns_of_several_environments_are_kept_apart() -> None:
    statistics = new()
    statistics.add(frames([1.0, 2.0], [0, 0], [0, 0], 0.5), environment=0)
    statistics.add(frames([16.0], [0], [0], 0.5), environment=1)
    statistics.add(frames([4.0], [1], [0], 0.5), environment=0)
    assert statistics.take()["episode_return"] == 1 + 2 + 4
    statistics.add(frames([32.0, 64.0], [1, 0], [0, 0], 0.5), environment=1)
    assert statistics.take()["episode_return"] == 16 + 32


def test_members_are_counted_by_their_names_and_one_alone_has_no_share() -> None:
    statistics = OnlineStatistics()
    statistics.begin(("walker", "old", "new"))
    statistics.add(frames([0.0] * 4, [0] * 4, [0, 2, 2, 2], 0.5))
    found = statistics.take()
    shares = {name: share for name, share in found.items() if name.endswith("_share")}
    assert shares == {
        "walker_policy_share": 0.25,
        "old_policy_share": 0.0,
        "new_policy_share": 0.75,
    }
    assert list(statistics.recent_shares()) == ["walker", "old", "new"]
    statistics.begin(("policy",))
    statistics.add(frames([0.0], [0], [0], 0.5))
    assert not any(name.endswith("_share") for name in statistics.take())
