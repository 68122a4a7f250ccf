"""The words in which it is said what is measured: a case, its variants, and groups of them."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.cases.shared.setting import PRECISIONS


@dataclass(frozen=True)
class Case:
    """Something that is counted while it is done.

    Attributes:
        part: Its key in `PARTS` of `case_table.py`.
        name: In the report.
        subject: Cases of a subject take turns with each other.
        quantity: What is counted, in plural; ratios are between cases of the same quantity.
        entry: `MODULE:FUNCTION` in `benchmarks/cases/`.
        requires: Python module without which it is skipped.
        install: What installs that.
        ours: Whether it is this package's.
        wait: How threads wait for each other: values of `OMP_WAIT_POLICY` to try from two
            threads on, `BRIEF` being what `fit` sets (a short spin, then sleep) and `unset`
            what users of other libraries have; the first counts for one thread.
        precisions: Those that it has.
        least_threads: Not measured with fewer threads.
        pinned: Whether it gets as many CPUs as threads, rather than all.
        fit: Whether it is a training loop that is held by the gate, rather than a `Work`.
        arguments: More command line.
        copies: Processes that do it at the same time, which share the threads.
    """

    part: str
    name: str
    subject: str
    quantity: str
    entry: str
    requires: str = "pex_lightning"
    install: str = "-e ."
    ours: bool = True
    wait: tuple[str, ...] = ("BRIEF",)
    precisions: tuple[str, ...] = PRECISIONS
    least_threads: int = 1
    pinned: bool = True
    fit: bool = False
    arguments: tuple[str, ...] = ()
    copies: int = 1


@dataclass(frozen=True)
class Variant:
    """A case with the settings of its process; `wait` is `OMP_WAIT_POLICY`."""

    case: Case
    precision: str
    threads: int
    wait: str

    @property
    def label(self) -> str:
        """As it is named to the user."""
        alone = self.threads == self.case.copies or self.case.wait == ("unset",)
        wait = "" if alone else f", {self.wait.lower()}"
        return f"{self.case.name}, {self.precision}{wait}"


@dataclass(frozen=True)
class Group:
    """Variants that take turns with each other."""

    subject: str
    precision: str | None
    threads: int
    variants: tuple[Variant, ...]

    @property
    def title(self) -> str:
        """As it is named to the user."""
        unit = "thread" if self.threads == 1 else "threads"
        precision = "" if self.precision is None else f" {self.precision},"
        return f"{self.subject},{precision} {self.threads} {unit}"
