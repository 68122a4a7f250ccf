"""`pex-lightning data info`: describe a dataset by statistics and a picture."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pex_lightning.callbacks.messages import show_messages
from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.errors import UserError

if TYPE_CHECKING:
    from pex_lightning.data.sources import DataSource
    from pex_lightning.datasets.columns import Column
    from pex_lightning.datasets.dataset import Dataset
    from pex_lightning.envs.make import EnvSpec
    from pex_lightning.inspection.maze_plan import MazePlan
    from pex_lightning.inspection.picture import Visits
    from pex_lightning.inspection.summary import Summary

_OURS = "pex_lightning/"


@dataclasses.dataclass(frozen=True)
class _Opened:
    """A dataset on this machine and its environment.

    Attributes:
        name: The dataset's name on the command line.
        source: The data source.
        path: The file in D4RL's layout, if any.
        dataset: The dataset as read, if there is no file.
        spec: The environment, if known.
        plan: The environment's maze, if any.
        limit: Rows of an episode that times out, if known.
        notes: Remarks for the user.
    """

    name: str
    source: DataSource
    path: Path | None
    dataset: Dataset | None
    spec: EnvSpec | None
    plan: MazePlan | None
    limit: int | None
    notes: tuple[str, ...]


def run(argv: list[str]) -> int:
    """Describe a dataset on standard output.

    Raises:
        UserError: The dataset is missing or cannot be read at all, or the arguments are wrong; or,
            once it is described, training refuses it.
    """
    settings = _parse(argv)
    show_messages()
    from pex_lightning.cli.data.summary_text import Told, as_json, as_text  # noqa: PLC0415

    opened = _open(settings)
    summary = _summarise(opened)
    in_walls = None
    picture = None if settings.picture is None else Path(settings.picture).expanduser()
    fits = opened.spec is not None and opened.spec.obs_dim == len(summary.observations)
    # The share in walls is only meaningful for data that fit the environment. A picture may show
    # why other data do not fit.
    if opened.plan is not None and (fits or picture is not None):
        visits = _visits(opened, summary)
        in_walls = opened.plan.share_in_walls(visits.xy)
        if picture is not None:
            from pex_lightning.inspection.picture import draw_visits  # noqa: PLC0415

            draw_visits(picture, visits, opened.plan)
    elif picture is not None:
        _draw_overview(picture, opened, summary)
    told = Told(
        name=opened.name if summary.info is None else summary.info.name,
        path=None if opened.path is None else str(opened.path),
        env=None if opened.spec is None else opened.spec.id,
        in_walls=in_walls,
        picture=settings.picture,
        notes=(*(() if summary.info is None else summary.info.remarks), *opened.notes),
    )
    text = as_json(summary, told) if settings.json else as_text(summary, told, settings.all)
    sys.stdout.write(text)
    if summary.refused is not None:
        raise UserError(f"training refuses {told.name}: {summary.refused}")
    return 0


def _parse(argv: list[str]) -> Any:
    parser = command_parser(
        "data info", "Say what is in a dataset, and draw it: of a maze, where its rows are."
    )
    parser.add_argument(
        "dataset",
        type=str,
        metavar="FILE|TASK|minari:ID|RECIPE",
        help="A file in D4RL's layout, a task of D4RL, a Minari dataset, or one made here.",
    )
    add_optional(parser, "--env", str, "The environment's id.")
    add_optional(parser, "--env_kwargs", dict[str, Any], "Its arguments.", metavar="JSON")
    add_optional(
        parser,
        "--max_episode_steps",
        int,
        "Rows of an episode that times out, for a file without 'timeouts'.",
    )
    add_optional(
        parser,
        "--picture",
        str,
        "Draw where the rows are in a maze; of other data returns, lengths, rewards, actions and "
        "observations.",
        metavar="FILE.png",
    )
    parser.add_argument(
        "--fetch", action="store_true", help="Fetch or make the dataset if it is not here."
    )
    parser.add_argument("--all", action="store_true", help="List every dimension.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    return parse(parser, argv)


def _open(settings: Any) -> _Opened:
    """Find the dataset and its environment; only download with `--fetch`."""
    from pex_lightning.data.sources import D4RLSource, FileSource, resolve  # noqa: PLC0415

    source = resolve(settings.dataset)
    if settings.max_episode_steps is not None and not isinstance(source, FileSource):
        raise UserError(
            f"--max_episode_steps is for files; where the episodes of {settings.dataset} end is "
            "known. Leave it out."
        )
    if settings.fetch:
        source.prepare()
    else:
        _check_is_here(source, settings.dataset)
    path = source.path()
    spec, notes = _environment(settings, source)
    limit = settings.max_episode_steps
    if isinstance(source, D4RLSource):
        limit = source.task.max_episode_steps
    elif limit is None and spec is not None:
        limit = spec.max_episode_steps
    return _Opened(
        name=settings.dataset,
        source=source,
        path=path,
        dataset=source.read(spec) if path is None else None,
        spec=spec,
        plan=_plan(spec),
        limit=limit,
        notes=(*source.notes(), *notes),
    )


def _check_is_here(source: DataSource, reference: str) -> None:
    from pex_lightning.data.sources import MinariSource  # noqa: PLC0415

    if isinstance(source, MinariSource):
        from pex_lightning.datasets.minari.store import is_local  # noqa: PLC0415

        if not is_local(source.dataset_id):
            raise UserError(
                f"{reference} is not on this machine. Fetch it: pex-lightning data info "
                f"{reference} --fetch"
            )
    elif source.path() is None:
        # Raises an error that names the command to get the dataset.
        source.read()


def _environment(settings: Any, source: DataSource) -> tuple[EnvSpec | None, tuple[str, ...]]:
    """Return the environment from the arguments, else the data's, and notes if there is none."""
    from pex_lightning.cli.own_code import find_own_modules  # noqa: PLC0415
    from pex_lightning.envs import env_spec  # noqa: PLC0415

    if settings.env is not None:
        find_own_modules()
        return env_spec(settings.env, settings.env_kwargs), ()
    if settings.env_kwargs is not None:
        raise UserError("--env_kwargs are the arguments of an environment: name it with --env.")
    try:
        found = source.environment()
        return (None, ()) if found is None else (env_spec(*found), ())
    except UserError as error:
        return None, (str(error),)


