"""Exported policies: the same actions without this package, and as members of the next run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pex_lightning import load_policy
from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.errors import UserError
from pex_lightning.export import policy_file
from pex_lightning.export.policy_file import METADATA, SUFFIXES, export_policy
from pex_lightning.policies.member_entry import MemberEntry
from pex_lightning.policies.outside import OutsidePolicy

STATES = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
ALONE = """
import builtins, json, sys
import numpy as np

real = builtins.__import__
def only_others(name, *args, **kwargs):
    assert not name.startswith("pex_lightning"), name
    return real(name, *args, **kwargs)
builtins.__import__ = only_others
"""
USES = {
    "torch_export": """
import torch
extra = {"pex_lightning.json": ""}
policy = torch.export.load(path, extra_files=extra).module()
about = extra["pex_lightning.json"]
run = lambda *inputs: policy(*map(torch.from_numpy, inputs))
""",
    "torchscript": """
import torch
extra = {"pex_lightning.json": ""}
policy = torch.jit.load(path, _extra_files=extra)
about = extra["pex_lightning.json"]
run = lambda *inputs: policy(*map(torch.from_numpy, inputs))
""",
    "onnx": """
import onnxruntime
policy = onnxruntime.InferenceSession(path)
about = policy.get_modelmeta().custom_metadata_map["pex_lightning.json"]
names = [given.name for given in policy.get_inputs()]
run = lambda *inputs: policy.run(None, dict(zip(names, inputs)))
""",
}
KINDS = list(SUFFIXES)


def need(kind: str) -> None:
    if kind == "onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package)


def run_alone(kind: str, path: Path, inputs: list[np.ndarray]) -> tuple[list[np.ndarray], Any]:
    """Outputs and metadata in a process that does not import this package."""
    given, out = path.with_suffix(".in.npz"), path.with_suffix(".out.npz")
    np.savez(given, *inputs)
    script = f"{ALONE}\npath = {str(path)!r}\n{USES[kind]}\n" + (
        f"found = run(*np.load({str(given)!r}).values())\n"
        f"np.savez({str(out)!r}, *[np.asarray(x.detach() if hasattr(x, 'detach') else x) "
        "for x in found])\n"
        "print(about if isinstance(about, str) else about.decode())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return list(np.load(out).values()), json.loads(ended.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_programs_get_the_same_actions(kind: Any, saved: Any, tmp_path: Path) -> None:
    need(kind)
    policy = load_policy(saved("PEX"))
    path = tmp_path / f"policy{SUFFIXES[kind]}"
    export_policy(policy, path, kind)
    expected = policy.predict(STATES)
    (action, index), about = run_alone(kind, path, [STATES])
    np.testing.assert_allclose(action, expected, atol=1e-5)
    assert policy.last_choice is not None
    np.testing.assert_array_equal(index, policy.last_choice.policy_index)
    assert index.dtype == np.int64
    assert about["format"] == kind
    assert about["members"] == ["offline", "online"]
    assert about["data"]["fingerprint"] == "0" * 16
    assert about["data"]["env"]["id"] == "PexTiny-v0"
    assert (about["inputs"], about["gradient_steps"]) == (["observation"], 7)
    # The next run has it as a frozen member.
    member = OutsidePolicy(MemberEntry.of(str(path)), policy.env)
    np.testing.assert_allclose(member.mode(torch.from_numpy(STATES)), expected, atol=1e-5)


@pytest.mark.parametrize(
    "kind", ["torchscript", *(pytest.param(k, marks=pytest.mark.long) for k in KINDS[:2])]
)
def test_memory_goes_in_and_comes_out(kind: Any, saved: Any, tmp_path: Path) -> None:
    need(kind)
    policy = load_policy(saved("JSRL", guide_steps=2, guide_schedule="curriculum"))
    path = tmp_path / f"policy{SUFFIXES[kind]}"
    about = export_policy(policy, path, kind)
    assert (about["inputs"], about["memory_size"]) == (["observation", "memory"], 2)
    assert about["outputs"] == ["action", "policy_index", "next_memory"]
    run = policy_file._READERS[kind](path.read_bytes())
    memory, turns = torch.zeros(3, 2), []
    for _ in range(4):
        action, index, memory = run((torch.from_numpy(STATES[:3]), memory))
        np.testing.assert_allclose(action.detach(), policy.predict(STATES[:3]), atol=1e-5)
        turns.append(index.tolist())
    assert turns == [[0] * 3, [0] * 3, [1] * 3, [1] * 3]
    # A member of a policy set is told nothing but observations.
    with pytest.raises(UserError, match="has the inputs observation, memory"):
        OutsidePolicy(MemberEntry.of(str(path)), policy.env)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("IQL", "RLPD", "BT") else pytest.mark.long)
        for name in ALGORITHMS
    ],
)
def test_every_method_can_be_exported(name: str, saved: Any, tmp_path: Path) -> None:
    policy = load_policy(saved(name))
    about = export_policy(policy, tmp_path / "policy.pt", "torchscript")
    assert about["inputs"] == ["observation"] or policy.policy.decides_by_memory


SETTINGS: list[dict[str, Any]] = [
    {"choice": "uniform", "value_bound": "mean"},
    {"choice_values": "blend", "value_bound": "upper"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
@pytest.mark.parametrize("kind", ["torchscript", pytest.param("onnx", marks=pytest.mark.long)])
def test_policy_sets_of_other_settings(
    settings: dict[str, Any], kind: Any, saved: Any, tmp_path: Path
) -> None:
    need(kind)
    policy = load_policy(saved("PEX", **settings))
    export_policy(policy, tmp_path / f"policy{SUFFIXES[kind]}", kind)


def test_a_run_with_an_exported_member_needs_the_file(saved: Any, tmp_path: Path) -> None:
    path = tmp_path / "policy.pt"
    export_policy(load_policy(saved("PEX")), path, "torchscript")
    settings = {"offline_member": False, "critic_start": "fresh", "members": [str(path)]}
    new = saved("PEX", path=tmp_path / "new.ckpt", **settings)
    with pytest.raises(UserError, match="policy"):
        load_policy(new)
    loaded = load_policy(new, members={"policy": str(path)})
    assert loaded.members == ("policy", "online")
    loaded.predict(STATES)
    # Its code is in no other file.
    with pytest.raises(UserError, match=r"members that are code \(policy\)"):
        export_policy(loaded, tmp_path / "again.pt", "torchscript")


def test_nothing_is_written_where_the_file_does_something_else(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy, path = load_policy(saved("IQL")), tmp_path / "policy.pt"
    other = load_policy(saved("IQL", lambda m: m.policy.net.layers[0].weight.data.mul_(1.01)))
    right = policy_file._WRITERS["torchscript"]
    graph = policy_file.PolicyGraph(other.policy).eval()
    wrong = {"torchscript": lambda _, example, text: right(graph, example, text)}
    monkeypatch.setattr(policy_file, "_WRITERS", wrong)
    with pytest.raises(UserError, match=r"not the same.*other actions in .*Nothing was written"):
        export_policy(policy, path, "torchscript")
    assert list(tmp_path.glob("*policy.pt*")) == []


def test_a_file_that_is_there_is_kept(saved: Any, tmp_path: Path) -> None:
    policy, path = load_policy(saved("IQL")), tmp_path / "policy.pt"
    path.write_text("mine")
    with pytest.raises(UserError, match="is there already"):
        export_policy(policy, path, "torchscript")
    assert path.read_text() == "mine"
    export_policy(policy, path, "torchscript", overwrite=True)
    assert path.read_bytes() != b"mine"
    with pytest.raises(UserError, match=r"'.pt', expected .onnx for --format onnx"):
        export_policy(policy, path, "onnx", overwrite=True)
    with pytest.raises(UserError, match="expected a folder that exists"):
        export_policy(policy, tmp_path / "none" / "policy.pt", "torchscript")


def test_onnx_names_what_is_not_installed(
    saved: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"pip install 'pex-lightning\[onnx\]'"):
        export_policy(load_policy(saved("IQL")), tmp_path / "policy.onnx", "onnx")
    assert list(tmp_path.glob("*.onnx*")) == []


def test_the_metadata_have_a_name() -> None:
    # Other programs ask for it.
    assert METADATA == "pex_lightning.json"
