"""MuJoCo, whose import fails where the environment variable `MUJOCO_GL` names what is not there."""

from __future__ import annotations

import os

from pex_lightning.errors import UserError, in_one_line, shortened

try:
    import mujoco
except (AttributeError, ImportError, OSError, RuntimeError) as error:
    # An unset one draws by a library that MuJoCo can do without.
    named = os.environ.get("MUJOCO_GL")
    if not named:
        raise
    raise UserError(
        f"MUJOCO_GL is {shortened(named)!r}, and MuJoCo cannot be loaded with it "
        f"({shortened(in_one_line(error))}). Unset it, as only films draw, or give what is there: "
        "egl (needs libegl1 and a driver), osmesa (needs libosmesa6) or glfw (needs a display)."
    ) from error

__all__ = ["mujoco"]
