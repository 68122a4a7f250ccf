"""Functions of tensors: traced here, compiled by AOTInductor in another process, kept in a cache.

The compiler's imports and its work need more memory than training does, and tens of seconds.
So the process that trains only traces the function, which takes a moment, goes on with its
work, and loads the machine code when it is there.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.fx import GraphModule

from pex_lightning.errors import in_one_line
from pex_lightning.files.cache import cache_path
from pex_lightning.updates.compilation.source import FunctionSource
from pex_lightning.updates.compilation.worker import OPTIONS, CompileJob

Function = Callable[[list[Tensor]], list[Tensor]]
"""Takes tensors, may change some of them in place, and returns new ones."""

_log = logging.getLogger(__name__)
_TIDY_SECONDS = 2.0


class CompilationError(Exception):
    """Why a function could not be compiled, in a sentence without its end."""


class PendingFunction(NamedTuple):
    """A function that is being compiled.

    Attributes:
        finish: Waits and returns it; raises CompilationError if it could not be compiled.
        waits: Whether that takes time.
    """

    finish: Callable[[], Function]
    waits: bool


class Compiler:
    """Compiles functions, each in a process of its own, or finds them compiled in the cache.

    What is kept is machine code for this processor, number of threads, C library, compiler settings
    and version of torch; its name is a hash of them and of all that the function does. As torch's
    own cache, it is for folders that nobody else can write to: what lies there is executed. On a
    CUDA device ``torch.compile`` compiles in this process, and keeps what it makes itself.

    Args:
        folder: The cache; None is ``$TORCHINDUCTOR_CACHE_DIR``, by default
            ``$XDG_CACHE_HOME/pex-lightning/compiled``.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._chosen = folder
        self._processes: list[subprocess.Popen[bytes]] = []
        # Where nobody closes it, since training ended in an error.
        weakref.finalize(self, _end_all, self._processes)

    def begin(self, function: Function, tensors: list[Tensor]) -> PendingFunction:
        """Trace what ``function`` does with tensors like these, and begin to compile it.

        It has to be a function of ``tensors`` and of torch's random generator alone: what else it
        reads is taken as it is now. An autocast that is on now becomes a part of it.

        Raises:
            CompilationError: It cannot be traced, or no process can be started.
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
        errors = tempfile.TemporaryFile()  # noqa: SIM115  (the process writes to it)
        process = _started(CompileJob(source, threads, path), errors)
        self._processes.append(process)

        def finish() -> Function:
            if process.wait():
                errors.seek(0)
                raise CompilationError(_how_it_ended(process.returncode, errors.read()))
            return _loaded(path)

        return PendingFunction(finish, waits=True)

    def close(self) -> None:
        """End the processes, whatever they are at; a second call does nothing."""
        _end_all(self._processes)


def _usual_folder() -> Path:
    chosen = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    return Path(chosen) if chosen else cache_path("compiled")


def has_compiler() -> bool:
    """Whether the C++ compiler that functions for a CPU need is in the path."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    return shutil.which(os.environ.get("CXX", usual)) is not None


def _started(job: CompileJob, errors: IO[bytes]) -> subprocess.Popen[bytes]:
    """A process that does it: not forked, and without the user's script, which need not expect it.

    A signal to this process's group does not reach it; if this process dies, it ends when it has
    filled the cache.
    """
    with tempfile.TemporaryFile() as file:
        pickle.dump(job, file)
        file.seek(0)
        return subprocess.Popen(
            # -P: not from the folder that the user happens to be in.
            [sys.executable, "-P", "-m", "pex_lightning.updates.compilation.worker"],
            stdin=file,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,
        )


def _end_all(processes: list[subprocess.Popen[bytes]]) -> None:
    """End them, whatever they are at."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        _signal(process, "SIGTERM")
    for process in running:
        try:
            process.wait(_TIDY_SECONDS)
        except subprocess.TimeoutExpired:
            _signal(process, "SIGKILL")
            process.wait()
    processes.clear()


def _signal(process: subprocess.Popen[bytes], name: str) -> None:
    """To it and to what it started, such as the C++ compiler, where the system can."""
    if sys.platform == "win32":
        process.kill()
    else:
        # It may be gone by now.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.Signals[name])


def _how_it_ended(code: int, errors: bytes) -> str:
    """Why there is no package; the worker says it in its last line if it ended by itself."""
    lines = errors.decode(errors="replace").strip().splitlines()
    if code == 1 and lines:
        return lines[-1]
    hint = ", perhaps for memory" if code == -9 else ""
    return f"the process that compiles ended with exit code {code}{hint}"


def _loaded(path: Path) -> Function:
    try:
        package = torch._inductor.aoti_load_package(str(path), run_single_threaded=True)
    except Exception as error:
        raise CompilationError(f"{path} cannot be loaded ({in_one_line(error)})") from error
    # Lists of tensors are what it is called with: nothing is to be unpacked.
    return cast(Function, package.loader.boxed_run)


def _traced(function: Function, tensors: list[Tensor]) -> GraphModule:
    # Here, since it costs memory that runs without a compiler can do without.
    from torch.fx.experimental.proxy_tensor import make_fx  # noqa: PLC0415

    def traceable(*given: Tensor) -> list[Tensor]:
        return function(list(given))

    autocast = torch.is_autocast_cache_enabled()
    # It would keep casts of the tensors that stand in for the real ones.
    torch.set_autocast_cache_enabled(False)
    try:
        with torch.no_grad():
            return make_fx(traceable, tracing_mode="fake")(*tensors)
    except Exception as error:
        raise CompilationError(f"it cannot be traced: {in_one_line(error)}") from error
    finally:
        torch.set_autocast_cache_enabled(autocast)


def _key(source: FunctionSource, threads: int) -> str:
    """Of everything that the machine code depends on."""
    settings = (torch.__version__, _processor(), _environment(), sorted(OPTIONS.items()), threads)
    return hashlib.sha256(f"{settings}{source.text()}".encode()).hexdigest()[:32]


def _processor() -> str:
    """What machine code for it may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    features = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    used = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {platform.processor()} {features} {used}"


def _environment() -> list[tuple[str, str]]:
    """What the C++ compiler and torch's read, and what they link to."""
    named = {k: v for k, v in os.environ.items() if k.startswith("TORCHINDUCTOR_") or k == "CXX"}
    named.pop("TORCHINDUCTOR_CACHE_DIR", None)
    return [*sorted(named.items()), platform.libc_ver()]


def _compiled_here(graph: GraphModule, tensors: list[Tensor]) -> Function:
    """By ``torch.compile``, in this process; ``tensors`` and the random generators stay."""
    options: Any = {
        # All of its tensors stay as they were traced: a check before every call has nothing to
        # find.
        "guard_filter_fn": torch.compiler.skip_all_guards_unsafe,
        **OPTIONS,
    }
    device = tensors[0].device
    try:
        compiled = torch.compile(graph, fullgraph=True, dynamic=False, options=options)
        # Now, where it may fail. An autocast is in the graph already.
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
