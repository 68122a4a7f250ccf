"""The built wheel in an environment of its own, used from a folder that holds nothing of ours."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from pex_lightning.datasets.arrays import write_d4rl
from pex_lightning.handover import read_checkpoint

pytestmark = [pytest.mark.long, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
SHORT = (
    "--data.batch_size=8",
    "--data.start_steps=30",
    "--data.chunk_size=5",
    "--model.hidden_dims=[16,16]",
    "--model.compile_update=false",
    "--model.admission_steps=10",
    "--trainer.max_steps=20",
    "--offline.max_steps=20",
    "--evaluation.every=10",
    "--evaluation.episodes=2",
    "--evaluation.num_envs=2",
)
ROBOT = """\
import gymnasium
import numpy as np


class Arm(gymnasium.Env):
    def __init__(self):
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return self.state, {}

    def step(self, action):
        self.state = (0.9 * self.state + 0.1 * float(action[0])).astype(np.float32)
        return self.state, -float(abs(self.state[0])), False, False, {}


gymnasium.register("MyArm-v0", entry_point="myrobot:Arm", max_episode_steps=20)
"""
METHOD = """\
from pex_lightning.algorithms import PEX


class MyPEX(PEX):
    '''A method of the user's own.'''
"""


class Installed:
    """The command of an installed wheel, run in an empty folder."""

    def __init__(self, scripts: Path, folder: Path) -> None:
        self.scripts, self.folder = scripts, folder

    def __call__(self, *args: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [self.scripts / args[0], *args[1:]],
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
            cwd=self.folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in a new environment that sees the dependencies of this one, and nothing else."""
    pytest.importorskip("setuptools", minversion="77")
    place = tmp_path_factory.mktemp("installed")
    sources = place / "sources"
    for name in ("src", "conf"):
        ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
        shutil.copytree(ROOT / name, sources / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, sources / name)
    pip = [sys.executable, "-m", "pip"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", str(place), str(sources)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    shutil.rmtree(sources)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "env"], check=True)
    python = place / "env" / "bin" / "python"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = place / "env" / "lib" / version / "site-packages"
    # A folder that is named this way has its own .pth files left alone: no editable install.
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    install = [*pip, "--python", str(python), "install", "--no-deps", "--no-index"]
    subprocess.run([*install, "--ignore-installed", str(wheel)], check=True, capture_output=True)
    (place / "folder").mkdir()
    return Installed(python.parent, place / "folder")


def test_the_main_job_runs_without_the_repository(installed: Installed):
    code = "import pex_lightning; print(pex_lightning.__file__)"
    assert str(installed.scripts.parent) in installed("python", "-c", code).stdout
    assert "conf/pointmaze.yaml" in installed("pex-lightning", "conf", "list").stdout
    job = ("--config", "conf/pointmaze.yaml", "--data.rows=2000", *SHORT)
    fit = installed("pex-lightning", "fit", *job)
    assert fit.returncode == 0, fit.stderr
    (command,) = re.findall(r"^ *(pex-lightning test .*)$", fit.stderr, re.MULTILINE)
    tested = installed(*shlex.split(command), "--evaluation.episodes=1")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["algorithm"] == "PEX"


def test_own_code_and_data_work_by_the_command_that_the_run_prints(installed: Installed):
    folder = installed.folder
    (folder / "myrobot.py").write_text(ROBOT)
    (folder / "myalgo.py").write_text(METHOD)
    rng, rows = np.random.default_rng(0), 400
    write_d4rl(
        folder / "logs.hdf5",
        observations=rng.normal(size=(rows, 2)),
        actions=rng.uniform(-1, 1, (rows, 1)),
        rewards=rng.normal(size=rows),
        terminals=np.zeros(rows),
        timeouts=np.arange(rows) % 20 == 19,
    )
    job = ("--config=conf/own.yaml", "--data.path=logs.hdf5", "--data.env=myrobot:MyArm-v0")
    job = (*job, "--model=myalgo.MyPEX", "--data.num_collectors=1", *SHORT)
    fit = installed("pex-lightning", "fit", *job)
    assert fit.returncode == 0, fit.stderr
    (command,) = re.findall(r"^ *(pex-lightning test .*)$", fit.stderr, re.MULTILINE)
    assert command.endswith("--model myalgo.MyPEX --data.env myrobot:MyArm-v0")
    tested = installed(*shlex.split(command), "--evaluation.episodes=1")
    assert tested.returncode == 0, tested.stderr
    assert json.loads(tested.stdout)["env"] == "myrobot:MyArm-v0"
    # Nothing is imported because the checkpoint says so, though its modules lie in this folder.
    for left_out in ("--model", "--data.env"):
        words = shlex.split(command)
        place = words.index(left_out)
        refused = installed(*words[:place], *words[place + 2 :])
        assert refused.returncode == 2
        assert f"{left_out} my" in refused.stderr
    export = ("data", "export", "--ckpt_path=runs/own", "--out=own.hdf5")
    exported = installed("pex-lightning", *export, "--data.env=myrobot:MyArm-v0")
    assert exported.returncode == 0, exported.stderr
    more = installed("pex-lightning", "fit", *job, "--ckpt_path=last", "--trainer.max_steps=30")
    assert more.returncode == 0, more.stderr
    last = folder / "runs" / "own" / "online" / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last).header.gradient_steps == 30
