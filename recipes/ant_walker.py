"""Learn the walker that AntMaze datasets are recorded with, and measure it.

    python recipes/ant_walker.py learn ant-walk.hdf5
    python recipes/ant_walker.py evaluate --maze umaze --episodes 100 --seed 1000

`learn` clones the behaviour in a file of an ant that follows headings in the open, and writes
`src/pex_lightning/recording/ant_walker.safetensors`, or --out. The file has D4RL's layout:

    observations       [N, 29]  the ant of `pex_lightning.envs.antmaze` without x and y (27, world
                                frame), then the heading to walk in, a unit vector (2)
    infos/action_mean  [N, 8]   the action before noise was added

The one it was learnt from has 150,000 rows in 375 episodes of 400 steps, recorded with D4RL's own
walker (Fu et al. 2020, arXiv 2004.07219) on MuJoCo 4.0 with noise on the actions.

How: `GaussianPolicy` with two hidden layers of 256, mean squared error between its mode and
`infos/action_mean`, Adam with a cosine schedule, an exponential moving average of the weights.
Inputs are standardised, which the first layer takes up afterwards, and jittered in training
(`input_noise`, in standard deviations) against overfitting. Recordings multiply the walker's action
by `AntMazeRecipe.walker_gain` before the noise: at 1 it falls on its back about as often as D4RL's
(one in eight episodes of medium), at 0.7 hardly ever, but it walks more slowly.
The frame is the world's: in the ant's own frame the walker is harder to imitate (validation error
0.16 instead of 0.065), since it does not treat all yaws alike. Settings are the fields of
`Settings`. Learning takes about five minutes on one core.

`evaluate` walks the evaluation task of a maze with the gain and the noise of the recordings, from
the start cell to the goal within the time limit, on seeds (SEED, episode). The shipped walker
reached it in 96 and 97 of 100 episodes of umaze and in 87 and 93 of medium (seeds 3000 and 4000),
and in 90 of large (seed 3000).
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pex_lightning.recording.antmaze import AntMazeRecorder
from pex_lightning.recording.recipes import RECIPES, AntMazeRecipe
from pex_lightning.recording.walker import WALKER_FILE, Walker

if TYPE_CHECKING:
    from torch import Tensor

    from pex_lightning.nn.gaussian import GaussianPolicy

EVALUATION = {"umaze": "antmaze-umaze", "medium": "antmaze-medium-play"}
EVALUATION["large"] = "antmaze-large-play"


@dataclass(frozen=True)
class Settings:
    """How the walker is learnt.

    Attributes:
        steps: Gradient steps.
        batch_size: Rows per gradient step.
        learning_rate: Adam's at the start; it falls to 0 along a cosine.
        input_noise: Standard deviation of the noise on the standardised inputs.
        average: Share of the new weights in the moving average, per gradient step.
        hidden: Width of the two hidden layers.
        held_out: Last rows of the file, not learnt from, on which the error is reported.
        seed: Seed of weights, batches and noise.
    """

    steps: int = 40_000
    batch_size: int = 512
    learning_rate: float = 1e-3
    input_noise: float = 0.1
    average: float = 0.002
    hidden: int = 256
    held_out: int = 10_000
    seed: int = 0


def main() -> None:
    """Run `learn` or `evaluate`."""
    arguments = _parser().parse_args()
    if arguments.command == "learn":
        fields = {name: getattr(arguments, name) for name in asdict(Settings())}
        learn(arguments.data, arguments.out, Settings(**fields))
    else:
        evaluate(
            arguments.maze, arguments.episodes, arguments.seed, arguments.walker, arguments.workers
        )


def learn(data: Path, out: Path, settings: Settings) -> None:
    """Clone the walker in the file `data` and write it to `out`.

    Raises:
        UserError: The file is not as expected.
    """
    # Evaluation processes import this file too, and need no torch.
    import torch  # noqa: PLC0415
    from safetensors.numpy import save_file  # noqa: PLC0415

    inputs, targets = _read(data)
    mean, scale = inputs.mean(0), inputs.std(0) + 1e-3
    policy = _clone(torch.from_numpy((inputs - mean) / scale), torch.from_numpy(targets), settings)
    arrays = {key: value.numpy() for key, value in policy.net.state_dict().items()}
    # The walker takes plain observations: the first layer standardises them.
    first = arrays["layers.0.weight"] / scale
    arrays["layers.0.bias"] = arrays["layers.0.bias"] - first @ mean
    arrays["layers.0.weight"] = first
    metadata = {key: str(value) for key, value in asdict(settings).items()}
    save_file(arrays, out, metadata={"recipe": Path(__file__).name, **metadata})
    out.chmod(0o644)
    _say(f"{out}: {out.stat().st_size:,} bytes")


def _clone(x: Tensor, y: Tensor, settings: Settings) -> GaussianPolicy:
    """The policy with averaged weights, learnt from inputs `[N, 29]` and targets `[N, 8]`."""
    import torch  # noqa: PLC0415

    from pex_lightning.nn.gaussian import GaussianPolicy  # noqa: PLC0415

    torch.manual_seed(settings.seed)
    known, held_out = slice(None, -settings.held_out), slice(-settings.held_out, None)
    hidden = (settings.hidden, settings.hidden)
    policy, average = (GaussianPolicy(29, [-1.0] * 8, [1.0] * 8, hidden) for _ in range(2))
    average.load_state_dict(policy.state_dict())
    learnt: list[Tensor] = list(policy.net.parameters())
    averaged: list[Tensor] = list(average.net.parameters())
    optimizer = torch.optim.Adam(learnt, settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, settings.steps)
    start = time.monotonic()
    for step in range(1, settings.steps + 1):
        batch = torch.randint(len(x[known]), (settings.batch_size,))
        noisy = x[batch] + settings.input_noise * torch.randn(settings.batch_size, x.shape[1])
        loss = (policy.mode(noisy) - y[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            torch._foreach_lerp_(averaged, learnt, settings.average)
            if step % 5000 == 0 or step == settings.steps:
                error = (average.mode(x[held_out]) - y[held_out]).square().mean()
                seconds = time.monotonic() - start
                _say(f"step {step:6d}  loss {loss:.4f}  held out {error:.4f}  {seconds:.0f} s")
    return average


def evaluate(maze: str, episodes: int, seed: int, walker: Path, workers: int) -> None:
    """Print how many of `episodes` episodes of a maze's evaluation task reach the goal."""
    start = time.monotonic()
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (maze, walker)) as pool:
        outcomes = list(pool.map(_try, [seed] * episodes, range(episodes)))
    seconds = time.monotonic() - start
    steps = [taken for reached, taken, _ in outcomes if reached]
    fallen = sum(on_back for reached, _, on_back in outcomes if not reached)
    _say(
        f"{maze}: {len(steps)} of {episodes} episodes reach the goal, after "
        f"{np.median(steps) if steps else np.nan:.0f} steps (median); of the others {fallen} ended "
        f"on their back; seeds ({seed}, 0..{episodes - 1}); {seconds:.0f} s"
    )


