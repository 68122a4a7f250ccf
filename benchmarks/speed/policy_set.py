"""What a large policy set costs: `python -m benchmarks.speed.policy_set`.

An acting step and an update of PEX with K frozen members of equal sizes, beside those with one.
All sizes take turns in one process, in short blocks; a ratio is taken within a round, and the
median over the rounds is shown. Takes some minutes, most of them for the compiler.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence

SIZES = (1, 2, 4, 8, 16)
Step = Callable[[], object]


def measured(steps: Mapping[int, Step], rounds: int, seconds: float) -> list[dict[int, float]]:
    """Seconds a step in every round, by size.

    Args:
        steps: What is measured, by size.
        rounds: How often each has its turn.
        seconds: Length of a turn.
    """
    found = []
    for _ in range(rounds):
        times = {}
        for size, step in steps.items():
            step()
            start, count = time.perf_counter(), 0
            while time.perf_counter() - start < seconds:
                step()
                count += 1
            times[size] = (time.perf_counter() - start) / count
        found.append(times)
    return found


def ratios(rounds: Sequence[Mapping[int, float]]) -> dict[int, float]:
    """The median over the rounds of a step's time beside that of the smallest set."""
    smallest = min(rounds[0])
    return {
        size: statistics.median(times[size] / times[smallest] for times in rounds)
        for size in rounds[0]
    }


def table(rows: Mapping[str, Sequence[Mapping[int, float]]]) -> str:
    """Markdown: a row for each kind of step, a column for each size."""
    sizes = list(next(iter(rows.values()))[0])
    lines = [
        "| | " + " | ".join(f"K = {size}" for size in sizes) + f" | K = {sizes[0]}, ms |",
        "|---|" + "---|" * (len(sizes) + 1),
    ]
    for name, rounds in rows.items():
        first = statistics.median(times[sizes[0]] for times in rounds) * 1000
        found = ratios(rounds)
        cells = [f"{found[size]:.2f}" for size in sizes]
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {first:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Build all sizes, measure, print."""
    parser = argparse.ArgumentParser(description="What a large policy set costs.")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="Frozen members.")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.3, help="Length of a turn.")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--plain-only", action="store_true", help="Compile nothing.")
    settings = parser.parse_args()
    import torch  # noqa: PLC0415

    from benchmarks.cases.shared import builders  # noqa: PLC0415

    torch.set_num_threads(settings.threads)

    def plain(size: int) -> Step:
        work = builders.plain_update(
            builders.new_pex_of(size), builders.common_batches(), "float32"
        )
        return work.step

    def compiled(size: int) -> Step:
        work = builders.compiled_update(
            builders.new_pex_of(size), builders.common_batches(), "float32"
        )
        return work.step

    kinds: dict[str, Callable[[int], Step]] = {
        "acting step": lambda size: builders.acting_step(builders.new_pex_of(size)),
        "update": plain,
    }
    if not settings.plain_only:
        kinds["acting step, compiled"] = lambda size: builders.compiled_acting_step(
            builders.new_pex_of(size)
        )
        kinds["update, compiled"] = compiled
    rows = {}
    for name, build in kinds.items():
        steps = {size: build(size) for size in sorted(settings.sizes)}
        rows[name] = measured(steps, settings.rounds, settings.seconds)
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
