"""`pex-lightning test`: evaluates the policy in a checkpoint."""

from __future__ import annotations

import json
import pkgutil
import sys
from typing import Any

import torch

from pex_lightning.algorithms import ALGORITHMS, Algorithm, load_algorithm
from pex_lightning.calls import limited
from pex_lightning.cli.own_code import find_own_modules
from pex_lightning.cli.run_folder import last_of
from pex_lightning.cli.settings import check_env_timeout
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.errors import UserError, in_one_line
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.policies.member_entry import entries_of
from pex_lightning.seeding import derive_seed


def test(settings: Any) -> int:
    """Evaluate and print the results as a JSON object in the last line of standard output.

    Args:
        settings: The arguments, of `parse_test`.

    Raises:
        UserError: The checkpoint, its environment or the device are wrong.
    """
    _check_device(settings.device)
    if settings.model is not None or settings.data.env is not None or settings.members is not None:
        find_own_modules()
    check_env_timeout(settings.run.env_timeout)
    with limited(settings.run.env_timeout):
        return _test(settings)


def _test(settings: Any) -> int:
    checkpoint = read_checkpoint(last_of(settings.ckpt_path))
    method = None if settings.model is None else _method(settings.model)
    members = {
        entry.name: entry.path for entry in entries_of(settings.members or [], flag="--members")
    }
    module = load_algorithm(checkpoint, method, members).to(settings.device).eval()
    env = _environment(settings, checkpoint)
    seed = settings.evaluation.seed
    if seed is None:
        # Other seeds than in training, whose evaluations chose best.ckpt.
        seed = derive_seed("test", settings.seed_everything) % 2**31
    with Evaluator(
        env.id,
        env.kwargs,
        episodes=settings.evaluation.episodes,
        num_envs=settings.evaluation.num_envs,
        seed=seed,
    ) as evaluator:
        result = evaluator.run(module.acting_policy(), module.device)
    sys.stdout.write(json.dumps(_summary(result, checkpoint, env)) + "\n")
    return 0


def _method(name: str) -> type[Algorithm]:
    """The class that the user names with `--model`."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    try:
        method = pkgutil.resolve_name(name)
    except Exception as error:
        raise UserError(
            f"--model {name}: found no such class ({in_one_line(error)}). Known are "
            f"{', '.join(ALGORITHMS)}, or give module.Class of a module in this "
            "folder or in the path."
        ) from error
    if not (isinstance(method, type) and issubclass(method, Algorithm)):
        raise UserError(f"--model {name} is not a method: it is no subclass of Algorithm.")
    return method


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
