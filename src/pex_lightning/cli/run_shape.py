"""What a run's configuration says about it, before anything is started."""

from __future__ import annotations

import hashlib
import inspect
import json
import math

from pex_lightning.cli.fit import Run
from pex_lightning.cli.parser import parse_fit
from pex_lightning.cli.ranks import Ranks
from pex_lightning.cli.stage import Stage
from pex_lightning.cli.thread_choice import ThreadStart
from pex_lightning.data.offline import OfflineData
from pex_lightning.studies.plan import RunShape


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
    )


def _evaluations(stage: Stage | None) -> int:
    return 0 if stage is None else 1 + math.ceil(stage.max_steps / stage.evaluation.every)


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
