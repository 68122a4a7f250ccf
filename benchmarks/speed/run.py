"""How fast this is beside other libraries: `python -m benchmarks.speed.run`, `nox -s bench`.

Measures (a) the update alone, (b) the whole offline `fit`, (c) the online loop, (d) collection
alone and (e) evaluation, with observations of 29, actions of 8, batches of 256 and networks of
256x256. Every measurement is a process of its own; those that are compared take turns in short
blocks (see `stopwatch.py`), and ratios are taken within a round. Last come the targets, met or
missed.

It takes about a quarter of an hour on two cores, and some minutes more when the compiled updates
are not in torch's cache yet. Nothing else should run meanwhile.

Writes `speed.json` and `speed.png`. Peers that are not installed are named and left out. What
is measured is in `case_table.py`; a new case is a file in `benchmarks/cases/` and an entry
there.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.cases.shared.setting import PRECISIONS
from benchmarks.speed.case import Case, Group
from benchmarks.speed.case_table import CASES, PARTS, groups, missing
from benchmarks.speed.measurements import Comparison
from benchmarks.speed.picture import picture
from benchmarks.speed.process import command, make_dataset
from benchmarks.speed.report import machine, table, tell, to_json, write_report
from benchmarks.speed.run_costs import RunCosts, RunCostsError, measure_run_costs
from benchmarks.speed.stopwatch import alternate, clean_up_on_sigterm
from benchmarks.speed.targets import targets, targets_table

NEEDS_FILES = {"b", "c"}
"""Parts that need the made-up dataset and what the short run leaves."""


def prepare(folder: Path) -> RunCosts | None:
    """Make the dataset, and have a short run leave a checkpoint; None if that fails."""
    make_dataset(folder)
    try:
        return measure_run_costs(folder)
    except RunCostsError as error:
        tell(f"skipped the costs of a run: {error}")
        return None


def measure(group: Group, settings: argparse.Namespace, folder: Path) -> Comparison:
    """Let a group's variants take turns."""
    evaluation = group.subject == "evaluation"
    arguments = (f"--episodes={settings.episodes}",) if evaluation else ()
    commands = [command(variant, folder, arguments) for variant in group.variants]
    tell(f"{group.title}: starting {len(commands)} processes")
    measured = alternate(
        commands,
        rounds=settings.evaluations if evaluation else settings.rounds,
        seconds=settings.seconds,
        tell=tell,
        # Half of an evaluation is at work in processes of its own.
        at_a_time=1 if evaluation else None,
    )
    comparison = Comparison(group, measured)
    sys.stdout.write(table(comparison))
    if evaluation:
        episodes, times = settings.episodes, settings.evaluations
        sys.stdout.write(f"  evaluations of {episodes} episodes, rounds: {times}\n")
    sys.stdout.write("\n")
    sys.stdout.flush()
    return comparison


def chosen(settings: argparse.Namespace) -> tuple[list[Case], dict[str, str]]:
    """The cases that were asked for and can be measured, and why others cannot."""
    wanted = [case for case in CASES if case.part in settings.cases]
    skipped = {case.name: why for case in wanted if (why := missing(case)) is not None}
    for name, why in skipped.items():
        tell(f"skipped {name}: {why}")
    return [case for case in wanted if case.name not in skipped], skipped


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="Speed beside other libraries.")
    parts = ", ".join(f"{key}: {what}" for key, what in PARTS.items())
    parser.add_argument("--cases", nargs="+", choices=PARTS, default=list(PARTS), help=parts)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each block")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--episodes", type=int, default=20, help="of an evaluation")
    parser.add_argument("--evaluations", type=int, default=2, help="rounds of evaluations")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    return parser


def main() -> None:
    """Measure, print the ratios and the targets, write the numbers and the picture."""
    settings = arguments().parse_args()
    clean_up_on_sigterm()
    before, start = machine(), time.perf_counter()
    cases, skipped = chosen(settings)
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        costs = prepare(folder) if NEEDS_FILES & {case.part for case in cases} else None
        todo = groups(cases, settings.threads, settings.precisions)
        comparisons = [measure(group, settings, folder) for group in todo]
    found = targets(comparisons, costs)
    skipped |= {k: v for c in comparisons for k, v in c.measured.skipped.items()}
    report = to_json(comparisons, skipped, costs, found)
    seconds = write_report(settings.out / "speed.json", settings, before, start, report)
    picture(comparisons, settings.out / "speed.png")
    sys.stdout.write(targets_table(found))
    sys.stdout.write(f"\nwritten in {seconds:.0f} s: {settings.out}/speed.json, speed.png\n")


if __name__ == "__main__":
    main()
