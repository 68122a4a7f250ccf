"""Maps of runs in a maze: where the data are, who acted where, and what the critic thinks."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.colors import ListedColormap

from pex_lightning.algorithms import Algorithm, load_algorithm
from pex_lightning.data.sources import MinariSource, choose_source
from pex_lightning.datasets.minari.store import is_local
from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.export.experience import Experience, read_experience
from pex_lightning.handover import Checkpoint, read_checkpoint
from pex_lightning.inspection.maze_plan import MazePlan, maze_plan
from pex_lightning.inspection.picture import draw_density, draw_walls, visible
from pex_lightning.nn.critic import Critic
from pex_lightning.report.comparison import number
from pex_lightning.report.drawing import COLOURS, Sketch, sketch
from pex_lightning.report.reading import Run, Stage

Rows = npt.NDArray[np.float32]

_SQUARES_PER_CELL = 3
_VALUES_PER_CELL = 6
_NEAREST_AMONG = 20_000
_WIDTH = 3.6
_CHOICE = ("source", "path", "dataset", "rows", "mirrors", "cache_dir")


@dataclass(frozen=True)
class _Maze:
    plan: MazePlan
    spec: EnvSpec


class Maps:
    """Draws maps of runs; what several of them need is read once."""

    def __init__(self) -> None:
        self._plans: dict[str, MazePlan | None] = {}
        self._datasets: dict[str, Rows] = {}
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
            xy = self._dataset(run.last, checkpoint)[:, :2]
            self._drawn.add(data.fingerprint)
            yield _density(run, plan, xy, f"Dataset {data.dataset}", "rows of the dataset")

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
            observations = self._dataset(stage, checkpoint)
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
                yield from _choices(run, plan, replay)
            else:
                xy = replay.observations[:, :2]
                yield _density(
                    run, plan, xy, "Online: where it went", "environment steps in the replay buffer"
                )
        if observations is None or not len(observations):
            missing.append(f"{run.folder.name}: no rows are there to look at the critic with.")
            return
        try:
            yield _values(run, plan, checkpoint, observations)
        except UserError as error:
            missing.append(f"{run.folder.name}: the critic's values are not drawn: {error}")

    def _plan(self, env: EnvSpec) -> MazePlan | None:
        if ":" in env.id:
            raise UserError(f"its environment {env.id!r} would import a module of its own.")
        key = f"{env.id} {dict(env.kwargs)}"
        if key not in self._plans:
            self._plans[key] = maze_plan(env.id, env.kwargs)
        return self._plans[key]

    def _dataset(self, stage: Stage, checkpoint: Checkpoint) -> Rows:
        data = checkpoint.header.data
        if data.fingerprint not in self._datasets:
            found: dict[str, Any] = {
                key: stage.config.get(f"data.init_args.{key}") for key in _CHOICE
            }
            found["source"] = found["source"] or "file"
            found["seed"] = stage.config.get("data.init_args.dataset_seed", 0)
            self._datasets[data.fingerprint] = _observations(found, data.env, data.fingerprint)
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


def _map(run: Run, plan: MazePlan, name: str, title: str, caption: str) -> Sketch:
    x_low, x_high, y_low, y_high = visible(plan)
    height = _WIDTH * (y_high - y_low) / (x_high - x_low)
    begun = sketch(
        f"{run.record.task}-{run.record.variant}-{run.record.seed}-{name}",
        title,
        caption,
        size=(_WIDTH, min(height, 2.5 * _WIDTH) + 0.6),
    )
    draw_walls(begun.axes, plan)
    begun.axes.grid(False)
    return begun


def _density(run: Run, plan: MazePlan, xy: Rows, title: str, what: str) -> Sketch:
    name = re.sub(r"\W.*", "", title).lower()
    begun = _map(run, plan, name, title, f"Where the {len(xy):,} {what} are.")
    scale = draw_density(begun.figure, begun.axes, xy, plan, below=True)
    scale.ax.xaxis.set_major_formatter("{x:g}")
    return begun


def _choices(run: Run, plan: MazePlan, replay: Experience) -> Iterator[Sketch]:
    """Who acted where, in the first and in the last third of what was collected."""
    third = max(1, len(replay.policy_index) // 3)
    members = replay.header.members
    for name, title, part in (
        ("early", "Online, early", slice(0, third)),
        ("late", "Online, late", slice(-third, None)),
    ):
        counts = _counts(plan, replay.observations[part, :2], replay.policy_index[part], members)
        which = "first" if name == "early" else "last"
        gone = " that are still in the replay buffer" if replay.gone else ""
        begun = _map(run, plan, name, title, f"The {which} {third:,} environment steps{gone}: ")
        if len(members) == 2:
            begun.caption += f"in what share of the steps in a square {members[1]} acted."
        else:
            begun.caption += "which member acted most often in a square."
        _draw_counts(begun, plan, counts, members)
        yield begun


def _counts(
    plan: MazePlan, xy: Rows, index: npt.NDArray[np.int64], members: tuple[str, ...]
) -> npt.NDArray[np.int64]:
    """Steps of each member in each square, [M, X, Y]."""
    x_low, x_high, y_low, y_high = plan.extent
    bins = _squares(plan, _SQUARES_PER_CELL)
    area = ((x_low, x_high), (y_low, y_high))
    counted = []
    for member in range(len(members)):
        x, y = xy[index == member].astype(np.float64).T
        counted.append(np.histogram2d(x, y, bins=bins, range=area)[0])
    return np.array(counted, dtype=np.int64)


def _squares(plan: MazePlan, per_cell: int) -> tuple[int, int]:
    x_low, x_high, y_low, y_high = plan.extent
    return (
        round((x_high - x_low) / plan.cell_size * per_cell),
        round((y_high - y_low) / plan.cell_size * per_cell),
    )


def _draw_counts(
    begun: Sketch, plan: MazePlan, counts: npt.NDArray[np.int64], members: tuple[str, ...]
) -> None:
    total = counts.sum(axis=0)
    visited = total > 0
    image: Any
    if len(members) == 2:
        share = np.divide(counts[1], total, where=visited, out=np.zeros(total.shape))
        image = _image(begun, plan, share, visited, cmap="cividis", vmin=0, vmax=1)
        bar = begun.figure.colorbar(
            image, ax=begun.axes, location="bottom", shrink=0.9, aspect=35, pad=0.02
        )
        bar.set_label(f"share of {members[1]}; the rest is {members[0]}")
    else:
        colours = ListedColormap([COLOURS[n % len(COLOURS)] for n in range(len(members))])
        most = counts.argmax(axis=0).astype(np.float64)
        limits = {"vmin": -0.5, "vmax": len(members) - 0.5}
        image = _image(begun, plan, most, visited, cmap=colours, **limits)
        bar = begun.figure.colorbar(
            image, ax=begun.axes, location="bottom", shrink=0.9, aspect=35, pad=0.02
        )
        bar.set_ticks(range(len(members)), labels=list(members))
    for x, y in np.argwhere(visited):
        acted = ", ".join(
            f"{name} {100 * counts[member, x, y] / total[x, y]:.0f} %"
            for member, name in enumerate(members)
            if counts[member, x, y]
        )
        _tell(begun, plan, _SQUARES_PER_CELL, x, y, f"{acted} of {total[x, y]:,} steps")


def _image(
    begun: Sketch, plan: MazePlan, values: Any, known: npt.NDArray[np.bool_], **options: Any
) -> Any:
    return begun.axes.imshow(
        np.ma.masked_where(~known.T, values.T),
        origin="lower",
        extent=plan.extent,
        interpolation="none",
        zorder=2,
        **options,
    )


def _tell(begun: Sketch, plan: MazePlan, per_cell: int, x: int, y: int, text: str) -> None:
    side = plan.cell_size / per_cell
    x_low, _, y_low, _ = plan.extent
    begun.points.append((-1, x_low + (x + 0.5) * side, y_low + (y + 0.5) * side, text))


def _values(run: Run, plan: MazePlan, checkpoint: Checkpoint, rows: Rows) -> Sketch:
    """The critic's values on a grid of free positions.

    Raises:
        UserError: The checkpoint does not give a critic of one value.
    """
    module = load_algorithm(checkpoint).eval()
    columns, lines = _squares(plan, _VALUES_PER_CELL)
    side = plan.cell_size / _VALUES_PER_CELL
    x_low, _, y_low, _ = plan.extent
    x, y = np.meshgrid(np.arange(columns), np.arange(lines), indexing="ij")
    xy = np.stack((x_low + (x + 0.5) * side, y_low + (y + 0.5) * side), axis=-1)
    free = np.ones((columns, lines), dtype=np.bool_)
    for wall in plan.walls:
        free &= (np.abs(xy - wall) >= plan.cell_size / 2).any(axis=-1)
    observation = _at(rows, xy[free].astype(np.float32))
    found, what = _value(module, torch.from_numpy(observation))
    values = np.zeros(free.shape)
    values[free] = found
    begun = _map(
        run,
        plan,
        "critic",
        f"Critic: {what} at step {checkpoint.header.gradient_steps:,}",
        f"The critic's {what} in the last checkpoint at free positions. All numbers of an "
        "observation but the position are those of the nearest row of the run's data, so that far "
        "from any row the value is a guess.",
    )
    image = _image(begun, plan, values, free, cmap="viridis")
    begun.figure.colorbar(
        image, ax=begun.axes, location="bottom", shrink=0.9, aspect=35, pad=0.02
    ).set_label(what)
    # A few numbers are enough to hover over.
    for column, line in np.argwhere(free):
        if column % 3 == 1 and line % 3 == 1:
            text = f"{what} {number(values[column, line])}"
            _tell(begun, plan, _VALUES_PER_CELL, column, line, text)
    return begun


def _at(rows: Rows, xy: Rows) -> Rows:
    """Observations at positions [N, 2], the rest of each from the nearest of the rows."""
    among = rows[np.linspace(0, len(rows) - 1, min(len(rows), _NEAREST_AMONG)).astype(np.int64)]
    places = torch.from_numpy(np.ascontiguousarray(among[:, :2]))
    nearest = torch.cat(
        [torch.cdist(part, places).argmin(dim=1) for part in torch.split(torch.from_numpy(xy), 512)]
    )
    observation: Rows = among[nearest.numpy()].copy()
    observation[:, :2] = xy
    return observation


@torch.no_grad()
def _value(module: Algorithm, observation: torch.Tensor) -> tuple[npt.NDArray[np.float64], str]:
    """Values [N] and what they are; of several agents, their mean."""
    critic = getattr(module, "critic", None)
    if not isinstance(critic, Critic):
        raise UserError(f"{type(module).__name__} has no critic of this package.")
    if hasattr(critic, "v_net"):
        value, what = critic.v(observation), "V"
    else:
        acting = module.acting_policy()
        action, _ = acting.evaluation_action(observation, acting.initial_memory(observation))
        value, what = critic.target_q(observation, action).amin(0), "least Q"
    numbers = value.reshape(-1, len(observation)).mean(0)
    return numbers.double().numpy(), what


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
