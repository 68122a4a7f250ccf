"""A measured process: runs one case in the turns that `stopwatch.py` gives it."""

from __future__ import annotations

import argparse
import importlib
import os
from pathlib import Path
from typing import Any

from benchmarks.speed.gate import Channel, Gate

WARM_UP_SECONDS = 1.0


def pin(cpus: int) -> None:
    """Run on as many CPUs as threads, where the system lets us: XLA takes all it may run on."""
    if cpus and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-cpus:])


def serve_work(work: Any, channel: Channel) -> None:
    """Repeat a `Work`'s step."""
    gate = Gate(
        channel,
        warm_up=WARM_UP_SECONDS if work.lead_in else 0.0,
        lead_in=work.lead_in,
        finish=work.finish,
    )
    count = 0
    while gate.passed(count):
        work.step()
        count += work.units


def main() -> None:
    """Serve until there are no more turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("entry", help="MODULE:FUNCTION in benchmarks/cases/")
    parser.add_argument("--precision", required=True)
    parser.add_argument("--pin", type=int, default=0, help="number of CPUs")
    parser.add_argument("--folder", type=Path, help="of what fit reads and writes; fit's cases")
    settings, extra = parser.parse_known_args()
    # Before a library is loaded, which may print, start threads and look at the affinity.
    channel = Channel.of_process()
    pin(settings.pin)
    module, function = settings.entry.split(":")
    case = getattr(importlib.import_module(f"benchmarks.cases.{module}"), function)
    if settings.folder is None:
        numbers = (argument.removeprefix("--").split("=") for argument in extra)
        sizes = {name: int(value) for name, value in numbers}
        serve_work(case(settings.precision, **sizes), channel)
    else:
        gate = Gate(channel, warm_up=WARM_UP_SECONDS)
        case(settings.precision, gate, settings.folder, extra)


if __name__ == "__main__":
    main()
