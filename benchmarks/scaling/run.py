"""How speed changes with size and number: `python -m benchmarks.scaling.run`, `nox -s scaling`.

The cost of an update by batch size, width and number of Q networks; that of sampling by the rows
in the buffer; updates a second with 1 and 2 DDP processes (gloo, on the CPU) and with 0, 1, 2 and
4 collectors. Measured as the speed benchmark does it: each point is a process, and those of a
panel take turns. Prints tables, writes `scaling.json` and `scaling.png`.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.scaling.panels import PANELS, Point
from benchmarks.scaling.picture import picture
from benchmarks.speed.measurements import Comparison
from benchmarks.speed.process import command, make_dataset
from benchmarks.speed.report import machine, tell, write_report
from benchmarks.speed.run_costs import RunCostsError, start_run
from benchmarks.speed.stopwatch import Measured, alternate, clean_up_on_sigterm

UPDATES = {"batch", "width", "q"}
NEEDS_FILES = {"processes", "collectors"}


def prepare(folder: Path, names: list[str]) -> None:
    """Make the dataset; where the online loop is measured, have a run leave a checkpoint."""
    make_dataset(folder)
    if "collectors" in names:
        try:
            start_run(folder, ["--model.compile_update=false"])
        except RunCostsError as error:
            tell(f"the online loop cannot be measured: {error}")


def measure(name: str, settings: argparse.Namespace, folder: Path) -> list[Point]:
    """A panel's points, in its order; prints them."""
    panel = PANELS[name]
    group = panel.group(settings.threads, settings.wait)
    extra = how(name, compiled=not settings.plain)
    commands = [command(variant, folder, extra) for variant in group.variants]
    tell(f"{panel.title}: starting {len(commands)} processes")
    measured: Measured = alternate(
        commands, rounds=settings.rounds, seconds=settings.seconds, tell=tell
    )
    points = panel.points(Comparison(group, measured))
    sys.stdout.write(panel.table(points) + "\n")
    sys.stdout.flush()
    return points


def how(name: str, *, compiled: bool) -> tuple[str, ...]:
    """Arguments of a panel's processes that say whether updates are compiled."""
    if name in UPDATES:
        return (f"--compile_update={int(compiled)}",)
    return (f"--model.compile_update={str(compiled).lower()}",) if name in NEEDS_FILES else ()


def arguments() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description="How speed changes with size and number.")
    names = list(PANELS)
    parser.add_argument("--panels", nargs="+", choices=names, default=names)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.3, help="of each block")
    parser.add_argument("--threads", type=int, default=2, help="where they are not what varies")
    parser.add_argument(
        "--wait",
        choices=["BRIEF", "PASSIVE", "ACTIVE"],
        default="BRIEF",
        help="how threads wait: OMP_WAIT_POLICY, BRIEF being what fit sets",
    )
    parser.add_argument("--plain", action="store_true", help="measure the plain update")
    parser.add_argument("--out", type=Path, default=Path("runs/bench"), metavar="FOLDER")
    return parser


def main() -> None:
    """Measure, print, write the numbers and the picture."""
    settings = arguments().parse_args()
    clean_up_on_sigterm()
    before, start = machine(), time.perf_counter()
    found: dict[str, list[Point]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        if NEEDS_FILES & set(settings.panels):
            prepare(folder, settings.panels)
        for panel in settings.panels:
            found[panel] = measure(panel, settings, folder)
    panels = {
        name: {"title": PANELS[name].title, "points": [point.to_dict() for point in points]}
        for name, points in found.items()
    }
    report = {"panels": panels}
    seconds = write_report(settings.out / "scaling.json", settings, before, start, report)
    picture({PANELS[name]: points for name, points in found.items()}, settings.out / "scaling.png")
    sys.stdout.write(f"written in {seconds:.0f} s: {settings.out}/scaling.json, .png\n")


if __name__ == "__main__":
    main()
