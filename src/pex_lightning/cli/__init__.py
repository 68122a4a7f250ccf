"""The command `pex-lightning`: runs a subcommand and reports its errors."""

from __future__ import annotations

import os
import sys
import traceback

from pex_lightning.errors import UserError, printable
from pex_lightning.files.disk import ONLY_WRITING
from pex_lightning.parents import follow_parent
from pex_lightning.version import __version__

USAGE = """\
usage: pex-lightning COMMAND [arguments]

commands:
  fit     train: offline, hand-over, online
          pex-lightning fit --config conf/pointmaze.yaml
  test    evaluate a checkpoint
          pex-lightning test --ckpt_path runs/pointmaze/online/checkpoints/last.ckpt
  export  write a checkpoint's policy as one file: torch.export, ONNX or TorchScript
          pex-lightning export --ckpt_path runs/pointmaze --format onnx --out policy.onnx
  study   run methods, tasks and seeds, and say what came of it
          pex-lightning study --config conf/studies/methods.yaml
  report  write a page with figures about runs or studies
          pex-lightning report runs/pointmaze --out report.html
  data    list, fetch, make, look at and export datasets
          pex-lightning data --help
  conf    list, show and copy the configurations that come with the package
          pex-lightning conf list

  pex-lightning COMMAND --help lists every argument; --version prints the version
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code.

    0 means success, 2 a mistake of the user, 130, 143 or 129 a run stopped by SIGINT, SIGTERM or
    SIGHUP, 141 that whoever read the output has closed it.
    """
    _open_closed_streams()
    try:
        code = _main(argv)
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
        return 128 + 13
    except OSError as error:
        if error.errno not in ONLY_WRITING:
            raise
        _drop_output()
        what = error.filename or "the standard output"
        sys.stderr.write(f"error: {what} cannot be written: {error.strerror}. Make space.\n")
        return 2
    return code


def _open_closed_streams() -> None:
    """Have streams that were closed lead nowhere, so that no file of a run takes their numbers."""
    while (handle := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  (until the process ends)


def _drop_output() -> None:
    """Python flushes once more when it exits."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _main(argv: list[str] | None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    command = argv[0] if argv else "--help"
    if command in ("--version", "-V"):
        sys.stdout.write(f"pex-lightning {__version__}\n")
        return 0
    if command in ("--help", "-h"):
        sys.stdout.write(USAGE)
        return 0
    try:
        return _run(command, argv[1:])
    except UserError as error:
        if os.environ.get("PEX_LIGHTNING_TRACEBACK"):
            traceback.print_exc()
        rank = os.environ.get("LOCAL_RANK", "0")
        # A message may hold names out of a file, which must not steer the terminal.
        text = "\n".join(printable(line) for line in str(error).splitlines())
        sys.stderr.write(f"error: {text}\n" if rank == "0" else f"process {rank}: {text}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _run(command: str, argv: list[str]) -> int:  # noqa: PLR0911  (one for each command)
    if command == "data":
        # Some of its commands do not need torch, so each of them sets up the process itself.
        from pex_lightning.cli.data import data  # noqa: PLC0415

        return data(argv)
    if command == "conf":
        from pex_lightning.cli.conf import conf  # noqa: PLC0415

        return conf(argv)
    # Imported late, because commands above do without these slow imports.
    from pex_lightning.cli.console import set_up_process  # noqa: PLC0415

    follow_parent()
    set_up_process()
    if command == "fit":
        from pex_lightning.cli.console import perhaps_unheard  # noqa: PLC0415
        from pex_lightning.cli.fit import fit  # noqa: PLC0415

        with perhaps_unheard():
            return fit(argv)
    if command == "study":
        from pex_lightning.cli.study import study  # noqa: PLC0415

        return study(argv)
    if command == "report":
        from pex_lightning.cli.report import report  # noqa: PLC0415

        return report(argv)
    if command == "test":
        from pex_lightning.cli.test import test  # noqa: PLC0415

        return test(argv)
    if command == "export":
        from pex_lightning.cli.export import export  # noqa: PLC0415

        return export(argv)
    raise UserError(
        f"there is no command {command!r}; there are fit, test, export, study, report, data and "
        "conf. See pex-lightning --help."
    )
