"""A policy as one file that is run without this package."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor, nn

from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.export.loaded import LoadedPolicy
from pex_lightning.files.atomic import written_aside
from pex_lightning.policies.acting import ActingPolicy
from pex_lightning.policies.outside import OutsidePolicy
from pex_lightning.version import __version__

Format = Literal["torch_export", "onnx", "torchscript"]
SUFFIXES: Mapping[Format, str] = {"torch_export": ".pt2", "onnx": ".onnx", "torchscript": ".pt"}
METADATA = "pex_lightning.json"
"""Name of the file's metadata: an extra file of torch's formats, a property of ONNX's."""

TOLERANCE = 1e-4
"""Largest difference of an action, as a share of half of its range."""
TIES = 0.01
"""Largest share of rows in which another member may act, as its value is the same but rounding."""

_SIZES = (1, 2, 7, 500)

Run = Callable[[tuple[Tensor, ...]], tuple[Tensor, ...]]


class PolicyGraph(nn.Module):
    """What is in the file: the policy with nothing left to chance.

    Args:
        policy: Who acts.
    """

    def __init__(self, policy: ActingPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observation: Tensor, memory: Tensor | None = None) -> tuple[Tensor, ...]:
        """`[B, obs_dim]`, with memory `[B, memory_size]`: action, policy_index, next memory."""
        given = self.policy.initial_memory(observation) if memory is None else memory
        choice = self.policy.decide(observation, given)
        told = (choice.action, choice.policy_index)
        return told if memory is None else (*told, choice.memory)


