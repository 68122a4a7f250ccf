"""What a frame of a film shows."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest

from pex_lightning.envs.make import env_spec
from pex_lightning.errors import UserError
from pex_lightning.export import scene
from pex_lightning.export.scene import Caption, open_scene, with_caption

GREY = np.full((101, 201, 3), 128, np.uint8)


def caption(acting: int, probs: list[float], names: tuple[str, ...] | None = None) -> Caption:
    members = names or tuple(f"member_{n}" for n in range(len(probs)))
    return Caption("step 3", members, acting, np.array(probs, np.float32))


def bar(frame: np.ndarray, member: int) -> int:
    """Pixels of a member's colour in the right half, where the bars are."""
    colour = [int(scene._COLOURS[member][n : n + 2], 16) for n in (1, 3, 5)]
    right = frame[:, frame.shape[1] // 2 :].astype(int)
    return int((np.abs(right - colour).sum(-1) == 0).sum())


def test_bars_are_as_long_as_probabilities() -> None:
    frame = with_caption(GREY, caption(0, [0.75, 0.25]))
    height, width, _ = frame.shape
    assert height % 2 == width % 2 == 0
    assert width >= 360
    assert frame[:101].mean() > 120
    assert bar(frame, 0) == pytest.approx(3 * bar(frame, 1), rel=0.05)


def test_who_acts_is_marked() -> None:
    first, second = (with_caption(GREY, caption(acting, [0.5, 0.5])) for acting in (0, 1))
    assert first.shape == second.shape
    assert (first != second).any()
    untold = with_caption(GREY, caption(-1, [0.0, 0.0]))
    assert untold.shape == first.shape


def test_of_many_members_the_likely_ones_and_the_acting_one_are_shown() -> None:
    probs = [0.0] * 20
    probs[15] = 1.0
    shown = scene._shown(caption(19, probs))
    assert len(shown) == 8
    assert {15, 19} <= set(shown)
    few = with_caption(GREY, caption(0, [1.0, 0.0]))
    many = with_caption(GREY, caption(19, probs, tuple("n" * 60 + str(n) for n in range(20))))
    assert many.shape[0] - few.shape[0] == 7 * 22


def test_a_maze_is_drawn_from_above_where_mujoco_cannot_draw(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    found: Any = open_scene(env_spec("pex_lightning/PointMaze-UMaze-v0"))
    with contextlib.closing(found.env):
        observation, _ = found.env.reset(seed=0)
        found.begin()
        first = found.picture(observation, 0)
        moved = observation + np.float32([1.0, 0.0, 0.0, 0.0])
        assert (found.picture(moved, 1) != first).any()
        found.begin()
        np.testing.assert_array_equal(found.picture(observation, 0), first)
    assert "Traceback" not in capfd.readouterr().err


def test_says_what_is_missing_where_nothing_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "disable")
    with pytest.raises(UserError, match=r"--video: HalfCheetah-v5 cannot be drawn here .*EGL"):
        open_scene(env_spec("HalfCheetah-v5"))
