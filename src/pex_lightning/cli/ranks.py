"""The processes of a distributed run, its ranks: they end together, and say why."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    SingleDeviceStrategy,
    Strategy,
)
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher

from pex_lightning.errors import UserError, in_one_line
from pex_lightning.files.atomic import replaced
from pex_lightning.files.disk import temporary_root

_FOLDER, _PARENT = "PEX_LIGHTNING_RANKS", "PEX_LIGHTNING_RANKS_PARENT"
_POLL_SECONDS = 0.5
_CAUSE_SECONDS = 3.0
_GRACE_SECONDS = 5.0
_LAST_SECONDS = 60.0
_OF_GLOO = ("gloo/transport", "Connection closed by peer", "Connection reset by peer")
_GO_ON = "Go on with the same command and --ckpt_path last."


class _LostError(UserError):
    """This rank ends because of another one."""


class Ranks:
    """Starts the other ranks on this machine and sees to it that all of them end together.

    Lightning's own observer kills all ranks, the first one included, without a word about the
    cause. Here a rank that fails leaves its error in a folder which the ranks of a machine share.
    The first rank looks whether its children live, they look whether it does, and a rank that lost
    another one tells that one's error. Ranks which others start (torchrun, Slurm) are watched by
    those.
    """

    def __init__(self) -> None:
        self._folder = Path(os.environ[_FOLDER]) if _FOLDER in os.environ else None
        self._children: list[subprocess.Popen[bytes]] = []
        parent = int(os.environ.get(_PARENT, os.getpid()))
        self._parent = None if parent == os.getpid() else parent
        self._trainer: Trainer | None = None
        self._fails = False
        self._done = threading.Event()

    def __enter__(self) -> Ranks:
        if self._parent is not None:
            self._watch()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and not isinstance(error, _LostError):
            self._tell(error)
        self._done.set()
        self._end_children(_LAST_SECONDS if error is None else _GRACE_SECONDS)

    @contextlib.contextmanager
    def training(self, trainer: Trainer) -> Iterator[None]:
        """Start the other ranks if this is the first one, and train with them.

        Raises:
            UserError: Another rank has ended.
        """
        self._trainer = trainer
        launcher = trainer.strategy.launcher
        if (
            isinstance(launcher, _SubprocessScriptLauncher)
            and not launcher.cluster_environment.creates_processes_externally
        ):
            self._folder = Path(tempfile.mkdtemp("", "pex-lightning-ranks-", temporary_root()))
            os.environ[_FOLDER], os.environ[_PARENT] = str(self._folder), str(os.getpid())
            # Lightning takes them for started by others then, and leaves its observer out.
            launcher._call_children_scripts()
            self._children = launcher.procs
            self._watch()
        try:
            yield
        except Exception as error:
            self._fails = True
            if _is_lost_connection(error):
                raise _LostError(self._why(error)) from error
            raise

    def _tell(self, error: Exception) -> None:
        """Leave this rank's error to the others."""
        if self._folder is None:
            return
        text = str(error) if isinstance(error, UserError) else in_one_line(error)
        with contextlib.suppress(OSError), replaced(self._folder / _rank()) as aside:
            aside.write_text(text)

    def _why(self, error: Exception | None = None) -> str:
        """Why another rank is lost, in a sentence; waits a little for its error."""
        end = time.monotonic() + _CAUSE_SECONDS
        while (cause := self._cause()) is None:
            if time.monotonic() > end:
                # gloo's words are about sockets.
                told = isinstance(error, torch.distributed.DistError)
                how = f" ({in_one_line(error)})" if error is not None and told else ""
                cause = f"another process of this run has ended or cannot be reached{how}."
                break
            time.sleep(_POLL_SECONDS)
        return cause if "--ckpt_path last" in cause else f"{cause} {_GO_ON}"

    def _cause(self) -> str | None:
        told = [] if self._folder is None else list(self._folder.glob("[0-9]*"))
        for path in sorted(told, key=lambda path: path.stat().st_mtime):
            return f"process {path.name} of this run failed: {path.read_text()}"
        if self._parent is not None:
            return "the first process of this run has ended." if self._is_alone() else None
        codes = [(child.poll() or 0, rank) for rank, child in enumerate(self._children, 1)]
        # One that was killed comes first: the others may have ended because of it.
        code, rank = min(codes, default=(0, 0), key=lambda item: (item[0] >= 0, item[0] == 0))
        if code < 0:
            hint = ", perhaps for memory" if code == -signal.SIGKILL else ""
            return f"process {rank} of this run was ended by {signal.Signals(-code).name}{hint}."
        if code > 0:
            return f"process {rank} of this run ended with exit code {code}; see what it said."
        return None

    def _watch(self) -> None:
        threading.Thread(target=self._end_with_others, name="ranks", daemon=True).start()

    def _end_with_others(self) -> None:
        """End this process where it does not notice by itself that another rank has ended.

        It may wait for that rank for ever, or be busy for a long time.
        """
        while not self._is_alone():
            if self._done.wait(_POLL_SECONDS):
                return
        if self._done.wait(_GRACE_SECONDS):
            return
        leaves = self._fails or (self._trainer is not None and self._trainer.should_stop)
        if leaves and self._done.wait(_LAST_SECONDS):
            return
        why = self._why()
        self._end_children(0.0)
        rank = _rank()
        sys.stderr.write(f"error: {why}\n" if rank == "0" else f"process {rank}: {why}\n")
        sys.stderr.flush()
        os._exit(2)

    def _is_alone(self) -> bool:
        if self._parent is not None:
            return self._parent != os.getppid()
        return any(child.poll() for child in self._children)

    def _end_children(self, seconds: float) -> None:
        """Wait so long for the children, kill those that are left, and remove the folder."""
        if not self._children:
            return
        end = time.monotonic() + seconds
        for child in self._children:
            try:
                child.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def is_started_by_us() -> bool:
    """Whether this is a rank that the first one of this run has started."""
    return _PARENT in os.environ and os.environ[_PARENT] != str(os.getpid())


