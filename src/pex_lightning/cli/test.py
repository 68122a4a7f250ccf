"""``pex-lightning test``: evaluate a policy from its checkpoint alone."""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from jsonargparse import ArgumentError, ArgumentParser

from pex_lightning.algorithms import load_algorithm
from pex_lightning.errors import UserError
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.evaluation.scores import score_reference
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.seeding import derive_seed


def test(argv: list[str]) -> int:
    """Evaluate and print one JSON object on the last line of standard output.

    Raises:
        UserError: The arguments, the checkpoint or its environment are wrong.
    """
    settings = _parse(argv)
    checkpoint = read_checkpoint(settings.ckpt_path)
    module = load_algorithm(checkpoint).to(settings.device).eval()
    env = checkpoint.header.data.env
    if ":" in env.id:
        raise UserError(
            f"{checkpoint.path} names the environment {env.id!r}, which would import a module; "
            "a checkpoint may only name a registered environment."
        )
    seed = settings.evaluation.seed
    if seed is None:
        # Not the seeds of the evaluations during training, by which best.ckpt was chosen.
        seed = derive_seed("test", settings.seed_everything) % 2**31
    with Evaluator(
        env.id,
        env.kwargs,
        episodes=settings.evaluation.episodes,
        num_envs=settings.evaluation.num_envs,
        seed=seed,
    ) as evaluator:
        result = evaluator.run(module.acting_policy().evaluation_action, module.device)
    sys.stdout.write(json.dumps(_summary(result, checkpoint)) + "\n")
    return 0


def _summary(result: EvaluationResult, checkpoint: Checkpoint) -> dict[str, Any]:
    data = checkpoint.header.data
    reference = score_reference(data.env.id)
    return {
        "return_mean": result.return_mean,
        "return_std": result.return_std,
        "success_rate": result.success_rate,
        "score": None if reference is None else result.score(reference),
        "episodes": result.episodes,
        "env": data.env.id,
        "dataset": data.dataset,
        "dataset_fingerprint": data.fingerprint,
        "checkpoint": str(checkpoint.path),
        "algorithm": checkpoint.header.algorithm,
        "gradient_steps": checkpoint.header.gradient_steps,
        "env_steps": checkpoint.header.env_steps,
    }


def _parse(argv: list[str]) -> Any:
    parser = ArgumentParser(
        prog="pex-lightning test",
        description="Evaluate a policy in the environment that its checkpoint names.",
        exit_on_error=False,
    )
    parser.add_argument("--ckpt_path", type=str, required=True, help="The checkpoint.")
    parser.add_argument("--evaluation.episodes", type=int, default=100, help="Episodes.")
    parser.add_argument(
        "--evaluation.num_envs", type=int | None, default=None, help="Environments at a time."
    )
    parser.add_argument(
        "--evaluation.seed",
        type=int | None,
        default=None,
        help="Seed of the first episode; by default derived from --seed_everything.",
    )
    parser.add_argument("--seed_everything", type=int, default=0, help="All random sources.")
    parser.add_argument("--device", type=str, default="cpu", help="Where the policy runs.")
    try:
        settings = parser.parse_args(argv)
        torch.device(settings.device)
    except (ArgumentError, RuntimeError) as error:
        raise UserError(f"{error} See pex-lightning test --help.") from error
    return settings
