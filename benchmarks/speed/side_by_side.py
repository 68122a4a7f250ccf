"""Several measured processes as one: they get every turn together, and their units are added.

So does a study, which has a run on each core, with one thread.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from statistics import fmean

from benchmarks.speed.gate import READY, Channel


class Copies:
    """Processes that run at the same time.

    Args:
        line: The command line of each.
        count: How many there are.
    """

    def __init__(self, line: list[str], count: int) -> None:
        run = os.environ.get("BENCH_RUN", "run")
        # They stay in this process's group, so that the stopwatch stops all of them with it.
        self._processes = [
            subprocess.Popen(
                line,
                env={**os.environ, "BENCH_RUN": f"{run}-{number}"},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]

    def answers(self) -> list[str]:
        """The next line of each, none of which is empty.

        Raises:
            SystemExit: One has ended; what it said last is on stderr.
        """
        lines = []
        for process in self._processes:
            assert process.stdout is not None
            line = process.stdout.readline().strip()
            if not line:
                raise SystemExit(process.wait() or 1)
            lines.append(line)
        return lines

    def tell(self, line: str) -> None:
        """Write a line to each."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def end(self) -> None:
        """End them."""
        for process in self._processes:
            process.kill()
            process.wait()


def added(answers: list[str]) -> str:
    """One answer for those of all: the sum of the units, in the mean of the seconds."""
    numbers = [answer.split() for answer in answers]
    units = sum(int(units) for units, _ in numbers)
    return f"{units} {fmean(float(seconds) for _, seconds in numbers)}"


def main() -> None:
    """Serve until there are no more turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--copies", type=int, required=True)
    settings, arguments = parser.parse_known_args()
    channel = Channel.of_process()
    copies = Copies([sys.executable, "-m", "benchmarks.speed.serve", *arguments], settings.copies)
    try:
        if any(answer != READY for answer in copies.answers()):
            raise SystemExit("a process was not ready")
        channel.say(READY)
        while (seconds := channel.next_turn()) is not None:
            copies.tell(str(seconds))
            channel.say(added(copies.answers()))
    finally:
        copies.end()


if __name__ == "__main__":
    main()