def _rank() -> str:
    return os.environ.get("LOCAL_RANK", "0")


def _is_lost_connection(error: BaseException) -> bool:
    """Whether an error says that another rank cannot be reached."""
    # gloo raises errors without a class of their own.
    return isinstance(error, torch.distributed.DistError) or (
        type(error) is RuntimeError and any(word in str(error) for word in _OF_GLOO)
    )


def check_strategy(strategy: Strategy, flag: str, given: object) -> None:
    """Refuse a strategy whose processes cannot train a stage.

    Args:
        strategy: What a Trainer made of its arguments.
        flag: Where they are on the command line, such as `--trainer`.
        given: What was given for `strategy`.

    Raises:
        UserError: The strategy is none for one process and none that starts ranks as programs of
            their own with whole networks.
    """
    if isinstance(strategy, SingleDeviceStrategy):
        return
    if not isinstance(strategy, DDPStrategy) or isinstance(strategy, DeepSpeedStrategy):
        why = "its processes hold parts of the networks only"
    elif not isinstance(strategy.launcher, _SubprocessScriptLauncher):
        why = "its processes could not hand their results on"
    else:
        return
    raise UserError(f"{flag}.strategy is {given}, but {why}. Use ddp.")


def check_same_processes(online: Trainer, offline: Trainer) -> None:
    """Refuse stages which do not train in the same processes: they start once for both.

    Raises:
        UserError: The stages have different numbers of processes, or some have other devices.
    """
    settings = [
        (trainer.world_size, trainer.num_nodes, trainer.strategy.root_device.type)
        for trainer in (offline, online)
    ]
    if settings[0] == settings[1] or max(settings[0][0], settings[1][0]) == 1:
        return
    (processes, nodes, device), (others, other_nodes, other_device) = settings
    raise UserError(
        f"--offline.trainer.* asks for {processes} process(es) on {nodes} node(s) with {device}, "
        f"--trainer.* for {others} on {other_nodes} with {other_device}, but both stages of a "
        "run share their processes. Give devices, num_nodes, accelerator and strategy alike under "
        "--offline.trainer and --trainer, or train the offline stage by a command of its own and "
        "give --offline.ckpt_path."
    )
