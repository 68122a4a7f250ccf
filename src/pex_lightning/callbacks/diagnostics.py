"""`diagnostics.json`, what a stage's diagnostics add up to, and a short table of it."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from pex_lightning.algorithms.base import Algorithm
from pex_lightning.callbacks.evaluation import Evaluation
from pex_lightning.callbacks.failure_signs import FailureSigns
from pex_lightning.callbacks.metrics import TrainMetrics
from pex_lightning.data.stage_data import stage_data
from pex_lightning.files.atomic import remove_leftovers, replaced

_log = logging.getLogger(__name__)

FILE = "diagnostics.json"

_TOGETHER = "all together"
_OUTCOME = ("return", "success", "score")

_COMPARED = (
    "q_disagreement",
    "q_size",
    "choice_entropy",
    "choice_entropy_fraction",
    "inv_temperature",
    "weight_at_cap",
    "weight_near_zero",
)
"""Metrics of training of which the first and the last value are told."""


class DiagnosticsSummary(Callback):
    """Writes `diagnostics.json` when a stage ends, and shows a table when it is finished.

    Args:
        directory: The stage's folder.
        metrics: Gives the reports of training.
        evaluation: Gives the evaluations.
        signs: Gives the signs of failure that were seen.
    """

    def __init__(
        self, directory: Path, metrics: TrainMetrics, evaluation: Evaluation, signs: FailureSigns
    ) -> None:
        self._file = directory / FILE
        self._metrics = metrics
        self._evaluation = evaluation
        self._signs = signs
        self._read_at: int | None = None
        self._first: dict[str, float] = {}
        self._last: dict[str, float] = {}
        self._frames: dict[str, float] = {}
        self._env_steps = 0.0
        self._alone: dict[str, dict[str, float]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Take in the evaluation of the start."""
        if not self._first:
            # A run that is resumed from a checkpoint without this callback's state.
            self._env_steps = float(stage_data(trainer).env_steps)
        self._take_in(cast(Algorithm, pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """Take in what is new."""
        self._take_in(cast(Algorithm, pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the file and show the table."""
        module = cast(Algorithm, pl_module)
        self._take_in(module)
        if not trainer.is_global_zero:
            return
        finished = trainer.global_step >= trainer.max_steps
        summary = {
            "gradient_steps": trainer.global_step,
            "env_steps": stage_data(trainer).env_steps,
            "finished": finished,
            **self._summary(module.acting_policy().members),
        }
        remove_leftovers(self._file)
        with replaced(self._file) as aside:
            aside.write_text(json.dumps(_finite(summary), allow_nan=False, indent=2) + "\n")
        if finished:
            for line in _table(summary, self._file):
                _log.info(line)

    def state_dict(self) -> dict[str, Any]:
        """What has been taken in so far."""
        return {
            "first": dict(self._first),
            "last": dict(self._last),
            "frames": dict(self._frames),
            "env_steps": self._env_steps,
            "alone": {name: dict(found) for name, found in self._alone.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Undo `state_dict`."""
        self._first = _floats(state_dict["first"])
        self._last = _floats(state_dict["last"])
        self._frames = _floats(state_dict["frames"])
        self._env_steps = float(state_dict["env_steps"])
        self._alone = {str(name): _floats(of) for name, of in state_dict["alone"].items()}

    def _take_in(self, module: Algorithm) -> None:
        members = module.acting_policy().members
        evaluated = self._evaluation.latest
        for name in members:
            found = {key: evaluated.get(f"eval/{name}/{key}") for key in _OUTCOME}
            known = {key: value for key, value in found.items() if value is not None}
            if known:
                self._alone[name] = {**known, "step": float(self._evaluation.evaluated_at or 0)}
        row = self._metrics.latest
        if self._metrics.reported_at in (None, self._read_at):
            return
        self._read_at = self._metrics.reported_at
        self._first = self._first or dict(row)
        self._last = dict(row)
        collected = row["env_steps"] - self._env_steps
        self._env_steps = row["env_steps"]
        for name in members:
            share = row.get(f"train/{name}_policy_share", 0.0)
            self._frames[name] = self._frames.get(name, 0.0) + share * collected

    def _summary(self, members: tuple[str, ...]) -> dict[str, Any]:
        evaluated, frames = self._evaluation.latest, sum(self._frames.values())
        policies = {
            name: {
                "share": self._frames.get(name, 0.0) / frames if frames else None,
                "share_at_end": self._last.get(f"train/{name}_policy_share"),
                "q_at_end": self._last.get(f"train/q/{name}"),
                "alone": self._alone.get(name),
            }
            for name in members
        }
        return {
            "evaluation": {
                key.removeprefix("eval/"): value
                for key, value in evaluated.items()
                if key.count("/") == 1
            },
            "members": policies if len(members) > 1 else {},
            "training": {
                name: {"start": self._first[key], "end": self._last.get(key)}
                for name in _COMPARED
                if (key := f"train/{name}") in self._first
            },
            "signs": [
                {"sign": name, "step": seen.step, "found": seen.found}
                for name, seen in self._signs.warned.items()
            ],
        }


def _table(summary: Mapping[str, Any], file: Path) -> Iterator[str]:
    """About ten lines."""
    if summary["members"]:
        names = [*summary["members"], _TOGETHER]
        width = max(len(name) for name in names)
        yield f"{'':{width}}{'acted':>8}{'at the end':>12}{'Q':>10}   alone"
        for name, of in summary["members"].items():
            share, end, q = (of[key] for key in ("share", "share_at_end", "q_at_end"))
            numbers = f"{_percent(share):>8}{_percent(end):>12}{_number(q):>10}"
            yield f"{name:{width}}{numbers}   {_outcome(of['alone'] or {})}"
        yield f"{_TOGETHER:{width}}{'':30}   {_outcome(summary['evaluation'])}"
    for name, of in summary["training"].items():
        told = "choice_entropy_fraction" in summary["training"] or not summary["members"]
        if name == "choice_entropy" and told:
            continue
        text = _percent if name.startswith("weight") or name.endswith("fraction") else _number
        label = name.replace("_", " ")
        yield f"{label:24}{text(of['end']):>10} (at first {text(of['start'])})"
    signs = [f"{seen['sign']} (step {seen['step']:,})" for seen in summary["signs"]]
    yield f"signs of failure: {', '.join(signs) or 'none'}; more in {file}"


def _outcome(found: Mapping[str, float]) -> str:
    text = {"return": _number, "success": _percent, "score": _number}
    return "  ".join(f"{key} {text[key](found[key])}" for key in _OUTCOME if key in found)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def _floats(found: Mapping[Any, Any]) -> dict[str, float]:
    return {str(name): float(value) for name, value in found.items()}


def _finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
