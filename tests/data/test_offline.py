from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning.data.offline import OfflineData
from pex_lightning.errors import UserError


def test_a_chunk_depends_on_seed_and_step_only(toy: Any) -> None:
    drawn: dict[tuple[int, int], list[torch.Tensor]] = {}
    for _ in range(2):
        for seed in (0, 1):
            data = toy.offline_data()
            toy.fit(toy.algorithm("IQL"), 5, data=data, seed=seed)
            for step in (0, 5):
                drawn.setdefault((seed, step), []).append(data._chunk(step, 3)["observation"])
    assert all(torch.equal(*pair) for pair in drawn.values())
    assert len({pair[0].sum().item() for pair in drawn.values()}) == 4


def test_rows_are_the_files_with_the_transform_applied(toy: Any) -> None:
    data = toy.offline_data(reward_transform="subtract_one")
    data.setup()
    with np.load(toy.dataset) as file:
        rewards, timeouts, terminals = (
            torch.from_numpy(file[name]) for name in ("rewards", "timeouts", "terminals")
        )
    kept = ~timeouts
    rows = data._offline[:][kept]
    torch.testing.assert_close(rows["next", "reward"][:, 0], rewards[kept] - 1.0)
    assert torch.equal(rows["next", "terminated"][:, 0], terminals[kept])
    assert data.describe().reward.shift == -1.0
    assert data.describe().dataset == "tiny"
    assert data.describe().env == toy.description().env
    assert data.info.rows == toy.rows


def test_a_file_is_asked_for_its_environment_once(
    toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("pex_lightning.data.sources.recorded_environment", asked.append)
    data = toy.offline_data()
    data.prepare_data()
    data.setup()
    assert asked == [toy.dataset]


def test_a_stage_of_its_own_shares_the_rows(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    online = toy.online_data()
    stage = online.offline_stage()
    assert type(stage) is OfflineData
    online.setup()
    monkeypatch.setattr("pex_lightning.data.sources.read_d4rl", None)
    stage.prepare_data()
    stage.setup()
    assert stage._offline is online._offline
    assert stage.describe() == online.describe()
    toy.fit(toy.algorithm("IQL"), 5, data=stage)


@pytest.mark.parametrize("key", ["batch_size", "chunk_size", "rows"])
def test_settings_have_to_be_positive(key: str, toy: Any) -> None:
    with pytest.raises(UserError, match=rf"--data\.{key} is 0"):
        toy.offline_data(**{key: 0})


def test_what_is_missing_is_named(toy: Any) -> None:
    with pytest.raises(UserError, match=r"--data\.path FILE\.hdf5"):
        toy.offline_data(path=None).setup()
    with pytest.raises(UserError, match=r"--data\.dataset"):
        toy.offline_data(source="make", path=None).prepare_data()
    with pytest.raises(UserError, match=r"give --data\.env ID"):
        toy.offline_data(env=None).setup()
    with pytest.raises(UserError, match=r"--trainer\.max_steps is -1"):
        toy.fit(toy.algorithm("IQL", cosine_decay=False), -1, max_epochs=1)


def test_a_given_path_is_read_whatever_the_source(toy: Any) -> None:
    data = toy.offline_data(source="make", dataset="pointmaze-medium")
    data.prepare_data()
    data.setup()
    assert data.describe().dataset == "tiny"


def test_what_is_learnt_from_is_said_once(toy: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "pex_lightning"):
        data = toy.online_data()
        data.setup()
        data.offline_stage().setup()
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 1
    assert lines[0].startswith("Dataset tiny: 190 transitions of 200 rows, 20 episodes, finger")
    assert data.info.fingerprint in lines[0]
