"""Maps of a run in a maze."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pex_lightning.export.experience import read_experience
from pex_lightning.handover import read_checkpoint
from pex_lightning.inspection.maze_plan import maze_plan
from pex_lightning.report.critic import at_positions
from pex_lightning.report.drawing import Sketch
from pex_lightning.report.maps import Maps, map_runs
from pex_lightning.report.maze import member_counts
from pex_lightning.report.reading import Run, read_runs
from pex_lightning.studies.records import RunRecord, find_runs


def maps(folder: Path) -> tuple[list[Sketch], list[str]]:
    """All maps of a run, and what is left out."""
    (run,) = read_runs(find_runs([folder]))
    missing: list[str] = []
    drawn = Maps()
    return [*drawn.dataset(run), *drawn.of(run, missing)], missing


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A run in a maze that may be damaged."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_a_run_has_maps_of_its_data_its_members_and_its_critic(run: Path) -> None:
    drawn, missing = maps(run)
    assert [sketch.title for sketch in drawn] == [
        "Dataset made:pointmaze-medium",
        "Online, early",
        "Online, late",
        "Critic: V at step 40",
    ]
    assert missing == []
    assert "nearest row" in drawn[-1].caption


def test_members_are_counted_where_they_acted(run: Path) -> None:
    replay = read_experience(run / "online/checkpoints/last.ckpt")
    plan = maze_plan("pex_lightning/PointMaze-Medium-v0")
    assert plan is not None
    xy = np.array([[0.0, 0.0], [0.01, 0.0], [5.0, 5.0]], dtype=np.float32)
    counts = member_counts(plan, xy, np.array([0, 1, 1]), replay.header.members)
    assert counts.shape[0] == 2
    assert counts.sum(axis=(1, 2)).tolist() == [1, 2]
    start = np.argwhere(counts[0])[0]
    assert counts[1][tuple(start)] == 1
    drawn, _ = maps(run)
    third = len(replay.policy_index) // 3
    told = [point[3] for point in drawn[1].points]
    assert sum(int(text.split(" of ")[1].split()[0]) for text in told) == third


def test_critic_is_asked_at_positions_with_the_rest_of_the_nearest_row() -> None:
    rows = np.array([[0, 0, 1, 2], [5, 5, 3, 4]], dtype=np.float32)
    found = at_positions(rows, np.array([[0.4, 0.3], [4.0, 4.5]], dtype=np.float32))
    assert found.tolist() == [
        pytest.approx([0.4, 0.3, 1, 2]),
        pytest.approx([4.0, 4.5, 3, 4]),
    ]


def test_without_the_replay_buffer_the_rest_is_drawn(run: Path) -> None:
    shutil.rmtree(run / "online/checkpoints/replay")
    drawn, missing = maps(run)
    assert [sketch.title for sketch in drawn] == [
        "Dataset made:pointmaze-medium",
        "Critic: V at step 40",
    ]
    assert len(missing) == 1
    assert "what it collected is not drawn" in missing[0]


def test_without_the_dataset_the_rest_is_drawn(run: Path) -> None:
    config = yaml.safe_load((run / "online/config.yaml").read_text())
    config["data"]["init_args"]["rows"] = 2001
    (run / "online/config.yaml").write_text(yaml.safe_dump(config))
    drawn, missing = maps(run)
    assert [sketch.title.split(":")[0] for sketch in drawn] == [
        "Online, early",
        "Online, late",
        "Critic",
    ]
    assert missing == ["run: the dataset is not drawn: it is not on this machine."]


def test_a_damaged_checkpoint_is_a_sentence(run: Path) -> None:
    file = run / "online/checkpoints/last.ckpt"
    file.write_bytes(file.read_bytes()[:1000])
    drawn, missing = maps(run)
    assert drawn == []
    assert len(missing) == 1
    assert missing[0].startswith("run has no maps: ")


def test_no_module_is_imported_because_a_checkpoint_names_it(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = read_checkpoint(run / "online/checkpoints/last.ckpt")
    data = checkpoint.header.data
    header = replace(
        checkpoint.header, data=replace(data, env=replace(data.env, id="evil:PointMaze-v0"))
    )
    monkeypatch.setattr(
        "pex_lightning.report.maps.read_checkpoint", lambda _: replace(checkpoint, header=header)
    )
    drawn, missing = maps(run)
    assert drawn == []
    assert "would import a module" in missing[0]


def test_maps_are_of_one_seed_of_each_variant(finished: Path) -> None:
    saved = read_runs(find_runs([finished]))[0]

    def of(seed: int, stages: bool = True) -> Run:
        record = RunRecord("s", "v", "t", seed)
        return replace(saved, record=record, stages=saved.stages if stages else {})

    runs = {"v": [of(2), of(1), of(0, stages=False)]}
    assert [run.record.seed for run in map_runs(runs, None)] == [1]
    assert [run.record.seed for run in map_runs(runs, 2)] == [2]
    assert map_runs(runs, 7) == []
