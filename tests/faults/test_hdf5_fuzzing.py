"""Damaged and hostile HDF5 files: read, or refused in one message, in bounded time and memory."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from mutations import SEED_NAMES, SEEDS, attempt, mutated
from pex_lightning.datasets import hdf5, hdf5_process
from pex_lightning.datasets.d4rl_reader import read_d4rl, recorded_environment
from pex_lightning.errors import UserError
from pex_lightning.inspection.summary import summarise_file

ROWS = 60


def content(folder: Path, **how: Any) -> bytes:
    path, rng = folder / "whole.hdf5", np.random.default_rng(0)
    with h5py.File(path, "w", **how) as file:
        for key, values in {
            "observations": rng.normal(size=(ROWS, 3)).astype("f4"),
            "actions": rng.uniform(-1, 1, (ROWS, 2)),
            "rewards": rng.normal(size=ROWS),
            "terminals": np.zeros(ROWS, bool),
            "timeouts": np.arange(ROWS) % 10 == 9,
        }.items():
            file.create_dataset(key, data=values, compression="gzip" if how else None)
        file.attrs["env_id"] = "pex_lightning/PointMaze-Medium-v0"
        file.attrs["env_kwargs"] = "{}"
        file.attrs.create("names", [b"a", b"bc"], dtype=h5py.string_dtype())
    return path.read_bytes()


def read_all(path: Path) -> None:
    recorded_environment(path)
    summarise_file(path, lambda: read_d4rl(path))


@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)
@pytest.mark.parametrize("count", [8, pytest.param(600, marks=pytest.mark.long)])
@pytest.mark.parametrize("how", [{}, {"libver": "latest"}], ids=["old layout", "new layout"])
def test_a_damaged_file_is_read_or_refused(
    how: dict[str, Any], count: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Reading takes milliseconds: what takes seconds would not end.
    path = tmp_path / "damaged.hdf5"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for damaged in mutated(content(tmp_path, **how), count, seed, head=2048):
        path.write_bytes(damaged)
        attempt(read_all, path, seconds=2 * hdf5_process.SECONDS + 10)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300_000, f"{grown} kB"


def test_rows_that_nobody_wrote_are_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path, rows = tmp_path / "claims.hdf5", 400_000_000
    with h5py.File(path, "w") as file:
        for key, width in (("observations", 29), ("actions", 8)):
            file.create_dataset(key, (rows, width), "f4", chunks=(1000, width), compression="gzip")
        for key in ("rewards", "terminals"):
            file.create_dataset(key, (rows,), "f4", chunks=(1000,), compression="gzip")
    assert path.stat().st_size < 5_000
    _, message = attempt(read_d4rl, path, max_episode_steps=10)
    assert message is not None
    assert "'observations' has shape [400000000, 29], 46,400,000,000 bytes" in message


def test_what_compresses_best_is_read(tmp_path: Path) -> None:
    path, rows = tmp_path / "zeros.hdf5", 1_000_000
    with h5py.File(path, "w") as file:
        how = {"compression": "gzip", "compression_opts": 9, "shuffle": True}
        for key, shape in (("observations", (rows, 8)), ("actions", (rows, 2))):
            file.create_dataset(key, data=np.zeros(shape, "f4"), chunks=(20_000, shape[1]), **how)
        for key in ("rewards", "terminals"):
            file.create_dataset(key, data=np.zeros(rows, "f4"), chunks=(200_000,), **how)
    assert len(read_d4rl(path, max_episode_steps=1000).transitions) == rows - rows // 1000


def test_a_read_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content(tmp_path)
    module = tmp_path / "pex_lightning_slow.py"
    module.write_text(
        "import sys\n"
        "from pex_lightning.datasets import hdf5_process as p\n"
        "p.SECONDS = 1\n"
        "def never(self):\n"
        "    while True: pass\n"
        "p.Reader.names = never\n"
        "p.main(sys.argv[-1])\n"
    )
    real = hdf5.subprocess.Popen

    def start(command: list[str], **kwargs: Any) -> Any:
        return real([command[0], str(module), command[-1]], **kwargs)

    monkeypatch.setattr(hdf5.subprocess, "Popen", start)
    begin = time.monotonic()
    with pytest.raises(UserError, match=r"could not be read within 60 s"):
        read_d4rl(tmp_path / "whole.hdf5")
    assert time.monotonic() - begin < 20


def test_a_process_that_crashes_or_takes_all_memory_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content(tmp_path)
    real, module = hdf5.subprocess.Popen, tmp_path / "pex_lightning_odd.py"

    def start(command: list[str], **kwargs: Any) -> Any:
        return real([command[0], str(module), command[-1]], **kwargs)

    monkeypatch.setattr(hdf5.subprocess, "Popen", start)
    for body, message in (
        ("os.kill(os.getpid(), 11)", "ended with exit code -11"),
        ("return np.zeros(2**33, np.uint8)", "needs more than 4 GiB"),
    ):
        module.write_text(
            "import os, sys, numpy as np\n"
            "from pex_lightning.datasets import hdf5_process as p\n"
            f"def names(self):\n    {body}\n"
            "p.Reader.names = names\n"
            "p.main(sys.argv[-1])\n"
        )
        with pytest.raises(UserError, match=message):
            read_d4rl(tmp_path / "whole.hdf5")


def test_no_process_is_left(tmp_path: Path) -> None:
    content(tmp_path)
    with hdf5.open_hdf5(tmp_path / "whole.hdf5") as file:
        process = file._process
        assert process.poll() is None
    assert process.poll() is not None


def test_links_out_of_the_file_are_not_followed(tmp_path: Path) -> None:
    content(tmp_path)
    path = tmp_path / "links.hdf5"
    with h5py.File(path, "w") as file:
        file["soft"] = h5py.SoftLink("/soft")
        file["external"] = h5py.ExternalLink("whole.hdf5", "/observations")
        file["group/loop"] = h5py.SoftLink("/group")
        file["type"] = np.dtype("f4")
        file.create_dataset("raw", (4,), "f4", external=[(str(tmp_path / "raw.bin"), 0, 16)])
    with hdf5.open_hdf5(path) as file:
        found = file.arrays(["soft", "external", "group/loop/loop", "type", "raw", "none", "group"])
    assert found == ["link", "link", "link", "nothing", "elsewhere", "nothing", "group"]
    assert not (tmp_path / "raw.bin").exists()


def test_large_and_odd_attributes_are_left_out(tmp_path: Path) -> None:
    content(tmp_path)
    with h5py.File(tmp_path / "whole.hdf5", "a", track_order=True) as file:
        file.attrs["compound"] = np.zeros(2, [("a", "f4"), ("b", "i4")])
        file.attrs["numbers"] = np.arange(3.0)
        file.attrs["text"] = "x" * 20_000
    with hdf5.open_hdf5(tmp_path / "whole.hdf5") as file:
        assert file.attribute("env_id") == "pex_lightning/PointMaze-Medium-v0"
        assert file.attribute("numbers") == [0.0, 1.0, 2.0]
        for name in ("compound", "text", "names", "absent"):
            assert file.attribute(name) is None, name


def test_pipes_and_devices_are_refused_unopened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.hdf5")
    for path in (tmp_path / "pipe.hdf5", Path("/dev/zero")):
        _, message = attempt(read_d4rl, path, seconds=2)
        assert message == f"{path} is a pipe, a device or a socket, expected a file."


def test_names_are_bounded_and_cannot_steer_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "names.hdf5"
    with h5py.File(path, "w", libver="latest") as file:
        group = file.create_group("\x1b[2J")
        for number in range(10_000):
            file[f"{number:05d}" + "\U0001f600" * 195] = group
    with pytest.raises(UserError, match="observations, actions") as refusal:
        read_d4rl(path)
    assert len(str(refusal.value)) < 2000
    with h5py.File(path, "w") as file:
        file["\x1b[2J"] = np.zeros(1)
    with pytest.raises(UserError, match="observations, actions") as refusal:
        read_d4rl(path)
    assert "\x1b" not in str(refusal.value)


def test_an_answer_without_end_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content(tmp_path)
    monkeypatch.setattr(hdf5, "_LONGEST_ANSWER", 50)
    with pytest.raises(UserError, match="too long"):
        read_d4rl(tmp_path / "whole.hdf5")


def test_a_lower_limit_of_the_machine_is_kept() -> None:
    script = (
        "import resource, sys\n"
        "from pex_lightning.datasets import hdf5_process as p\n"
        "resource.setrlimit(resource.RLIMIT_DATA, (2**31, 2**31))\n"
        "p._limit_memory()\n"
        "print(resource.getrlimit(resource.RLIMIT_DATA))\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert shown.stdout.strip() == str((2**31, 2**31)), shown.stderr
