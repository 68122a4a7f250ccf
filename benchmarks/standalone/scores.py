"""Summarise finished runs: `python benchmarks/standalone/scores.py runs/NAME [runs/NAME ...]`.

For each run: the last offline score, the lowest online score up to 10,000 gradient steps (the
hand-over itself included), the last online score, and the dataset it was trained on; then the
means. An offline stage that was skipped shows as the online stage's start, and a run of an offline
stage alone ends with it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from pex_lightning.callbacks.csv_logger import parse_log
from pex_lightning.handover import read_checkpoint

EARLY_STEPS = 10_000


@dataclass(frozen=True)
class Scores:
    """Normalised scores of one run."""

    offline: float
    lowest_early: float
    final: float


def scores(run: Path) -> Scores:
    """Read a run's two `metrics.csv`."""
    online = _evaluations(run / "online")
    offline = _evaluations(run / "offline") or online[:1]
    online = online or offline[-1:]
    early = [score for step, score in online if step <= EARLY_STEPS]
    return Scores(offline[-1][1], min(early), online[-1][1])


def _evaluations(stage: Path) -> list[tuple[int, float]]:
    file = stage / "metrics.csv"
    if not file.exists():
        return []
    _, rows, _ = parse_log(file.read_bytes())
    return [(int(row["step"]), float(row["eval/score"])) for row in rows if row["eval/score"]]


def main(runs: list[Path]) -> None:
    """Print a table."""
    write = sys.stdout.write
    write(f"{'run':30} {'offline':>8} {'lowest':>8} {'final':>8}  dataset\n")
    results = [scores(run) for run in runs]
    for run, result in zip(runs, results, strict=True):
        stage = "online" if (run / "online").exists() else "offline"
        data = read_checkpoint(run / stage / "checkpoints" / "last.ckpt").header.data
        write(f"{run.name:30} {result.offline:8.1f} {result.lowest_early:8.1f} ")
        write(f"{result.final:8.1f}  {data.dataset} ({data.fingerprint})\n")
    count = len(results)
    means = (
        sum(result.offline for result in results) / count,
        sum(result.lowest_early for result in results) / count,
        sum(result.final for result in results) / count,
    )
    write(f"{'mean':30} {means[0]:8.1f} {means[1]:8.1f} {means[2]:8.1f}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main([Path(argument) for argument in sys.argv[1:]])
