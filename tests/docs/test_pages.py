"""The pages of explanation, of troubleshooting and for newcomers say what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule

from pex_lightning.callbacks.signs import SIGNS
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.policies.member_entry import MemberEntry
from pex_lightning.policies.outside import OutsidePolicy

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *DOCS.glob("explanation/*.md"),
    *DOCS.glob("coming-from/*.md"),
    DOCS / "troubleshooting.md",
]
REFERENCE = "".join(
    (DOCS / "reference" / f"{name}.md").read_text() for name in ("commands", "settings")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_flag_and_every_file_exists(page: Path) -> None:
    text = page.read_text()
    if page.parent.name == "coming-from":
        # First columns and comments have the other package's names.
        text = re.sub(r"^(\| .*? \||# .*)", "", text, flags=re.MULTILINE)
    flags = set(re.findall(r"--(?:offline\.)?[a-z_]\w*(?:\.\w+)*", text))
    flags = {flag.replace("--offline.model.", "--model.") for flag in flags}
    known = set(re.findall(r"--[\w.]+", REFERENCE))
    not_ours = {flag for flag in flags if flag.startswith(("--trainer.", "--offline.trainer"))}
    assert sorted(flags - known - not_ours) == []
    files = re.findall(r"conf/[\w/-]+\.yaml", text)
    assert sorted(name for name in files if not (ROOT / name).is_file()) == []


def written() -> list[str]:
    """All texts in the package, with … for what is filled in."""
    texts = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    part.value if isinstance(part, ast.Constant) else "…" for part in node.values
                )
                texts.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value.replace("%s", "…"))
    return texts


def test_every_message_of_the_troubleshooting_is_one_of_the_package() -> None:
    messages = re.findall(
        r"^\| `([^`]*…[^`]*)` \|", (DOCS / "troubleshooting.md").read_text(), re.M
    )
    texts = written()
    assert len(messages) > 30
    unknown = []
    for message in messages:
        pieces = [re.escape(piece.strip()) for piece in message.split("…") if piece.strip()]
        pattern = re.compile(r"\s?…?.*?".join(pieces), re.DOTALL)
        if not any(pattern.search(text) for text in texts):
            unknown.append(message)
    assert unknown == []


def test_signs_that_are_named_exist() -> None:
    names = {sign.name for sign in SIGNS}
    named = set(
        re.findall(
            r"`(entropy_\w+|weights_\w+|offline_share\w+)`", "".join(map(Path.read_text, PAGES))
        )
    )
    assert named <= names


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


def proposed(path: str, env: EnvSpec) -> torch.Tensor:
    """What a policy set makes of a file that a page says can be a member."""
    return OutsidePolicy(MemberEntry.of(path), env).mode(torch.zeros(3, env.obs_dim))


class Actor(torch.nn.Module):
    """What stands for a policy of another package."""

    def __init__(self, env: EnvSpec) -> None:
        super().__init__()
        self.net = torch.nn.Sequential(
            torch.nn.Linear(env.obs_dim, env.action_dim), torch.nn.Tanh()
        )

    def act(self, observation: torch.Tensor, deterministic: bool) -> torch.Tensor:
        assert deterministic
        return self.net(observation)


def episode(rows: int, terminated: bool) -> SimpleNamespace:
    return SimpleNamespace(
        observations=np.zeros((rows, 4), np.float32),
        actions=np.zeros((rows, 2), np.float32),
        rewards=np.zeros((rows, 1), np.float32),
        terminated=terminated,
    )


def test_blocks_of_the_explanation_run(capsys: pytest.CaptureFixture[str]) -> None:
    for page in ("explanation/hand-over.md", "explanation/comparable-scores.md"):
        for code in blocks(page):
            exec(code, {})
    printed = capsys.readouterr().out.split()
    assert [round(float(number), 3) for number in printed[:2]] == [0.993, 0.525]


def test_policies_of_other_packages_become_members(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given: dict[str, Any] = {"mean": np.zeros(29), "std": np.ones(29)}
    env = env_spec("pex_lightning/AntMaze-UMaze-v0")
    for page, file in (("corl", "corl.pt"), ("pex-release", "release.pt")):
        (code,) = blocks(f"coming-from/{page}.md")
        exec(code, {**given, "actor": Actor(env), "policy": Actor(env)})
        assert proposed(file, env).shape == (3, 8)


def test_what_d3rlpy_saves_is_a_member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = env_spec("pex_lightning/AntMaze-UMaze-v0")
    net = Actor(env).net.requires_grad_(False)
    # As its `save_policy` does: a traced function, for one row.
    traced = torch.jit.trace(lambda *x: net(x[0]), torch.rand(1, 29), check_trace=False)
    traced.save("policy.pt")
    assert proposed("policy.pt", env).shape == (3, 8)


def test_episodes_of_d3rlpy_become_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (code,) = blocks("coming-from/d3rlpy.md")
    exec(code, {"episodes": [episode(5, terminated=False), episode(3, terminated=True)]})
    info = read_d4rl("data.hdf5").info
    assert (info.transitions, info.terminals) == (4 + 3, 1)


def test_rows_and_actors_of_torchrl_are_taken() -> None:
    bring, actor, _ = blocks("coming-from/torchrl.md")
    flags = torch.zeros(6, 1, dtype=torch.bool)
    following = {"observation": torch.zeros(6, 4), "reward": torch.zeros(6, 1), "terminated": flags}
    rows = TensorDict(
        {"observation": torch.zeros(6, 4), "action": torch.zeros(6, 2), "next": following}, [6]
    )
    namespace: dict[str, Any] = {"rows": rows}
    exec(bring, namespace)
    assert namespace["data"].env == "pex_lightning/PointMaze-Medium-v0"
    namespace["actor"] = TensorDictModule(
        torch.nn.Linear(4, 2), in_keys=["observation"], out_keys=["action"]
    )
    exec(actor, namespace)
    assert namespace["old_policy"](np.zeros((3, 4), np.float32)).shape == (3, 2)
