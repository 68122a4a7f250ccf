"""Members that are code: what they propose, how they travel, and what is refused."""

from __future__ import annotations

import copy
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import old_policies
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.policies.member_entry import GIVEN, MemberEntry, entries_of
from pex_lightning.policies.outside import OutsidePolicy

ENV = EnvSpec("none", {}, 3, old_policies.LOW, old_policies.HIGH, 5)
STATES = 2 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
LOW, HIGH = torch.tensor(old_policies.LOW), torch.tensor(old_policies.HIGH)


def opened(path: Any) -> OutsidePolicy:
    return OutsidePolicy(MemberEntry.of(str(path)), ENV)


def check(policy: OutsidePolicy, expected: torch.Tensor) -> None:
    """It proposes that, clipped; so do its copies; gradients are of no use."""
    expected = expected.clamp(LOW, HIGH).detach()
    for found in (policy, copy.deepcopy(policy), pickle.loads(pickle.dumps(policy))):
        actions = found.mode(STATES)
        torch.testing.assert_close(actions, expected)
        assert actions.dtype == torch.float32
        assert not actions.requires_grad
        torch.testing.assert_close(found.mode(STATES[:1]), expected[:1])


def test_a_function() -> None:
    expected = torch.from_numpy(old_policies.controller(STATES.numpy()))
    check(opened("old_policies:controller"), expected)


def test_torchscript(tmp_path: Path) -> None:
    net = old_policies.write_torchscript(tmp_path / "old.pt")
    policy = opened(tmp_path / "old.pt")
    check(policy, net(STATES))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(policy.mode(STATES), _exact(net))


def _exact(net: torch.nn.Module) -> torch.Tensor:
    with torch.autocast("cpu", enabled=False):
        return net(STATES).clamp(LOW, HIGH).detach()


def test_a_file_of_torch_export(tmp_path: Path) -> None:
    net = old_policies.write_exported(tmp_path / "old.pt2")
    check(opened(tmp_path / "old.pt2"), net(STATES))


def write_onnx(path: Path, weight: np.ndarray, *, inputs: int = 1) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx, which writes the file, is not installed")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x0", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])],
        "old",
        [
            helper.make_tensor_value_info(f"x{n}", onnx.TensorProto.FLOAT, ["batch", 3])
            for n in range(inputs)
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 2])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opset = helper.make_opsetid("", 13)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)


def test_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    weight = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    write_onnx(tmp_path / "old.onnx", weight)
    check(opened(tmp_path / "old.onnx"), torch.tanh(STATES @ torch.from_numpy(weight)))
    write_onnx(tmp_path / "two.onnx", weight, inputs=2)
    with pytest.raises(UserError, match=r"two\.onnx has the inputs x0, x1; a policy has one"):
        opened(tmp_path / "two.onnx")


def test_onnx_without_its_package_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "old.onnx").write_bytes(b"x")
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"old\.onnx needs onnxruntime: pip install 'pex-lightning"):
        opened(tmp_path / "old.onnx")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("old_policies:of_wrong_size", r"actions of shape \[1, 3\] .* expected \[1, 2\]"),
        ("old_policies:of_one_state", r"actions of shape \[2\] for observations of shape \[1, 3\]"),
        ("old_policies:that_fails", r"failed for observations of shape .*ValueError: no idea"),
        ("old_policies:that_is_nan", "proposes NaN or infinity"),
        ("old_policies:not_a_function", "is no function"),
        ("old_policies:absent", "cannot be opened as function: AttributeError"),
        ("no_such_module_anywhere:f", "cannot be opened as function: ModuleNotFoundError"),
        ("missing.pt", "there is no file missing.pt"),
        ("old.pkl", r"'old\.pkl' is no policy that is known here: give a checkpoint"),
    ],
)
def test_what_cannot_act_is_refused_in_a_sentence(path: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        opened(path)


def test_a_fixed_batch_is_refused_and_told(tmp_path: Path) -> None:
    old_policies.write_exported(tmp_path / "old.pt2", dynamic=False)
    with pytest.raises(UserError, match="It has to take any number of observations at once"):
        opened(tmp_path / "old.pt2")


@pytest.mark.parametrize("name", ["old.pt", "old.pt2", "old.onnx"])
@pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04" + bytes(200)])
def test_a_file_of_another_kind_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    if name.endswith("onnx"):
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=rf"{name} cannot be opened as"):
        opened(tmp_path / name)


def test_what_it_is_given_is_its_own() -> None:
    states = STATES.clone()
    opened("old_policies:that_writes_into_its_input").mode(states)
    assert torch.equal(states, STATES)


def test_nan_while_it_acts_is_told_by_name() -> None:
    policy = opened("old_policies:nan_beyond_three_steps")
    states = torch.zeros(4, 3)
    policy.mode(states)
    states[2, 0] = 0.3
    with pytest.raises(UserError, match=r"nan_beyond_three_steps .* proposes NaN or infinity"):
        policy.mode(states)


