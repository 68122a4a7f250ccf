"""What a finished run says: what came of it, who acts, and what to do next."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pex_lightning.algorithms import ALGORITHMS, Algorithm
from pex_lightning.algorithms.checks import method_name
from pex_lightning.callbacks.checkpoint import BEST, LAST
from pex_lightning.callbacks.durations import duration
from pex_lightning.callbacks.stage_results import Evaluated, StageResults, stage_results
from pex_lightning.handover import Checkpoint
from pex_lightning.policies.member_entry import MemberEntry

FEWEST_EPISODES = 20


@dataclass(frozen=True)
class RunEnd:
    """A run that has ended.

    Attributes:
        stage: Folder of its last stage, whose name is `offline` or `online`.
        episodes: Episodes of an evaluation.
        offline: Folder of the offline stage that it started from; None if there is none.
        offline_step: Gradient steps of the offline checkpoint; None for the last.
        unfinished: What still keeps the learning policy from acting, in words.
        code: Flags that name the user's own code, for `test` and `export`.
    """

    stage: Path
    episodes: int
    offline: Path | None = None
    offline_step: int | None = None
    unfinished: str | None = None
    code: Sequence[str] = field(default=())

    def starting_from(self, checkpoints: Sequence[Checkpoint]) -> RunEnd:
        """The same with the offline stage of a checkpoint, if it is one."""
        if len(checkpoints) != 1:
            return self
        (offline,) = checkpoints
        step = offline.header.gradient_steps
        return replace(self, offline=offline.path.parent.parent, offline_step=step)


def code_flags(module: Algorithm, env_id: str) -> list[str]:
    """The flags of `test` that name the user's own code.

    Args:
        module: The method.
        env_id: The environment that it was trained in.
    """
    flags = []
    name = method_name(type(module))
    if name not in ALGORITHMS:
        flags += ["--model", name]
    if ":" in env_id:
        flags += ["--data.env", env_id]
    entries = [MemberEntry(**entry) for entry in module.hparams.get("members") or []]
    code = [{"path": entry.path, "name": entry.name} for entry in entries if entry.outside]
    if code:
        flags += ["--members", json.dumps(code)]
    return flags


def run_summary(end: RunEnd) -> list[str]:
    """Lines for the terminal; without scores where there was no evaluation."""
    results = stage_results(end.stage, end.episodes)
    before = _before(results, end)
    lines = [f"Finished{_took(results, end)}: {end.stage.parent}"]
    lines += _table(results, before, end)
    if len(results.shares) > 1:
        shares = (
            f"{name} {100 * first:.0f} % at first, {100 * last:.0f} % at the end"
            for name, (first, last) in results.shares.items()
        )
        lines.append(f"Who acted: {'; '.join(shares)}")
    lines += [f"Warning: {text}" for text in _warnings(results, before, end)]
    return [*lines, *_next(results, end)]


def scores_so_far(end: RunEnd) -> list[str]:
    """The rows of a run that was stopped; none before its first evaluation."""
    results = stage_results(end.stage, end.episodes)
    if results.evaluations:
        return list(_table(results, _before(results, end), end))
    return [] if end.offline is None else scores_so_far(RunEnd(end.offline, end.episodes))


def _before(results: StageResults, end: RunEnd) -> StageResults | None:
    """The results of the offline stage, if there are any in the same unit."""
    if end.offline is None:
        return None
    before = stage_results(end.offline, end.episodes, end.offline_step)
    return before if before.unit == results.unit and before.evaluations else None


def _took(results: StageResults, end: RunEnd) -> str:
    """How long the stages of the run took, whatever the number of its processes."""
    known = [results.seconds]
    if end.offline is not None and end.offline.parent.resolve() == end.stage.parent.resolve():
        known.append(stage_results(end.offline, end.episodes).seconds)
    seconds = [value for value in known if value is not None]
    if len(seconds) < len(known):
        return ""
    return f" after {duration(sum(seconds))} of training and evaluation"


def _table(results: StageResults, before: StageResults | None, end: RunEnd) -> Iterator[str]:
    """A row for each evaluation that matters; one that matters twice has both names."""
    rows: list[tuple[list[str], Evaluated]] = []

    def add(name: str, found: Evaluated) -> None:
        for names, other in rows[first:]:
            if other is found:
                names.append(name)
                return
        rows.append(([name], found))

    first = 0
    if before is not None:
        add("offline", before.evaluations[-1])
        first = 1
    if results.evaluations:
        add("hand-over" if before is not None else "start", results.evaluations[0])
        if end.stage.name == "online":
            add("lowest", results.lowest)
        add("best", results.best)
        add("last", results.evaluations[-1])
    if not rows:
        yield "There was no evaluation, so there is no score."
        return
    yield f"{end.episodes:,} episodes an evaluation, 95 % intervals in brackets:"
    names = [" = ".join(names) for names, _ in rows]
    for name, (_, found) in zip(names, rows, strict=True):
        steps = f"{found.step:,} updates"
        if found.env_steps:
            steps += f", {found.env_steps:,} env steps"
        yield f"  {name:<{max(map(len, names))}}  {_score(results.unit, found)}  after {steps}"


def _score(unit: str, found: Evaluated) -> str:
    score, success = found.score, found.success
    text = f"{unit} {score.value:6.4g}"
    if score.has_interval:
        text += f" [{score.low:.3g}, {score.high:.3g}]"
    if success is not None and (unit == "return" or abs(score.value - 100 * success.value) > 0.01):
        ends = f"[{100 * success.low:.0f}, {100 * success.high:.0f}]"
        text += f"  success {100 * success.value:.0f} % {ends}"
    return text


def _warnings(results: StageResults, before: StageResults | None, end: RunEnd) -> Iterator[str]:
    if end.unfinished is not None:
        yield (
            f"training ended before the new policy had taken its full part: {end.unfinished}. "
            "More updates may help."
        )
    if not results.evaluations:
        return
    last = results.evaluations[-1].score
    if before is not None and last.is_below(before.evaluations[-1].score):
        chance = "more than chance explains" if last.has_interval else "it may be chance"
        yield f"the last score is below that of the offline policy ({chance})."
    if end.episodes < FEWEST_EPISODES:
        yield (
            f"{end.episodes} episodes an evaluation say little; give "
            f"--evaluation.episodes={FEWEST_EPISODES} or more."
        )


def _next(results: StageResults, end: RunEnd) -> Iterator[str]:
    name, reason = _worth_testing(results, end)
    path = end.stage / "checkpoints" / name
    yield f"Worth testing is {name}, {reason}:"
    yield f"  {shlex.join(['pex-lightning', 'test', '--ckpt_path', str(path), *end.code])}"
    yield f"  {shlex.join(['pex-lightning', 'report', str(end.stage.parent)])}"
    export = ["--format", "torch_export", "--out", "policy.pt2"]
    words = ["pex-lightning", "export", "--ckpt_path", str(path), *_without_env(end.code), *export]
    yield f"  {shlex.join(words)}"
    yield f"  from Python: pex_lightning.load_policy({str(path)!r})"


def _without_env(code: Sequence[str]) -> list[str]:
    """The flags of `test` that `export` has too."""
    words = list(code)
    if "--data.env" in words:
        place = words.index("--data.env")
        del words[place : place + 2]
    return words


def _worth_testing(results: StageResults, end: RunEnd) -> tuple[str, str]:
    """Which checkpoint, and why."""
    checkpoints = end.stage / "checkpoints"
    if not results.evaluations or not (checkpoints / BEST).exists():
        return LAST, "the only one"
    best, last = results.best, results.evaluations[-1]
    if best is last:
        return LAST, "whose score is the best"
    if last.score.is_below(best.score):
        return BEST, f"since the score fell from {best.score.value:.4g} to {last.score.value:.4g}"
    return LAST, f"as the best score, {best.score.value:.4g}, is better by no more than chance"
