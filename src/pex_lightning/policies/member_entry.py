"""How a user names a policy that is to be a frozen member of a policy set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pex_lightning.errors import UserError

MemberKind = Literal[
    "checkpoint", "torchscript", "exported", "onnx", "stable_baselines3", "function", "given"
]

SUFFIXES: Mapping[str, MemberKind] = {
    ".ckpt": "checkpoint",
    ".pt": "torchscript",
    ".pth": "torchscript",
    ".ts": "torchscript",
    ".jit": "torchscript",
    ".pt2": "exported",
    ".onnx": "onnx",
    ".zip": "stable_baselines3",
}
GIVEN = "(given in Python)"
"""The path of a member that is a Python object."""


@dataclass(frozen=True)
class MemberEntry:
    """A member as the user names it.

    Attributes:
        path: A file, `module:function`, or `GIVEN`.
        name: What it is called.
    """

    path: str
    name: str

    @classmethod
    def of(cls, raw: str | Mapping[str, Any], flag: str = "--model.members") -> MemberEntry:
        """An entry of a list of members, a path or `{path: …, name: …}`.

        Raises:
            UserError: It is neither, or the kind of the file is unknown.
        """
        fields = {"path": raw} if isinstance(raw, str) else dict(raw)
        known = fields.keys() <= {"path", "name"} and "path" in fields
        if not known or not all(isinstance(value, str) for value in fields.values()):
            raise UserError(
                f"{flag} has the entry {raw!r:.200}; an entry is a path, or "
                "{path: PATH, name: NAME}."
            )
        path = fields["path"]
        if len(path) > 1_000 or not path.isprintable():
            raise UserError(f"{flag} has the path {path!r:.200}, which cannot be one.")
        entry = cls(path, fields.get("name") or _name_of(path))
        if not re.fullmatch(r"[\w.-]{1,60}", entry.name):
            raise UserError(
                f"{flag}: {path} is called {entry.name!r:.100}; a name has up to 60 "
                "letters, digits, dots, dashes and underscores. Give one: {path: PATH, name: NAME}."
            )
        entry.kind  # noqa: B018  (raises)
        return entry

    @property
    def kind(self) -> MemberKind:
        """What the path is.

        Raises:
            UserError: It is unknown.
        """
        if self.path == GIVEN:
            return "given"
        suffix = Path(self.path).suffix.lower()
        if suffix in SUFFIXES:
            return SUFFIXES[suffix]
        if re.fullmatch(r"[\w.]+:[\w.]+", self.path):
            return "function"
        raise UserError(
            f"{self.path!r:.200} is no policy that is known here: give a checkpoint "
            "(.ckpt), a TorchScript file (.pt), one of torch.export (.pt2) or ONNX (.onnx), one of "
            "stable-baselines3 (.zip), or a function as module:function."
        )

    @property
    def outside(self) -> bool:
        """Whether it is code, which no checkpoint holds, and not parameters."""
        return self.kind not in ("checkpoint", "stable_baselines3")

    def to_dict(self) -> dict[str, str]:
        """Primitives, as in a checkpoint."""
        return asdict(self)


def entries_of(
    raw: Sequence[str | Mapping[str, Any]], taken: Iterable[str] = (), flag: str = "--model.members"
) -> list[MemberEntry]:
    """The entries of a list of members.

    Args:
        raw: What the user gave.
        taken: Names of the set's other members.
        flag: Where it was given.

    Raises:
        UserError: An entry is malformed, or two members have the same name.
    """
    entries = [MemberEntry.of(item, flag) for item in raw]
    seen = set(taken)
    for entry in entries:
        if entry.name in seen:
            raise UserError(
                f"{flag}: two members would be called {entry.name!r}, {entry.path} one of "
                "them. Give it a name of its own: {path: PATH, name: NAME}."
            )
        seen.add(entry.name)
    return entries


def _name_of(path: str) -> str:
    return path.rpartition(":")[2] if re.fullmatch(r"[\w.]+:[\w.]+", path) else Path(path).stem
