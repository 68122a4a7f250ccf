"""Disks that are full, quotas and folders that are read-only: one sentence, nothing half there."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import pytest

from commands import ROOT
from pex_lightning.files.atomic import replaced
from pex_lightning.handover import read_checkpoint

Disk = Callable[..., Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts small disks, where this user may."""
    mounted: list[Path] = []

    def mount(options: str) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"this user may not mount a disk ({error})")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def limited(kilobytes: int, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose files may not grow beyond a size, as under a quota."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (kilobytes * 1024, kilobytes * 1024))

    return subprocess.run(
        [sys.executable, "-m", "pex_lightning", *args],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=limit,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def assert_one_line(outcome: subprocess.CompletedProcess[str], *words: str) -> None:
    assert outcome.returncode == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    last = outcome.stderr.strip().splitlines()[-1]
    assert last.startswith("error: "), outcome.stderr
    for word in words:
        assert word in last, (word, last)


def parts(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.endswith(".part")]


@pytest.mark.long
@pytest.mark.slow
def test_a_run_under_a_quota_ends_in_a_line_and_goes_on(tiny, command, tmp_path: Path) -> None:
    args = tiny(tmp_path, "--model.hidden_dims=[64,64]")
    outcome = limited(200, *args)
    assert_one_line(outcome, "tiny/offline", "File too large", "--ckpt_path last")
    assert not parts(tmp_path)
    outcome = command(*args, "--ckpt_path=last")
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("size", [4, 60, 500, 1_000, 1_400, 1_700])
def test_a_run_on_a_full_disk_ends_in_a_line_and_goes_on(
    size: int, tiny, command, disk: Disk
) -> None:
    root = disk(f"size={size}k")
    args = tiny(root, "--model.hidden_dims=[64,64]", "--trainer.max_steps=400")
    outcome = limited(10**6, *args, "--run.save_every=50", "--offline.max_steps=200")
    assert_one_line(outcome, str(root), "No space left on device")
    assert not parts(root)
    whole = [read_checkpoint(path) for path in root.glob("tiny/*/checkpoints/*.ckpt")]
    assert size < 1_000 or whole
    subprocess.run(["mount", "-o", "remount,size=100m", str(root)], check=True)
    outcome = command(*args, "--offline.max_steps=200", "--ckpt_path=last")
    assert outcome.code == 0, outcome.err


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("size", range(8, 40, 4))
def test_a_disk_that_is_full_from_the_start_ends_in_a_line(size: int, tiny, disk: Disk) -> None:
    """One file after the other fails; TensorBoard's while it is made and in its thread."""
    root = disk(f"size={size}k")
    outcome = limited(10**6, *tiny(root))
    assert_one_line(outcome, str(root), "No space left on device")
    assert ".part" not in outcome.stderr
    advice = ("--run.root", "Make space", "--ckpt_path last")
    assert any(words in outcome.stderr for words in advice), outcome.stderr


@pytest.mark.slow
def test_checkpoints_do_not_need_the_folder_for_temporary_files(
    tiny, command, disk: Disk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(disk("size=4k")))
    outcome = command(*tiny(tmp_path))
    assert outcome.code == 0, outcome.err


def test_no_folder_for_temporary_files_is_told(
    tiny, command, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: ["/no/such/folder"])
    refused(command(*tiny(tmp_path, "--trainer.fast_dev_run=true")), "TMPDIR")


@pytest.mark.slow
def test_an_error_of_another_kind_is_not_told_as_one_of_the_disk(
    tiny, command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lost_callback.py").write_text(
        "from pytorch_lightning import Callback\n"
        "class Lost(Callback):\n"
        "    def on_train_batch_end(self, *args, **kwargs):\n"
        "        raise ConnectionResetError(104, 'Connection reset by peer')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConnectionResetError):
        command(*tiny(tmp_path, "--trainer.callbacks=[{class_path: lost_callback.Lost}]"))


@pytest.mark.slow
def test_a_folder_that_is_read_only_is_named(tiny, command, refused, disk: Disk) -> None:
    root = disk("size=1m,ro")
    refused(command(*tiny(root)), str(root), "Read-only file system")


@pytest.mark.parametrize("kilobytes", [4, 40])
def test_a_recording_under_a_quota_ends_in_a_line(kilobytes: int, tmp_path: Path) -> None:
    path = tmp_path / "out.hdf5"
    outcome = limited(kilobytes, "data", "make", "pointmaze-medium", "--rows=3000", f"--out={path}")
    assert_one_line(outcome, str(path), "File too large")
    assert not list(tmp_path.iterdir())


def test_what_killed_processes_left_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    path, other = tmp_path / "a[1].bin", tmp_path / "a1.bin"
    program = (
        "import os, sys; from pathlib import Path; "
        "from pex_lightning.files.atomic import replaced; "
        "held = [replaced(Path(name)) for name in sys.argv[1:]]; "
        "[writing.__enter__() for writing in held]; os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(path), str(other)], check=False)
    assert len(parts(tmp_path)) == 2
    with replaced(path) as mine, replaced(path):
        # That of this process, and of another file, stay.
        assert mine.exists()
        assert len(parts(tmp_path)) == 3
    assert len(parts(tmp_path)) == 1
    with replaced(other):
        pass
    assert not parts(tmp_path)


@pytest.mark.long
@pytest.mark.slow
def test_a_tiny_shared_memory_is_told(tiny, tmp_path: Path) -> None:
    args = tiny(tmp_path, "--data.num_collectors=1", "--model.hidden_dims=[256,256]")
    command = " ".join([sys.executable, "-m", "pex_lightning", *args])
    # In a mount namespace of its own, the machine's stays as it is.
    outcome = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o size=64k tmpfs /dev/shm && {command}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if "unshare" in outcome.stderr or "mount:" in outcome.stderr:
        pytest.skip(f"this user may not mount a disk ({outcome.stderr.strip()})")
    assert_one_line(outcome, "shared memory (/dev/shm) has no room", "--data.num_collectors 0")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_an_output_that_is_full_is_told() -> None:
    with open("/dev/full", "w") as full:
        outcome = subprocess.run(
            [sys.executable, "-m", "pex_lightning", "data", "list"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert_one_line(outcome, "the standard output", "No space left on device")


@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)])
def test_closed_streams_are_no_error(closed: tuple[int, ...], tmp_path: Path) -> None:
    """A file of the command must not take the number of a closed stream either."""
    path = tmp_path / "out.hdf5"
    outcome = subprocess.run(
        [
            *(sys.executable, "-m", "pex_lightning", "data", "make", "pointmaze-medium"),
            *("--rows=2000", "--workers=2", f"--out={path}"),
        ],
        preexec_fn=lambda: [os.close(number) for number in closed],
        check=False,
    )
    assert outcome.returncode == 0
    with h5py.File(path) as file:
        assert len(file["actions"]) == 2000
