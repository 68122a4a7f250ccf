"""The command line of `test`, which is parsed without torch."""

from __future__ import annotations

from typing import Any

from jsonargparse.typing import NonNegativeInt, PositiveInt

from pex_lightning.calls import DEFAULT_SECONDS
from pex_lightning.cli.arguments import add_optional, command_parser, parse
from pex_lightning.cli.checkpoint_arguments import add_checkpoint_arguments


def parse_test(argv: list[str]) -> Any:
    """Parse `test`'s arguments.

    Raises:
        UserError: An argument is wrong.
    """
    parser = command_parser(
        "test", "Evaluate a policy in the environment that its checkpoint names."
    )
    add_checkpoint_arguments(parser)
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
    add_optional(
        parser,
        "--video",
        str,
        "Also film the first episodes; who acts is written below. Needs pex-lightning[video].",
        metavar="FILE.mp4|FILE.gif",
    )
    parser.add_argument(
        "--video_episodes", type=PositiveInt, default=1, help="How many episodes are filmed."
    )
    parser.add_argument("--device", type=str, default="cpu", help="Where the policy runs.")
    return parse(parser, argv)
