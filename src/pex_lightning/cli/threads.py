"""The number of threads of a run, which its numbers depend on: taken, and noted in its folder."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pytorch_lightning.utilities import rank_zero_only

from pex_lightning.cli.settings import RunSettings
from pex_lightning.cli.thread_choice import (
    EARLIER,
    FLAG,
    MEASUREMENT,
    TORCH,
    ThreadStart,
    as_record,
    earlier_number,
    told,
)
from pex_lightning.cli.thread_measurement import usable_cores

_log = logging.getLogger(__name__)
_VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Threads:
    """The threads of each process of a run.

    Attributes:
        number: How many.
        chosen_by: Who chose the number.
        start: What was decided before torch was loaded.
        earlier: The number of the attempt that this one goes on from, where it is known.
    """

    number: int
    chosen_by: str
    start: ThreadStart
    earlier: int | None = None

    @classmethod
    def of(
        cls, settings: RunSettings, ckpt_path: str | None, start: ThreadStart, processes: int
    ) -> Threads:
        """Settle the number.

        In this order: `--run.threads`; an environment variable; the earlier attempt of a resumed
        run, where this machine has as many cores; the measurement, or what torch takes. Processes
        of a run share the cores, unless the user says their number of threads.

        Args:
            settings: Of the run.
            ckpt_path: What it goes on from, if it does.
            start: What was decided before torch was loaded.
            processes: Processes of the run on this machine.
        """
        now = torch.get_num_threads()
        earlier = None if ckpt_path is None else earlier_number(ckpt_path, settings.directory)
        if settings.threads is not None:
            return cls(settings.threads, FLAG, start, earlier)
        if start.chosen_by not in (MEASUREMENT, TORCH):
            return cls(now, start.chosen_by, start, earlier)
        if earlier is not None and earlier <= usable_cores():
            return cls(earlier, EARLIER, start, earlier)
        share = now if processes == 1 else max(1, usable_cores() // processes)
        return cls(min(now, share), start.chosen_by, start, earlier)

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Compute with them in this block, as the processes do that start in it; say so."""
        before, variable = torch.get_num_threads(), os.environ.get(_VARIABLE)
        torch.set_num_threads(self.number)
        # Lightning changes the number where this is not set.
        os.environ[_VARIABLE] = str(self.number)
        self._tell()
        try:
            yield
        finally:
            torch.set_num_threads(before)
            if variable is None:
                del os.environ[_VARIABLE]
            else:
                os.environ[_VARIABLE] = variable

    @rank_zero_only
    def _tell(self) -> None:
        line = told(self.start, self.number)
        if line is not None:
            _log.info(line)
        if self.earlier not in (None, self.number):
            _log.info(
                "The earlier attempt took %s thread(s), this one takes %s (%s): sums are rounded "
                "in another order from here on.",
                self.earlier,
                self.number,
                self.chosen_by,
            )

    def record(self) -> Mapping[str, Any]:
        """What `provenance.json` says of an attempt's threads."""
        return {
            "threads": self.number,
            "threads_chosen_by": self.chosen_by,
            **as_record(self.start),
        }
