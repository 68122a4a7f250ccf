"""`pex-lightning test`: evaluates the policy in a checkpoint."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch

from pex_lightning.calls import limited
from pex_lightning.cli.loading import loaded_policy
from pex_lightning.cli.own_code import find_own_modules
from pex_lightning.cli.settings import check_env_timeout
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.errors import UserError
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.export.film import check_film, film
from pex_lightning.files.progress import progress_bar
from pex_lightning.handover import Checkpoint
from pex_lightning.seeding import derive_seed


def test(settings: Any) -> int:
    """Evaluate and print the results as a JSON object in the last line of standard output.

    Args:
        settings: The arguments, of `parse_test`.

    Raises:
        UserError: The checkpoint, its environment or the device are wrong.
    """
    _check_device(settings.device)
    if settings.data.env is not None:
        find_own_modules()
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
        with _progress("filming", None, " frames") as bar:
            episodes = settings.video_episodes
            film(loaded, env, path, episodes=episodes, seed=seed, progress=bar.update)
    with (
        Evaluator(
            env.id,
            env.kwargs,
            episodes=settings.evaluation.episodes,
            num_envs=settings.evaluation.num_envs,
            seed=seed,
        ) as evaluator,
        _progress("evaluating", evaluator.episodes, " episodes") as bar,
    ):
        result = evaluator.run(loaded.policy, loaded.device, lambda done: bar.update(done - bar.n))
    sys.stdout.write(json.dumps(_summary(result, checkpoint, env)) + "\n")
    return 0


def _progress(what: str, total: int | None, unit: str) -> Any:
    """A bar for who watches; in a log or a pipe the result alone counts."""
    return progress_bar(what, total=total, unit=unit, show=sys.stderr.isatty())


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
    kwargs = settings.data.env_kwargs
    if kwargs is None and settings.data.env == trained_in.id:
        kwargs = trained_in.kwargs
    env = env_spec(settings.data.env, kwargs or {})
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


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {device} cannot be used here: {error}") from error
