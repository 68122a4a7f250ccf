"""Members from outside of this package: functions, TorchScript, torch.export and ONNX."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import pickle
import pkgutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.policies.member_entry import MemberEntry

Propose = Callable[[np.ndarray], Any]
"""From observations `[B, obs_dim]` float32 to actions `[B, action_dim]`."""


class OutsidePolicy(nn.Module):
    """A frozen member that runs code which is not of this package, on the CPU.

    It is opened again where it is copied or sent to another process. Its state dict holds the
    SHA-256 of its file, and refuses that of another one.

    Args:
        entry: What the user names.
        env: The environment's sizes and action bounds.
        function: The policy itself, where the entry is `given`.

    Raises:
        UserError: It cannot be opened, or what it proposes at a few states is not actions.
    """

    action_low: Tensor
    action_high: Tensor
    sha256: Tensor

    def __init__(self, entry: MemberEntry, env: EnvSpec, function: Propose | None = None) -> None:
        super().__init__()
        self.entry = entry
        self._given = function
        content = b"" if entry.kind in ("function", "given") else read_member(entry)
        self._digest = hashlib.sha256(content).digest()
        self._propose = function or _opened(entry, content)
        for name, bounds in (("action_low", env.action_low), ("action_high", env.action_high)):
            limits = torch.tensor(bounds, dtype=torch.float32)
            self.register_buffer(name, limits, persistent=False)
        self.register_buffer("sha256", torch.tensor(list(self._digest), dtype=torch.uint8))
        states = np.random.default_rng(0).standard_normal((3, env.obs_dim), np.float32)
        for batch in (np.zeros((1, env.obs_dim), np.float32), states):
            self._actions(batch)

    def mode(self, observation: Tensor) -> Tensor:
        """What it proposes, clipped: `[B, obs_dim] -> [B, action_dim]`.

        Raises:
            UserError: It fails, or proposes something that is not an action.
        """
        states = observation.detach().cpu().float().numpy()
        action = torch.from_numpy(self._actions(states)).to(observation.device)
        return torch.clamp(action, self.action_low, self.action_high)

    def _actions(self, states: np.ndarray) -> np.ndarray:
        try:
            with torch.no_grad(), torch.autocast("cpu", enabled=False):
                # A copy, as it may write into what it is given.
                found = self._propose(states.copy())
            if isinstance(found, Tensor):
                found = found.detach().cpu().numpy()
            actions = np.array(found, dtype=np.float32)
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"--model.members: {self.entry.name} ({self.entry.path}) failed for observations "
                f"of shape {list(states.shape)}: {reason(error)}. It has to take any number "
                "of observations at once, as float32."
            ) from error
        expected = (states.shape[0], self.action_low.shape[0])
        if actions.shape != expected:
            raise UserError(
                f"--model.members: {self.entry.name} ({self.entry.path}) gives actions of shape "
                f"{list(actions.shape)} for observations of shape {list(states.shape)}; expected "
                f"{list(expected)}."
            )
        if not np.isfinite(actions).all():
            raise UserError(
                f"--model.members: {self.entry.name} ({self.entry.path}) proposes NaN or infinity. "
                "Mend that policy, or leave it out."
            )
        return actions

    def _load_from_state_dict(
        self, state_dict: Mapping[str, Any], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        theirs = state_dict.get(f"{prefix}sha256")
        if theirs is not None and bytes(theirs.tolist()) != self._digest:
            raise UserError(
                f"--model.members: {self.entry.path} is not the file that the checkpoint's member "
                f"{self.entry.name} was (another SHA-256). Give that file."
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> OutsidePolicy:
        new = OutsidePolicy.__new__(OutsidePolicy)
        memo[id(self)] = new
        for key, value in self.__dict__.items():
            shared = key in ("_propose", "_given")
            new.__dict__[key] = value if shared else copy.deepcopy(value, memo)
        return new

    def __getstate__(self) -> dict[str, Any]:
        try:
            pickle.dumps(self._given)
        except Exception as error:
            raise UserError(
                f"--data.num_collectors: the member {self.entry.name} cannot be sent to another "
                f"process ({reason(error)}). Define it at the top of a module, or give "
                "--data.num_collectors 0."
            ) from error
        state = self.__dict__.copy()
        del state["_propose"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        entry = self.entry
        content = b"" if entry.kind in ("function", "given") else read_member(entry)
        if hashlib.sha256(content).digest() != self._digest:
            raise UserError(f"--model.members: {entry.path} was changed while the run uses it.")
        self._propose = self._given or _opened(entry, content)


def reason(error: BaseException) -> str:
    """What went wrong with a member's file, of any content, in a line of bounded length."""
    return shortened(in_one_line(error), 300)


