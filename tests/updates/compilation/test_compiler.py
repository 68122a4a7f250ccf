"""Functions of tensors are compiled once, in another process, and say why if they cannot be."""

import gc
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pex_lightning.updates.compilation import compiler as module
from pex_lightning.updates.compilation.compiler import CompilationError, Compiler, has_compiler
from pex_lightning.updates.compilation.source import FunctionSource

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler (g++)")
Tensors = list[torch.Tensor]


@pytest.fixture
def compiler(tmp_path: Path) -> Iterator[Compiler]:
    compiler = Compiler(tmp_path / "cache")
    yield compiler
    compiler.close()


def noisy_step(tensors: Tensors) -> Tensors:
    """Changes its first tensor, draws, and has a constant."""
    state, change = tensors
    noise = torch.randn(3)
    state.add_(change * noise)
    return [noise.sum(), state.sum() + torch.tensor([1.0, 2.0])]


def example() -> Tensors:
    return [torch.zeros(3), torch.ones(3)]


def assert_same_effect(function: Any, given: Tensors, plain: Any, expected: Tensors) -> None:
    """Both return the same from the same random numbers, and leave the same in their tensors."""
    torch.manual_seed(3)
    found = function([*given])
    torch.manual_seed(3)
    for mine, theirs in zip(found, plain(expected), strict=True):
        torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(given, expected)


@needs_compiler
@pytest.mark.slow
def test_it_does_what_the_function_does(compiler: Compiler) -> None:
    given, expected = example(), example()
    before = torch.get_rng_state()
    pending = compiler.begin(noisy_step, given)
    assert pending.waits
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(given[0], torch.zeros(3))
    compiled = pending.finish()
    # A second time from the cache, without a process.
    again = compiler.begin(noisy_step, given)
    assert not again.waits
    for function in (compiled, again.finish()):
        for _ in range(2):
            assert_same_effect(function, given, noisy_step, expected)


def minus(tensors: Tensors) -> Tensors:
    """As many tensors as `noisy_step`, of the same kinds."""
    state, change = tensors
    state.sub_(change)
    return [state.sum(), state - 1.0]


@needs_compiler
@pytest.mark.slow
def test_in_this_process_each_does_what_its_function_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The way of CUDA devices, on the CPU.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    given, expected = example(), example()
    before = torch.get_rng_state()
    compiled = [
        (module._compiled_here(module._traced(function, given), given), function)
        for function in (noisy_step, minus)
    ]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(given[0], torch.zeros(3))
    for function, plain in compiled + compiled:
        assert_same_effect(function, given, plain, expected)


def test_in_this_process_too_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no triton\nand so on")

    monkeypatch.setattr(torch, "compile", lambda *args, **kwargs: fails)
    graph = module._traced(noisy_step, example())
    with pytest.raises(CompilationError, match=r"^RuntimeError: no triton$"):
        module._compiled_here(graph, example())


def test_a_process_that_cannot_be_started_is_told(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **kwargs: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pex_lightning.jobs.subprocess.Popen", full)
    with pytest.raises(CompilationError, match="No space left on device"):
        compiler.begin(noisy_step, example())


@pytest.mark.slow
def test_a_compiler_that_fails_is_quoted(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "g++"
    broken.write_text("#!/bin/sh\necho no room on the device >&2\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    # Where an earlier process found out what the real one can do.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "inductor"))
    with pytest.raises(CompilationError, match=r"\w+Error: "):
        compiler.begin(noisy_step, example()).finish()
    assert not list((tmp_path / "cache").glob("*.pt2"))


def test_what_cannot_be_traced_is_said(compiler: Compiler) -> None:
    def asks(tensors: Tensors) -> Tensors:
        return tensors if tensors[0].sum().item() > 0 else []

    with pytest.raises(CompilationError, match=r"cannot be traced: .*data-dependent"):
        compiler.begin(asks, example())


def test_a_damaged_package_is_named_and_made_again(
    compiler: Compiler,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "cache").mkdir()
    path = tmp_path / "cache" / "0123.pt2"
    path.write_bytes(b"not an archive")
    with pytest.raises(CompilationError, match=r"0123\.pt2 cannot be loaded"):
        module._loaded(path)
    monkeypatch.setattr(module, "_key", lambda *args: "0123")
    monkeypatch.setattr(logging.getLogger("pex_lightning"), "propagate", True)
    assert compiler.begin(noisy_step, example()).waits
    assert not path.exists()
    assert "cannot be loaded" in caplog.text
    assert "compiling it again" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_closing_ends_what_it_is_at(compiler: Compiler) -> None:
    compiler.begin(noisy_step, example())
    (job,) = compiler._processes
    process = job._process
    assert process.poll() is None
    start = time.monotonic()
    compiler.close()
    compiler.close()
    assert time.monotonic() - start < 4.0
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_a_compiler_that_nobody_closes_ends_its_processes(tmp_path: Path) -> None:
    compiler = Compiler(tmp_path)
    compiler.begin(noisy_step, example())
    (job,) = compiler._processes
    process = job._process
    del compiler, job
    gc.collect()
    assert process.returncode is not None


def test_the_cache_tells_functions_and_threads_apart() -> None:
    def twice(tensors: Tensors) -> Tensors:
        return [2.0 * tensors[0]]

    def almost_twice(tensors: Tensors) -> Tensors:
        return [2.0000000000000004 * tensors[0]]

    def constant(tensors: Tensors, value: float = 1.0) -> Tensors:
        return [tensors[0] + torch.tensor([value])]

    given = [torch.zeros(1)]
    sources = [
        FunctionSource.of(module._traced(function, tensors), tensors)
        for function, tensors in (
            (twice, given),
            (almost_twice, given),
            (twice, [torch.zeros(2)]),
            (twice, [torch.zeros(1, dtype=torch.float64)]),
            (constant, given),
            (lambda tensors: constant(tensors, 2.0), given),
            (lambda tensors: [tensors[0] + torch.tensor([1.0], dtype=torch.float64)], given),
        )
    ]
    keys = {module._key(source, threads) for source in sources for threads in (1, 2)}
    assert len(keys) == 2 * len(sources)
    same = FunctionSource.of(module._traced(twice, given), given)
    assert module._key(same, 1) == module._key(sources[0], 1)


def test_autocast_becomes_a_part_of_it() -> None:
    def product(tensors: Tensors) -> Tensors:
        return [tensors[0] @ tensors[1], tensors[0] @ tensors[1]]

    given = [torch.ones(2, 2), torch.ones(2, 2)]
    with torch.autocast("cpu", torch.bfloat16):
        source = FunctionSource.of(module._traced(product, given), given)
        # The casts that it keeps stay the caller's business.
        assert torch.is_autocast_cache_enabled()
        real = given[0] @ given[1]
    assert real.dtype == torch.bfloat16
    found = source.module()(given)
    assert [tensor.dtype for tensor in found] == [torch.bfloat16] * 2


def test_a_compiler_is_found_where_the_user_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    assert not has_compiler()
    mine = tmp_path / "my-g++"
    mine.write_text("")
    mine.chmod(0o755)
    monkeypatch.setenv("CXX", str(mine))
    assert has_compiler()
