"""The online replay buffer on disk, beside the checkpoints that need it.

Rows are only ever added, so each checkpoint writes what came since the one before it, as a
segment, and lists the segments that it needs. A segment is written aside and renamed; it is
removed once no checkpoint lists it. A checkpoint therefore never waits for the whole buffer, and
any of them can be resumed from.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.files.atomic import remove_leftovers, replaced
from pex_lightning.files.torch_files import load_safely, save
from pex_lightning.replay.layout import RowSizes, problems

_NAME = re.compile(r"rows-[\w-]+\.pt", re.ASCII)


@dataclass(frozen=True)
class Segment:
    """Rows `start` to `stop` of everything collected, in a file of that folder."""

    file: str
    start: int
    stop: int

    def to_dict(self) -> dict[str, Any]:
        """Primitives only."""
        return {"file": self.file, "start": self.start, "stop": self.stop}

    @classmethod
    def from_dict(cls, raw: Any) -> Segment:
        """Undo `to_dict`.

        Raises:
            KeyError, TypeError, ValueError: A field is missing or has the wrong type.
        """
        file, start, stop = raw["file"], raw["start"], raw["stop"]
        if not isinstance(file, str) or _NAME.fullmatch(file) is None:
            raise ValueError(f"{file!r} is no name of a part")
        if type(start) is not int or type(stop) is not int or not 0 <= start < stop:
            raise ValueError(f"rows {start!r} to {stop!r} of {file}")
        return cls(file, start, stop)


def read_manifest(state: object, path: Path) -> list[list[Segment]]:
    """Read which segments hold the replay buffer of each process.

    Args:
        state: What a checkpoint keeps of the data module that collected.
        path: The checkpoint, for error messages.

    Raises:
        UserError: The checkpoint was saved without its buffer, or the list is damaged.
    """
    if not isinstance(state, Mapping) or not {"replay", "collected"} <= state.keys():
        raise damaged(path, "the list of its parts is missing")
    raw, collected = state["replay"], state["collected"]
    if type(collected) is not int or collected < 0:
        raise damaged(path, f"{collected!r:.40} rows were collected")
    if raw is None:
        raise UserError(
            f"{path} was saved without its replay buffer. Take last.ckpt or best.ckpt of the run."
        )
    try:
        manifest = [[Segment.from_dict(segment) for segment in segments] for segments in raw]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        reason = shortened(in_one_line(error))
        raise damaged(path, f"the list of its parts cannot be read ({reason})") from error
    for segments in manifest:
        for before, after in itertools.pairwise(segments):
            if before.stop != after.start:
                raise damaged(path, f"rows {before.stop} to {after.start} are missing")
        if segments and segments[-1].stop != collected:
            raise damaged(path, f"its rows end at {segments[-1].stop}, not at {collected}")
    return manifest


def check_processes(manifest: Sequence[object], world_size: int, path: Path) -> None:
    """Check that a run has as many processes as the one that wrote a checkpoint.

    Raises:
        UserError: It has not.
    """
    if len(manifest) != world_size:
        raise UserError(
            f"{path} was written by {len(manifest)} process(es), this run has {world_size}. Resume "
            f"with --trainer.devices {len(manifest)}."
        )


def damaged(path: Path, reason: str) -> UserError:
    """An error for a checkpoint whose replay buffer cannot be used."""
    return UserError(
        f"{path}: its replay buffer is damaged or was altered: {reason}. Take another checkpoint."
    )


def write_segment(folder: Path, rows: TensorDictBase, start: int, sizes: RowSizes) -> Segment:
    """Write rows `[N]` aside, then rename them into `folder`.

    Raises:
        UserError: They could not be read again: a policy of the user's gave something else than
            finite numbers of these sizes.
    """
    columns = {"/".join(_path(key)): value.clone() for key, value in _leaves(rows)}
    problem = next(problems(columns, rows.shape[0], sizes), None)
    if problem is not None:
        raise UserError(f"what was collected cannot be kept in {folder}: {problem}.")
    folder.mkdir(parents=True, exist_ok=True)
    stop = start + rows.shape[0]
    # A run resumed from an older checkpoint writes the same rows again, and must not replace
    # those that a newer checkpoint still lists.
    name = f"rows-{start:09d}-{stop:09d}-{secrets.token_hex(4)}.pt"
    with replaced(folder / name) as aside:
        save(columns, aside)
    return Segment(name, start, stop)


def read_segments(folder: Path, segments: Sequence[Segment], sizes: RowSizes) -> TensorDict | None:
    """All rows of `segments` in order, `[N]`; None if there are none.

    Raises:
        UserError: A file is missing or damaged, or holds something else than rows of these sizes
            with finite numbers.
    """
    parts = [_read_segment(folder / segment.file, segment, sizes) for segment in segments]
    return torch.cat(parts, dim=0) if parts else None


def remove_unlisted(folder: Path, listed: Iterable[str]) -> None:
    """Remove segments, and leftovers of interrupted writes, that no checkpoint lists."""
    keep = set(listed)
    remove_leftovers(folder / "rows-*.pt")
    for file in folder.glob("rows-*.pt"):
        if file.name not in keep:
            file.unlink(missing_ok=True)


def _read_segment(path: Path, segment: Segment, sizes: RowSizes) -> TensorDict:
    rows = segment.stop - segment.start
    if not path.exists():
        raise UserError(
            f"the checkpoint needs {path}, a part of the replay buffer, which is not there. Keep "
            "a checkpoint together with the `replay` folder beside it."
        )
    columns = load_safely(path)
    problem = next(problems(columns, rows, sizes), None)
    if problem is not None:
        raise UserError(
            f"{path}, a part of the replay buffer, is damaged or was altered: {problem}. Resume "
            "from another checkpoint, or begin the stage again with --offline.ckpt_path."
        )
    return TensorDict(
        {tuple(key.split("/")): value.detach() for key, value in columns.items()},
        batch_size=[rows],
    )


def _leaves(rows: TensorDictBase) -> Iterable[tuple[Any, torch.Tensor]]:
    leaves: Iterable[tuple[Any, torch.Tensor]] = rows.items(include_nested=True, leaves_only=True)
    return leaves


def _path(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