def read_member(entry: MemberEntry) -> bytes:
    """The bytes of a member's file.

    Raises:
        UserError: There is no such file, or it cannot be read.
    """
    path = Path(entry.path)
    if not path.is_file():
        raise UserError(f"--model.members: there is no file {entry.path}.")
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"--model.members: {reason(error)}.") from error


def _opened(entry: MemberEntry, content: bytes) -> Propose:
    if entry.kind == "given":
        raise UserError(
            f"--model.members: {entry.name} was given in Python, and has to be given again: "
            f"add_member({entry.name!r}, POLICY), or members= of load_algorithm."
        )
    try:
        match entry.kind:
            case "function":
                return _function(entry)
            case "torchscript":
                return _torchscript(entry, content)
            case "exported":
                return _exported(entry, content)
            case _:
                return _onnx(entry, content)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"--model.members: {entry.path} cannot be opened as {entry.kind}: {reason(error)}."
        ) from error


def _function(entry: MemberEntry) -> Propose:
    found = pkgutil.resolve_name(entry.path)
    if not callable(found):
        raise UserError(f"--model.members: {entry.path} is no function.")
    propose: Propose = found
    return propose


def _torchscript(entry: MemberEntry, content: bytes) -> Propose:
    module: Any = torch.jit.load(io.BytesIO(content), map_location="cpu")  # type: ignore[no-untyped-call]
    module.eval()
    needed = module.forward.schema.arguments[1:]
    _check_inputs(entry, [given.name for given in needed if not given.has_default_value()])
    return lambda states: _first(module(torch.from_numpy(states)))


def _exported(entry: MemberEntry, content: bytes) -> Propose:
    _check_exported(entry, content)
    program = torch.export.load(io.BytesIO(content))
    _check_inputs(entry, [str(name) for name in program.graph_signature.user_inputs])
    module = program.module()
    return lambda states: _first(module(torch.from_numpy(states)))


def _onnx(entry: MemberEntry, content: bytes) -> Propose:
    try:
        import onnxruntime  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise UserError(
            f"--model.members: {entry.path} needs onnxruntime: pip install 'pex-lightning[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    # The networks are small; other processors are for training.
    options.intra_op_num_threads = 1
    # From bytes, so that it names no other files to be read.
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    _check_inputs(entry, names)
    return lambda states: session.run(None, {names[0]: states})[0]


def _check_inputs(entry: MemberEntry, names: list[str]) -> None:
    if len(names) != 1:
        raise UserError(
            f"--model.members: {entry.path} has the inputs {shortened(', '.join(names))}; a policy "
            "has one, the observations. Wrap it into a function, and give that as module:function."
        )


def _first(outputs: Any) -> Any:
    """The first of several outputs: a file of `pex-lightning export` also tells who acted."""
    return outputs[0] if isinstance(outputs, (tuple, list)) and outputs else outputs


def _check_exported(entry: MemberEntry, content: bytes) -> None:
    """Refuse a file whose reader, `torch.export.load`, would unpickle or run machine code.

    Raises:
        UserError: It holds something else than a graph and plain tensors.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        names = archive.namelist()
        inside = [name.partition("/")[2] for name in names]
        bad = [n for n in inside if n.startswith("data/aotinductor/")]
        if "archive_format" not in inside or len(set(names)) < len(names):
            bad.append("another layout")
        bad += [n for n in names if n.startswith("serialized_")]
        for name, local in zip(names, inside, strict=True):
            if local.startswith(("data/weights/", "data/constants/")) and name.endswith(".json"):
                bad += _pickled(json.loads(archive.read(name)))
            elif name.endswith(".pt"):
                torch.load(io.BytesIO(archive.read(name)), weights_only=True)
    if bad:
        raise UserError(
            f"--model.members: {entry.path} holds Python objects or compiled code ({bad[0]:.80}), "
            "which is not read. Save it with torch.export.save, with plain tensors only."
        )


def _pickled(config: Mapping[str, Any]) -> list[str]:
    return [
        name
        for name, payload in config["config"].items()
        if payload["use_pickle"] or not payload["path_name"].startswith(("weight_", "tensor_"))
    ]
