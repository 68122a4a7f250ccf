"""When a stage ends and when it is evaluated, in gradient steps, where environment steps say so."""

from __future__ import annotations

from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData
from pex_lightning.data.schedule import Interval


def last_update(data: OfflineData, max_steps: int) -> int:
    """Gradient steps with which a stage ends: `max_steps`, or before it by `max_env_steps`."""
    return data.alternation.end(max_steps) if isinstance(data, OnlineData) else max_steps


def evaluation_interval(data: OfflineData, settings: EvaluationSettings) -> Interval:
    """When a stage is evaluated; environment steps count for one that steps an environment."""
    env_steps = settings.every_env_steps
    if env_steps is None or not isinstance(data, OnlineData):
        return Interval(settings.every)
    return data.alternation.interval(env_steps)


def ended_by(data: OfflineData, max_steps: int) -> str:
    """The flag that makes a stage end with its `max_steps`, as `last_update` gave it."""
    by_env_steps = isinstance(data, OnlineData) and data.alternation.end(-1) == max_steps
    return "--data.max_env_steps" if by_env_steps else "--trainer.max_steps"
