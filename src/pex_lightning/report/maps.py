"""Maps of runs in a maze, and what they are drawn from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pex_lightning.data.sources import MinariSource, choose_source
from pex_lightning.datasets.minari.store import is_local
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError, printable
from pex_lightning.export.experience import read_experience
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.inspection.maze_plan import MazePlan, maze_plan
from pex_lightning.report.critic import critic_map, some_rows
from pex_lightning.report.drawing import Sketch
from pex_lightning.report.maze import Rows, choices, density
from pex_lightning.report.reading import Run, Stage

_CHOICE = ("source", "path", "dataset", "rows", "mirrors", "cache_dir")


class Maps:
    """Draws maps of runs; what several of them need is read once."""

    def __init__(self) -> None:
        self._plans: dict[str, MazePlan | None] = {}
        self._datasets: dict[str, tuple[Rows, Rows]] = {}
        self._drawn: set[str] = set()

    def dataset(self, run: Run) -> Iterator[Sketch]:
        """Where the rows of a run's dataset are; nothing if that was drawn already."""
        with contextlib.suppress(UserError):
            if run.last is None:
                return
            checkpoint = _checkpoint(run.last)
            data = checkpoint.header.data
            plan = self._plan(data.env)
            if plan is None or data.fingerprint in self._drawn:
                return
            xy, _ = self._dataset(run.last, checkpoint)
            self._drawn.add(data.fingerprint)
            yield density(
                run, plan, xy, f"Dataset {printable(data.dataset)}", "rows of the dataset"
            )

    def of(self, run: Run, missing: list[str]) -> Iterator[Sketch]:
        """Maps of a run; none for a run that is not in a maze.

        Args:
            run: The run.
            missing: Gets a sentence for each map that is left out, saying why.
        """
        stage = run.last
        if stage is None:
            return
        try:
            checkpoint = _checkpoint(stage)
            plan = self._plan(checkpoint.header.data.env)
        except UserError as error:
            missing.append(f"{run.folder.name} has no maps: {error}")
            return
        if plan is None:
            return
        observations, replay = None, None
        try:
            _, observations = self._dataset(stage, checkpoint)
        except UserError as error:
            missing.append(f"{run.folder.name}: the dataset is not drawn: {error}")
        if checkpoint.data_state is not None:
            try:
                replay = read_experience(checkpoint.path)
            except UserError as error:
                missing.append(f"{run.folder.name}: what it collected is not drawn: {error}")
        if replay is not None:
            observations = replay.observations
            if len(checkpoint.header.members) > 1:
                yield from choices(run, plan, replay)
            else:
                xy = replay.observations[:, :2]
                yield density(
                    run, plan, xy, "Online: where it went", "environment steps in the replay buffer"
                )
        if observations is None or not len(observations):
            missing.append(f"{run.folder.name}: no rows are there to look at the critic with.")
            return
        try:
            yield critic_map(run, plan, checkpoint, observations)
        except UserError as error:
            missing.append(f"{run.folder.name}: the critic's values are not drawn: {error}")

    def _plan(self, env: EnvSpec) -> MazePlan | None:
        if ":" in env.id:
            raise UserError(f"its environment {env.id!r} would import a module of its own.")
        key = f"{env.id} {dict(env.kwargs)}"
        if key not in self._plans:
            self._plans[key] = maze_plan(env.id, env.kwargs)
        return self._plans[key]

    def _dataset(self, stage: Stage, checkpoint: Checkpoint) -> tuple[Rows, Rows]:
        """Positions of all rows [N, 2], and some of the rows."""
        data = checkpoint.header.data
        if data.fingerprint not in self._datasets:
            found: dict[str, Any] = {
                key: stage.config.get(f"data.init_args.{key}") for key in _CHOICE
            }
            found["source"] = found["source"] or "file"
            found["seed"] = stage.config.get("data.init_args.dataset_seed", 0)
            rows = _observations(found, data.env, data.fingerprint)
            self._datasets[data.fingerprint] = rows[:, :2].copy(), some_rows(rows)
        return self._datasets[data.fingerprint]


def _checkpoint(stage: Stage) -> Checkpoint:
    """The last checkpoint, or the best one where there is no last one.

    Raises:
        UserError: There is neither, or it cannot be read.
    """
    folder = stage.folder / "checkpoints"
    last, best = folder / "last.ckpt", folder / "best.ckpt"
    return read_checkpoint(best if best.exists() and not last.exists() else last)


def _observations(choice: Mapping[str, Any], env: EnvSpec, fingerprint: str) -> Rows:
    try:
        source = choose_source(**choice)
        if isinstance(source, MinariSource):
            here = is_local(source.dataset_id)
        else:
            path = source.path()
            here = path is not None and path.is_file()
    except (TypeError, ValueError, KeyError) as error:
        raise UserError("its config.yaml does not say which dataset it is.") from error
    if not here:
        raise UserError("it is not on this machine.")
    dataset = source.read(env)
    if dataset.info.fingerprint != fingerprint:
        raise UserError(
            f"the one on this machine has the fingerprint {dataset.info.fingerprint}, the run's "
            f"has {fingerprint}."
        )
    return np.asarray(dataset.transitions.rows["observation"], dtype=np.float32)


def map_runs(runs: Mapping[str, list[Run]], seed: int | None) -> list[Run]:
    """One run of each variant: that of `seed`, or of the first seed that has a checkpoint."""
    chosen = []
    for of_variant in runs.values():
        ordered = sorted(of_variant, key=lambda run: run.record.seed)
        if seed is not None:
            ordered = [run for run in ordered if run.record.seed == seed]
        saved = [
            run for run in ordered if run.last is not None and _has_checkpoint(run.last.folder)
        ]
        chosen += (saved or ordered)[:1]
    return chosen


def _has_checkpoint(folder: Path) -> bool:
    return any((folder / "checkpoints" / f"{name}.ckpt").exists() for name in ("last", "best"))
