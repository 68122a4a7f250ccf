"""Settings of a run that belong to neither the model, the data nor the trainer."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

from pex_lightning.callbacks.loggers import LoggerName
from pex_lightning.calls import DEFAULT_SECONDS
from pex_lightning.cli.thread_choice import MOST_THREADS
from pex_lightning.errors import check_range


@dataclass(frozen=True)
class RunSettings:
    """Where a run's results go: `<root>/<name>/{offline,online}/`.

    Attributes:
        name: Name of the run.
        root: Folder of all runs.
        overwrite: Whether to replace a run of that name.
        save_every: Gradient steps between two checkpoints.
        env_timeout: Seconds that one call of an environment (its constructor, reset, step or
            close) may take before it counts as hanging; 0 waits for ever.
        loggers: Where the metrics of both stages go: `csv` (metrics.csv, which reports and
            summaries read), `tensorboard`, `wandb`, `mlflow`.
        threads: Threads that each process of the run computes with; by default `OMP_NUM_THREADS`
            where it is set, else what the earlier attempt of a resumed run took, else what a short
            measurement at the start finds. Results depend on it: sums are rounded in another order.
    """

    name: str = "default"
    root: str = "runs"
    overwrite: bool = False
    save_every: int = 5_000
    env_timeout: float = DEFAULT_SECONDS
    loggers: list[LoggerName] = field(default_factory=lambda: ["csv", "tensorboard"])
    threads: int | None = None

    def __post_init__(self) -> None:
        path = Path(self.name)
        inside = self.name != "" and not path.is_absolute() and ".." not in path.parts
        check_range("--run.name", repr(self.name), inside, "a name for a folder")
        check_range("--run.save_every", self.save_every, self.save_every >= 1, "at least 1")
        check_env_timeout(self.env_timeout)
        fits = self.threads is None or 1 <= self.threads <= MOST_THREADS
        check_range("--run.threads", self.threads, fits, f"from 1 to {MOST_THREADS}")

    @property
    def directory(self) -> Path:
        """The run's folder."""
        return Path(self.root) / self.name


def check_env_timeout(seconds: float) -> None:
    """Refuse what is no number of seconds for `--run.env_timeout`.

    Raises:
        UserError: It is negative, infinite or no number.
    """
    fits = math.isfinite(seconds) and seconds >= 0
    check_range("--run.env_timeout", seconds, fits, "a number of seconds, or 0 for no limit")
