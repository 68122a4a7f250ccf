from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning.datasets.transitions import Transitions
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError

N = 6


def columns() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "observation": torch.rand(N, 3, generator=generator),
        "action": torch.rand(N, 2, generator=generator) * 2 - 1,
        "next_observation": torch.rand(N, 3, generator=generator),
        "reward": torch.rand(N, generator=generator),
        "terminated": torch.tensor([0, 1, 0, 0, 0, 0]).bool(),
        "truncated": torch.tensor([0, 0, 0, 1, 0, 0]).bool(),
    }


def make(**changes: torch.Tensor) -> Transitions:
    return Transitions.from_tensors(**{**columns(), **changes}, source="some.hdf5")


def spec(**changes: object) -> EnvSpec:
    fields = {
        "id": "Some-v0",
        "kwargs": {},
        "obs_dim": 3,
        "action_low": (-1.0, -1.0),
        "action_high": (1.0, 1.0),
        "max_episode_steps": 10,
    }
    return EnvSpec(**{**fields, **changes})


def test_ted_layout() -> None:
    tensordict = make().tensordict
    layout = {
        key: (tuple(value.shape), value.dtype)
        for key, value in tensordict.items(include_nested=True, leaves_only=True)
    }
    assert layout == {
        "observation": ((N, 3), torch.float32),
        "action": ((N, 2), torch.float32),
        ("next", "observation"): ((N, 3), torch.float32),
        ("next", "reward"): ((N, 1), torch.float32),
        ("next", "terminated"): ((N, 1), torch.bool),
        ("next", "truncated"): ((N, 1), torch.bool),
        ("next", "done"): ((N, 1), torch.bool),
    }
    assert tensordict.batch_size == torch.Size([N])
    assert tensordict["next", "done"][:, 0].tolist() == [False, True, False, True, False, False]


def test_sizes_and_no_copy() -> None:
    given = columns()
    transitions = Transitions.from_tensors(**given, source="x")
    assert (len(transitions), transitions.obs_dim, transitions.action_dim) == (N, 3, 2)
    assert transitions.observation.data_ptr() == given["observation"].data_ptr()


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"reward": torch.zeros(N - 1)}, "differ in length.*reward 5"),
        ({"observation": torch.zeros(N)}, r"observation has shape \[6\]"),
        ({"reward": torch.zeros(N, 2)}, r"reward has shape \[6, 2\]"),
        ({"next_observation": torch.zeros(N, 4)}, r"next_observation \[6, 4\]"),
        ({key: value[:0] for key, value in columns().items()}, "no transitions"),
    ],
)
def test_columns_that_do_not_fit_are_refused(changes: dict[str, torch.Tensor], found: str) -> None:
    with pytest.raises(UserError, match=f"some.hdf5.*{found}"):
        make(**changes)


def check(action: torch.Tensor, low: Any = (-1.0, -1.0), high: Any = (1.0, 1.0)) -> None:
    make(action=action).check_actions(low, high, space="environment Some-v0")


def test_actions_outside_the_space_are_named() -> None:
    action = columns()["action"]
    action[3, 1], action[5, 0] = 1.5, -1.2
    with pytest.raises(UserError, match=r"2 of 6 actions.*transition 3: number 1.*1.5.*-1 to 1"):
        check(action)
    check(action, low=(-2.0, -1.0), high=(1.0, 2.0))


def test_rounding_outside_the_space_is_let_through() -> None:
    check(torch.full((N, 2), 1.0005))
    with pytest.raises(UserError):
        check(torch.full((N, 2), 1.002))


def test_clip_is_d4rls_for_unit_bounds() -> None:
    action = torch.tensor([[-1.0, 1.0]] * N)
    transitions = make(action=action)
    transitions.clip_actions_((-1.0, -1.0), (1.0, 1.0))
    limit = np.float32(1 - 1e-5)
    assert transitions.action[0].tolist() == [-limit, limit]
    assert transitions.tensordict["action"].data_ptr() == action.data_ptr()


def test_clip_follows_unequal_bounds() -> None:
    transitions = make(action=torch.tensor([[0.0, 1e9]] * N))
    transitions.clip_actions_((0.0, -float("inf")), (4.0, float("inf")))
    assert transitions.action[0].tolist() == [pytest.approx(2e-5), 1e9]
