"""Downloads of D4RL's datasets by task name, with checks of files that are already present."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pex_lightning.d4rl.tasks import D4RL_URL, D4RLTask
from pex_lightning.datasets.hdf5 import is_hdf5, open_hdf5
from pex_lightning.errors import UserError
from pex_lightning.files.atomic import written_aside
from pex_lightning.files.cache import cache_folder, cache_path, home
from pex_lightning.files.downloads.download import Downloaded, DownloadError, download, file_sha256
from pex_lightning.files.downloads.mirrors import file_below
from pex_lightning.files.downloads.transfer import USUAL_PATIENCE, Expected, Patience
from pex_lightning.files.locks import locked

_log = logging.getLogger(__name__)

DEFAULT_MIRRORS: tuple[str, ...] = (D4RL_URL.replace("http://", "https://"), D4RL_URL)
"""D4RL's own host, which has been down for weeks at a time; see `$PEX_LIGHTNING_MIRRORS`."""

COPIES: tuple[str, ...] = ("https://huggingface.co/datasets/imone/D4RL/resolve/main/{name}",)
"""Third-party copies, tried last and only for files with a published checksum."""


def fetch_task(
    task: D4RLTask,
    *,
    mirrors: Sequence[str] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
    force: bool = False,
    patience: Patience = USUAL_PATIENCE,
) -> Path:
    """Return the path of a task's dataset, downloading the file if it is missing.

    Size and SHA-256 of an existing file are compared with the published values (`task.size`,
    `task.sha256`), else with those recorded at its download in `NAME.hdf5.json`. Hashing takes
    about a second per gigabyte. A file without a record, for example one downloaded by D4RL, is
    checked to be complete HDF5, and its size and SHA-256 are recorded.

    Args:
        task: The task.
        mirrors: Addresses or local folders that contain `task.file`, tried in this order. By
            default `$PEX_LIGHTNING_MIRRORS` (separated by commas), else `DEFAULT_MIRRORS` and, for
            a task with a published checksum, `COPIES`.
        cache_dir: Folder of the file, by default `$D4RL_DATASET_DIR`, else
            `$XDG_CACHE_HOME/pex-lightning/d4rl`. In the last case, an existing file in D4RL's own
            folder, `~/.d4rl/datasets`, is also accepted.
        progress: Show progress on stderr.
        force: Download again; an existing file is replaced once the new one is complete.
        patience: How long to wait for a mirror, and how often to try.

    Raises:
        UserError: No mirror has the file, the existing file is damaged or a different one, or the
            folder is not writable.
    """
    path, *others = _paths(task, cache_dir)
    present = None if force else _present(task, path, others)
    if present is not None:
        return present
    chosen = _chosen_mirrors(mirrors, task)
    folder = cache_folder("d4rl", path.parent)
    try:
        with locked(path):
            # Another process may have fetched the file while this one waited.
            present = None if force else _present(task, path, others)
            if present is None:
                _download(task, path, chosen, progress, patience)
    except OSError as error:
        raise UserError(
            f"{path}: {folder} cannot be written to ({error.strerror or error}). Choose "
            "another folder with --cache_dir, D4RL_DATASET_DIR or XDG_CACHE_HOME."
        ) from error
    return present or path


def find_fetched(task: D4RLTask, *, cache_dir: str | Path | None = None) -> Path | None:
    """Return the path of a task's dataset if the file exists and is complete, else None.

    The check is fast and needs no network: the file's size and whether HDF5 can open it. Unlike
    `fetch_task`, it does not hash the file.

    Args:
        task: The task.
        cache_dir: As for `fetch_task`.
    """
    for path in _paths(task, cache_dir):
        if path.is_file() and _problem(path, _known(task, _read_record(path))) is None:
            return path
    return None


def _paths(task: D4RLTask, cache_dir: str | Path | None) -> tuple[Path, ...]:
    """Where the file is stored, then where else it may already exist."""
    name = Path(task.file).name
    chosen = cache_dir if cache_dir is not None else os.environ.get("D4RL_DATASET_DIR") or None
    if chosen is not None:
        return (Path(chosen).expanduser() / name,)
    return cache_path("d4rl") / name, home("D4RL_DATASET_DIR") / ".d4rl" / "datasets" / name


def _chosen_mirrors(mirrors: Sequence[str] | None, task: D4RLTask) -> Sequence[str]:
    if mirrors:
        return mirrors
    setting = os.environ.get("PEX_LIGHTNING_MIRRORS", "")
    chosen = [part.strip() for part in setting.split(",") if part.strip()]
    return chosen or DEFAULT_MIRRORS + (() if task.sha256 is None else COPIES)


