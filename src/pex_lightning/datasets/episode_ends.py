"""Where the episodes of logged rows end, under the names that the field uses for it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pex_lightning.errors import UserError

TERMINAL_NAMES = ("terminals", "terminal", "terminations", "terminated")
"""Flags of rows in which the environment ended the episode."""

MASK_NAMES = ("masks",)
"""The opposite of `TERMINAL_NAMES`: 0 on rows whose next state has no value."""

TIMEOUT_NAMES = ("timeouts", "timeout", "truncations", "truncated", "truncation")
"""Flags of rows after which recording of an episode stopped, whether it terminated or not."""

END_NAMES = ("episode_terminals", "episode_ends", "dones", "done")
"""Flags of the last rows of episodes, terminal ones included (`episode_terminals`: d3rlpy 1)."""

START_NAMES = ("episode_starts",)
"""Flags of the first rows of episodes."""

FLAG_NAMES = (*TERMINAL_NAMES, *MASK_NAMES, *TIMEOUT_NAMES, *END_NAMES, *START_NAMES)


def told_terminals(flags: Mapping[str, np.ndarray], source: str) -> np.ndarray:
    """Return the terminal flags, [N] bool.

    Args:
        flags: As for `told_timeouts`, at least one of `TERMINAL_NAMES`.
        source: File or dataset name, for error messages.

    Raises:
        UserError: Two columns differ in what is terminal.
    """
    first, *others = [name for name in (*TERMINAL_NAMES, *MASK_NAMES) if name in flags]
    for name in others:
        values = ~flags[name] if name in MASK_NAMES else flags[name]
        _check_same(flags[first], values, first, name, source)
    return flags[first]


def told_timeouts(
    terminals: np.ndarray, flags: Mapping[str, np.ndarray], source: str
) -> tuple[str, np.ndarray] | None:
    """Find the time-outs that columns tell; None if no column tells any.

    A column of `END_NAMES` or `START_NAMES` that ends episodes at terminals only, says nothing
    about time-outs.

    Args:
        terminals: [N] bool.
        flags: Columns [N] bool by their names, any of `FLAG_NAMES`.
        source: File or dataset name, for error messages.

    Returns:
        (column name, [N] bool).

    Raises:
        UserError: A column contradicts `terminals`, or two columns end episodes at different rows.
    """
    told = {name: flags[name] for name in TIMEOUT_NAMES if name in flags}
    for name in (*END_NAMES, *START_NAMES):
        if name in flags:
            ends = flags[name] if name in END_NAMES else _before_starts(flags[name], terminals)
            _check_includes(ends, terminals, name, source)
            told[name] = ends & ~terminals
    silent = [name for name in told if name not in TIMEOUT_NAMES and not told[name].any()]
    names = [name for name in told if name not in silent]
    for name in names[1:]:
        # Columns of first rows cannot tell whether the last row ends an episode.
        ends, others = ((told[key] | terminals)[:-1] for key in (names[0], name))
        _check_same(ends, others, names[0], name, source)
    return (names[0], told[names[0]]) if names else None


def derive_timeouts(terminals: np.ndarray, max_episode_steps: int) -> np.ndarray:
    """Derive time-outs from the time limit, for data that do not tell them.

    Args:
        terminals: [N] bool.
        max_episode_steps: Rows of an episode that times out.

    Returns:
        [N] bool, true on every `max_episode_steps`-th row of an episode.
    """
    rows = np.arange(len(terminals))
    after_terminal = np.zeros(len(terminals), dtype=rows.dtype)
    after_terminal[1:] = np.where(terminals[:-1], rows[1:], 0)
    steps = rows - np.maximum.accumulate(after_terminal) + 1
    timeouts: np.ndarray = steps % max_episode_steps == 0
    return timeouts


def rows_to_keep(
    terminals: np.ndarray, timeouts: np.ndarray, *, has_next: bool, as_published: bool
) -> np.ndarray:
    """Mark the rows that become transitions, [N] bool.

    A row needs a successor to bootstrap from, unless it is terminal. A time-out and the last row
    have none.

    Args:
        terminals: [N] bool.
        timeouts: [N] bool.
        has_next: Whether the data have `next_observations`, so that each row has a successor.
        as_published: Whether to keep exactly what `d4rl.qlearning_dataset` keeps, which drops
            time-outs and the last row even if they are terminal.
    """
    if has_next:
        return np.ones(len(terminals), dtype=np.bool_)
    keep = ~timeouts
    keep[-1] = False
    return keep if as_published else keep | terminals


def _before_starts(starts: np.ndarray, terminals: np.ndarray) -> np.ndarray:
    """Last rows of episodes from their first rows; what follows the file's last row is unknown."""
    return np.append(starts[1:], terminals[-1:])


def _check_includes(ends: np.ndarray, terminals: np.ndarray, name: str, source: str) -> None:
    bad = np.flatnonzero(terminals & ~ends)
    if len(bad):
        raise UserError(
            f"{source}: {len(bad)} terminal rows, first row {bad[0]}, do not end an episode by "
            f"'{name}'. It is not clear which of the two is meant: correct one, or remove '{name}'."
        )


def _check_same(ends: np.ndarray, others: np.ndarray, first: str, second: str, source: str) -> None:
    bad = np.flatnonzero(ends != others)
    if len(bad):
        raise UserError(
            f"{source}: '{first}' and '{second}' end episodes at different rows ({len(bad)} rows, "
            f"first row {bad[0]}). It is not clear which of the two is meant: remove one."
        )
