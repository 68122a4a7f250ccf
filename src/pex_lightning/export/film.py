"""Films of episodes, in which one sees who acts."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.export.loaded import LoadedPolicy
from pex_lightning.export.scene import Caption, Frame, Scene, open_scene, with_caption
from pex_lightning.files.atomic import written_aside

SUFFIXES = (".mp4", ".gif")
_DEFAULT_RATE = 30
_LAST_SECONDS = 1.0


def film(
    loaded: LoadedPolicy,
    env: EnvSpec,
    path: Path,
    *,
    episodes: int,
    seed: int,
    progress: Callable[[], object] = lambda: None,
) -> int:
    """Film whole episodes of a policy, with nothing left to chance but the environment.

    Below each frame stand the step, the return so far, and the members with their probabilities;
    who acts is marked.

    Args:
        loaded: The policy.
        env: The environment.
        path: An MP4 (H.264) or GIF file; an existing one is replaced.
        episodes: How many episodes; episode i is reset with `seed + i`.
        seed: Of the first episode.
        progress: Called after each frame.

    Returns:
        The number of frames.

    Raises:
        UserError: The file has another ending or cannot be written, the environment cannot be
            drawn here, or a package is not installed.
    """
    check_film(path)
    scene = open_scene(env)
    with contextlib.closing(scene.env), written_aside(path) as aside:
        rate = int(scene.env.metadata.get("render_fps") or _DEFAULT_RATE)
        frames = _frames(loaded, scene, episodes, seed, round(rate * _LAST_SECONDS))
        write = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
        return write(aside, _counted(frames, progress), rate)


def check_film(path: Path) -> None:
    """Check that a film can be written, before anything is run.

    Raises:
        UserError: The file has another ending, or a package is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UserError(f"--video {path}: found the ending {path.suffix!r}, expected .mp4 or .gif.")
    if path.suffix.lower() == ".mp4":
        try:
            import imageio_ffmpeg  # noqa: F401, PLC0415  (an extra)
        except ImportError as error:
            raise UserError(
                "--video writes MP4 with imageio-ffmpeg, which is not installed: pip install "
                "'pex-lightning[video]', or give a name that ends in .gif."
            ) from error


def _frames(
    loaded: LoadedPolicy, scene: Scene, episodes: int, seed: int, last: int
) -> Iterator[Frame]:
    """The frames of all episodes; the last of each is there `last` times more, to be seen."""
    for number in range(episodes):
        for frame in _episode(loaded, scene, number, seed + number):
            yield frame
        for _ in range(last):
            yield frame


def _counted(frames: Iterator[Frame], progress: Callable[[], object]) -> Iterator[Frame]:
    for frame in frames:
        yield frame
        progress()


def _episode(loaded: LoadedPolicy, scene: Scene, number: int, seed: int) -> Iterator[Frame]:
    observation, _ = scene.env.reset(seed=seed)
    scene.begin()
    loaded.reset()
    total, step, done, success = 0.0, 0, False, False
    while not done:
        action = loaded.predict(np.asarray(observation))
        choice = loaded.last_choice
        assert choice is not None
        acting = int(choice.policy_index[0])

        def caption(line: str, acting: int = acting, probs: Any = choice.probs[0]) -> Caption:
            return Caption(line, loaded.members, acting, probs)

        line = f"episode {number + 1}   step {step}   return {total:.4g}"
        yield with_caption(scene.picture(observation, acting), caption(line))
        observation, reward, terminated, truncated, info = scene.env.step(action)
        total, step = total + float(reward), step + 1
        done, success = terminated or truncated, success or bool(info.get("success", False))
    end = "   success" if success else ""
    line = f"episode {number + 1}   end at step {step}   return {total:.4g}{end}"
    yield with_caption(scene.picture(observation, acting), caption(line))


def _write_gif(path: Path, frames: Iterator[Frame], rate: int) -> int:
    images = [Image.fromarray(frame).quantize(64) for frame in frames]
    # Viewers count in hundredths of a second.
    duration = round(100 / rate) * 10
    images[0].save(
        path, format="GIF", save_all=True, append_images=images[1:], duration=duration, loop=0
    )
    return len(images)


def _write_mp4(path: Path, frames: Iterator[Frame], rate: int) -> int:
    import imageio_ffmpeg  # noqa: PLC0415  (an extra)

    first = next(frames)
    height, width, _ = first.shape
    # The temporary file's name does not tell the kind.
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=rate, macro_block_size=2, output_params=["-f", "mp4"]
    )
    count = 0
    with contextlib.closing(writer):
        writer.send(None)
        for frame in itertools.chain([first], frames):
            writer.send(np.ascontiguousarray(frame))
            count += 1
    return count
