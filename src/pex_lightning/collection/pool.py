"""Collection in other processes, which step their environments while the learner updates."""

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
    """``size`` processes with an environment each, which work on one request at a time.

    ``request`` publishes the weights of that moment and returns at once; ``collect`` waits for
    the frames. The weights are written only while no process acts, so that every frame of a
    request was chosen by the same, whole weights. Frame k of everything collected is process
    k mod ``size``'s, and a request's frames come process by process: which frames there are and
    their order follow from the seeds, ``size`` and the requests alone.

    Processes ignore Ctrl-C and SIGTERM, which are this process's to handle, and end when this
    process does, even if it is killed. They are started, not forked, so a script that trains has
    to have its ``if __name__ == "__main__":``.

    Args:
        policy: Chooses the actions; its weights change between requests.
        factory: Makes the environment.
        size: Number of processes.
        seed: From which each environment's and each actor's seed is derived.
        collected: Frames collected so far, in runs before this one.

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
        """Publish the weights and have ``count`` frames collected with them."""
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
        """The frames that were requested; if none were, request them now and wait.

        Raises:
            UserError: An environment cannot be made or raised, or a process ended. The pool is
                then closed.
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
            # Frames may be missing or left over (Ctrl-C), so nothing can be asked any more.
            self._workers.abort()
            raise
        self._collected += count
        self._under_way = 0
        return received

    def close(self) -> None:
        """End the processes; a second call does nothing."""
        self._workers.stop()

    def _shares(self, count: int) -> list[int]:
        """How many of the next ``count`` frames each process collects."""
        size = len(self._workers)
        before = [(self._collected - number - 1) // size for number in range(size)]
        after = [(self._collected + count - number - 1) // size for number in range(size)]
        return [b - a for a, b in zip(before, after, strict=True)]
