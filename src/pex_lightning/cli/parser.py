"""The command line of `fit`: LightningCLI with settings of an offline stage, `offline.*`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from jsonargparse import ArgumentError, set_parsing_settings
from omegaconf.errors import OmegaConfBaseException
from pytorch_lightning import Trainer
from pytorch_lightning.cli import ArgsType, LightningArgumentParser, LightningCLI

from pex_lightning.algorithms import Algorithm
from pex_lightning.callbacks.evaluation_settings import EvaluationSettings
from pex_lightning.callbacks.stage_length import last_update
from pex_lightning.cli.arguments import add_optional
from pex_lightning.cli.config_files import expand_bases
from pex_lightning.cli.explain import explain, explain_resolution
from pex_lightning.cli.places import where_set
from pex_lightning.cli.repeat import under_a_new_name
from pex_lightning.cli.settings import RunSettings
from pex_lightning.cli.yaml_limits import limit_values, with_integers
from pex_lightning.data.offline import OfflineData
from pex_lightning.data.online import OnlineData  # noqa: F401  (a name for class_path)
from pex_lightning.errors import UserError, shortened
from pex_lightning.handover.checkpoint import Stage as StageName

_MODE = "omegaconf+"


def parse_fit(args: list[str]) -> FitCLI:
    """Parse `fit`'s arguments.

    Raises:
        UserError: An argument is wrong; for a misspelt key the message suggests a valid one.
    """
    given = args
    args = under_a_new_name(expand_bases(with_integers(args)))
    for arg in args:
        if any("\ud800" <= letter <= "\udfff" for letter in arg):
            raise UserError(f"the argument {shortened(arg)!r} is not valid UTF-8.")
    limit_values(_MODE)
    try:
        return FitCLI(args, given)
    except OmegaConfBaseException as error:
        raise UserError(explain_resolution(error)) from error
    except RecursionError as error:
        raise UserError("a value or an interpolation is nested too deeply; simplify it.") from error
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(explain(error, args)) from error


class FitCLI(LightningCLI):
    """Parses `fit`'s arguments; builds the model and the data, but runs nothing.

    Args:
        args: The arguments, with the bases of configuration files as files of their own.
        given: The arguments as the user gave them, for the record.
    """

    def __init__(self, args: ArgsType = None, given: Sequence[str] = ()) -> None:
        self.arguments = tuple(given)
        # Interpolations are resolved after all files and overrides are merged.
        set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
        super().__init__(
            model_class=Algorithm,
            datamodule_class=OfflineData,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,
            seed_everything_default=0,
            parser_kwargs={
                "prog": "pex-lightning fit",
                "parser_mode": _MODE,
                "exit_on_error": False,
                "allow_abbrev": False,
                "description": "Train offline, hand over, go on online. "
                "Example: pex-lightning fit --config conf/pointmaze.yaml",
            },
            args=args,
            run=False,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the arguments that LightningCLI does not have."""
        add_optional(
            parser,
            "--base",
            list[str],
            "In a configuration file: files to merge before it, relative to it.",
        )
        add_optional(
            parser,
            "--ckpt_path",
            str,
            "Resume from this checkpoint of either stage, or from the run's `last`.",
        )
        add_optional(parser, "--offline.max_steps", int, "Gradient steps of the offline stage.")
        add_optional(
            parser,
            "--offline.evaluate_every",
            int,
            "Gradient steps between evaluations offline; by default --evaluation.every.",
        )
        add_optional(
            parser,
            "--offline.ckpt_path",
            str | list[str],
            "Take this offline checkpoint, or these, and skip the offline stage.",
        )
        parser.add_argument(
            "--offline.reuse",
            type=bool,
            default=True,
            help="Whether to take a finished offline stage of the same model, data, seed and steps "
            "under --run.root instead of training it again.",
        )
        parser.add_subclass_arguments(
            Algorithm, "offline.model", required=False, help="Learner of the offline stage."
        )
        parser.add_class_arguments(
            Trainer, "offline.trainer", instantiate=False, skip={"max_steps"}
        )
        parser.add_class_arguments(EvaluationSettings, "evaluation")
        parser.add_class_arguments(RunSettings, "run")

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the arguments, then adjust them before anything is built."""
        self.config = parser.parse_args(args)  # type: ignore[arg-type]
        for group in ("evaluation", "run"):
            if self.config.get(group) is None:
                where = where_set(group, self.arguments)
                raise UserError(
                    f"{group} is null{where}, expected a group of settings. Leave it out for its "
                    "defaults."
                )
        # The bases are merged by now, so a saved configuration must not name them again.
        self.config["base"] = None
        self._move_gradient_clipping("trainer", "model")
        self._move_gradient_clipping("offline.trainer", "offline.model")

    def instantiate_classes(self) -> None:
        """Build the modules and the data; each stage builds its trainer itself."""
        self.config_init = self.parser.instantiate_classes(self.config)
        self.model = self.config_init["model"]
        self.datamodule = self.config_init["data"]

    def _move_gradient_clipping(self, trainer: str, model: str) -> None:
        """Move `gradient_clip_*` from the trainer's settings to the module's.

        Lightning's Trainer clips under automatic optimisation only, in which a `training_step`
        cannot take several gradient steps.
        """
        for name in ("gradient_clip_val", "gradient_clip_algorithm"):
            value = self.config.get(f"{trainer}.{name}")
            if value is not None and self.config.get(model) is not None:
                self.config[f"{model}.init_args.{name}"] = value
                self.config[f"{trainer}.{name}"] = None

    def resolved(self, threads: int) -> str:
        """The configuration as YAML, with all defaults and interpolations filled in.

        Args:
            threads: The number of threads that the run takes, which it says in any case.
        """
        self.config["run.threads"] = threads
        text: str = self.parser.dump(self.config, skip_none=False)
        return text

    def seed(self) -> int:
        """The value of `--seed_everything`; a random seed if it is false."""
        value = self.config["seed_everything"]
        return torch.initial_seed() % 2**32 if value is False else int(value)

    def setting(self, key: str) -> Any:
        """The instantiated value of a dotted key, or None."""
        return self.config_init.get(key)

    def evaluation(self, stage: StageName) -> EvaluationSettings:
        """How a stage is evaluated."""
        settings: EvaluationSettings = self.setting("evaluation")
        every = self.setting("offline.evaluate_every") if stage == "offline" else None
        return settings if every is None else replace(settings, every=every)

    def trainer_args(self, key: str) -> dict[str, Any]:
        """The Trainer's arguments of a stage, under `trainer` or `offline.trainer`.

        Where environment steps end the stage, its `max_steps` are these in gradient steps.
        """
        arguments: dict[str, Any] = self.setting(key).as_dict()
        if key == "trainer":
            arguments["max_steps"] = last_update(self.datamodule, arguments["max_steps"])
        return arguments
