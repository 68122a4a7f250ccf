"""Output of `pex-lightning data info` as text and as JSON."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pex_lightning.inspection.ranges import ActionUse, Numbers
from pex_lightning.inspection.summary import SHARES, Summary

WIDTH = 100
_LABEL = 14
_FEW_DIMENSIONS = 12
_GROUPS = 8
_IN_WALLS = 0.01
_MANY_SINGLE = 0.1


@dataclass(frozen=True)
class Told:
    """Information to print in addition to the summary.

    Attributes:
        name: The dataset's name.
        path: The dataset's file, if any.
        env: The environment's id, if known.
        in_walls: Fraction of rows in walls of the maze; None without a maze.
        picture: Path of the picture, if one was written.
        notes: Further remarks, one sentence each.
    """

    name: str
    path: str | None
    env: str | None
    in_walls: float | None
    picture: str | None
    notes: tuple[str, ...]


def as_json(summary: Summary, told: Told) -> str:
    """Format as one JSON object on a line, with null for NaN and infinity."""
    # The keys of the three parts are distinct.
    found = {**asdict(told), **asdict(summary), "warnings": _warnings(summary, told)}
    return json.dumps(_finite(found), allow_nan=False) + "\n"


def as_text(summary: Summary, told: Told, every_dimension: bool = False) -> str:
    """Format as aligned lines of at most `WIDTH` columns (longer for paths and errors).

    Args:
        summary: The summary.
        told: Additional information.
        every_dimension: Whether to print each dimension on its own line.
    """
    blocks = [
        _head(summary, told),
        _rows(summary),
        _episodes(summary),
        _dimensions("observations", summary.observations, None, every_dimension),
        _dimensions("actions", summary.actions, summary.action_use, every_dimension),
        _remarks("wrong", _wrong(summary)),
        _remarks("note", [*_warnings(summary, told), *told.notes]),
        _remarks("picture", [_picture(told)]),
    ]
    return "\n".join("\n".join(block) + "\n" for block in map(list, blocks) if block)


def _head(summary: Summary, told: Told) -> Iterator[str]:
    info = summary.info
    yield _line("dataset", told.name + ("" if info is None else f" ({_ORIGINS[info.origin]})"))
    if told.path is not None:
        yield _line("file", told.path)
    yield _line("fingerprint", "none, see below" if info is None else info.fingerprint)
    yield _line("environment", told.env or "not known; give it with --env ID")


_ORIGINS = {
    "file": "a file of your own",
    "made": "made by this package",
    "d4rl": "D4RL's",
    "minari": "Minari's",
    "arrays": "arrays in memory",
}


def _rows(summary: Summary) -> Iterator[str]:
    size = summary.float32_bytes / 1e6
    yield _line("rows", f"{summary.rows:,} ({size:,.1f} MB as float32)")
    if summary.timeouts is None:
        yield _line("transitions", "not known: where episodes end is not")
    else:
        yield _line("transitions", f"{summary.transitions:,} kept, {_dropped(summary)}")
    yield _line("terminals", f"{summary.terminals:,}")
    yield _line("time-outs", _timeouts(summary))
    yield _line("rewards", _rewards(summary))
    if summary.unread:
        yield from _remarks("not read", [", ".join(summary.unread)])


def _dropped(summary: Summary) -> str:
    dropped = summary.rows - summary.transitions
    if not dropped:
        return "none dropped (each has its next observation)"
    reasons = []
    if summary.dropped_timeouts:
        reasons.append(
            f"{_count(summary.dropped_timeouts, 'time-out')} (no next observation in the file)"
        )
    if summary.dropped_last:
        reasons.append("the last row")
    terminal = summary.dropped_terminals
    among = f"; {_count(terminal, 'terminal')} among them" if terminal else ""
    return f"{_count(dropped, 'row')} dropped: {', '.join(reasons)}{among}"


def _timeouts(summary: Summary) -> str:
    if summary.timeouts is None:
        return "not in the file; give --env ID or --max_episode_steps N"
    if summary.timeouts_derived:
        return f"{summary.timeouts:,}, derived from the length of an episode"
    told = "" if summary.told_by in (None, "timeouts") else f", told by '{summary.told_by}'"
    return f"{summary.timeouts:,}{told}"


def _rewards(summary: Summary) -> str:
    if summary.reward_levels:
        levels = [
            f"{level.value:g} ({_count(level.rows, 'row')})" for level in summary.reward_levels
        ]
        return ", ".join(levels)
    numbers = summary.rewards
    return (
        f"{numbers.low:.6g} to {numbers.high:.6g}, mean {numbers.mean:.6g}, std {numbers.std:.6g}"
    )


def _episodes(summary: Summary) -> Iterator[str]:
    tail = summary.incomplete_rows
    rest = f"; {_count(tail, 'row')} after the last of them" if tail else ""
    yield _line("episodes", f"{summary.episodes:,} complete{rest}")
    if not summary.lengths:
        return
    names = ["min", *(f"{share:.0%}" for share in SHARES[1:-1]), "max"]
    yield _line("", "".join(f"{name:>11}" for name in names))
    yield _line("raw return", "".join(f" {value:>10.5g}" for value in summary.returns))
    yield _line("length", "".join(f"{value:>11,.7g}" for value in summary.lengths))


def _dimensions(
    name: str, numbers: Sequence[Numbers], use: ActionUse | None, every: bool
) -> Iterator[str]:
    columns = ["min", "max", "mean", "std"] + (["at bounds"] if use is not None else [])
    yield f"{name:<{_LABEL}}" + "".join(f"{column:>12}" for column in columns)
    size = 1 if every or len(numbers) <= _FEW_DIMENSIONS else -(-len(numbers) // _GROUPS)
    for start in range(0, len(numbers), size):
        group = numbers[start : start + size]
        last = start + len(group) - 1
        label = f"  {start}" if len(group) == 1 else f"  {start} to {last}"
        cells = [
            min((n.low for n in group if not math.isnan(n.low)), default=math.nan),
            max((n.high for n in group if not math.isnan(n.high)), default=math.nan),
        ]
        # Mean and standard deviation are only meaningful for a single dimension.
        if len(group) == 1:
            cells += [group[0].mean, group[0].std]
        line = "".join(f"{cell:>12.4g}" for cell in cells).ljust(48)
        if use is not None:
            share = sum(use.at_bounds[start : last + 1]) / len(group)
            line += f"{share:>12.1%}"
        yield f"{label:<{_LABEL}}{line}{_flags(group, start)}".rstrip()
    if size > 1:
        yield "  --all lists every number by itself"
    if use is not None:
        yield f"  {_bounds(use)}"


def _bounds(use: ActionUse) -> str:
    lows, highs = sorted(set(use.space.low)), sorted(set(use.space.high))
    same = len(lows) == len(highs) == 1
    bounds = f"[{lows[0]:g}, {highs[0]:g}]" if same else "of each dimension"
    outside = "none" if not use.rows_outside else _count(use.rows_outside, "row")
    return f"bounds {bounds}, {use.space.name}; outside of them: {outside}"


def _flags(group: Sequence[Numbers], start: int) -> str:
    flags = []
    constant = [str(start + place) for place, number in enumerate(group) if number.constant]
    if constant:
        flags.append("constant" if len(group) == 1 else f"constant: {', '.join(constant)}")
    bad = sum(number.bad for number in group)
    if bad:
        flags.append(f"{bad:,} NaN or infinite")
    return f"   {'; '.join(flags)}" if flags else ""


def _wrong(summary: Summary) -> list[str]:
    if summary.refused is None:
        return list(summary.problems)
    return [f"Training refuses this dataset: {summary.refused}", *summary.problems]


def _warnings(summary: Summary, told: Told) -> list[str]:
    warnings = []
    if summary.single_rows > _MANY_SINGLE * max(summary.episodes, 1):
        warnings.append(
            f"{summary.single_rows:,} episodes have a single row: terminals follow each other, as "
            "in D4RL's AntMaze, whose rewards and terminals were computed after recording."
        )
    if told.in_walls is not None and told.in_walls > _IN_WALLS:
        warnings.append(
            f"{told.in_walls:.1%} of the rows lie in walls of {told.env} or outside of it: these "
            "data are from another maze."
        )
    return warnings


def _picture(told: Told) -> str:
    if told.picture is not None:
        return f"written to {told.picture}"
    if told.in_walls is not None:
        return "--picture FILE.png draws where the rows are, over the maze's walls"
    if told.env is None:
        return (
            "--picture FILE.png draws what is above; for data from a maze, --env ID --picture "
            "FILE.png draws where the rows are (D4RL's AntMaze: pex_lightning/AntMaze-UMaze-v0, "
            "-Medium-v0 or -Large-v0)"
        )
    return "--picture FILE.png draws returns, lengths, rewards, actions and observations"


def _remarks(label: str, remarks: Sequence[str]) -> Iterator[str]:
    for remark in remarks:
        if remark:
            # Words are not broken, so that paths can be copied.
            yield textwrap.fill(
                remark,
                WIDTH,
                initial_indent=f"{label:<{_LABEL}}",
                subsequent_indent=" " * _LABEL,
                break_long_words=False,
                break_on_hyphens=False,
            )


def _line(label: str, text: str) -> str:
    return f"{label:<{_LABEL}}{text}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _finite(value: Any) -> Any:
    """Replace NaN and infinity by None, because JSON lacks them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
