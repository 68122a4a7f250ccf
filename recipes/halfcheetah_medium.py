"""Learn the policy that halfcheetah-medium is recorded with, and measure it.

    python recipes/halfcheetah_medium.py learn
    python recipes/halfcheetah_medium.py evaluate --episodes 100 --seed 1000

`learn` trains SAC from nothing in HalfCheetah-v4 with this package's own command line, 60,000
updates with the settings of `halfcheetah_medium.yaml` beside this file, seed 0, and writes the
policy after the last update to `src/pex_lightning/recording/halfcheetah_medium.safetensors`, or
--out. What follows `--` is added to the arguments of `fit`. It took 15 minutes, with other work on
the same two cores.

`evaluate` records episodes as `data make halfcheetah-medium` does, with sampled actions, on seeds
(SEED, episode). The shipped policy has a return of 4,373 ± 518 and 4,293 ± 727 over 100 episodes
(seeds 1000 and 2000; standard deviation over episodes), which is 0.36 and 0.35 of the 12,135 of
D4RL's expert. A second run gave another policy, with 4,526 ± 116 (seed 1000); the numbers of
threads, on which sums depend, were not noted. Give OMP_NUM_THREADS for a run that can be repeated.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path

import numpy as np

from pex_lightning.cli import main as pex_lightning
from pex_lightning.datasets.arrays import write_d4rl
from pex_lightning.envs.make import make_env
from pex_lightning.recording.halfcheetah import RUNNER_FILE, HalfCheetahRecorder, Runner
from pex_lightning.recording.recipes import RECIPES, HalfCheetahRecipe

SETTINGS = Path(__file__).with_suffix(".yaml")
RUN = "halfcheetah-medium-policy"
ENV, EPISODE_ROWS = "HalfCheetah-v4", 1_000


def main() -> None:
    """Run `learn` or `evaluate`."""
    arguments = _parser().parse_args()
    if arguments.command == "learn":
        learn(arguments.root, arguments.out, arguments.more)
    else:
        evaluate(arguments.episodes, arguments.seed, arguments.runner)


def learn(root: Path, out: Path, more: list[str]) -> None:
    """Train the policy in a run below `root` and write it to `out`.

    Args:
        root: Folder of the run.
        out: The safetensors file.
        more: Further arguments of `fit`.
    """
    from safetensors.numpy import save_file  # noqa: PLC0415

    from pex_lightning.handover import read_checkpoint  # noqa: PLC0415

    root.mkdir(parents=True, exist_ok=True)
    rows = root / "random.hdf5"
    _record_random(rows)
    code = pex_lightning(
        ["fit", f"--config={SETTINGS}", f"--data.path={rows}", f"--run.root={root}", *more]
    )
    if code != 0:
        sys.exit(code)
    checkpoint = read_checkpoint(root / RUN / "online" / "checkpoints" / "last.ckpt")
    policy = checkpoint.part("policy")
    arrays = {
        key.removeprefix("net."): value.numpy()
        for key, value in policy.items()
        if key.startswith("net.")
    }
    steps = str(checkpoint.header.gradient_steps)
    save_file(arrays, out, metadata={"recipe": Path(__file__).name, "updates": steps})
    out.chmod(0o644)
    _say(f"{out}: {out.stat().st_size:,} bytes")


def evaluate(episodes: int, seed: int, runner: Path) -> None:
    """Print the return of `episodes` recorded episodes."""
    recipe = RECIPES["halfcheetah-medium"]
    assert isinstance(recipe, HalfCheetahRecipe)
    with contextlib.closing(HalfCheetahRecorder(recipe, Runner(runner))) as recorder:
        recorded = (
            recorder.record(np.random.default_rng((seed, episode)), recipe.episode_rows)
            for episode in range(episodes)
        )
        returns = [float(episode["rewards"].sum()) for episode in recorded]
    low, middle, high = np.quantile(returns, (0.05, 0.5, 0.95))
    _say(
        f"return {np.mean(returns):,.0f} ± {np.std(returns):,.0f} over {episodes} episodes; 5 % "
        f"are below {low:,.0f}, half below {middle:,.0f}, 95 % below {high:,.0f}; seeds "
        f"({seed}, 0..{episodes - 1})"
    )


def _record_random(path: Path) -> None:
    """Write one episode of uniformly random actions."""
    rng, rows = np.random.default_rng(0), EPISODE_ROWS
    actions = rng.uniform(-1.0, 1.0, (rows, 6)).astype(np.float32)
    observations, rewards = np.zeros((rows, 17), np.float32), np.zeros(rows, np.float32)
    with contextlib.closing(make_env(ENV)) as env:
        observation, _ = env.reset(seed=0)
        for row in range(rows):
            observations[row] = observation
            observation, rewards[row], *_ = env.step(actions[row])
    write_d4rl(
        path,
        observations=observations,
        actions=actions,
        rewards=rewards,
        terminals=np.zeros(rows),
        timeouts=np.arange(rows) == rows - 1,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    learning = commands.add_parser("learn", help="learn the policy and write its file")
    learning.add_argument("--root", type=Path, default=Path("runs"), help="folder of the run")
    learning.add_argument("--out", type=Path, default=RUNNER_FILE)
    learning.add_argument("more", nargs="*", help="further arguments of fit, after --")
    measuring = commands.add_parser("evaluate", help="measure the return")
    measuring.add_argument("--episodes", type=int, default=100)
    measuring.add_argument("--seed", type=int, default=1000)
    measuring.add_argument("--runner", type=Path, default=RUNNER_FILE)
    return parser


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
