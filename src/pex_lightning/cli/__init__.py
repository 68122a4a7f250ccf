"""The command `pex-lightning`: runs a subcommand and reports its errors."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Callable

from pex_lightning.cli.fit_help import SHORT, short_help_asked
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
  completion  completion by the Tab key in bash and zsh
          pex-lightning completion --help

  pex-lightning COMMAND --help shows its arguments; --version prints the version
"""


def main(argv: list[str] | None = None) -> int:
    """Run one command; return the exit code.

    0 means success, 1 that runs of a study failed, 2 a mistake of the user, 130, 143 or 129 that
    SIGINT, SIGTERM or SIGHUP stopped it, 141 that whoever read the output has closed it.
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


def _run(command: str, argv: list[str]) -> int:
    if command in ("data", "conf", "completion"):
        # They set up the process themselves where they need torch.
        return _of_module(command)(argv)
    if command == "fit" and short_help_asked(argv):
        sys.stdout.write(SHORT)
        return 0
    if command == "test":
        from pex_lightning.cli.evaluation_arguments import parse_test  # noqa: PLC0415

        # Before torch is imported, so that help and wrong arguments are answered at once.
        settings = parse_test(argv)
    if command == "fit" and not {"--help", "-h", "--print_config"}.intersection(argv):
        _say_loading()
    # Imported late, because commands above do without these slow imports.
    from pex_lightning.cli.console import set_up_process  # noqa: PLC0415

    follow_parent()
    if command == "fit":
        from pex_lightning.cli.thread_choice import start_threads  # noqa: PLC0415

        # Before torch is imported, which then reads what is decided.
        threads = start_threads(argv)
    set_up_process()
    if command == "fit":
        from pex_lightning.cli.console import perhaps_unheard  # noqa: PLC0415
        from pex_lightning.cli.fit import fit  # noqa: PLC0415

        with perhaps_unheard():
            return fit(argv, threads)
    if command == "test":
        from pex_lightning.cli.test import test  # noqa: PLC0415

        return test(settings)
    if command in ("study", "report", "export"):
        return _of_module(command)(argv)
    raise UserError(
        f"there is no command {command!r}; there are fit, test, export, study, report, data, conf "
        "and completion. See pex-lightning --help."
    )


def _say_loading() -> None:
    """Say to who watches that the command has begun; torch takes seconds to load."""
    if os.environ.get("LOCAL_RANK", "0") == "0" and sys.stderr.isatty():
        with contextlib.suppress(OSError):
            sys.stderr.write("Loading …\n")
            sys.stderr.flush()


def _of_module(command: str) -> Callable[[list[str]], int]:
    """The function of a command, which is imported only now."""
    module = importlib.import_module(f"pex_lightning.cli.{command}")
    function: Callable[[list[str]], int] = getattr(module, command)
    return function
