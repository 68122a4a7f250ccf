"""The process that compiles: reads a traced function from stdin, writes a file of machine code."""

from __future__ import annotations

import pickle
import signal
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

import torch

from pex_lightning.errors import in_one_line
from pex_lightning.files.locks import locked
from pex_lightning.updates.compilation.source import FunctionSource

OPTIONS = {
    # Draw the same random numbers as the function draws without compilation.
    "fallback_random": True,
}


@dataclass(frozen=True)
class CompileJob:
    """A function to compile.

    Attributes:
        source: The function.
        threads: Number of threads with which the function will be called.
        path: The file to write.
    """

    source: FunctionSource
    threads: int
    path: Path


def main() -> None:
    """Do the job on stdin; if it fails, the last line of stderr says why."""
    # Leave the other processors to training.
    torch.set_num_threads(1)
    # An exit by exception removes temporary files.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        job = pickle.load(sys.stdin.buffer)
        assert isinstance(job, CompileJob)
        job.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(job.path):
            if not job.path.exists():
                _compile(job)
    except Exception as error:
        traceback.print_exc()
        sys.exit(in_one_line(error))


def _compile(job: CompileJob) -> None:
    with torch.no_grad():
        program = torch.export.export(job.source.module(), (job.source.examples(),), strict=False)
    with tempfile.TemporaryDirectory(dir=job.path.parent) as aside:
        package = Path(aside) / job.path.name
        torch._inductor.aoti_compile_and_package(
            program,
            package_path=str(package),
            inductor_configs={**OPTIONS, "cpp.threads": job.threads},
        )
        package.replace(job.path)


if __name__ == "__main__":
    # Import under the module's name: the pickled job refers to that name, not `__main__`.
    from pex_lightning.updates.compilation.worker import main as run

    run()
