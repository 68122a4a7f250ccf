"""`pex-lightning data`: list, fetch, make, inspect and export datasets."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable

from pex_lightning.callbacks.messages import show_messages
from pex_lightning.errors import UserError

USAGE = """\
usage: pex-lightning data COMMAND [arguments]

commands:
  list    the tasks of D4RL and what can be made here
          pex-lightning data list
  fetch   download a published D4RL dataset
          pex-lightning data fetch antmaze-umaze-v2
  make    record a dataset on this machine, without a network
          pex-lightning data make antmaze-medium-play --rows 200000 --seed 0 --out FILE.hdf5
  info    what is in a dataset, and a picture of it where it is from a maze
          pex-lightning data info FILE.hdf5 | antmaze-umaze-v2 | minari:mujoco/hopper/medium-v0
  export  write the replay buffer of a run as a D4RL file or a Minari dataset
          pex-lightning data export --ckpt_path runs/NAME/online/checkpoints/last.ckpt --out FILE

  pex-lightning data COMMAND --help lists every argument
"""
COMMANDS = ("list", "fetch", "make", "info", "export")


def data(argv: list[str]) -> int:
    """Run `pex-lightning data`; returns the exit code.

    Raises:
        UserError: There is no such command, or its arguments are wrong.
    """
    command = argv[0] if argv else "--help"
    if command in ("--help", "-h"):
        sys.stdout.write(USAGE)
        return 0
    if command not in COMMANDS:
        close = difflib.get_close_matches(command, COMMANDS, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise UserError(
            f"data: there is no command {command!r}; there are {', '.join(COMMANDS)}.{meant} "
            "See pex-lightning data --help."
        )
    # TorchRL reads this variable at import.
    os.environ.setdefault("RL_LOGGING_LEVEL", "ERROR")
    show_messages()
    # Imported on demand, so that commands such as `list` do not import torch.
    module = importlib.import_module(f"pex_lightning.cli.data.{command}")
    run: Callable[[list[str]], int] = module.run
    return run(argv[1:])
