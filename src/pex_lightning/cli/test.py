"""`pex-lightning test`: evaluates the policy in a checkpoint."""

from __future__ import annotations

import json
import pkgutil
import sys
from typing import Any

import torch
from jsonargparse.typing import NonNegativeInt

from pex_lightning.algorithms import ALGORITHMS, Algorithm, load_algorithm
from pex_lightning.calls import DEFAULT_SECONDS, limited
from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.cli.settings import check_env_timeout
from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.envs.make import EnvSpec, env_spec
from pex_lightning.errors import UserError, in_one_line
from pex_lightning.evaluation.rollouts import EvaluationResult, Evaluator
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.policies.member_entry import entries_of
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
    checkpoint = read_checkpoint(settings.ckpt_path)
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
            f"{', '.join(ALGORITHMS)}, or give module.Class of a module in the path."
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
    parser.add_argument("--ckpt_path", type=str, required=True, help="The checkpoint.")
    add_optional(
        parser,
        "--model",
        str,
        "The method's class, module.Class; only needed if it is none of this package's.",
    )
    add_optional(
        parser,
        "--members",
        list[str | dict[str, str]],
        "The members of its policy set that are code, named as in training.",
    )
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
    parser.add_argument("--device", type=str, default="cpu", help="Where the policy runs.")
    settings = parse(parser, argv)
    try:
        torch.empty(0, device=settings.device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {settings.device} cannot be used here: {error}") from error
    return settings
