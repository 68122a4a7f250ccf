"""What `MUJOCO_GL` names and MuJoCo cannot load is said in a sentence."""

import ctypes.util
import os
import subprocess
import sys

import pytest


def data_list(**variables: str) -> subprocess.CompletedProcess[str]:
    """A command that imports MuJoCo, with these environment variables for drawing alone.

    MuJoCo, once loaded in this process with a way of drawing, leaves PYOPENGL_PLATFORM behind,
    with which another way of drawing is not tried.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name not in {"MUJOCO_GL", "PYOPENGL_PLATFORM"}
    }
    return subprocess.run(
        [sys.executable, "-m", "pex_lightning", "data", "list"],
        check=False,
        capture_output=True,
        text=True,
        env={**inherited, **variables},
    )


@pytest.mark.parametrize("value", ["nonsense", "osmesa"])
def test_a_value_that_mujoco_cannot_be_loaded_with_is_named(value: str) -> None:
    if ctypes.util.find_library("OSMesa") and value == "osmesa":
        pytest.skip("it can be loaded here")
    ended = data_list(MUJOCO_GL=value)
    assert ended.returncode == 2, ended.stderr
    assert f"error: MUJOCO_GL is '{value}'" in ended.stderr
    assert "Unset it" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_what_pyopengl_is_told_stops_no_command() -> None:
    ended = data_list(MUJOCO_GL="egl", PYOPENGL_PLATFORM="nonsense")
    assert ended.returncode == 0, ended.stderr
