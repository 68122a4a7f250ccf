"""What `MUJOCO_GL` names and MuJoCo cannot load is said in a sentence."""

import ctypes.util

import pytest


@pytest.mark.parametrize("value", ["nonsense", "osmesa"])
def test_a_value_that_mujoco_cannot_be_loaded_with_is_named(
    command, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    if ctypes.util.find_library("OSMesa") and value == "osmesa":
        pytest.skip("it can be loaded here")
    monkeypatch.setenv("MUJOCO_GL", value)
    process = command.start("data", "list")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 2, err
    assert f"error: MUJOCO_GL is '{value}'" in err
    assert "Unset it" in err
    assert "Traceback" not in err


def test_what_pyopengl_is_told_stops_no_command(command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "nonsense")
    process = command.start("data", "list")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
