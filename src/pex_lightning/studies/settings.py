"""What a study compares, and how its runs are run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from pex_lightning.errors import check_range
from pex_lightning.studies.records import RunRecord, check_name

BackendName = Literal["local", "ray", "slurm"]


@dataclass(frozen=True)
class Overlay:
    """Configuration files and settings on top of what stands before them.

    Attributes:
        config: Configuration files, merged from left to right.
        set: Single settings by their names on the command line of `fit`, such as
            `evaluation.every: 500`; they win over all files.
        tasks: Of a variant: the tasks that it runs on; all by default.
    """

    config: list[str] = field(default_factory=list)
    set: dict[str, Any] = field(default_factory=dict)
    tasks: list[str] | None = None


@dataclass(frozen=True)
class StudySettings:
    """A grid of runs: every variant on every task with every seed.

    A run's configuration is the task's files, then the variant's, then `set` of the study, of the
    task and of the variant.

    Attributes:
        name: Name of the study; its folder is `<root>/<name>/`.
        tasks: What the variants are compared on, by name.
        variants: What is compared, by name.
        seeds: The runs' `--seed_everything`.
        set: Settings of every run.
        root: Folder of all runs. Finished offline stages are kept there, and shared by all studies.
        reference: The variant that the others are compared with; the first by default.
        threshold: Score whose first reaching is reported, in environment steps.
        backend: Who runs the runs: this machine, a Ray cluster (`pip install
            'pex-lightning[ray]'`) or Slurm (`pip install 'pex-lightning[slurm]'`).
        jobs: Runs at a time on this machine. By default one for each core, or for each GPU.
        threads: Threads of each run; by default the cores divided by `jobs`.
        gpus: GPUs that a run asks for on Ray and Slurm.
        address: Address of the Ray cluster; by default the one that Ray finds, or a new one here.
        slurm: Further parameters of `submitit`, such as `slurm_partition` and `timeout_min`.
        retry: Names of failed runs to run again, or `failed` for all of them; nothing else is
            started then.
    """

    name: str
    tasks: dict[str, Overlay]
    variants: dict[str, Overlay]
    seeds: list[int]
    set: dict[str, Any] = field(default_factory=dict)
    root: str = "runs"
    reference: str | None = None
    threshold: float | None = None
    backend: BackendName = "local"
    jobs: int | None = None
    threads: int | None = None
    gpus: float = 0.0
    address: str | None = None
    slurm: dict[str, Any] = field(default_factory=dict)
    retry: str | list[str] | None = None

    def __post_init__(self) -> None:
        check_name("--study.name", self.name)
        for flag, names in (("--study.tasks", self.tasks), ("--study.variants", self.variants)):
            check_range(flag, "empty", bool(names), "at least one name with its overlay")
            for name in names:
                check_name(f"a name under {flag}", name)
        seeds = self.seeds
        distinct = bool(seeds) and len({*seeds}) == len(seeds) and min(seeds) >= 0
        check_range("--study.seeds", seeds, distinct, "different whole numbers from 0 on")
        for name, value in (("jobs", self.jobs), ("threads", self.threads)):
            check_range(f"--study.{name}", value, value is None or value >= 1, "at least 1")
        check_range("--study.gpus", self.gpus, self.gpus >= 0, "0 or more")
        known = get_args(BackendName)
        check_range("--study.backend", self.backend, self.backend in known, " or ".join(known))
        check_range(
            "--study.reference",
            self.reference,
            self.reference is None or self.reference in self.variants,
            f"one of the variants {', '.join(self.variants)}",
        )
        for name, variant in self.variants.items():
            tasks = variant.tasks if variant.tasks is not None else list(self.tasks)
            unknown = [task for task in tasks if task not in self.tasks]
            check_range(
                f"tasks of --study.variants.{name}",
                variant.tasks,
                bool(tasks) and not unknown,
                f"some of {', '.join(self.tasks)}",
            )

    def runs(self) -> list[RunRecord]:
        """All runs, seed by seed, so that what is there early says something of all variants.

        Raises:
            UserError: Two of them would have the same folder.
        """
        runs = [
            RunRecord(self.name, variant, task, seed, tuple(self.arguments(variant, task, seed)))
            for seed in self.seeds
            for task in self.tasks
            for variant, overlay in self.variants.items()
            if overlay.tasks is None or task in overlay.tasks
        ]
        names = [run.name for run in runs]
        double = next((name for name in names if names.count(name) > 1), None)
        check_range(
            "--study.tasks and --study.variants",
            f"such that two runs would be called {double!r}",
            double is None,
            "names that give every run a name of its own",
        )
        return runs

    def arguments(self, variant: str, task: str, seed: int) -> list[str]:
        """Arguments of `fit` for a run, without the folder that it writes to."""
        overlays = self.tasks[task], self.variants[variant]
        files = [file for overlay in overlays for file in overlay.config]
        settings: Mapping[str, Any] = {**self.set, **overlays[0].set, **overlays[1].set}
        return [
            *(part for file in files for part in ("--config", file)),
            *(f"--{key}={_as_text(value)}" for key, value in settings.items()),
            f"--seed_everything={seed}",
        ]


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
