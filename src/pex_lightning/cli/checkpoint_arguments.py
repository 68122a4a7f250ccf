"""Arguments of the commands that load the policy of a checkpoint; they are parsed without torch."""

from __future__ import annotations

from jsonargparse import ArgumentParser

from pex_lightning.cli.arguments import add_optional


def add_checkpoint_arguments(parser: ArgumentParser) -> None:
    """Add `--ckpt_path`, `--model` and `--members`."""
    parser.add_argument(
        "--ckpt_path", type=str, required=True, help="The checkpoint, or the folder of a run."
    )
    add_optional(
        parser,
        "--model",
        str,
        "The method's class, module.Class; only needed if it is none of this package's.",
    )
    add_optional(
        parser,
        "--members",
        list[str | dict[str, str]],
        "The members of its policy set that are code, named as in training.",
    )