def test_another_file_under_the_same_path_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "old.pt"
    old_policies.write_torchscript(path)
    policy = opened(path)
    state, sent = policy.state_dict(), pickle.dumps(policy)
    policy.load_state_dict(state)
    old_policies.write_torchscript(path, seed=1)
    with pytest.raises(UserError, match=r"old\.pt was changed while the run uses it"):
        pickle.loads(sent)
    with pytest.raises(
        UserError, match=r"old\.pt is not the file that the checkpoint's member old"
    ):
        opened(path).load_state_dict(state)


def test_an_object_of_python_travels_if_it_can() -> None:
    entry = MemberEntry(GIVEN, "mine")
    policy = OutsidePolicy(entry, ENV, lambda states: np.zeros((len(states), 2)))
    assert copy.deepcopy(policy).mode(STATES).shape == (40, 2)
    with pytest.raises(UserError, match="num_collectors: the member mine cannot be sent"):
        pickle.dumps(policy)
    sent = pickle.dumps(OutsidePolicy(entry, ENV, old_policies.controller))
    assert pickle.loads(sent).mode(STATES).shape == (40, 2)
    with pytest.raises(UserError, match="mine was given in Python, and has to be given again"):
        OutsidePolicy(entry, ENV)


class Opened:
    """Says so where it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("executed",)


def rewritten(path: Path, change: Any) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(entries)).partition("/")[0]
    change(entries, root)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def pickled_weight(entries: dict[str, bytes], root: str) -> None:
    name = f"{root}/data/weights/model_weights_config.json"
    config = json.loads(entries[name])
    config["config"]["scale"]["use_pickle"] = True
    entries[name] = json.dumps(config).encode()
    entries[f"{root}/data/weights/{config['config']['scale']['path_name']}"] = pickle.dumps(
        Opened()
    )


def pickled_constant(entries: dict[str, bytes], root: str) -> None:
    name = f"{root}/data/constants/model_constants_config.json"
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True}
    entries[name] = json.dumps({"config": {"c": {**payload, "tensor_meta": None}}}).encode()
    entries[f"{root}/data/constants/opaque_obj_0"] = pickle.dumps(Opened())


def pickled_sample(entries: dict[str, bytes], root: str) -> None:
    buffer = io.BytesIO()
    torch.save(Opened(), buffer)
    entries[f"{root}/data/sample_inputs/model.pt"] = buffer.getvalue()


def legacy_weights(entries: dict[str, bytes], root: str) -> None:
    buffer = io.BytesIO()
    torch.save(Opened(), buffer)
    entries[f"{root}/data/weights/model.pt"] = buffer.getvalue()


def old_layout(entries: dict[str, bytes], root: str) -> None:
    entries.clear()
    entries["version"] = b"8.14"
    entries["serialized_exported_program.json"] = b"{}"
    buffer = io.BytesIO()
    torch.save(Opened(), buffer)
    entries["serialized_state_dict.json"] = buffer.getvalue()


def machine_code(entries: dict[str, bytes], root: str) -> None:
    entries[f"{root}/data/aotinductor/model/model.so"] = b"\x7fELF"


@pytest.mark.parametrize(
    "change",
    [pickled_weight, pickled_constant, pickled_sample, legacy_weights, old_layout, machine_code],
)
def test_a_file_of_torch_export_is_not_unpickled(
    change: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    old_policies.write_exported(tmp_path / "old.pt2")
    rewritten(tmp_path / "old.pt2", change)
    with pytest.raises(UserError, match=r"old\.pt2"):
        opened(tmp_path / "old.pt2")
    assert "executed" not in capsys.readouterr().out


def test_entries_have_names_of_their_own() -> None:
    entries = entries_of(["a/old.pt", "m.n:f", {"path": "b/best.ckpt", "name": "x"}])
    assert [entry.name for entry in entries] == ["old", "f", "x"]
    assert [entry.kind for entry in entries] == ["torchscript", "function", "checkpoint"]
    with pytest.raises(
        UserError, match=r"two members would be called 'old', b/old\.pt one of them"
    ):
        entries_of(["a/old.pt", "b/old.pt"])
    with pytest.raises(UserError, match="two members would be called 'online'"):
        entries_of(["online.pt"], taken=["online"])
    for bad in ({"name": "x"}, {"path": "a.pt", "sort": "y"}, {"path": 3}):
        with pytest.raises(UserError, match=r"--members has the entry .* an entry is a path"):
            entries_of([bad], flag="--members")
    with pytest.raises(UserError, match="a name has up to 60 letters"):
        entries_of([{"path": "a.pt", "name": "a b"}])
