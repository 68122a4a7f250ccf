"""What a study compares: names, and the arguments that each run gets."""

from __future__ import annotations

from typing import Any

import pytest

from pex_lightning.errors import UserError
from pex_lightning.studies.settings import Overlay, StudySettings


def settings(**changes: Any) -> StudySettings:
    given: dict[str, Any] = {
        "name": "demo",
        "tasks": {"a": Overlay(["a.yaml"], {"x": 1, "z": "t"}), "b": Overlay(["b.yaml"])},
        "variants": {
            "one": Overlay(["one.yaml"], {"y": [1, 2], "z": None}),
            "two": Overlay(tasks=["b"]),
        },
        "seeds": [3, 0],
        "set": {"x": 0, "w": 0.5},
    }
    return StudySettings(**{**given, **changes})


def test_every_variant_runs_on_its_tasks_with_every_seed_and_seeds_come_first():
    names = [run.name for run in settings().runs()]
    assert names == ["a-one-3", "b-one-3", "b-two-3", "a-one-0", "b-one-0", "b-two-0"]


def test_files_come_before_settings_and_later_ones_win():
    assert settings().runs()[0].arguments == (
        *("--config", "a.yaml", "--config", "one.yaml"),
        *("--x=1", "--w=0.5", "--z=null", "--y=[1, 2]", "--seed_everything=3"),
    )
    assert "--x=0" in settings().runs()[2].arguments


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "../up"}, "--study.name"),
        ({"variants": {}}, "--study.variants"),
        ({"tasks": {"a/b": Overlay()}}, "--study.tasks"),
        ({"seeds": []}, "--study.seeds"),
        ({"seeds": [1, 1]}, "different whole numbers"),
        ({"seeds": [-1]}, "--study.seeds"),
        ({"jobs": 0}, "--study.jobs"),
        ({"gpus": -1.0}, "--study.gpus"),
        ({"backend": "cloud"}, "local or ray or slurm"),
        ({"reference": "three"}, "one of the variants one, two"),
        ({"variants": {"one": Overlay(tasks=["c"])}}, "tasks of --study.variants.one"),
        ({"variants": {"one": Overlay(tasks=[])}}, "some of a, b"),
    ],
)
def test_what_is_wrong_is_refused_by_its_flag(changes: dict[str, Any], words: str):
    with pytest.raises(UserError, match=words):
        settings(**changes)


def test_two_runs_of_one_name_are_refused():
    double = settings(
        tasks={"a-b": Overlay(), "a": Overlay()}, variants={"c": Overlay(), "b-c": Overlay()}
    )
    with pytest.raises(UserError, match="'a-b-c-3'"):
        double.runs()
