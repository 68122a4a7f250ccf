"""Files of `torch.save`: written with the system's errors, read without executing anything."""

from __future__ import annotations

import io
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from pex_lightning.errors import UserError


def save(content: object, path: Path) -> None:
    """`torch.save`, whose own writer raises errors of its own where a disk is full.

    Raises:
        OSError: The file cannot be written.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    path.write_bytes(buffer.getbuffer())


def load_safely(path: Path) -> dict[str, Any]:
    """`torch.load` restricted to tensors and primitives, every byte's checksum tested first.

    Raises:
        UserError: The file is missing, damaged, cut short, not of that kind, or holds something
            that could run code.
    """
    if not path.exists():
        raise UserError(f"{path} does not exist.")
    if not path.is_file():
        raise UserError(f"{path} is not a file.")
    # The parsers underneath answer damaged bytes with exceptions of a dozen types.
    try:
        with zipfile.ZipFile(path) as archive:
            _check_entries(path, archive.infolist())
            damaged = archive.testzip()
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{path} is damaged, cut short, or no file of ours ({error}).") from error
    if damaged is not None:
        raise UserError(f"{path} is damaged: the checksum of {damaged!r} inside it is wrong.")
    try:
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds something other than tensors and plain values, which could run code "
            "when loaded. pex-lightning never writes such files and does not load it."
        ) from error
    except Exception as error:
        raise UserError(
            f"{path} cannot be read ({type(error).__name__}: {error}); it is damaged or was "
            "altered."
        ) from error
    if not isinstance(raw, dict):
        raise UserError(f"{path} holds a {type(raw).__name__}, which is not what we write.")
    _check_tensors(path, raw)
    return raw


def _check_entries(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    """Refuse archives that unpack to more than they are; torch writes without compression.

    Raises:
        UserError: An entry is compressed, or entries overlap.
    """
    compressed = any(entry.compress_type != zipfile.ZIP_STORED for entry in entries)
    if compressed or sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise UserError(
            f"{path} is packed in another way than torch packs its files. It was altered: take "
            "another file."
        )


def _check_tensors(path: Path, raw: object) -> None:
    """Refuse tensors that repeat a few stored numbers: a copy of one could fill the memory.

    Raises:
        UserError: A tensor has more numbers than the file.
    """
    size, seen, left = path.stat().st_size, set[int](), [raw]
    while left:
        value = left.pop()
        if isinstance(value, torch.Tensor):
            if value.numel() * value.element_size() > size:
                raise UserError(
                    f"{path} holds a tensor of shape {list(value.shape)}, which is larger than the "
                    "file. It was altered: take another file."
                )
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            left.extend(value.values() if isinstance(value, Mapping) else value)
