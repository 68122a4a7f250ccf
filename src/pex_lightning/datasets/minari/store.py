"""Local storage of Minari's datasets: folders, metadata and downloads.

Minari may make the environment that a dataset names, which imports a module of the dataset's
choice. Therefore `metadata.json` is read here, using only its names, numbers and shapes.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pex_lightning.errors import UserError, shortened
from pex_lightning.files.cache import home

DEFAULT_REMOTE = "hf://farama-minari"
"""Minari 0.5's download address, unless `MINARI_REMOTE` is set."""

REPAIR = (
    "If it was downloaded, `minari download --force` with its id fetches it again; if it is your "
    "own, correct it or write it again."
)
"""What to do about a damaged dataset. Nobody is told to remove data that cannot be had again."""

PIP = "pip install 'pex-lightning[minari]'"

# Without dots, so that an id cannot point outside the datasets' folder.
_ID = re.compile(r"(?:[-\w]+/)*[-\w]+-v\d+", re.ASCII)
_DATA_FILE = "main_data.hdf5"
_FORMATS = ("hdf5", "arrow", "parquet")
_MAX_BYTES = 16 * 2**20
_MAX_LEVELS = 50
_MAX_COUNT = 2**40


@dataclass(frozen=True)
class MinariMetadata:
    """The content of a dataset's `metadata.json`.

    Attributes:
        dataset_id: The dataset's id, such as `mujoco/hopper/medium-v0`.
        folder: The folder of its data.
        data_format: `hdf5`, `arrow` or `parquet`.
        total_steps: Steps of all episodes.
        total_episodes: Number of episodes.
        observation_space: The space in Minari's format: `type`, `shape`, `dtype`, `subspaces`;
            None if the dataset does not say it.
        action_space: The space in Minari's format, or None.
        env_spec: gymnasium's spec of the recorded environment; None if the dataset has none.
        eval_env_spec: gymnasium's spec of the evaluation environment, if the dataset has one.
    """

    dataset_id: str
    folder: Path
    data_format: str
    total_steps: int
    total_episodes: int
    observation_space: Mapping[str, Any] | None
    action_space: Mapping[str, Any] | None
    env_spec: Mapping[str, Any] | None
    eval_env_spec: Mapping[str, Any] | None

    @property
    def source(self) -> str:
        """Name of the dataset in messages."""
        return f"minari:{self.dataset_id}"

    @property
    def file(self) -> Path:
        """The data file, for the format `hdf5`."""
        return self.folder / _DATA_FILE


def datasets_root() -> Path:
    """Return Minari's folder: `$MINARI_DATASETS_PATH`, else `~/.minari/datasets`."""
    root = os.environ.get("MINARI_DATASETS_PATH")
    return Path(root) if root else home("MINARI_DATASETS_PATH") / ".minari" / "datasets"


def dataset_folder(dataset_id: str) -> Path:
    """Return the folder of a dataset, whether it exists or not.

    Raises:
        UserError: The id is malformed.
    """
    if _ID.fullmatch(dataset_id) is None:
        raise UserError(
            f"minari:{dataset_id} is not an id of Minari's; expected names parted by slashes and "
            "a version, such as minari:D4RL/antmaze/umaze-v1 or minari:mujoco/hopper/medium-v0."
        )
    return datasets_root() / dataset_id


def is_local(dataset_id: str) -> bool:
    """Return whether a dataset's metadata and data are on this machine.

    Raises:
        UserError: The id is malformed.
    """
    data = dataset_folder(dataset_id) / "data"
    if not (data / "metadata.json").is_file():
        return False
    # An interrupted download may have left the metadata without data.
    other = any(entry.is_dir() for entry in data.iterdir())
    return other or (data / _DATA_FILE).is_file()


def ensure_minari(dataset_id: str) -> None:
    """Download a dataset unless it is on this machine.

    Raises:
        UserError: The id is malformed, or the download failed.
    """
    if is_local(dataset_id):
        return
    try:
        import minari  # noqa: F401, PLC0415
        from minari.storage.hosting import download_dataset  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise _not_fetched(dataset_id, f"the package minari is missing; run: {PIP}") from error
    folder = dataset_folder(dataset_id)
    sys.stderr.write(f"Downloading minari:{dataset_id} from {_remote()} to {folder}\n")
    # Standard output is reserved for results. Network libraries raise many types of errors.
    try:
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            download_dataset(dataset_id, force_download=folder.exists())
    except ImportError as error:
        raise _not_fetched(dataset_id, f"{_first_line(error)} (or run: {PIP})") from error
    except Exception as error:
        raise _not_fetched(dataset_id, f"{type(error).__name__}: {_first_line(error)}") from error
    if not is_local(dataset_id):
        raise _not_fetched(dataset_id, "what came is not a dataset")


