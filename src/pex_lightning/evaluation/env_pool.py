"""Many environments stepped at once, spread over this process and workers.

Workers import this module, so it must not import torch: each would take seconds to start and
hundreds of MiB. gymnasium's own vector environments step every environment on every call and have
one process each; here an environment without an episode rests, and one process steps several.
"""

from __future__ import annotations

import contextlib
import weakref

import numpy as np

from pex_lightning.envs.factory import EnvFactory
from pex_lightning.evaluation.env_group import EnvGroup, Frame, Orders
from pex_lightning.processes import Worker, Workers


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
        self._workers = Workers()
        self._shares: list[tuple[Worker, np.ndarray]] = []
        self._resources = contextlib.ExitStack()
        self._resources.callback(self._workers.stop)
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
        # Neighbours in different processes: episodes that last longest spread out.
        here, *others = [np.arange(i, self.num_envs, num_workers) for i in range(num_workers)]
        try:
            for rows in others:
                name = f"evaluation: the process of environments {', '.join(map(str, rows))}"
                worker = self._workers.start(
                    EnvGroup, factory, rows, name=name, fewer="environments"
                )
                # Answered when its environments are made.
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
