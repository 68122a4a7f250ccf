"""`pex-lightning data list` shows every task and recipe, quickly and within a terminal's width."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pex_lightning.cli.data.list import run
from pex_lightning.d4rl.tasks import TASKS
from pex_lightning.errors import UserError
from pex_lightning.recording.recipes import RECIPES


def test_every_task_is_a_line_of_a_readable_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    rows = {line.split()[0]: line.split() for line in lines if line.startswith("  ")}
    for task in TASKS.values():
        row = rows[task.id]
        assert row[1] == (task.env or "none")
        assert int(row[2]) == task.max_episode_steps
        assert float(row[3]) == pytest.approx(task.reference.minimum, rel=1e-4)
        assert float(row[4]) == pytest.approx(task.reference.maximum, rel=1e-4)
    for name, recipe in RECIPES.items():
        assert rows[name][1] == recipe.env_id


def test_settings_stand_above_the_tasks_they_belong_to(capsys: pytest.CaptureFixture[str]) -> None:
    run([])
    heading = ""
    for line in capsys.readouterr().out.splitlines():
        if line.startswith("- "):
            heading = line
        task = TASKS.get(line.strip().partition(" ")[0])
        if task is not None:
            assert task.reward_transform in heading
            assert f"{task.episodes} episodes" in heading
            assert f"expectile {task.expectile:g}, beta {task.beta:g}," in heading
            assert heading.endswith(f"inv_temperature {task.inv_temperature:g}")


def test_a_note_is_printed_once_and_referred_to(capsys: pytest.CaptureFixture[str]) -> None:
    run(["pen-"])
    text = capsys.readouterr().out
    assert " ".join(text.split()).count("dropping the pen ends the episode") == 1
    rows = [line for line in text.splitlines() if line.startswith("  pen-")]
    assert len(rows) == 3
    assert all(row.endswith("[1]") for row in rows)


def test_a_filter_leaves_the_names_that_hold_it(capsys: pytest.CaptureFixture[str]) -> None:
    run(["AntMaze", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert {task["id"] for task in shown["tasks"]} == {t for t in TASKS if "antmaze" in t}
    assert {recipe["name"] for recipe in shown["recipes"]} == {r for r in RECIPES if "antmaze" in r}
    run(["hopper"])
    assert "data make" not in capsys.readouterr().out
    with pytest.raises(UserError, match=r"'humanoid'.*pex-lightning data list"):
        run(["humanoid"])


def test_what_is_made_here_is_not_called_d4rls(capsys: pytest.CaptureFixture[str]) -> None:
    run(["halfcheetah-medium"])
    made = capsys.readouterr().out.partition("Made on this machine")[2]
    assert "not D4RL's data" in made
    assert "halfcheetah-medium  HalfCheetah-v4  1,000,000" in made


def test_json_holds_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    run(["--json"])
    shown = json.loads(capsys.readouterr().out)
    assert len(shown["tasks"]) == len(TASKS)
    task = next(task for task in shown["tasks"] if task["id"] == "door-human-v1")
    known = TASKS["door-human-v1"]
    assert task["url"] == known.url
    assert task["reference"]["maximum"] == known.reference.maximum
    assert (task["env"], task["beta"], task["sha256"]) == (known.env, 0.5, known.sha256)


def test_it_answers_without_torch() -> None:
    code = (
        "import sys; from pex_lightning.cli.data.list import run; run(['pen']); "
        "sys.exit('torch' in sys.modules)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert process.returncode == 0, process.stderr