def export_policy(
    loaded: LoadedPolicy, path: Path, kind: Format, *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a policy, as `predict` has it by default, as one file.

    Its inputs are `observation` `[B, obs_dim]` float32 with any B and, if what it does depends on
    it, `memory` `[B, memory_size]`, zeros when an episode begins. Its outputs are `action`
    `[B, action_dim]`, `policy_index` `[B]` int64, and then `next_memory`. Before it is written it
    is run on random inputs and compared with the policy: actions within `TOLERANCE`, and another
    member in at most `TIES` of the rows.

    Args:
        loaded: The policy, on the CPU.
        path: The file; its ending is that of the format.
        kind: The format.
        overwrite: Whether to replace a file.

    Returns:
        The metadata, which are in the file too: version, method, stage, members, environment,
        dataset with fingerprint, gradient and environment steps, names of inputs and outputs.

    Raises:
        UserError: The file is there already, has another ending or cannot be written; the policy
            cannot be exported, or does something else then.
    """
    _check_path(path, kind, overwrite)
    _check_members(loaded)
    policy = loaded.policy
    remembers = policy.decides_by_memory
    metadata = _metadata(loaded, kind, remembers)
    graph = PolicyGraph(policy).eval()
    example = _inputs(loaded, 5, remembers, 1.0)
    try:
        with torch.no_grad(), _quiet():
            content = _WRITERS[kind](graph, example, json.dumps(metadata))
            run = _READERS[kind](content)
            _check_same(loaded, graph, run, remembers)
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"The policy of {loaded.checkpoint.path} cannot be exported as {kind}: "
            f"{shortened(in_one_line(error), 400)}. Another --format may do."
        ) from error
    with written_aside(path) as aside:
        aside.write_bytes(content)
    return metadata


def _check_path(path: Path, kind: Format, overwrite: bool) -> None:
    if path.suffix.lower() != SUFFIXES[kind]:
        raise UserError(
            f"--out {path}: found the ending {path.suffix!r}, expected {SUFFIXES[kind]} for "
            f"--format {kind}."
        )
    if path.exists() and not overwrite:
        raise UserError(f"--out {path} is there already. Give another name, or --overwrite true.")


def _check_members(loaded: LoadedPolicy) -> None:
    code = [part.entry for part in loaded.policy.modules() if isinstance(part, OutsidePolicy)]
    if code:
        raise UserError(
            f"The policy of {loaded.checkpoint.path} has members that are code "
            f"({', '.join(entry.name for entry in code)}), which no other file can hold."
        )


def _metadata(loaded: LoadedPolicy, kind: Format, remembers: bool) -> dict[str, Any]:
    header = loaded.checkpoint.header.to_dict()
    told = ("algorithm", "stage", "members", "data", "gradient_steps", "env_steps")
    memory = ["memory"] if remembers else []
    return {
        "pex_lightning": __version__,
        "format": kind,
        **{key: header[key] for key in told},
        "inputs": ["observation", *memory],
        "outputs": ["action", "policy_index", *(f"next_{name}" for name in memory)],
        "memory_size": loaded.memory_size if remembers else 0,
    }


def _inputs(loaded: LoadedPolicy, rows: int, remembers: bool, scale: float) -> tuple[Tensor, ...]:
    """Random inputs of a number of rows, the same at every call."""
    random = torch.Generator().manual_seed(rows)
    observation = scale * torch.randn(rows, loaded.env.obs_dim, generator=random)
    if not remembers:
        return (observation,)
    # Counts of steps, some of which have just begun.
    memory = torch.randint(0, 5, (rows, loaded.memory_size), generator=random)
    return observation, memory.float()


def _check_same(loaded: LoadedPolicy, graph: PolicyGraph, run: Run, remembers: bool) -> None:
    low, high = (torch.tensor(x) for x in (loaded.env.action_low, loaded.env.action_high))
    for rows in _SIZES:
        for scale in (0.1, 1.0, 10.0):
            inputs = _inputs(loaded, rows, remembers, scale)
            expected, found = graph(*inputs), run(tuple(x.clone() for x in inputs))
            shapes = [[list(x.shape) for x in outputs] for outputs in (expected, found)]
            if shapes[0] != shapes[1]:
                raise UserError(_differs(loaded, f"shapes {shapes[1]}, expected {shapes[0]}"))
            error = ((found[0] - expected[0]).abs() * 2 / (high - low)).amax(-1)
            other = found[1] != expected[1]
            # Of members that propose the same, rounding decides who acts.
            wrong = (error > TOLERANCE) | ~torch.isfinite(error)
            tied = wrong & other
            if (wrong & ~other).any() or float(tied.float().mean()) > TIES:
                share = float(wrong.float().mean())
                what = f"other actions in {share:.0%} of {rows} random rows, by up to "
                raise UserError(_differs(loaded, f"{what}{float(error.max()):.3g} of half a range"))
            if remembers and not torch.equal(found[2], expected[2]):
                raise UserError(_differs(loaded, "another memory"))


def _differs(loaded: LoadedPolicy, what: str) -> str:
    return (
        f"The exported policy of {loaded.checkpoint.path} is not the same as the policy: {what}. "
        "Nothing was written; another --format may do."
    )


def _write_export(graph: PolicyGraph, example: tuple[Tensor, ...], metadata: str) -> bytes:
    buffer = io.BytesIO()
    torch.export.save(_program(graph, example), buffer, extra_files={METADATA: metadata})
    return buffer.getvalue()


def _write_torchscript(graph: PolicyGraph, example: tuple[Tensor, ...], metadata: str) -> bytes:
    buffer = io.BytesIO()
    trace: Any = torch.jit.trace
    freeze: Any = torch.jit.freeze
    save: Any = torch.jit.save
    traced = freeze(trace(graph, example, check_trace=False))
    save(traced, buffer, _extra_files={METADATA: metadata.encode()})
    return buffer.getvalue()


def _write_onnx(graph: PolicyGraph, example: tuple[Tensor, ...], metadata: str) -> bytes:
    _onnx_packages()
    names = json.loads(metadata)
    program = torch.onnx.export(
        _program(graph, example),
        input_names=names["inputs"],
        output_names=names["outputs"],
        dynamo=True,
        verbose=False,
    )
    assert program is not None
    proto = program.model_proto
    proto.metadata_props.add(key=METADATA, value=metadata)
    return cast(bytes, proto.SerializeToString())


def _program(graph: PolicyGraph, example: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    batch = torch.export.Dim("batch")
    shapes = tuple({0: batch} for _ in example)
    given = ("observation", "memory")
    return torch.export.export(
        graph, example, dynamic_shapes=dict(zip(given, shapes, strict=False)), strict=False
    )


def _read_export(content: bytes) -> Run:
    module = torch.export.load(io.BytesIO(content)).module()
    return lambda inputs: tuple(module(*inputs))


def _read_torchscript(content: bytes) -> Run:
    load: Any = torch.jit.load
    module = load(io.BytesIO(content))
    return lambda inputs: tuple(module(*inputs))


def _read_onnx(content: bytes) -> Run:
    onnxruntime = _onnx_packages()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]

    def run(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        arrays = dict(zip(names, (x.numpy() for x in inputs), strict=True))
        return tuple(torch.from_numpy(np.asarray(out)) for out in session.run(None, arrays))

    return run


def _onnx_packages() -> Any:
    try:
        import onnx  # noqa: F401, PLC0415  (an extra)
        import onnxruntime  # noqa: PLC0415
        import onnxscript  # noqa: F401, PLC0415
    except ImportError as error:
        raise UserError(
            f"--format onnx needs a package that is not installed ({error.name}): "
            "pip install 'pex-lightning[onnx]'."
        ) from error
    return onnxruntime


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Leave out what torch tells of its exporters' insides; the result is checked."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


_WRITERS: Mapping[Format, Callable[[PolicyGraph, tuple[Tensor, ...], str], bytes]] = {
    "torch_export": _write_export,
    "onnx": _write_onnx,
    "torchscript": _write_torchscript,
}
_READERS: Mapping[Format, Callable[[bytes], Run]] = {
    "torch_export": _read_export,
    "onnx": _read_onnx,
    "torchscript": _read_torchscript,
}
