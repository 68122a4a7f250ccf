"""HalfCheetah's study: variants of a task begin with the same offline stage, good or weak."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pex_lightning.cli.parser import parse_fit
from pex_lightning.cli.run_shape import shape_of
from pex_lightning.cli.study import read_study
from pex_lightning.data.online import OnlineData
from pex_lightning.studies.settings import StudySettings

ROOT = Path(__file__).resolve().parents[2]


def study(name: str) -> StudySettings:
    path = ROOT / "conf" / "studies" / f"{name}.yaml"
    return read_study(["--config", str(path)]).study


def env_steps(arguments: Sequence[str]) -> float:
    """Environment steps of a run after the first ones."""
    cli = parse_fit(list(arguments))
    data = cli.datamodule
    assert isinstance(data, OnlineData)
    updates = cli.trainer_args("trainer")["max_steps"] - data.alternation.initial_updates
    return float(updates / data.alternation.updates_per_step)


@pytest.mark.parametrize("name", ["halfcheetah", "halfcheetah-quick"])
def test_variants_of_a_task_differ_in_what_follows_the_offline_stage(name: str):
    settings = study(name)
    kinds = {(run.task, run.variant): run.arguments for run in settings.runs()}
    assert len(kinds) == 8
    shapes = {kind: shape_of(list(arguments)) for kind, arguments in kinds.items()}
    for task in settings.tasks:
        of_task = {variant: shapes[task, variant] for variant in settings.variants}
        assert len({(shape.stage, shape.offline_steps) for shape in of_task.values()}) == 1
        assert of_task["offline"].online_steps == 0
        assert of_task["direct"].online_steps == of_task["pex-paper"].online_steps > 0
        for variant in ("pex", "pex-paper", "direct"):
            assert env_steps(kinds[task, variant]) == of_task["direct"].online_steps
    assert shapes["halfcheetah-weak", "pex"].offline_steps == 2000
    assert shapes["halfcheetah-medium", "pex"].offline_steps >= 20_000


def test_it_runs_on_d4rls_file_with_nothing_else_changed():
    ours, theirs = study("halfcheetah").runs()[1], study("halfcheetah-d4rl").runs()[1]
    extra = set(theirs.arguments) - set(ours.arguments)
    assert extra == {"--data.source=d4rl", "--data.dataset=halfcheetah-medium-v2"}
    data = parse_fit(list(theirs.arguments)).config["data"]["init_args"]
    assert data["env"] == "HalfCheetah-v4"