def _present(task: D4RLTask, path: Path, others: Sequence[Path]) -> Path | None:
    """Return the path of the existing file after checking its bytes; None if there is no file.

    Raises:
        UserError: The file is incomplete or not the task's dataset.
    """
    if path.is_dir():
        raise UserError(
            f"{path} is a folder, expected the dataset of {task.id}, or nothing, in this place. "
            "Remove it, or choose another folder with --cache_dir."
        )
    if not path.exists():
        path = next((other for other in others if other.is_file()), path)
        if not path.exists():
            return None
        _log.info("%s: D4RL's own copy is used", path)
    record = _read_record(path)
    known = _known(task, record)
    problem = _problem(path, known)
    sha256 = "" if problem else file_sha256(path)
    if problem is None and known.sha256 not in (None, sha256):
        problem = f"has SHA-256 {sha256}, expected {known.sha256}"
    if problem is not None:
        raise UserError(
            f"{path} {problem}: it is damaged, cut short or another file than D4RL's {task.id}. "
            f"`pex-lightning data fetch {task.id} --force` downloads it again; to use it as it is, "
            f"give --data.path {path}"
        )
    if record is None:
        _adopt(path, sha256)
    return path


def _known(task: D4RLTask, record: Downloaded | None) -> Expected:
    """Return the published size and checksum, else those recorded at the download."""
    published = Expected(task.size, task.sha256)
    if published.sha256 is not None or record is None:
        return published
    return Expected(record.size if published.size is None else published.size, record.sha256)


def _problem(path: Path, known: Expected) -> str | None:
    size = path.stat().st_size
    if known.size not in (None, size):
        return f"has {size} bytes, expected {known.size}"
    return _hdf5_problem(path)


def _hdf5_problem(path: Path) -> str | None:
    """Describe what is wrong with an HDF5 file. Opening a truncated file fails."""
    try:
        if not is_hdf5(path):
            with path.open("rb") as file:
                return f"is not an HDF5 file (it begins with {file.read(20)!r})"
        with open_hdf5(path):
            return None
    except (OSError, UserError) as error:
        return f"cannot be read ({error})"


def _download(
    task: D4RLTask, path: Path, mirrors: Sequence[str], progress: bool, patience: Patience
) -> None:
    try:
        found = download(
            [file_below(mirror, task.file) for mirror in mirrors],
            path,
            expected=Expected(task.size, task.sha256),
            inspect=_hdf5_problem,
            progress=progress,
            patience=patience,
        )
    except DownloadError as error:
        raise UserError(_no_mirror(task, path, error)) from error
    before = _read_record(path)
    if before is not None and before.sha256 != found.sha256:
        _log.warning(
            "%s: this is another file than the one fetched before (SHA-256 %s, now %s)",
            *(path, before.sha256, found.sha256),
        )
    _write_record(path, found)
    _log.info("%s: %.1f MB from %s, SHA-256 %s", path, found.size / 1e6, found.url, found.sha256)


def _adopt(path: Path, sha256: str) -> None:
    """Record size and checksum of a file that another program stored."""
    try:
        _write_record(path, Downloaded("", path.stat().st_size, sha256))
    except UserError:
        # A shared folder may be read-only.
        _log.info("%s: found; its checksum cannot be recorded there", path)
    else:
        _log.info("%s: found; recorded its size and SHA-256 %s", path, sha256)


def _record_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _write_record(path: Path, found: Downloaded) -> None:
    with written_aside(_record_path(path)) as aside:
        aside.write_text(json.dumps(asdict(found), indent=2) + "\n", encoding="utf-8")


def _read_record(path: Path) -> Downloaded | None:
    try:
        found = json.loads(_record_path(path).read_text(encoding="utf-8"))
        return Downloaded(str(found["url"]), int(found["size"]), str(found["sha256"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError, RecursionError):
        _log.warning("%s cannot be read and is not used", _record_path(path))
        return None


def _no_mirror(task: D4RLTask, path: Path, error: DownloadError) -> str:
    other_ways = [
        ("--mirror URL", f"another address or a folder, below which {task.file} lies"),
        ("--data.path FILE", "a D4RL file that you have"),
        ("D4RL_DATASET_DIR=FOLDER", f"a folder that holds {path.name}"),
        ("--data.path minari:ID", "a Minari dataset (`minari list remote` shows them)"),
    ]
    if task.id.startswith("antmaze-"):
        made = task.id.rsplit("-v", 1)[0]
        other_ways.insert(
            0, (f"pex-lightning data make {made}", "records similar data on this machine")
        )
    width = max(len(way) for way, _ in other_ways)
    listed = "\n".join(f"  {way:<{width}}  {meaning}" for way, meaning in other_ways)
    return (
        f"{task.id} could not be fetched. Mirrors tried:\n{error.listing()}\n"
        f"Other ways to get data:\n{listed}"
    )
