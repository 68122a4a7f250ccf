from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.errors import UserError


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("data.hdf5"), io.BytesIO(b""))
    return buffer.getvalue()


def _zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("data.hdf5", b"...")
    return buffer.getvalue()


def _npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(b"data"), "gzip archive: unpack it with `gunzip -k"),
        (bz2.compress(b"data"), "bzip2 archive: unpack it with `bunzip2 -k"),
        (lzma.compress(b"data"), "xz archive: unpack it with `unxz -k"),
        (_zip(), "zip archive: unpack it with `unzip"),
        (_tar(), "tar archive: unpack it with `tar xf"),
        (pickle.dumps({"observations": [1]}), "a Python pickle, which may execute code"),
        (_npy(), "another format: load it yourself"),
        (b"PAR1\x00\x00", "another format: load it yourself"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\n <!DOCTYPE html><html>404</html>", "a web page"),
        (b"", "It is empty"),
        (b"1,2,3\n", "if it is data of another format"),
    ],
    # Archives hold the time, which names of tests must not.
    ids=lambda value: value if isinstance(value, str) else "content",
)
def test_a_file_of_another_kind_is_called_by_its_name(
    content: bytes, says: str, tmp_path: Path
) -> None:
    path = tmp_path / "some data.hdf5"
    path.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        read_d4rl(path)
    assert f"{path} is not an HDF5 file ({len(content):,} bytes)" in str(refusal.value)
    assert says in str(refusal.value)
    if "unpack" in says:
        assert f"'{path}'`" in str(refusal.value)
