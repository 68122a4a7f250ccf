"""`pex-lightning data make`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest

from pex_lightning.cli.data.make import run
from pex_lightning.errors import UserError
from pex_lightning.recording.make import cached_path

POINT = ["pointmaze-medium", "--rows", "500"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "pex-lightning" / "made"


def test_it_writes_the_file_and_ends_with_its_path(tmp_path, capsys):
    out = tmp_path / "data.hdf5"
    assert run([*POINT, "--seed", "3", "--out", str(out)]) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{out}\n"
    with h5py.File(out) as file:
        assert len(file["actions"]) == 500
        assert file.attrs["seed"] == 3
    assert "500/500" in printed.err
    assert "500 rows in 9 episodes" in printed.err
    assert "not D4RL's files" in printed.err


def test_of_a_robot_that_runs_it_tells_the_return(tmp_path, capsys):
    out = tmp_path / "data.hdf5"
    arguments = ["halfcheetah-medium", "--rows", "150", "--out", str(out)]
    assert run(arguments) == 0
    printed = capsys.readouterr().err
    with h5py.File(out) as file:
        per_step = file["rewards"][:].mean()
    assert f"150 rows in 1 episodes, a return of {1000 * per_step:,.0f} in 1,000 steps" in printed
    assert "goal" not in printed
    assert "not D4RL's files" in printed


def test_rows_may_be_written_in_scientific_notation(tmp_path):
    out = tmp_path / "data.hdf5"
    assert run(["pointmaze-medium", "--rows", "1e3", "--out", str(out)]) == 0
    with h5py.File(out) as file:
        assert len(file["actions"]) == 1000


def test_by_default_it_is_where_runs_look_for_it_and_made_once(cache, capsys):
    assert run(POINT) == 0
    path = cached_path("pointmaze-medium", rows=500)
    assert capsys.readouterr().out == f"{path}\n"
    assert path.parent == cache
    written = path.stat().st_mtime_ns
    assert run(POINT) == 0
    printed = capsys.readouterr()
    assert printed.out == f"{path}\n"
    assert "made before" in printed.err
    assert path.stat().st_mtime_ns == written
    assert run([*POINT, "--overwrite"]) == 0
    assert path.stat().st_mtime_ns != written


def test_a_folder_for_the_cache_is_taken(tmp_path, capsys):
    assert run([*POINT, "--cache_dir", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out.startswith(str(tmp_path / "mine"))


def test_an_existing_file_is_replaced_only_on_request(tmp_path):
    out = tmp_path / "data.hdf5"
    out.write_text("mine")
    with pytest.raises(UserError, match=r"--out: .*data.hdf5 exists already; --overwrite"):
        run([*POINT, "--out", str(out)])
    assert out.read_text() == "mine"
    assert run([*POINT, "--out", str(out), "--overwrite"]) == 0
    assert h5py.is_hdf5(out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pointmaze-medum"], "did you mean 'pointmaze-medium'"),
        (["antmaze-umaze-v2"], "fetch antmaze-umaze-v2.*data make antmaze-umaze'"),
        ([*POINT, "--seed", "-1"], "seed is -1"),
        (["pointmaze-medium", "--rows", "1"], "rows is 1"),
        ([*POINT, "--workers", "0"], "workers is 0"),
        ([*POINT, "--out", "/no/such/folder/a.hdf5"], "/no/such/folder cannot be written to"),
        ([*POINT, "--out", "/"], "--out: found /, which is a folder"),
        ([*POINT, "--cache_dir", "/proc/x"], "/proc/x: could not be created"),
        (["pointmaze-medium", "--rows", "many"], "rows"),
        ([], "name"),
    ],
)
def test_mistakes_are_refused(tmp_path, arguments, words):
    with pytest.raises(UserError, match=words):
        run(arguments)
    assert list(tmp_path.rglob("*.hdf5")) == []


def test_it_works_without_torch(tmp_path):
    script = (
        "import json, sys\n"
        "from pex_lightning.cli import main\n"
        "code = main(json.loads(sys.argv[1]))\n"
        "sys.exit(code or 'torch' in sys.modules)\n"
    )
    arguments = ["data", "make", *POINT, "--out", str(tmp_path / "a.hdf5")]
    subprocess.run([sys.executable, "-c", script, json.dumps(arguments)], check=True)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_leaves_nothing_behind(tmp_path, number, code):
    command = [sys.executable, "-m", "pex_lightning", "data", "make", "antmaze-umaze"]
    command += ["--workers", "2", "--out", "data.hdf5"]
    process = subprocess.Popen(
        command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        end = time.monotonic() + 60
        while not list(tmp_path.glob(".data.hdf5.*.part")):
            assert process.poll() is None
            assert time.monotonic() < end, "no part file"
            time.sleep(0.05)
        # By then the workers have begun, or are about to.
        time.sleep(3.0)
        # As a terminal does: to the workers too.
        os.killpg(process.pid, number)
        words = process.communicate(timeout=30)[1]
    finally:
        process.kill()
    assert process.returncode == code
    assert list(tmp_path.iterdir()) == []
    assert "Traceback" not in words


@pytest.mark.parametrize("size", [0, 3000])
def test_a_damaged_file_in_the_cache_is_refused(size, cache):
    assert run(POINT) == 0
    path = cached_path("pointmaze-medium", rows=500)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=path.name):
        run(POINT)
    assert run([*POINT, "--overwrite"]) == 0
