"""Traces functions of tensors and has AOTInductor compile them in another process, with a cache.

Compiling takes tens of seconds and more memory than training. So the process that trains only
traces the function, which is fast, and loads the machine code when it is ready.
"""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.fx import GraphModule

from pex_lightning.errors import in_one_line
from pex_lightning.files.cache import cache_path
from pex_lightning.jobs import JobProcess
from pex_lightning.updates.compilation import worker
from pex_lightning.updates.compilation.source import FunctionSource
from pex_lightning.updates.compilation.worker import OPTIONS

Function = Callable[[list[Tensor]], list[Tensor]]
"""Takes tensors, may change some of them in place, and returns new ones."""

_log = logging.getLogger(__name__)


class CompilationError(Exception):
    """A function could not be compiled; the message is a sentence without its full stop."""


class PendingFunction(NamedTuple):
    """A function that is being compiled.

    Attributes:
        finish: Waits for the compiled function; raises CompilationError if compiling failed.
        waits: Whether `finish` takes time; False if the function came from the cache.
    """

    finish: Callable[[], Function]
    waits: bool


class Compiler:
    """Compiles functions, each in a process of its own, or loads them from a cache.

    The cache holds machine code; a file's name is a hash of the function, the processor, the number
    of threads, the C library, the compiler settings and the version of torch. Files in it are
    executed, so, as with torch's own cache, nobody else may have write access to the folder. For
    CUDA devices `torch.compile` compiles in this process and uses its own cache.

    Args:
        folder: The cache; None for `$TORCHINDUCTOR_CACHE_DIR`, by default
            `$XDG_CACHE_HOME/pex-lightning/compiled`.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._chosen = folder
        self._processes: list[JobProcess] = []

    def begin(self, function: Function, tensors: list[Tensor]) -> PendingFunction:
        """Trace `function` on tensors like these and begin to compile it.

        Apart from `tensors` and torch's random generator, whatever the function reads is compiled
        in as a constant. If autocast is on, it becomes part of the compiled function.

        Raises:
            CompilationError: The function cannot be traced, or no process can be started.
        """
        graph = _traced(function, tensors)
        if tensors[0].device.type == "cuda":
            return PendingFunction(lambda: _compiled_here(graph, tensors), waits=True)
        try:
            return self._begin(graph, tensors)
        except Exception as error:
            raise CompilationError(in_one_line(error)) from error

    def _begin(self, graph: GraphModule, tensors: list[Tensor]) -> PendingFunction:
        source, threads = FunctionSource.of(graph, tensors), torch.get_num_threads()
        folder = self._chosen or _usual_folder()
        path = folder / f"{_key(source, threads)}.pt2"
        if path.exists():
            try:
                kept = _loaded(path)
            except CompilationError as error:
                _log.warning("%s; compiling it again", error)
                path.unlink(missing_ok=True)
            else:
                return PendingFunction(lambda: kept, waits=False)
        process = JobProcess(worker.__name__, worker.CompileJob(source, threads, path))
        self._processes.append(process)

        def finish() -> Function:
            reason = process.wait()
            if reason is not None:
                raise CompilationError(reason)
            return _loaded(path)

        return PendingFunction(finish, waits=True)

    def close(self) -> None:
        """End the processes, even if they are still compiling; a second call does nothing."""
        for process in self._processes:
            process.end()
        self._processes.clear()


def _usual_folder() -> Path:
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(chosen) if chosen else cache_path("compiled")


def has_compiler() -> bool:
    """Whether the C++ compiler that compiling for a CPU needs is in the path."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


def _loaded(path: Path) -> Function:
    try:
        package = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
    except Exception as error:
        raise CompilationError(f"{path} cannot be loaded ({in_one_line(error)})") from error
    # `boxed_run` takes and returns lists of tensors, as `Function` does.
    return cast(Function, package.loader.boxed_run)


def _traced(function: Function, tensors: list[Tensor]) -> GraphModule:
    # Imported here to save memory in runs that compile nothing.
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415

    def traceable(*given: Tensor) -> list[Tensor]:
        return function(list(given))

    autocast = torch.is_autocast_cache_enabled()
    # The cache would keep casts of the fake tensors that are used for tracing.
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.no_grad():
            return make_fx(traceable, tracing_mode="fake")(*tensors)
    except Exception as error:
        raise CompilationError(f"it cannot be traced: {in_one_line(error)}") from error
    finally:
        torch.set_autocast_cache_enabled(autocast)


def _key(source: FunctionSource, threads: int) -> str:
    """A hash of everything that the machine code depends on."""
    settings = (torch.__version__, _processor(), _environment(), sorted(OPTIONS.items()), threads)
    return hashlib.sha256(f"{settings}{source.text()}".encode()).hexdigest()[:32]


def _processor() -> str:
    """The processor's architecture and instruction sets."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    used = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {platform.processor()} {features} {used}"


def _environment() -> list[tuple[str, str]]:
    """The environment variables of both compilers, C++ and torch's, and the C library."""
    named = {k: v for k, v in os.environ.items() if k.startswith("TORCHINDUCTOR_") or k == "CXX"}
    named.pop("TORCHINDUCTOR_CACHE_DIR", None)
    return [*sorted(named.items()), platform.libc_ver()]


def _compiled_here(graph: GraphModule, tensors: list[Tensor]) -> Function:
    """Compile with `torch.compile`; `tensors` and random generators are not changed."""
    options: Any = {
        # Later calls are given tensors like the traced ones, so checking them is a waste.
        "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
        **OPTIONS,
    }
    device = tensors[0].device
    try:
        compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
        # The first call compiles, so errors appear here. Autocast is part of the graph already.
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            torch.random.fork_rng([device] if device.type == "cuda" else []),
        ):
            compiled(*(tensor.clone() for tensor in tensors))
    except Exception as error:
        raise CompilationError(in_one_line(error)) from error

    def function(given: list[Tensor]) -> list[Tensor]:
        with torch.no_grad(), torch.autocast(device.type, enabled=False):
            return cast(list[Tensor], compiled(*given))

    return function
