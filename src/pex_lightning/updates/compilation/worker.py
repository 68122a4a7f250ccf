"""The process that compiles: a traced function from stdin, a file with machine code for it."""

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
    # The random numbers that the function draws when it is not compiled.
    "fallback_random": True,
}


@dataclass(frozen=True)
class CompileJob:
    """What is to be compiled.

    Attributes:
        source: The function.
        threads: With how many it will be called.
        path: Where the package goes.
    """

    source: FunctionSource
    threads: int
    path: Path


def main() -> None:
    """Do the job that the parent wrote; the last line of stderr says what went wrong."""
    # The processors are the learner's.
    torch.set_num_threads(1)
    # Leaves nothing half made.
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
    # Under its own name, by which the parent's job refers to it.
    from pex_lightning.updates.compilation.worker import main as run

    run()
