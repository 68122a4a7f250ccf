from typing import Any

import pytest

from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.progress import RunProgressBar


@pytest.mark.parametrize(("name", "stage"), [("IQL", "offline"), ("PEX", "online")])
def test_the_bar_counts_gradient_steps_and_shows_the_score(
    name: str, stage: str, toy: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluation = Evaluation(1, 5, seed=0, num_envs=1)
    bar = RunProgressBar(stage, evaluation)
    toy.fit(toy.algorithm(name), 15, callbacks=[evaluation, bar], enable_progress_bar=True)
    last = capsys.readouterr().err.replace("\r", "\n").strip().splitlines()[-1]
    assert stage in last
    assert "15/15" in last
    assert "return=15.0" in last
    assert ("offline=" in last) == (name == "PEX")
    assert ("env=25" in last) == (name == "PEX")
