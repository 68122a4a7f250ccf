"""The help of `fit`: short at first, complete on request."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

SHORT = """\
usage: pex-lightning fit --config FILE [--config FILE ...] [--key value ...]

Train offline, hand over, go on online. Later files and keys override earlier ones.
  pex-lightning fit --config conf/pointmaze.yaml
  pex-lightning fit --config conf/antmaze.yaml --config conf/methods/direct.yaml --run.name direct

what is trained
  --config FILE                   a file of settings; pex-lightning conf list names those at hand
  --model NAME                    the method; --model.help lists all of them
  --model.KEY VALUE               a setting of it; --model.help NAME lists them
  --data.path FILE                the dataset: HDF5, .npz, or minari:ID
  --data.env ID                   the environment: an id of gymnasium, or module:ID
  --seed_everything N             the seed of everything; 0 by default

for how long
  --offline.max_steps N           updates of the offline stage
  --trainer.max_steps N           updates of the online stage, or of the only stage
  --data.max_env_steps N          environment steps with which the online stage ends, if before that
  --evaluation.every N            updates between two evaluations
  --evaluation.every_env_steps N  environment steps between two, online
  --evaluation.episodes N         episodes of one evaluation

where it runs, and where its results go
  --trainer.accelerator KIND      cpu, gpu or auto;  --trainer.devices N: how many
  --run.threads N                 threads of the CPU; measured when the run starts by default
  --run.name NAME                 its folder under --run.root, which is runs by default
  --run.overwrite true            replace a run of that name
  --ckpt_path last                go on with it where it stopped; or a checkpoint, or a run's folder
  --offline.ckpt_path FILE        start online from this offline checkpoint

  pex-lightning fit --help full   lists every key
  --print_config                  prints those in effect, and trains nothing
"""
_HELP = ("--help", "-h")
_CLASSES = ("--model.help", "--offline.model.help", "--data.help")


def short_help_asked(args: Sequence[str]) -> bool:
    """Whether a command line asks for help, and not for all of it."""
    flag = next((flag for flag in _HELP if flag in args), None)
    return flag is not None and list(args[args.index(flag) + 1 :]) != ["full"]


def full_help(args: list[str]) -> list[str]:
    """A command line in which `--help full` is `--help`, which lists every key."""
    return ["--help"] if args[-2:] in (["--help", "full"], ["-h", "full"]) else args


def perhaps_list_classes(args: Sequence[str]) -> bool:
    """Answer `--model.help` or `--data.help` without a name by the names; return whether it was."""
    flag = args[-1] if args else ""
    if flag not in _CLASSES:
        return False
    key = flag.removesuffix(".help")
    lines = [f"{name:<14} {line}" for name, line in _classes(key)]
    sys.stdout.write("\n".join([*lines, "", f"{flag} NAME lists the settings of one.", ""]))
    return True


def _classes(key: str) -> Iterator[tuple[str, str]]:
    """Name and first line of what may stand under `model` or `data`."""
    # Slow imports, for this alone.
    from pex_lightning.algorithms import ALGORITHMS  # noqa: PLC0415
    from pex_lightning.data.offline import OfflineData  # noqa: PLC0415
    from pex_lightning.data.online import OnlineData  # noqa: PLC0415

    known: list[type] = [OfflineData, OnlineData]
    if key == "--model":
        known = list(ALGORITHMS.values())
    elif key == "--offline.model":
        known = [method for method in ALGORITHMS.values() if not method.acts]
    for found in known:
        yield found.__name__, (found.__doc__ or "").strip().splitlines()[0]
