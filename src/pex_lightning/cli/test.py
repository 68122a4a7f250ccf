"""`pex-lightning test`: evaluates the policy in a checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from jsonargparse.typing import NonNegativeInt, PositiveInt

from pex_lightning.calls import DEFAULT_SECONDS, limited
from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.cli.checkpoint_arguments import add_checkpoint_arguments, loaded_policy
from pex_lightning.cli.settings import check_env_timeout
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.errors import UserError
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.export.film import check_film, film
from pex_lightning.handover import Checkpoint
from pex_lightning.seeding import derive_seed


def test(argv: list[str]) -> int:
    """Evaluate and print the results as a JSON object in the last line of standard output.

    Raises:
        UserError: The arguments, the checkpoint or its environment are wrong.
    """
    settings = _parse(argv)
    check_env_timeout(settings.run.env_timeout)
    with limited(settings.run.env_timeout):
        return _test(settings)


def _test(settings: Any) -> int:
    if settings.video is not None:
        check_film(Path(settings.video))
    loaded = loaded_policy(settings, settings.device)
    checkpoint = loaded.checkpoint
    env = _environment(settings, checkpoint)
    seed = settings.evaluation.seed
    if seed is None:
        # Other seeds than in training, whose evaluations chose best.ckpt.
        seed = derive_seed("test", settings.seed_everything) % 2**31
    if settings.video is not None:
        path = Path(settings.video).expanduser()
        film(loaded, env, path, episodes=settings.video_episodes, seed=seed)
    with Evaluator(
        env.id,
        env.kwargs,
        episodes=settings.evaluation.episodes,
        num_envs=settings.evaluation.num_envs,
        seed=seed,
    ) as evaluator:
        result = evaluator.run(loaded.policy, loaded.device)
    sys.stdout.write(json.dumps(_summary(result, checkpoint, env)) + "\n")
    return 0


def _environment(settings: Any, checkpoint: Checkpoint) -> EnvSpec:
    """The environment of `--data.env`; by default the one that the checkpoint names."""
    trained_in = checkpoint.header.data.env
    if settings.data.env is None:
        if ":" in trained_in.id:
            raise UserError(
                f"{checkpoint.path} names the environment {trained_in.id!r}, whose module would "
                "be imported. If you trust it, say so with --data.env " + trained_in.id
            )
        return trained_in
    env = env_spec(settings.data.env, settings.data.env_kwargs or {})
    found = (env.obs_dim, env.action_low, env.action_high)
    expected = (trained_in.obs_dim, trained_in.action_low, trained_in.action_high)
    if found != expected:
        raise UserError(
            f"--data.env {env.id} has observation size and action bounds {found}, the policy was "
            f"trained with {expected}. Give the environment that it was trained in."
        )
    return env


def _summary(result: EvaluationResult, checkpoint: Checkpoint, env: EnvSpec) -> dict[str, Any]:
    data = checkpoint.header.data
    reference = score_reference(env.id)
    return {
        "return_mean": result.return_mean,
        "return_std": result.return_std,
        "success_rate": result.success_rate,
        "score": None if reference is None else result.score(reference),
        "episodes": result.episodes,
        "env": env.id,
        "dataset": data.dataset,
        "dataset_fingerprint": data.fingerprint,
        "dataset_origin": data.origin,
        "d4rl_score": data.d4rl_score(env),
        "checkpoint": str(checkpoint.path),
        "algorithm": checkpoint.header.algorithm,
        "gradient_steps": checkpoint.header.gradient_steps,
        "env_steps": checkpoint.header.env_steps,
    }


def _parse(argv: list[str]) -> Any:
    parser = command_parser(
        "test", "Evaluate a policy in the environment that its checkpoint names."
    )
    add_checkpoint_arguments(parser)
    parser.add_argument("--evaluation.episodes", type=int, default=100, help="Episodes.")
    add_optional(parser, "--evaluation.num_envs", int, "Environments at a time.")
    add_optional(
        parser,
        "--evaluation.seed",
        int,
        "Seed of the first episode; by default derived from --seed_everything.",
    )
    parser.add_argument(
        "--seed_everything", type=NonNegativeInt, default=0, help="All random sources."
    )
    add_optional(
        parser,
        "--data.env",
        str,
        "Evaluate in this environment instead of the one that the checkpoint names.",
    )
    add_optional(parser, "--data.env_kwargs", dict[str, Any], "Its arguments.")
    parser.add_argument(
        "--run.env_timeout",
        type=float,
        default=DEFAULT_SECONDS,
        help="Seconds that one call of an environment may take; 0 waits for ever.",
    )
    add_optional(
        parser,
        "--video",
        str,
        "Also film the first episodes; who acts is written below. Needs pex-lightning[video].",
        metavar="FILE.mp4|FILE.gif",
    )
    parser.add_argument(
        "--video_episodes", type=PositiveInt, default=1, help="How many episodes are filmed."
    )
    parser.add_argument("--device", type=str, default="cpu", help="Where the policy runs.")
    settings = parse(parser, argv)
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {settings.device} cannot be used here: {error}") from error
    return settings