def _read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Inputs `[N, 29]` and targets `[N, 8]`, float32."""
    from pex_lightning.datasets.hdf5 import find_columns, open_hdf5  # noqa: PLC0415

    keys = ("observations", "infos/action_mean")
    with open_hdf5(path) as file:
        observations, actions = (
            column.matrix() for column in find_columns(file, keys, matrices=keys)
        )
    return observations, actions


_recorder: AntMazeRecorder | None = None


def _start(maze: str, walker: Path) -> None:
    global _recorder  # noqa: PLW0603
    recipe = RECIPES[EVALUATION[maze]]
    assert isinstance(recipe, AntMazeRecipe)
    _recorder = AntMazeRecorder(recipe, Walker(walker))


def _try(seed: int, episode: int) -> tuple[bool, int, bool]:
    """Whether the goal was reached, the steps taken, and whether the ant ended on its back."""
    assert _recorder is not None
    reached, steps = _recorder.reaches_goal(np.random.default_rng((seed, episode)))
    x, y = _recorder.env.data.qpos[4:6]
    return reached, steps, bool(2.0 * (x * x + y * y) > 1.0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    learning = commands.add_parser("learn", help="learn the walker and write its file")
    learning.add_argument("data", type=Path, help="HDF5 file to learn from")
    learning.add_argument("--out", type=Path, default=WALKER_FILE)
    for name, value in asdict(Settings()).items():
        learning.add_argument(f"--{name}", type=type(value), default=value)
    measuring = commands.add_parser("evaluate", help="measure how often the goal is reached")
    measuring.add_argument("--maze", choices=list(EVALUATION), default="umaze")
    measuring.add_argument("--episodes", type=int, default=100)
    measuring.add_argument("--seed", type=int, default=1000)
    measuring.add_argument("--walker", type=Path, default=WALKER_FILE)
    measuring.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
