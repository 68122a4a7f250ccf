"""Checkpoints of every older format are read, handed over, resumed and exported.

`tests/checkpoints/format_1` was written by version 0.1.0 on the data of `conftest.py`: 20
updates of IQL, handed over to 20 updates of PEX with `admission_steps` 40. Beside each lies what
the same version ended with when it went on to 30 updates.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from pex_lightning.algorithms import PEX, load_algorithm
from pex_lightning.data.sources import FileSource
from pex_lightning.errors import UserError
from pex_lightning.export.experience import read_experience
from pex_lightning.handover import read_checkpoint

FORMAT_1 = Path(__file__).parents[1] / "checkpoints" / "format_1"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A copy, since a run that goes on writes beside its checkpoint."""
    return Path(shutil.copytree(FORMAT_1, tmp_path / "format_1"))


@pytest.mark.parametrize(
    ("stage", "algorithm", "members", "policy"),
    [
        ("offline", "IQL", ("policy",), "policy."),
        ("online", "PEX", ("offline", "online"), "policies.learner."),
    ],
)
def test_the_header_says_what_the_old_one_did_not(
    stage: str, algorithm: str, members: tuple[str, ...], policy: str
) -> None:
    checkpoint = read_checkpoint(FORMAT_1 / stage / "last.ckpt")
    header = checkpoint.header
    assert (header.algorithm, header.stage, header.members) == (algorithm, stage, members)
    assert header.parts["policy"] == policy
    assert set(header.parts) == {"q", "target", "v", "policy", "moments"}
    assert (header.gradient_steps, header.env_steps) == (20, 30 if stage == "online" else 0)
    assert checkpoint.resumable
    module = load_algorithm(checkpoint)
    assert torch.equal(
        module.state_dict()["critic.q_net.weights.0"], checkpoint.part("q")["weights.0"]
    )


def test_admission_is_taken_along() -> None:
    module = load_algorithm(read_checkpoint(FORMAT_1 / "online" / "last.ckpt"))
    assert isinstance(module, PEX)
    assert float(module.admission.share) == 0.5


@pytest.mark.parametrize(
    ("name", "stage", "settings"),
    [("IQL", "offline", {}), ("PEX", "online", {"admission_steps": 40})],
)
def test_a_run_goes_on_as_the_old_version_would_have(
    name: str,
    stage: str,
    settings: dict[str, Any],
    toy: Any,
    old: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The old version dropped a last row that is terminal, in every file.
    monkeypatch.setattr(FileSource, "as_published", True)
    toy.offline_path = None
    module = toy.algorithm(name, **settings)
    trainer = toy.fit(module, 30, resume=old / stage / "last.ckpt")
    assert trainer.global_step == 30
    expected = torch.load(old / stage / "after_30_updates.pt", weights_only=True)
    found = module.state_dict()
    found["policies.admission"] = found.pop("admission.share", None)
    for key, value in expected.items():
        # Another processor rounds otherwise.
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-6, msg=key)


def test_a_data_module_of_a_users_is_found_in_it_too(toy: Any, old: Path) -> None:
    path = old / "online" / "last.ckpt"
    raw = torch.load(path, weights_only=True)
    raw["MyData"] = raw.pop("OnlineData")
    torch.save(raw, path)
    assert len(read_experience(path)) == 30
    toy.offline_path = None
    data = toy.online_data()
    toy.fit(toy.algorithm("PEX", admission_steps=40), 30, data=data, resume=path)
    assert data.env_steps == 40


def test_an_online_checkpoint_without_its_replay_buffer_is_refused(toy: Any, old: Path) -> None:
    path = old / "online" / "last.ckpt"
    raw = torch.load(path, weights_only=True)
    del raw["OnlineData"]
    torch.save(raw, path)
    assert read_checkpoint(path).header.stage == "online"
    toy.offline_path = None
    with pytest.raises(UserError, match="holds nothing of what was collected"):
        toy.fit(toy.algorithm("PEX", admission_steps=40), 30, resume=path)


def test_it_is_handed_over(toy: Any, old: Path) -> None:
    toy.offline_path = old / "offline" / "last.ckpt"
    module = toy.algorithm("PEX")
    module.attach(toy.description())
    offline = torch.load(toy.offline_path, weights_only=True)["state_dict"]
    for key, value in module.policies.frozen[0].state_dict().items():
        assert torch.equal(value, offline[f"policy.{key}"]), key
    assert toy.fit(module, 5).global_step == 5


def test_its_experience_is_exported(old: Path) -> None:
    rows = read_experience(old / "online" / "last.ckpt")
    assert len(rows) == 30
    assert rows.rewards[:5].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0]
