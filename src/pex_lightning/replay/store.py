"""The online replay buffer on disk, beside the checkpoints that need it.

Rows are only ever added, so each checkpoint writes what came since the one before it, as a
segment, and lists the segments that it needs. A segment is written aside and renamed; it is
removed once no checkpoint lists it. A checkpoint therefore never waits for the whole buffer, and
any of them can be resumed from.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import remove_leftovers, replaced
from pex_lightning.files.torch_files import load_safely


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
    def from_dict(cls, raw: dict[str, Any]) -> Segment:
        """Undo `to_dict`."""
        return cls(file=Path(str(raw["file"])).name, start=int(raw["start"]), stop=int(raw["stop"]))


def write_segment(folder: Path, rows: TensorDictBase, start: int) -> Segment:
    """Write rows `[N]` aside, then rename them into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    stop = start + rows.shape[0]
    # A run resumed from an older checkpoint writes the same rows again, and must not replace
    # those that a newer checkpoint still lists.
    name = f"rows-{start:09d}-{stop:09d}-{secrets.token_hex(4)}.pt"
    columns = {"/".join(_path(key)): value.clone() for key, value in _leaves(rows)}
    # In memory first: torch's own writer raises errors of its own where a disk is full.
    buffer = io.BytesIO()
    torch.save(columns, buffer)
    with replaced(folder / name) as aside:
        aside.write_bytes(buffer.getbuffer())
    return Segment(name, start, stop)


def read_segments(folder: Path, segments: Sequence[Segment]) -> TensorDict | None:
    """All rows of `segments` in order, `[N]`; None if there are none.

    Raises:
        UserError: A file is missing or damaged.
    """
    parts = [_read_segment(folder / segment.file, segment) for segment in segments]
    if not parts:
        return None
    try:
        rows: TensorDict = torch.cat(parts, dim=0)
    except (KeyError, RuntimeError) as error:
        raise UserError(
            f"{folder}: the parts of the replay buffer do not fit together ({error}). They were "
            "altered; resume from another checkpoint."
        ) from error
    return rows


def remove_unlisted(folder: Path, listed: Iterable[str]) -> None:
    """Remove segments, and leftovers of interrupted writes, that no checkpoint lists."""
    keep = set(listed)
    remove_leftovers(folder / "rows-*.pt")
    for file in folder.glob("rows-*.pt"):
        if file.name not in keep:
            file.unlink(missing_ok=True)


def _read_segment(path: Path, segment: Segment) -> TensorDict:
    rows = segment.stop - segment.start
    if not path.exists():
        raise UserError(
            f"the checkpoint needs {path}, a part of the replay buffer, which is not there. Keep "
            "a checkpoint together with the `replay` folder beside it."
        )
    columns = load_safely(path)
    try:
        return TensorDict(
            {tuple(key.split("/")): value for key, value in columns.items()}, batch_size=[rows]
        )
    except (RuntimeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}, a part of the replay buffer, does not hold {rows} rows ({error}). Resume "
            "from another checkpoint."
        ) from error


def _leaves(rows: TensorDictBase) -> Iterable[tuple[Any, torch.Tensor]]:
    leaves: Iterable[tuple[Any, torch.Tensor]] = rows.items(include_nested=True, leaves_only=True)
    return leaves


def _path(key: str | tuple[str, ...]) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key
