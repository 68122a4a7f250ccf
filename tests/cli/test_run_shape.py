"""What a study knows of a run from its arguments: how a short run is made to resemble it."""

from __future__ import annotations

import pytest

from pex_lightning.cli.run_shape import shape_of
from pex_lightning.studies.estimate import MEASURED_UPDATES
from pex_lightning.updates.executor import PLAIN_UPDATES, WORTH_COMPILING, has_compiler

PEX = ["--config", "conf/pointmaze.yaml"]
DIRECT = [*PEX, "--config", "conf/methods/direct.yaml"]
ON_CPU = "--trainer.accelerator=cpu"
compiling = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler")


def test_a_short_run_of_pex_steps_the_environment():
    assert shape_of([*PEX, ON_CPU]).short_run == ("--data.initial_updates=0",)
    assert shape_of([*DIRECT, ON_CPU]).short_run == ()


def test_a_short_run_has_several_chunks_of_updates():
    whole = shape_of([*DIRECT, ON_CPU, "--data.chunk_size=500"])
    assert whole.short_run == ("--data.chunk_size=50",)
    assert MEASURED_UPDATES > 5 * 50


@compiling
def test_a_short_run_is_compiled_where_the_whole_one_is():
    online = [*DIRECT, ON_CPU, f"--trainer.max_steps={WORTH_COMPILING}"]
    of_one = ("--offline.model.compile_update=auto", "--model.compile_update=true")
    assert shape_of(online).short_run == of_one
    both = [*online, f"--offline.max_steps={WORTH_COMPILING}"]
    of_both = ("--offline.model.compile_update=true", "--model.compile_update=true")
    assert shape_of(both).short_run == of_both
    offline = ["--config", "conf/iql/pointmaze.yaml", ON_CPU]
    whole = [*offline, f"--trainer.max_steps={WORTH_COMPILING}"]
    assert shape_of(whole).short_run == ("--model.compile_update=true",)
    assert shape_of([*offline, f"--trainer.max_steps={PLAIN_UPDATES}"]).short_run == ()


@pytest.mark.parametrize("flag", ["--model.compile_update=false", "--model.compile_update=true"])
def test_what_the_user_says_of_compiling_is_left(flag: str):
    shape = shape_of([*DIRECT, ON_CPU, f"--trainer.max_steps={WORTH_COMPILING}", flag])
    assert shape.short_run == ()


def test_the_arguments_of_a_short_run_are_of_fit():
    arguments = [*PEX, ON_CPU, f"--trainer.max_steps={WORTH_COMPILING}"]
    short = shape_of([*arguments, *shape_of(arguments).short_run, "--trainer.max_steps=300"])
    assert short.online_steps == 300
