"""Single frames of a film: the environment's picture, and who acts."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import gymnasium
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pex_lightning.envs.make import EnvSpec, make_env
from pex_lightning.errors import UserError, in_one_line, shortened
from pex_lightning.inspection.maze_plan import MazePlan, maze_plan

Frame = npt.NDArray[np.uint8]

_SIZE = 480
_LINE = 22
_MOST_MEMBERS = 8
_INK, _PAPER, _EMPTY, _WALL, _GOAL = "#16181d", "#ffffff", "#e4e6eb", "#9ea3ad", "#e0119d"
_COLOURS = ("#0a6fd6", "#e07b00", "#1d9a57", "#8a4fd0", "#c8323a", "#00919b", "#7d6608", "#5a6072")


@dataclass(frozen=True)
class Caption:
    """What is written below a picture.

    Attributes:
        line: A line about the episode.
        members: Names of the members.
        acting: Which of them acts, -1 if the method does not say.
        probs: Their probabilities, [M].
    """

    line: str
    members: tuple[str, ...]
    acting: int
    probs: npt.NDArray[np.float32]


class Scene(Protocol):
    """An environment that is filmed.

    Attributes:
        env: The environment, to be stepped.
    """

    env: gymnasium.Env[Any, Any]

    def begin(self) -> None:
        """An episode has been reset."""

    def picture(self, observation: npt.NDArray[np.float32], acting: int) -> Frame:
        """The present state, [height, width, 3]."""


def open_scene(spec: EnvSpec) -> Scene:
    """An environment with what draws it: its own renderer, or of a maze a plan from above.

    Without a display, MuJoCo draws with EGL or OSMesa.

    Raises:
        UserError: Neither works here.
    """
    with _silent_finalisers():
        try:
            return _Rendered(spec)
        except Exception as error:
            failed = shortened(in_one_line(error), 300)
    plan = maze_plan(spec.id, spec.kwargs)
    if plan is not None:
        return _Plan(spec, plan)
    raise UserError(
        f"--video: {spec.id} cannot be drawn here ({failed}). "
        "MuJoCo needs a display, EGL (libegl1 and a driver) or OSMesa (libosmesa6); MUJOCO_GL "
        "names the one to use. Other environments name their own packages."
    )


@contextlib.contextmanager
def _silent_finalisers() -> Iterator[None]:
    """Renderers of gymnasium that could not be made raise once more when they are deleted."""
    before, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        yield
        gc.collect()
    finally:
        sys.unraisablehook = before


class _Rendered:
    """By the environment's own renderer."""

    def __init__(self, spec: EnvSpec) -> None:
        if sys.platform == "linux" and not os.environ.get("DISPLAY"):
            # Otherwise gymnasium tries a window first, which prints warnings.
            os.environ.setdefault("MUJOCO_GL", "egl")
        self.env = make_env(spec.id, {**spec.kwargs, "render_mode": "rgb_array"})
        try:
            self.env.reset(seed=0)
            self._render()
        except Exception:
            self.env.close()
            raise

    def begin(self) -> None:
        """Nothing is remembered."""

    def picture(self, observation: npt.NDArray[np.float32], acting: int) -> Frame:
        """The environment's frame."""
        return self._render()

    def _render(self) -> Frame:
        found = np.asarray(self.env.render())
        if found.ndim != 3 or found.shape[2] != 3 or found.dtype != np.uint8:
            raise ValueError(f"its frames are {list(found.shape)} {found.dtype}")
        return found


