"""`pex-lightning data export`: write a run's replay buffer as a dataset."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.errors import UserError

if TYPE_CHECKING:
    from pex_lightning.export.experience import Experience


def run(argv: list[str]) -> int:
    """Write the replay buffer and print a JSON object with path and counts.

    Raises:
        UserError: An argument or the checkpoint is wrong, or the output cannot be written.
    """
    settings = _parse(argv)
    # Slow imports, after the arguments are checked.
    from pex_lightning.cli.own_code import find_own_modules  # noqa: PLC0415
    from pex_lightning.cli.run_folder import last_of  # noqa: PLC0415
    from pex_lightning.export.experience import export_d4rl, read_experience  # noqa: PLC0415

    if settings.data.env is not None:
        find_own_modules()
    experience = read_experience(last_of(settings.ckpt_path, stages=("online",)))
    _check_env(settings, experience)
    if settings.out is not None:
        path = export_d4rl(experience, settings.out, overwrite=settings.overwrite)
        use = f"--data.path {path}"
    else:
        from pex_lightning.export.minari import Author, export_minari  # noqa: PLC0415

        path = export_minari(
            experience,
            settings.minari,
            author=Author(settings.author, settings.author_email),
            trust_env=settings.data.env is not None,
            overwrite=settings.overwrite,
        )
        use = f"--data.path minari:{settings.minari}"
    _tell(experience, use)
    summary = {
        "path": str(path),
        "rows": len(experience),
        "episodes": int(experience.ends.sum()),
        "cut_episodes": experience.cut,
        "rows_gone": experience.gone,
    }
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0


def _check_env(settings: Any, experience: Experience) -> None:
    named, trained_in = settings.data.env, experience.header.data.env.id
    if named is not None and named != trained_in:
        raise UserError(
            f"--data.env {named}: the run was in {trained_in}, and its experience is of that "
            "environment. Leave --data.env out, or name that one."
        )


def _tell(experience: Experience, use: str) -> None:
    env, episodes = experience.header.data.env.id, int(experience.ends.sum())
    lines = [f"Wrote {len(experience):,} rows of {episodes:,} episodes in {env}."]
    if experience.cut:
        lines.append(
            f"Episodes cut short by the end of the rows or by a resume: {experience.cut:,}; the "
            "last row of each is marked as a time-out."
        )
    if experience.gone:
        lines.append(
            f"The {experience.gone:,} oldest rows had left the replay buffer and are not in it; "
            "a larger --data.buffer_size keeps more."
        )
    if experience.header.data.reward.scale != 1:
        lines.append(
            "Rewards were scaled in training; they are the environment's again up to float32's "
            "rounding."
        )
    lines.append(f"Learn from it with {use}")
    sys.stderr.write("\n".join(lines) + "\n")


def _parse(argv: list[str]) -> Any:
    parser = command_parser(
        "data export",
        "Write the replay buffer of a run as a D4RL file or as a Minari dataset.",
    )
    parser.add_argument(
        "--ckpt_path",
        type=str,
        required=True,
        help="A checkpoint of the online stage, or the folder of a run for its last one.",
    )
    add_optional(parser, "--out", str, "Write this HDF5 file in D4RL's layout, or minari:ID.")
    add_optional(
        parser, "--minari", str, "Or write this Minari dataset, such as my/pointmaze/pex-v0."
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace what is there under that name."
    )
    add_optional(parser, "--author", str, "Author of the Minari dataset.")
    add_optional(parser, "--author_email", str, "Where to write to its author.")
    add_optional(
        parser,
        "--data.env",
        str,
        "The run's environment; only needed, for --minari, if a module registers it.",
    )
    settings = parse(parser, argv)
    if settings.minari is None and (settings.out or "").startswith("minari:"):
        settings.minari, settings.out = settings.out, None
    if (settings.out is None) == (settings.minari is None):
        found = "neither" if settings.out is None else "both"
        raise UserError(
            f"data export: found {found} of --out FILE and --minari ID, expected one of them."
        )
    if settings.minari is not None:
        settings.minari = settings.minari.removeprefix("minari:")
    return settings