def _plan(spec: EnvSpec | None) -> MazePlan | None:
    """Return the environment's maze, if there is one."""
    from pex_lightning.inspection.maze_plan import maze_plan  # noqa: PLC0415

    return None if spec is None else maze_plan(spec.id, spec.kwargs)


def _summarise(opened: _Opened) -> Summary:
    from pex_lightning.data.sources import D4RLSource, FileSource  # noqa: PLC0415
    from pex_lightning.datasets.d4rl_reader import read_d4rl  # noqa: PLC0415
    from pex_lightning.inspection.ranges import ActionSpace  # noqa: PLC0415
    from pex_lightning.inspection.summary import summarise_dataset, summarise_file  # noqa: PLC0415

    spec, path = opened.spec, opened.path
    space = None if spec is None else ActionSpace(spec.id, spec.action_low, spec.action_high)
    if path is None:
        assert opened.dataset is not None
        return summarise_dataset(opened.dataset, space=space)

    as_published = isinstance(opened.source, D4RLSource)
    if isinstance(opened.source, FileSource):
        as_published = opened.source.as_published

    def read() -> Dataset:
        if isinstance(opened.source, FileSource):
            return read_d4rl(
                path, spec=spec, max_episode_steps=opened.limit, as_published=as_published
            )
        return opened.source.read(spec)

    return summarise_file(
        path, read, space=space, max_episode_steps=opened.limit, as_published=as_published
    )


def _visits(opened: _Opened, summary: Summary) -> Visits:
    from pex_lightning.inspection.picture import visits_of  # noqa: PLC0415

    with _columns(opened) as columns:
        return visits_of(columns, opened.limit, *_names(opened, summary))


def _draw_overview(picture: Path, opened: _Opened, summary: Summary) -> None:
    from pex_lightning.inspection.overview import draw_overview, overview_of  # noqa: PLC0415
    from pex_lightning.inspection.ranges import unit_space  # noqa: PLC0415

    with _columns(opened) as columns:
        use = summary.action_use
        space = unit_space(columns["actions"]) if use is None else use.space
        names = _names(opened, summary)
        overview = overview_of(columns, opened.limit, space, summary.observations, *names)
    if opened.dataset is not None:
        # Only the reader knows where the recorded episodes ended.
        returns, lengths = opened.dataset.episode_returns, opened.dataset.episode_lengths
        overview = dataclasses.replace(overview, returns=returns, lengths=lengths)
    draw_overview(picture, overview)


def _names(opened: _Opened, summary: Summary) -> tuple[str, str]:
    """The dataset's name and fingerprint."""
    if summary.info is None:
        return opened.name, ""
    return summary.info.name, summary.info.fingerprint


@contextlib.contextmanager
def _columns(opened: _Opened) -> Iterator[Mapping[str, Column]]:
    from pex_lightning.inspection.raw import columns_of, open_columns  # noqa: PLC0415

    if opened.path is None:
        assert opened.dataset is not None
        yield columns_of(opened.dataset)
        return
    with open_columns(opened.path) as found:
        yield found.columns