class _Plan:
    """A maze from above: walls, the goal, the way so far and the position."""

    def __init__(self, spec: EnvSpec, plan: MazePlan) -> None:
        self.env = make_env(spec.id, spec.kwargs)
        self.plan = plan
        self._way: list[tuple[tuple[float, float], int]] = []
        x_low, x_high, y_low, y_high = plan.extent
        self._scale = _SIZE / max(x_high - x_low, y_high - y_low)
        self._low, self._high = (x_low, y_low), (x_high, y_high)

    def begin(self) -> None:
        """Forget the way of the episode before."""
        self._way = []

    def picture(self, observation: npt.NDArray[np.float32], acting: int) -> Frame:
        """The plan; the way has the colours of who acted."""
        here = self._pixel(float(observation[0]), float(observation[1]))
        self._way.append((here, acting))
        size = self._pixel(self._high[0], self._low[1])
        image = Image.new("RGB", (round(size[0]), round(size[1])), _PAPER)
        draw = ImageDraw.Draw(image)
        half = self.plan.cell_size / 2
        for x, y in self.plan.walls:
            corner, other = self._pixel(x - half, y + half), self._pixel(x + half, y - half)
            draw.rectangle((corner, other), fill=_WALL)
        body: Any = self.env.unwrapped
        goal, radius = body.goal[:2], self.plan.goal_radius
        corner = self._pixel(goal[0] - radius, goal[1] + radius)
        other = self._pixel(goal[0] + radius, goal[1] - radius)
        draw.ellipse((corner, other), outline=_GOAL, width=3)
        for (start, _), (end, who) in zip(self._way, self._way[1:], strict=False):
            draw.line((start, end), fill=_colour(who), width=3)
        dot = max(4.0, 0.1 * self.plan.cell_size * self._scale)
        box = (here[0] - dot, here[1] - dot, here[0] + dot, here[1] + dot)
        draw.ellipse(box, fill=_colour(acting), outline=_INK)
        return np.asarray(image)

    def _pixel(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._low[0]) * self._scale, (self._high[1] - y) * self._scale


def with_caption(picture: Frame, caption: Caption) -> Frame:
    """The picture with the caption below it; sides are even numbers of pixels, as MP4 needs.

    Of more than eight members, those of the largest probability and the acting one are named.
    """
    shown = _shown(caption)
    hidden = len(caption.members) - len(shown)
    lines = 1 + (len(shown) if len(caption.members) > 1 else 1) + (hidden > 0)
    width = max(picture.shape[1], 360) // 2 * 2
    height = (picture.shape[0] + lines * _LINE + 12) // 2 * 2
    image = Image.new("RGB", (width, height), _PAPER)
    image.paste(Image.fromarray(picture), ((width - picture.shape[1]) // 2, 0))
    draw, font = ImageDraw.Draw(image), _font(14)
    top = picture.shape[0] + 6
    draw.text((8, top), caption.line, fill=_INK, font=font)
    for row, member in enumerate(shown, start=1):
        _member(draw, top + row * _LINE, width, caption, member)
    if hidden > 0:
        line = f"and {hidden} more"
        draw.text((22, top + (lines - 1) * _LINE), line, fill=_INK, font=font)
    return np.asarray(image)


def _shown(caption: Caption) -> list[int]:
    by_probability = np.argsort(-caption.probs, kind="stable")
    order = [caption.acting, *(n for n in by_probability.tolist() if n != caption.acting)]
    return sorted([number for number in order if number >= 0][:_MOST_MEMBERS])


def _member(draw: ImageDraw.ImageDraw, top: int, width: int, caption: Caption, member: int) -> None:
    name, acts = caption.members[member], member == caption.acting
    colour = _colour(member)
    if acts:
        draw.polygon([(8, top + 3), (8, top + 15), (18, top + 9)], fill=colour)
    font = _font(14, bold=acts)
    while draw.textlength(name, font=font) > width // 2 - 36:
        name = name.removesuffix("…")[:-1] + "…"
    draw.text((22, top), name, fill=_INK, font=font)
    if len(caption.members) == 1:
        return
    probability = float(caption.probs[member])
    left, right = width // 2, width - 60
    draw.rectangle((left, top + 4, right, top + 14), fill=_EMPTY)
    if probability > 0:
        end = left + (right - left) * min(1.0, probability)
        draw.rectangle((left, top + 4, end, top + 14), fill=colour)
    draw.text((width - 52, top), f"{probability:.2f}", fill=_INK, font=font)


def _colour(member: int) -> str:
    return _COLOURS[member % len(_COLOURS)] if member >= 0 else _INK


_FONTS: dict[tuple[int, bool], ImageFont.FreeTypeFont] = {}


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    if (size, bold) not in _FONTS:
        from matplotlib import font_manager  # noqa: PLC0415  (slow)

        family: Mapping[str, Any] = {"family": "DejaVu Sans", "weight": "bold" if bold else None}
        path = font_manager.findfont(font_manager.FontProperties(**family))
        _FONTS[size, bold] = ImageFont.truetype(path, size)
    return _FONTS[size, bold]
