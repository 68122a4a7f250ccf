"""Checks that the stages of a run fit together."""

from __future__ import annotations

import logging

from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.callbacks.loggers import check_installed
from pex_lightning.callbacks.stage_length import evaluation_interval
from pex_lightning.cli.ranks import check_same_processes
from pex_lightning.cli.stage import Stage
from pex_lightning.data.online import OnlineData
from pex_lightning.errors import UserError
from pex_lightning.handover.checks import CRITIC_PARTS, CRITIC_SETTINGS, ENSEMBLE_SETTING

_log = logging.getLogger(__name__)


def check_stages(main: Stage, offline: Stage | None, *, given: bool, resumes: bool) -> int:
    """Check before the first stage that no stage will fail because of its settings.

    Args:
        main: The online stage, or the only stage.
        offline: The offline stage before it, if this run trains one.
        given: Whether the run trains an offline stage or names an offline checkpoint.
        resumes: Whether the run resumes from a checkpoint.

    Returns:
        Processes of the run on this machine; its stages have the same.

    Raises:
        UserError: The stages do not fit together, or a Trainer's arguments are wrong.
    """
    module, data, name = main.module, main.data, main.algorithm
    if given and not module.takes:
        raise UserError(
            f"--model {name} takes nothing over from an offline stage, but one is given under "
            "--offline. Use a method that does, such as PEX, or leave --offline.model and "
            "--offline.ckpt_path out."
        )
    if module.acts != data.steps_environment:
        does, other = (
            ("steps an environment", "OnlineData")
            if module.acts
            else ("learns from a dataset alone", "OfflineData")
        )
        raise UserError(
            f"--model {name} {does}, which --data {type(data).__name__} does not fit. Use "
            f"--data {other}, or a method for it."
        )
    if module.takes and not given and not resumes:
        raise UserError(
            f"{name} starts from an offline stage: give --offline.ckpt_path FILE, or describe "
            "one under `offline:` as conf/pointmaze.yaml does."
        )
    evaluation_interval(data, main.evaluation)
    _warn_of_an_early_end(main)
    check_installed(main.settings.loggers)
    trainer = main.check_trainer()
    processes: int = trainer.num_devices
    if offline is None:
        return processes
    check_same_processes(trainer, offline.check_trainer())
    if offline.module.acts:
        raise UserError(
            f"--offline.model {offline.algorithm} steps an environment, which the "
            "offline stage does not. Use a method that learns from a dataset, such as IQL."
        )
    logger = main.trainer_args.get("logger")
    if logger not in (None, True) and offline.trainer_args.get("logger") is None:
        raise UserError(
            "--trainer.logger reaches the online stage alone. Choose the loggers of both stages "
            "with --run.loggers, or give --offline.trainer.logger as well."
        )
    ours, theirs = module.hparams, offline.module.hparams
    agents, before = ours.get(ENSEMBLE_SETTING), theirs.get(ENSEMBLE_SETTING)
    if agents != before:
        raise UserError(
            f"--model {name} takes over {agents or 1} agent(s), --offline.model "
            f"{offline.algorithm} trains {before or 1}. Give both the same ensemble_size, or "
            "methods that go together, such as IQLEnsemble and Off2On."
        )
    for key in CRITIC_SETTINGS:
        if module.takes & CRITIC_PARTS and ours[key] != theirs[key]:
            raise UserError(
                f"--model.{key} is {ours[key]}, --offline.model.{key} {theirs[key]}; what is "
                "handed over must be the same in both stages."
            )
    return processes


@rank_zero_only
def _warn_of_an_early_end(main: Stage) -> None:
    """Tell of a stage with fewer environment steps than are wanted, or none of what it learns."""
    data = main.data
    if not isinstance(data, OnlineData) or main.trainer_args.get("fast_dev_run"):
        return
    alternation = data.alternation
    if main.max_steps < alternation.end(-1):
        _log.warning(
            "--trainer.max_steps %s ends the online stage before the %s environment steps of "
            "--data.max_env_steps; with -1 it is no limit.",
            f"{main.max_steps:,}",
            f"{alternation.max_env_steps:,}",
        )
    if main.max_steps <= alternation.initial_updates:
        _log.warning(
            "--trainer.max_steps %s ends within --data.initial_updates %s: there are no "
            "environment steps beyond the first %s, and so none of the new policy.",
            f"{main.max_steps:,}",
            f"{alternation.initial_updates:,}",
            f"{alternation.start_steps:,}",
        )
