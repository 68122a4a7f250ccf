"""What the speed benchmark says of its measurements: tables, JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.speed.case import Variant
from benchmarks.speed.measurements import Comparison, Spread
from benchmarks.speed.run_costs import RunCosts
from benchmarks.speed.targets import Target

PACKAGES = (
    "pex-lightning",
    "torch",
    "pytorch-lightning",
    "torchrl",
    "tensordict",
    "mujoco",
    "d3rlpy",
    "jax",
    "jaxlib",
    "numpy",
)


@dataclass(frozen=True)
class Row:
    """A variant's units a second, and its ratio to the group's first of the same quantity.

    The ratio is None where that one was not measured. `overall` is all units by all seconds, in
    which costs show that a few blocks only have.
    """

    variant: Variant
    rate: Spread
    ratio: Spread | None
    overall: float
    rounds: list[float]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        variant = self.variant
        return {
            "part": variant.case.part,
            "name": variant.case.name,
            "quantity": variant.case.quantity,
            "precision": variant.precision,
            "threads": variant.threads,
            "wait": variant.wait,
            "rate": asdict(self.rate),
            "ratio": None if self.ratio is None else asdict(self.ratio),
            "overall": self.overall,
            "rounds": self.rounds,
        }


def rows(comparison: Comparison) -> list[Row]:
    """A row a measured variant, in the group's order."""
    found = []
    for variant in comparison.measured_variants():
        baseline = comparison.baseline(variant.case.quantity)
        ratio = None if baseline is None else comparison.ratio(variant, baseline)
        rates = [block.rate for block in comparison.blocks(variant).values()]
        found.append(
            Row(variant, comparison.rate(variant), ratio, comparison.overall(variant), rates)
        )
    return found


def table(comparison: Comparison) -> str:
    """A line a variant, then what was skipped."""
    lines = [f"{comparison.group.title}: median (quartiles) a second, ratio to the first"]
    for row in rows(comparison):
        rate, ratio = row.rate, row.ratio
        beside = "-" if ratio is None else f"{ratio.median:.2f}"
        if ratio is not None:
            beside += f" ({ratio.lower:.2f} to {ratio.upper:.2f})"
        span = f"{rate.median:8.1f} ({rate.lower:.1f} to {rate.upper:.1f})"
        lines.append(
            f"  {row.variant.label:38} {span:28} {beside:22} {row.variant.case.quantity}"
            f", overall {row.overall:.1f}"
        )
    lines += [f"  skipped {name}: {why}" for name, why in comparison.measured.skipped.items()]
    return "\n".join(lines) + "\n"


def to_json(
    comparisons: list[Comparison],
    skipped: dict[str, str],
    costs: RunCosts | None,
    targets: list[Target],
) -> dict[str, Any]:
    """All that was found, in JSON's types."""
    return {
        "groups": [
            {
                "title": comparison.group.title,
                "subject": comparison.group.subject,
                "threads": comparison.group.threads,
                "results": [row.to_dict() for row in rows(comparison)],
                "skipped": comparison.measured.skipped,
            }
            for comparison in comparisons
        ],
        "skipped": skipped,
        "run_costs": None if costs is None else asdict(costs),
        "targets": [{**asdict(target), "verdict": target.verdict} for target in targets],
    }


def tell(line: str) -> None:
    """Progress, beside the results."""
    sys.stderr.write(f"{line}\n")


def write_report(
    path: Path,
    settings: argparse.Namespace,
    before: dict[str, Any],
    start: float,
    found: dict[str, Any],
) -> float:
    """Write what was found as JSON, with how and where.

    Args:
        path: The file, in the folder `settings.out`.
        settings: The command line's.
        before: `machine()` as the run found it.
        start: When it began, of `time.perf_counter`.
        found: In JSON's types.

    Returns:
        The seconds that the run took.
    """
    seconds = time.perf_counter() - start
    report = {
        "machine": before,
        "settings": {key: value for key, value in vars(settings).items() if key != "out"},
        "seconds": seconds,
        **found,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=2) + "\n")
    return seconds


def machine() -> dict[str, Any]:
    """Where this ran, and with what."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": versions,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()
