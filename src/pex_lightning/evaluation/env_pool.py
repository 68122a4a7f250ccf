"""Many environments stepped at once, spread over this process and workers.

Workers import this module, so it must not import torch: each would take seconds to start and
hundreds of MiB. gymnasium's own vector environments step every environment on every call and have
one process each; here an environment without an episode rests, and one process steps several.
"""

from __future__ import annotations

import contextlib
import os
import traceback
import weakref
from multiprocessing.connection import Connection

import numpy as np

from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError
from pex_lightning.evaluation.env_group import EnvGroup, Frame, Orders, Sizes
from pex_lightning.processes import (
    WorkerProcess,
    kill_workers,
    leave_signals_to_the_parent,
    next_message,
    stop_workers,
)


class EnvPool:
    """Environments 0 … num_envs − 1, in this process and in `num_workers` − 1 others.

    This process steps a share of its own. If it only waited for a worker per core, it would find
    the caches cold whenever it is its turn: a call of the policy then took twice as long.

    Workers ignore Ctrl-C and SIGTERM, which are this process's to handle, and end when this
    process does, even if it is killed. `close` is called when the pool is no longer used and at
    interpreter exit.

    Args:
        factory: Makes one environment.
        num_envs: Environments.
        num_workers: Processes to spread them over, this one included; at most `num_envs`.

    Attributes:
        sizes: Sizes of one observation and of one action.

    Raises:
        UserError: An environment cannot be made.
    """

    def __init__(self, factory: EnvFactory, num_envs: int, num_workers: int) -> None:
        self.num_envs = num_envs
        self._workers: list[_Worker] = []
        self._resources = contextlib.ExitStack()
        self._resources.callback(stop_workers, self._workers, os.getpid())
        self._finalizer = weakref.finalize(self, self._resources.close)
        self._local = self._start(factory, num_workers)
        self.sizes = self._local.sizes
        self._frame = Frame.empty(num_envs, self.sizes.obs_dim)

    def advance(self, orders: Orders) -> Frame:
        """Carry out one round in all environments; the result is overwritten by the next round.

        Args:
            orders: For all environments.

        Raises:
            UserError: An environment raised, or its process ended. The pool is then closed.
        """
        try:
            return self._advance(orders)
        except BaseException:
            # Replies may be missing or left over (Ctrl-C), so nothing can be asked any more.
            self._abort()
            raise

    def close(self) -> None:
        """Close the environments and end the processes; a second call does nothing."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return not self._finalizer.alive

    def _advance(self, orders: Orders) -> Frame:
        for worker in self._workers:
            worker.send_or_leave(orders.take(worker.rows))
        here = self._local.rows
        self._frame.put(here, self._local.advance(orders.take(here)))
        for worker in self._workers:
            reply = worker.receive()
            assert isinstance(reply, Frame)
            self._frame.put(worker.rows, reply)
        return self._frame

    def _abort(self) -> None:
        kill_workers(self._workers)
        self.close()

    def _start(self, factory: EnvFactory, num_workers: int) -> EnvGroup:
        """Start the workers and, while they load, make this process's environments."""
        # Neighbours in different processes: episodes that last longest spread out.
        shares = [np.arange(i, self.num_envs, num_workers) for i in range(num_workers)]
        try:
            for rows in shares[1:]:
                self._workers.append(_Worker(factory, rows))
            local = EnvGroup(factory, shares[0])
            self._resources.callback(local.close)
            for worker in self._workers:
                worker.receive()
        except BaseException:
            self._abort()
            raise
        return local


class WorkerError(Exception):
    """The traceback of an exception in a worker process, as text; the cause of the one here."""


class _Worker(WorkerProcess):
    """This process's end of a process that serves an `EnvGroup`."""

    def __init__(self, factory: EnvFactory, rows: np.ndarray) -> None:
        super().__init__(_serve, factory, rows)
        self.rows = rows

    def receive(self) -> Frame | Sizes:
        try:
            reply = self.pipe.recv()
        except (EOFError, ConnectionResetError) as error:
            rows = ", ".join(map(str, self.rows))
            raise UserError(
                f"evaluation: the process of environments {rows} "
                f"{self.how_it_ended('environments')}"
            ) from error
        if isinstance(reply, Frame | Sizes):
            return reply
        message, details = reply
        raise UserError(message) from WorkerError(f"\n{details}")


def _serve(pipe: Connection, factory: EnvFactory, rows: np.ndarray, parent: int) -> None:
    """Run an `EnvGroup` until told to stop or the parent is gone."""
    leave_signals_to_the_parent()
    group: EnvGroup | None = None
    try:
        group = EnvGroup(factory, rows)
        pipe.send(group.sizes)
        while (orders := next_message(pipe, parent)) is not None:
            assert isinstance(orders, Orders)
            pipe.send(group.advance(orders))
    except (BrokenPipeError, ConnectionResetError, EOFError):
        # The parent is gone and nobody is left to tell.
        pass
    except Exception as error:
        message = str(error) if isinstance(error, UserError) else f"evaluation: {error!r}"
        with contextlib.suppress(OSError):
            pipe.send((message, traceback.format_exc()))
    finally:
        if group is not None:
            group.close()