def read_metadata(dataset_id: str) -> MinariMetadata:
    """Read a local dataset's metadata without importing anything that they name.

    Raises:
        UserError: The dataset is not on this machine, or its metadata are damaged or incomplete.
    """
    folder = dataset_folder(dataset_id) / "data"
    path = folder / "metadata.json"
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            raise _damaged(dataset_id, path, f"it has more than {_MAX_BYTES} bytes")
        raw = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise UserError(
            f"minari:{dataset_id}: {path} cannot be read ({error.strerror}). {REPAIR}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise _damaged(dataset_id, path, str(error)) from error
    if not isinstance(raw, dict):
        raise _damaged(dataset_id, path, f"it holds a {type(raw).__name__}")
    try:
        return MinariMetadata(
            dataset_id=dataset_id,
            folder=folder,
            data_format=_format(raw),
            total_steps=_count(raw, "total_steps"),
            total_episodes=_count(raw, "total_episodes"),
            observation_space=_nested(raw, "observation_space"),
            action_space=_nested(raw, "action_space"),
            env_spec=_nested(raw, "env_spec"),
            eval_env_spec=_nested(raw, "eval_env_spec"),
        )
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _damaged(dataset_id, path, str(error)) from error


def local_datasets() -> list[str]:
    """List the ids of the datasets on this machine."""
    root = datasets_root()
    found = [path.parent.parent for path in root.glob("**/data/metadata.json")]
    return sorted(path.relative_to(root).as_posix() for path in found)


def _remote() -> str:
    return os.environ.get("MINARI_REMOTE") or DEFAULT_REMOTE


def _not_fetched(dataset_id: str, reason: str) -> UserError:
    here = local_datasets()
    near = difflib.get_close_matches(dataset_id, here, n=3, cutoff=0.4) or here[:5]
    listed = f" Datasets there: {', '.join(near)}." if near else ""
    return UserError(
        f"minari:{dataset_id} is not in {datasets_root()}, and could not be fetched from "
        f"{_remote()}: {reason}.{listed}\n"
        f"Without a network: run `minari download {dataset_id}` on another machine and copy its "
        f"folder to {dataset_folder(dataset_id)}; or name the folder that has it in "
        "MINARI_DATASETS_PATH; or another remote in MINARI_REMOTE; or take a file (--data.path)."
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else "no reason given"


def _damaged(dataset_id: str, path: Path, reason: str) -> UserError:
    return UserError(
        f"minari:{dataset_id}: {path} is damaged or incomplete ({shortened(reason)}). {REPAIR}"
    )


def _format(raw: Mapping[str, Any]) -> str:
    found: str = raw.get("data_format", "hdf5")
    if found not in _FORMATS:
        raise ValueError(f"data_format is {found!r}, expected one of {', '.join(_FORMATS)}")
    return found


def _count(raw: Mapping[str, Any], key: str) -> int:
    value = raw[key]
    if type(value) is not int or not 0 <= value <= _MAX_COUNT:
        raise ValueError(f"{key} is {value!r:.40}, expected a number from 0 to {_MAX_COUNT}")
    return value


def _nested(raw: Mapping[str, Any], key: str) -> Mapping[str, Any] | None:
    """Return a mapping that Minari stores as JSON text inside the JSON file."""
    value = raw.get(key)
    if value is None:
        return None
    value = json.loads(value) if isinstance(value, str) else value
    if not isinstance(value, Mapping):
        raise ValueError(f"{key} is {value!r:.40}, expected a mapping")
    _check_levels(value, key)
    return value


def _check_levels(value: Any, key: str) -> None:
    """Refuse nesting that would exhaust the stack of those who look at the value."""
    level = [value]
    for _ in range(_MAX_LEVELS):
        held = [one for one in level if isinstance(one, Mapping | list)]
        level = [one for h in held for one in (h.values() if isinstance(h, Mapping) else h)]
    if level:
        raise ValueError(f"{key} has more than {_MAX_LEVELS} levels of nesting")
