"""Reading what `torch.save` wrote, without executing anything that it contains."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from pex_lightning.errors import UserError


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
            damaged = archive.testzip()
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
    return raw
