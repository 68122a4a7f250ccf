"""What a run's configuration says about it, before anything is started."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Mapping
from typing import Any

from pex_lightning.cli.fit import Run
from pex_lightning.cli.parser import parse_fit
from pex_lightning.cli.ranks import Ranks
from pex_lightning.cli.stage import Stage
from pex_lightning.cli.thread_choice import ThreadStart
from pex_lightning.data.offline import OfflineData
from pex_lightning.studies.plan import RunShape
from pex_lightning.updates.executor import WORTH_COMPILING, obstacle_to_compiling

_SHORT_CHUNK = 50
"""What comes once, before the first chunk of updates, is told apart by the chunks after it."""


def shape_of(argv: list[str]) -> RunShape:
    """Parse and check the arguments of `fit`; nothing is read, written or started.

    Raises:
        UserError: Something in the configuration is wrong.
    """
    cli = parse_fit(argv)
    stages = Run(cli, Ranks(), ThreadStart()).stages
    by_name = {stage.name: stage for stage in stages}
    offline, online = by_name.get("offline"), by_name.get("online")
    data = cli.config["data"]["init_args"].as_dict()
    names = inspect.signature(OfflineData.__init__).parameters
    dataset = {name: value for name, value in data.items() if name in names}
    return RunShape(
        stage=None if offline is None else _digest(offline, dataset),
        offline_steps=0 if offline is None else offline.max_steps,
        online_steps=0 if online is None else online.max_steps,
        offline_evaluations=_evaluations(offline),
        online_evaluations=_evaluations(online),
        episodes=stages[-1].evaluation.episodes,
        processes=1 + int(data.get("num_collectors") or 0),
        short_run=_short_run(stages, data),
    )


def _evaluations(stage: Stage | None) -> int:
    return 0 if stage is None else 1 + stage.interval.times_left(0, stage.max_steps)


def _short_run(stages: list[Stage], data: Mapping[str, Any]) -> tuple[str, ...]:
    """Arguments with which a short run works as the whole one does once it is under way."""
    arguments = ["--data.initial_updates=0"] if data.get("initial_updates") else []
    if data["chunk_size"] > _SHORT_CHUNK:
        arguments.append(f"--data.chunk_size={_SHORT_CHUNK}")
    compiled = [_compiled_for_its_length(stage) for stage in stages]
    if any(compiled):
        # Both are stated, since one stage's setting may refer to the other's.
        for stage, whether in zip(stages, compiled, strict=True):
            choice = True if whether else stage.module.hparams["compile_update"]
            flag = stage.flags.removesuffix("trainer") + "model.compile_update"
            arguments.append(f"--{flag}={str(choice).lower()}")
    return tuple(arguments)


def _compiled_for_its_length(stage: Stage) -> bool:
    """Whether the updates of a stage are compiled, and would not be in a short one."""
    choice = stage.module.hparams["compile_update"]
    if choice != "auto" or stage.max_steps < WORTH_COMPILING:
        return False
    return obstacle_to_compiling(stage.module, stage.check_trainer()) is None


def _digest(stage: Stage, dataset: dict[str, object]) -> str:
    """The same for stages that the runs of a study can share; whether they do, `fit` decides."""
    parts = (
        stage.algorithm,
        dict(stage.module.hparams),
        stage.max_steps,
        stage.evaluation.every,
        stage.evaluation.episodes,
        dataset,
    )
    text = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
