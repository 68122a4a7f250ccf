"""How many threads `fit` takes and how they wait: decided before torch is loaded.

Which number is fastest depends on what else the machine does, so it is measured when a run starts,
unless the user has said it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from pex_lightning.cli.config_files import expand_bases
from pex_lightning.cli.console import BRIEF_WAIT, set_up_threads, sigterm_as_exit
from pex_lightning.cli.thread_measurement import MeasurementError, Rates, measure, usable_cores
from pex_lightning.cli.yaml_limits import read_config, with_integers
from pex_lightning.studies.records import LARGEST_PROVENANCE, PROVENANCE

CLEARLY = 1.05
"""So many times faster is clearly better: the largest number is not left for less."""

SPINNING = 1.15
"""The same of threads that spin, as they take cores from evaluation and the environment, which are
not measured."""

BRIEF, ACTIVE = "brief", "active"
_WAYS = {BRIEF: BRIEF_WAIT, ACTIVE: {"OMP_WAIT_POLICY": "ACTIVE"}}
_NUMBERS = ("MKL_NUM_THREADS", "OMP_NUM_THREADS")
"""Where the first is set, torch takes it rather than the second."""
_WAITS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
_GPUS = ("/dev/nvidia0", "/dev/nvidiactl")
MOST_THREADS = 1_024

MEASUREMENT, EARLIER, FLAG, TORCH = "measurement", "the earlier attempt", "--run.threads", "torch"
"""Who chose a number, besides an environment variable; `torch` is its own default."""


class Choice(NamedTuple):
    """How many threads, and how they wait."""

    waiting: str
    threads: int


def choose(rates: Rates) -> Choice:
    """Choose by measured rates.

    Threads wait briefly unless the best rate of those that spin is at least `SPINNING` times as
    high. Of the numbers of threads the largest counts, unless a smaller one is at least `CLEARLY`
    times as fast. So a machine that has nothing else to do gives the same answer every time.

    Args:
        rates: Not empty; that of one thread, which waits for no other, counts for both ways.
    """
    ways = list(dict.fromkeys(way for way, _ in rates))
    alone = {number: rate for (_, number), rate in rates.items() if number == 1}
    by_way = {
        way: alone | {number: rate for (own, number), rate in rates.items() if own == way}
        for way in ways
    }
    best = {way: max(found.values()) for way, found in by_way.items()}
    waiting = ways[0]
    for way in ways[1:]:
        if best[way] >= SPINNING * best[waiting]:
            waiting = way
    found = by_way[waiting]
    threads = max(n for n, rate in found.items() if best[waiting] < CLEARLY * rate)
    return Choice(ways[0] if threads == 1 else waiting, threads)


@dataclass(frozen=True)
class ThreadStart:
    """What was decided about threads before torch was loaded.

    Attributes:
        chosen_by: Who chose their number: `MEASUREMENT`, an environment variable, or `TORCH`.
        waiting: `brief` or `active`, or the user's environment variable.
        rates: What was measured.
        not_measured: Why nothing was measured.
        failed: Whether it was tried.
    """

    chosen_by: str = TORCH
    waiting: str = BRIEF
    rates: Rates = field(default_factory=dict)
    not_measured: str | None = None
    failed: bool = False


def start_threads(argv: Sequence[str]) -> ThreadStart:
    """Decide, and set the environment variables that torch reads when it is loaded.

    Args:
        argv: The arguments of `fit`.

    Raises:
        UserError: A configuration file is missing or wrong.
    """
    number, wait = _variable(_NUMBERS), _variable(_WAITS)
    start = ThreadStart(number or TORCH, wait or BRIEF)
    reason = _reason_not_to_measure(argv)
    if reason is None:
        given = _given_number(argv)
        threads = "1" if given == 1 else os.environ.get(number or "")
        reason = _nothing_to_measure(threads, wait, known=given is not None or number is not None)
    if reason is not None:
        return replace(start, not_measured=reason)
    numbers: list[int] | None = None if number is None else []
    if given is not None:
        numbers = [given]
    ways = _WAYS
    if wait is not None:
        # What the user left out of it is set here.
        set_up_threads()
        ways = {wait: {}}
    try:
        with sigterm_as_exit():
            rates = measure(ways, numbers)
    except MeasurementError as error:
        return replace(start, not_measured=str(error), failed=True)
    choice = choose(rates)
    os.environ.update(ways[choice.waiting])
    if number is None and given is None:
        os.environ["OMP_NUM_THREADS"] = str(choice.threads)
        number = MEASUREMENT
    return ThreadStart(number or TORCH, choice.waiting, rates)


def _variable(names: Sequence[str]) -> str | None:
    """The first of these environment variables that is set."""
    return next((name for name in names if os.environ.get(name)), None)


def _reason_not_to_measure(argv: Sequence[str]) -> str | None:
    """Why nothing may be measured in this process."""
    asked = {argument.partition("=")[0] for argument in argv}
    if _torch_is_loaded():
        return "torch was loaded before"
    if asked & {"-h", "--help", "--print_config"} or any(a.endswith(".help") for a in asked):
        return "nothing is trained"
    if os.environ.get("LOCAL_RANK", "0") != "0" or _processes() > 1:
        return "it is one of several processes"
    if any(os.path.exists(path) for path in _GPUS):
        return "the machine has an NVIDIA GPU"
    return None


def _torch_is_loaded() -> bool:
    return "torch" in sys.modules


def _processes() -> int:
    """Processes of a run that others start (torchrun, Slurm)."""
    given = [os.environ.get(name, "") for name in ("WORLD_SIZE", "SLURM_NTASKS")]
    return max(int(text) if text.isdecimal() else 1 for text in given)


def _nothing_to_measure(threads: str | None, wait: str | None, *, known: bool) -> str | None:
    """Why there is nothing to choose.

    Args:
        threads: The number of threads as text, where it is known.
        wait: The variable by which the user says how they wait.
        known: Whether the user, or an earlier attempt, says the number.
    """
    if threads == "1":
        return "one thread waits for no other"
    if known and wait is not None:
        return f"their number is given, and {wait} is set"
    if not known and usable_cores() == 1:
        return "there is one core"
    return None


def _given_number(argv: Sequence[str]) -> int | None:
    """The number that `--run.threads` says, or that the earlier attempt of the run took.

    It is a first look, to measure no more than is needed: what holds is what is parsed later.

    Raises:
        UserError: A configuration file is missing or wrong.
    """
    said = _said(argv)
    text = str(said.get("run.threads"))
    if text.isdecimal() and len(text) <= len(str(MOST_THREADS)):
        return max(1, int(text))
    if said.get("ckpt_path") is None or _variable(_NUMBERS) is not None:
        return None
    folder = Path(str(said.get("run.root", "runs"))) / str(said.get("run.name", "default"))
    earlier = earlier_number(str(said["ckpt_path"]), folder)
    return earlier if earlier is not None and earlier <= usable_cores() else None


def _said(argv: Sequence[str]) -> dict[str, Any]:
    """What files and flags say about the settings that matter here, the last one of each."""
    said: dict[str, Any] = {}
    names = ("run.threads", "run.name", "run.root", "ckpt_path")
    arguments = iter(expand_bases(with_integers(argv)))
    for argument in arguments:
        flag, equals, value = argument.partition("=")
        name = flag.removeprefix("--")
        if name not in (*names, "config"):
            continue
        value = value if equals else next(arguments, "")
        if name != "config":
            said[name] = None if value in ("null", "") else value
            continue
        content = read_config(Path(value))
        content = content if isinstance(content, dict) else {}
        run = content.get("run")
        said |= {f"run.{key}": found for key, found in run.items()} if isinstance(run, dict) else {}
        said |= {"ckpt_path": content["ckpt_path"]} if "ckpt_path" in content else {}
    return said


def earlier_number(ckpt_path: str, directory: Path) -> int | None:
    """The number of threads that the last attempt of a resumed run took, if its record has it.

    Args:
        ckpt_path: `last`, or a checkpoint or a folder of a run.
        directory: The folder of this run, which `last` means.
    """
    place = directory if ckpt_path == "last" else Path(ckpt_path)
    places = [place] if ckpt_path == "last" else [place, *place.absolute().parents[:3]]
    try:
        path = next(found for one in places if (found := one / PROVENANCE).is_file())
        with path.open("rb") as file:
            number = json.loads(file.read(LARGEST_PROVENANCE))["attempts"][-1]["threads"]
    except (StopIteration, OSError, ValueError, LookupError, TypeError, RecursionError):
        # Who reads the record for what it is tells that it is damaged.
        return None
    return number if type(number) is int and number >= 1 else None


def told(start: ThreadStart, threads: int) -> str | None:
    """A line for the user about the measurement; None where there was none.

    Args:
        start: What was measured.
        threads: The number that is taken.
    """
    if start.failed:
        return f"{_count(threads)}, not measured: {start.not_measured}."
    rate = start.rates.get((start.waiting, threads))
    if rate is None:
        return None
    # Of the other way, its rate with as many threads; one thread waits for no other.
    others = [
        f"{way if n == threads else _count(n)} {found:.3g}"
        for (way, n), found in start.rates.items()
        if (way == start.waiting or n in (1, threads)) and (way, n) != (start.waiting, threads)
    ]
    how = {BRIEF: ", waiting briefly", ACTIVE: ", spinning while they wait"}.get(start.waiting, "")
    return (
        f"{_count(threads)}{how if threads > 1 else ''}: measured {rate:.3g} trial updates a second"
        + (f" ({', '.join(others)})" if others else "")
    )


def _count(threads: int) -> str:
    return f"{threads} thread" if threads == 1 else f"{threads} threads"


def as_record(start: ThreadStart) -> Mapping[str, Any]:
    """What `provenance.json` says of the measurement."""
    return {
        "waiting": start.waiting,
        "threads_measured": {f"{n} {way}": round(r, 1) for (way, n), r in start.rates.items()},
        "threads_not_measured": start.not_measured,
    }
