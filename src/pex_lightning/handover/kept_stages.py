"""Finished offline stages, kept under what they depend on, so that none is trained twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pex_lightning.errors import UserError
from pex_lightning.files.atomic import replaced
from pex_lightning.files.locks import locked
from pex_lightning.handover.checkpoint import Checkpoint, read_checkpoint

_log = logging.getLogger(__name__)

FOLDER = "offline-stages"
NOTE = "stage.json"
_FILES = ("checkpoints/last.ckpt", "checkpoints/best.ckpt", "metrics.csv")
_LARGEST_NOTE = 1_000_000


class KeptStage:
    """The place of one offline stage, `<root>/offline-stages/<fingerprint>/`.

    It holds copies of the stage's checkpoints and metrics, and `stage.json`: what the stage depends
    on, the folder that it was trained in, and the files' SHA-256. The copies do not change when the
    run that made them is deleted or replaced.

    Args:
        root: Folder of all runs.
        depends_on: Everything that the stage's result depends on, as JSON has it.

    Raises:
        TypeError, ValueError: `depends_on` holds what JSON has not.
    """

    def __init__(self, root: Path, depends_on: Mapping[str, Any]) -> None:
        text = _canonical(depends_on)
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._depends_on: dict[str, Any] = json.loads(text)
        self._folder = root / FOLDER / self.fingerprint

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep other runs from training this stage meanwhile; waits for one that does.

        Raises:
            UserError: The folder cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                self._folder.parent.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(self._folder))
            except OSError as error:
                raise UserError(
                    f"{self._folder.parent} cannot be written to: {error.strerror or error}. "
                    "Choose another folder with --run.root, or give --offline.reuse false."
                ) from error
            yield

    def take(self, stage: Path, steps: int) -> Checkpoint | None:
        """Copy the stage, if it is kept and whole, into a run; what is damaged is removed.

        Args:
            stage: Folder of the run's offline stage.
            steps: Gradient steps that the stage ends with.

        Returns:
            The checkpoint in its new place, or None if the stage is to be trained.

        Raises:
            OSError: The run's folder cannot be written.
        """
        if not self._folder.exists():
            return None
        try:
            note = self._read_note()
            checkpoint = read_checkpoint(self._folder / _FILES[0])
            if checkpoint.header.gradient_steps != steps:
                raise ValueError(f"{_FILES[0]} has {checkpoint.header.gradient_steps} updates")
        except (OSError, ValueError, RecursionError, UserError) as error:
            _log.warning(
                "The offline stage that is kept in %s is damaged or was altered, so it is trained "
                "again (%s)",
                self._folder,
                error,
            )
            shutil.rmtree(self._folder, ignore_errors=True)
            return None
        for file in _FILES:
            if file in note["files"]:
                _copy(self._folder / file, stage / file)
        _copy(self._folder / NOTE, stage / NOTE)
        _log.info(
            "The offline stage is taken from %s: the same model, data, seed and steps "
            "(fingerprint %s). --offline.reuse false trains it anew.",
            note["trained_in"],
            self.fingerprint,
        )
        return read_checkpoint(stage / _FILES[0])

    def begin(self, stage: Path) -> None:
        """Note in a run's folder what the stage depends on whose training begins there."""
        _write_note(stage, {"fingerprint": self.fingerprint, "depends_on": self._depends_on})

    def goes_on(self, stage: Path) -> bool:
        """Whether the stage that a run resumes began, and went on, as this one.

        If it did not, its note is removed: what comes of it is of no single description.
        """
        try:
            same = _load(stage / NOTE).get("depends_on") == self._depends_on
        except (OSError, ValueError, RecursionError):
            same = False
        if not same:
            (stage / NOTE).unlink(missing_ok=True)
        return same

    def keep(self, stage: Path) -> None:
        """Keep the finished stage of a run; a failure is told and does no harm to the run."""
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            found = [file for file in _FILES if (stage / file).exists()]
            for file in found:
                _copy(stage / file, self._folder / file)
            note = {
                "fingerprint": self.fingerprint,
                "trained_in": str(stage),
                "files": {file: _sha256(self._folder / file) for file in found},
                "depends_on": self._depends_on,
            }
            _write_note(stage, note)
            # Last: a folder without a note counts as damaged.
            _write_note(self._folder, note)
        except OSError as error:
            _log.warning(
                "The offline stage could not be kept in %s for other runs: %s",
                self._folder,
                error.strerror or error,
            )

    def _read_note(self) -> dict[str, Any]:
        note = _load(self._folder / NOTE)
        files = note.get("files")
        if note.get("depends_on") != self._depends_on or not isinstance(files, dict):
            raise ValueError(f"{NOTE} is of another stage")
        if not isinstance(note.get("trained_in"), str) or _FILES[0] not in files:
            raise ValueError(f"{NOTE} is not complete")
        for file in _FILES:
            if file in files and _sha256(self._folder / file) != files[file]:
                raise ValueError(f"{file} is not the file that was kept")
        return note


def _canonical(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))


def _load(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        content = json.loads(file.read(_LARGEST_NOTE))
    if not isinstance(content, dict):
        raise ValueError(f"{path.name} holds no object")
    return content


def _write_note(folder: Path, note: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with replaced(folder / NOTE) as aside:
        aside.write_text(json.dumps(note, sort_keys=True, indent=2) + "\n")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with replaced(target) as aside:
        shutil.copyfile(source, aside)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
