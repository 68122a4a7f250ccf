"""Many environments in parallel, spread over this process and worker processes.

Workers import this module, so it must not import torch: each would take seconds to start and
hundreds of MiB. gymnasium's vector environments start a process for each environment and step all
of them in every call; here a process steps several, and environments without an episode rest.
"""

from __future__ import annotations

import contextlib
import weakref

import numpy as np

from pex_lightning.envs.factory import EnvFactory
from pex_lightning.evaluation.env_group import EnvGroup, Frame, Orders
from pex_lightning.processes import Worker, Workers


class EnvPool:
    """Steps environments 0 … num_envs − 1 in this process and in `num_workers` − 1 others.

    This process steps environments too: if it only waited for a worker per core, its caches would
    be cold afterwards, and a call of the policy took twice as long.

    Workers ignore Ctrl-C and SIGTERM, which this process handles, and end when it does, even if it
    is killed. `close` is called when the pool is garbage-collected and at interpreter exit.

    Args:
        factory: Makes one environment.
        num_envs: Number of environments.
        num_workers: Processes to spread them over, this one included; at most `num_envs`.

    Attributes:
        sizes: Sizes of one observation and of one action.

    Raises:
        UserError: An environment cannot be made.
    """

    def __init__(self, factory: EnvFactory, num_envs: int, num_workers: int) -> None:
        self.num_envs = num_envs
        self._workers = Workers()
        self._shares: list[tuple[Worker, np.ndarray]] = []
        self._resources = contextlib.ExitStack()
        self._resources.callback(self._workers.stop)
        self._finalizer = weakref.finalize(self, self._resources.close)
        self._local = self._start(factory, num_workers)
        self.sizes = self._local.sizes
        self._frame = Frame.empty(num_envs, self.sizes.obs_dim)

    def advance(self, orders: Orders) -> Frame:
        """Carry out one round in all environments; the next round overwrites the result.

        Args:
            orders: Orders for all environments.

        Raises:
            UserError: An environment failed, or its process ended. The pool is then closed.
        """
        try:
            return self._advance(orders)
        except BaseException:
            # After Ctrl-C, for example, unread replies may be left over: the workers are unusable.
            self._abort()
            raise

    def close(self) -> None:
        """Close the environments and end the processes; a second call does nothing."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the pool was closed."""
        return not self._finalizer.alive

    def _advance(self, orders: Orders) -> Frame:
        for worker, rows in self._shares:
            worker.send(orders.take(rows))
        here = self._local.rows
        self._frame.put(here, self._local.advance(orders.take(here)))
        for worker, rows in self._shares:
            self._frame.put(rows, worker.receive())
        return self._frame

    def _abort(self) -> None:
        self._workers.abort()
        self.close()

    def _start(self, factory: EnvFactory, num_workers: int) -> EnvGroup:
        """Start the workers and, while they load, make this process's environments."""
        # Neighbours go to different processes, which spreads the longest episodes.
        here, *others = [np.arange(i, self.num_envs, num_workers) for i in range(num_workers)]
        try:
            for rows in others:
                name = f"evaluation: the process of environments {', '.join(map(str, rows))}"
                worker = self._workers.start(
                    EnvGroup, factory, rows, name=name, fewer="environments"
                )
                # The worker replies once its environments are made.
                worker.send(Orders.rest(len(rows)))
                self._shares.append((worker, rows))
            local = EnvGroup(factory, here)
            self._resources.callback(local.close)
            for worker, _ in self._shares:
                worker.receive()
        except BaseException:
            self._abort()
            raise
        return local
