"""Where the time of a compiled update goes: `python -m benchmarks.speed.profile_update`.

Compiles the update once more, with marks around its kernels, and adds up what torch's profiler
sees. Takes a minute.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from typing import Any

from benchmarks.cases.shared.setting import PRECISIONS

ENTRIES = {"IQL": "iql_update", "PEX": "pex_update"}
PARTS = (
    ("matrix products", ("mm_out", "mm(")),
    ("Adam and the Polyak step", ("sqrt", "foreach_lerp")),
    ("activations, losses, their gradients", ("cpp_fused",)),
    ("biases copied into products", ("aten::copy_",)),
)
REST = "everything else"


def part_of(kernel: str) -> str:
    """Which of the parts a kernel belongs to, by its name."""
    for part, marks in PARTS:
        if any(mark in kernel for mark in marks):
            return part
    return REST


def milliseconds(events: Any, updates: int) -> dict[str, float]:
    """An update's time by part."""
    found = dict.fromkeys([*(part for part, _ in PARTS), REST], 0.0)
    for event in events:
        found[part_of(event.key)] += event.self_cpu_time_total / 1000 / updates
    return found


def main() -> None:
    """Compile, time, profile, print."""
    parser = argparse.ArgumentParser(description="Where the time of a compiled update goes.")
    parser.add_argument("--algorithm", choices=ENTRIES, default="IQL")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=500)
    settings = parser.parse_args()
    os.environ.setdefault("OMP_WAIT_POLICY", "ACTIVE")
    os.environ["TORCHINDUCTOR_CPP_ENABLE_KERNEL_PROFILE"] = "1"
    with tempfile.TemporaryDirectory() as cache:
        # Marked kernels are not for others to find.
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        profile_update(settings)


def profile_update(settings: argparse.Namespace) -> None:
    """In the environment that `main` has made."""
    import importlib  # noqa: PLC0415

    import torch  # noqa: PLC0415
    from torch.profiler import ProfilerActivity, profile  # noqa: PLC0415

    torch.set_num_threads(settings.threads)
    case = importlib.import_module(f"benchmarks.cases.{ENTRIES[settings.algorithm]}")
    work = case.build_compiled(settings.precision)
    for _ in range(100):
        work.step()
    start = time.perf_counter()
    for _ in range(settings.updates):
        work.step()
    alone = (time.perf_counter() - start) / settings.updates * 1000
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(settings.updates):
            work.step()
    found = milliseconds(seen.key_averages(), settings.updates)
    total = sum(found.values())
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    lines = [
        f"{settings.algorithm}, {settings.precision}, {threads}: {alone:.2f} ms an update,",
        f"{total:.2f} ms in what the profiler sees:",
        *(f"  {part:38} {ms:6.2f} ms  {ms / total:4.0%}" for part, ms in found.items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
