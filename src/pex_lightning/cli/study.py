"""`pex-lightning study`: many runs, and what they say together."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch
from jsonargparse import ActionConfigFile  # type: ignore[attr-defined]
from rich.console import Console
from rich.table import Table

from pex_lightning.cli.arguments import command_parser, parse
from pex_lightning.cli.config_files import expand_bases, with_merged_files
from pex_lightning.cli.own_code import find_own_modules
from pex_lightning.cli.run_shape import shape_of
from pex_lightning.errors import UserError
from pex_lightning.processes import STOP_SIGNALS, ignored
from pex_lightning.studies.display import StudyDisplay
from pex_lightning.studies.estimate import measure
from pex_lightning.studies.folder import owned_by_this_study
from pex_lightning.studies.local import LocalRunner, Share, share_of_machine
from pex_lightning.studies.plan import PlannedRun, RunShape, plan, to_do
from pex_lightning.studies.progress import Durations, duration_text
from pex_lightning.studies.ray_cluster import RayRunner
from pex_lightning.studies.results import write_results
from pex_lightning.studies.runner import Runner
from pex_lightning.studies.settings import StudySettings
from pex_lightning.studies.slurm import SlurmRunner
from pex_lightning.studies.supervisor import Supervisor
from pex_lightning.studies.versions import code_version


def study(argv: list[str]) -> int:
    """Run what is left of a study, and write its results; return the exit code.

    0 means that every run has finished, 1 that some failed, 130, 143 or 129 that a signal
    stopped it.

    Raises:
        UserError: Something in the configuration is wrong, of any variant.
    """
    find_own_modules()
    given = read_study(argv)
    settings: StudySettings = given.study
    shapes = _shapes(settings)
    if given.dry_run:
        return _show_plan(settings, plan(settings, shapes))
    # Records that are damaged or of other settings are refused before study.yaml is replaced.
    plan(settings, shapes)
    with owned_by_this_study(Path(settings.root) / settings.name, given.text):
        return _run(settings, plan(settings, shapes))


@dataclass(frozen=True)
class StudyArguments:
    """What a command line says.

    Attributes:
        study: The study.
        dry_run: Whether to show the plan only.
        text: The resolved configuration, YAML.
    """

    study: StudySettings
    dry_run: bool
    text: str


def read_study(argv: list[str]) -> StudyArguments:
    """Parse the arguments of `study`.

    Raises:
        UserError: An argument is wrong.
    """
    parser = command_parser(
        "study",
        "Run variants on tasks with seeds, as many at a time as fit, and sum up the results. The "
        "same command goes on after an interruption. "
        "Example: pex-lightning study --config conf/studies/methods.yaml",
    )
    parser.add_argument("--config", action=ActionConfigFile, help="A study's file, or several.")
    parser.add_argument(
        "--base", type=list[str] | None, default=None, help="In a file: files to merge before it."
    )
    parser.add_argument(
        "--dry_run",
        type=bool,
        default=False,
        nargs="?",
        const=True,
        help="Only show the plan, with an estimate of the time from a short measurement.",
    )
    parser.add_class_arguments(StudySettings, "study")
    configuration = parse(parser, with_merged_files(expand_bases(argv, "study")))
    configuration["base"] = None
    given = parser.instantiate_classes(configuration)
    text: str = parser.dump(configuration, skip_none=False)
    return StudyArguments(given.study, given.dry_run, text)


def _shapes(settings: StudySettings) -> dict[tuple[str, str], RunShape]:
    """What the configuration of each variant on each task says; errors come before any run."""
    kinds = {(run.variant, run.task): run for run in settings.runs()}
    shapes: dict[tuple[str, str], RunShape] = {}
    errors = []
    for (variant, task), run in kinds.items():
        try:
            shapes[variant, task] = shape_of(list(run.arguments))
        except UserError as error:
            errors.append(f"  variant {variant} on task {task}: {error}")
    if errors:
        raise UserError("\n".join(["nothing was started, since", *errors]))
    return shapes


def _run(settings: StudySettings, runs: list[PlannedRun]) -> int:
    left = to_do(runs, settings.retry)
    durations = Durations()
    for run in runs:
        if run.record.state == "finished":
            durations.add(run)
    code = 0
    if left:
        runner, jobs = _runner(settings, left)
        console = Console(stderr=True, highlight=False)
        with StudyDisplay(console, settings.name, len(left), jobs, durations) as display:
            supervisor = Supervisor(left, runner, display, code_version())
            with _stopped_by_signals(supervisor.stop) as received:
                try:
                    supervisor.work()
                finally:
                    runner.close()
        if received:
            code = 128 + received[0]
        runs = _updated(runs, supervisor.ended)
    return _report(settings, runs, code)


def _updated(runs: Sequence[PlannedRun], ended: Sequence[PlannedRun]) -> list[PlannedRun]:
    latest = {run.record.name: run for run in ended}
    return [latest.get(run.record.name, run) for run in runs]


def _report(settings: StudySettings, runs: Sequence[PlannedRun], code: int) -> int:
    """Write the results, and say what came of the runs."""
    folder = Path(settings.root) / settings.name
    write = sys.stdout.write
    if any(run.record.attempts for run in runs):
        write_results(folder, settings, runs)
        write(f"Results: {folder / 'summary.md'}, results.csv and results.parquet beside it\n")
    states = [run.record.state for run in runs]
    failed = [run for run in runs if run.record.state == "failed"]
    write(f"{states.count('finished')} of {len(runs)} runs have finished")
    write(f", {len(failed)} have failed\n" if failed else "\n")
    for run in failed:
        write(f"  {run.record.name}: {run.record.reason} ({run.log})\n")
    if failed:
        write("Run them again, and nothing else, with the same command and --study.retry failed\n")
    if code:
        write("Stopped; the runs have saved. The same command goes on.\n")
        return code
    return 1 if failed else 0


def _share(settings: StudySettings, runs: Sequence[PlannedRun]) -> Share:
    processes = max(run.shape.processes for run in runs)
    gpus = torch.cuda.device_count()
    return share_of_machine(len(runs), processes, settings.jobs, settings.threads, gpus)


def _runner(settings: StudySettings, runs: Sequence[PlannedRun]) -> tuple[Runner, int]:
    """Who runs the runs, and how many go on at a time."""
    if settings.backend == "local":
        share = _share(settings, runs)
        return LocalRunner(share), share.jobs
    threads = settings.threads or 1
    cpus = threads * max(run.shape.processes for run in runs)
    if settings.backend == "ray":
        return RayRunner(settings.address, cpus, threads, settings.gpus), len(runs)
    folder = Path(settings.root) / settings.name / "slurm"
    slurm = SlurmRunner(folder, settings.name, cpus, threads, settings.gpus, settings.slurm)
    return slurm, len(runs)


@contextmanager
def _stopped_by_signals(stop: Callable[[], None]) -> Iterator[list[signal.Signals]]:
    """Call `stop` on Ctrl-C, SIGTERM and SIGHUP; what was received is in the list."""
    received: list[signal.Signals] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        del frame
        received.append(signal.Signals(number))
        sys.stderr.write(
            f"\n{received[-1].name}: the runs save and end; again to end them at once\n"
        )
        stop()

    numbers = [number for number in STOP_SIGNALS if not ignored(number)]
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _show_plan(settings: StudySettings, runs: list[PlannedRun]) -> int:
    """Print the runs that are left, and how long they will take."""
    left = to_do(runs, settings.retry)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    done = len(runs) - len(left)
    console.print(f"{settings.name}: {len(runs)} runs, {done} of them done or failed, in")
    console.print(f"  {Path(settings.root) / settings.name}")
    if not left:
        return 0
    share = _share(settings, left)
    seconds = measure(left, share)
    table = Table("variant", "task", "runs", "offline", "online", "a run")
    for (variant, task), each in seconds.items():
        of_kind = [r for r in left if (r.record.variant, r.record.task) == (variant, task)]
        shape = of_kind[0].shape
        row = str(len(of_kind)), f"{shape.offline_steps:,}", f"{shape.online_steps:,}"
        table.add_row(variant, task, *row, duration_text(each))
    console.print(table)
    whole = Durations(seconds).left(left, [], share.jobs)
    console.print(
        f"About {duration_text(whole)} with {share.jobs} at a time and {share.threads} thread(s) "
        "each, from short runs of each kind on this machine now. Offline stages that runs share "
        "are counted once for each run, so it may take less."
    )
    return 0
