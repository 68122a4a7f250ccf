"""Collection in other processes, which step environments while this process trains."""

from __future__ import annotations

from pex_lightning.collection.local import EnvFrames
from pex_lightning.collection.shared_policy import SharedPolicy
from pex_lightning.collection.worker import CollectorJob, CollectorProcess, frames_of
from pex_lightning.envs.factory import EnvFactory
from pex_lightning.errors import UserError
from pex_lightning.policies.acting import ActingPolicy
from pex_lightning.processes import Workers
from pex_lightning.seeding import derive_seed


class CollectorPool:
    """Collects in `size` processes with one environment each, one request at a time.

    `request` publishes the present weights and returns at once; `collect` waits for the frames.
    Weights are published only while no process acts, so all frames of a request come from the same
    weights. Frame k, counted over all requests, is collected by process k mod `size`; the frames
    of a request are ordered by process. So frames and their order depend only on the seeds,
    `size` and the requests.

    The processes ignore Ctrl-C and SIGTERM, which this process handles, and end when it does, even
    if it is killed. They are spawned, so a script needs `if __name__ == "__main__":`.

    Args:
        policy: Chooses the actions; its weights change between requests.
        factory: Makes the environment.
        size: Number of processes.
        seed: The seeds of all environments and policies are derived from it.
        collected: Frames collected before, by the run that is resumed.

    Raises:
        UserError: The environment cannot be sent to another process.
    """

    def __init__(
        self, policy: ActingPolicy, factory: EnvFactory, *, size: int, seed: int, collected: int = 0
    ) -> None:
        if not factory.can_be_sent():
            raise UserError(
                f"--data.num_collectors is {size}, but the environment {factory.env_id} cannot be "
                "sent to another process, because its entry point is a lambda or a local "
                "function. Define it at the top of a module, or give --data.num_collectors 0."
            )
        self._collected = collected
        self._under_way = 0
        self._shared = SharedPolicy(policy)
        self._workers = Workers()
        try:
            for number in range(size):
                job = CollectorJob(
                    policy=self._shared.replica,
                    factory=factory,
                    number=number,
                    env_seed=derive_seed("collector env", seed, number),
                    actor_seed=derive_seed("collector actor", seed, number),
                )
                name = f"--data.num_collectors: the process of collector {number}"
                self._workers.start(CollectorProcess, job, name=name, fewer="collectors")
        except BaseException:
            self._workers.abort()
            raise

    def request(self, count: int) -> int:
        """Publish the weights and begin to collect `count` frames with them."""
        assert self._under_way == 0, "frames that were requested have to be taken first"
        assert count >= 0, count
        if count == 0:
            return 0
        self._shared.publish()
        self._under_way = count
        for worker, share in zip(self._workers, self._shares(count), strict=True):
            if share:
                worker.send(share)
        return count

    def collect(self, count: int) -> list[EnvFrames]:
        """Wait for the frames that were requested; if none were, request them first.

        Raises:
            UserError: An environment could not be made or failed, or a process ended. The pool
                is then closed.
        """
        if self._under_way == 0:
            self.request(count)
        assert count == self._under_way, "as many frames are taken as were requested"
        shares = self._shares(count)
        try:
            received = [
                EnvFrames(number, frames_of(worker.receive()))
                for number, worker in enumerate(self._workers)
                if shares[number]
            ]
        except BaseException:
            # After Ctrl-C, for example, unread frames may be left over: the processes are unusable.
            self._workers.abort()
            raise
        self._collected += count
        self._under_way = 0
        return received

    def close(self) -> None:
        """End the processes; a second call does nothing."""
        self._workers.stop()

    def _shares(self, count: int) -> list[int]:
        """The number of the next `count` frames that each process collects."""
        size = len(self._workers)
        before = [(self._collected - number - 1) // size for number in range(size)]
        after = [(self._collected + count - number - 1) // size for number in range(size)]
        return [b - a for a, b in zip(before, after, strict=True)]
