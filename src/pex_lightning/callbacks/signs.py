"""The signs that learning with a policy set is failing, as functions of what is logged."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Metrics = Mapping[str, float]
"""What was logged at a step, by name."""


@dataclass(frozen=True)
class Thresholds:
    """When something counts as a sign.

    Attributes:
        reports: In how many reports in a row a sign of `train/*` has to be seen.
        evaluations: In how many evaluations in a row a sign of `eval/*` has to be seen.
        share: The offline members' share of choices, below this and above one minus this.
        entropy: Entropy of the choice, as a fraction of log M.
        growth: The Q-functions' disagreement, in multiples of what it was at first.
        of_q: The same, as a fraction of the size of Q; both have to be exceeded.
        at_cap: Share of advantage weights at the cap.
        near_zero: Share of advantage weights near 0.
        lost: Share lost of the starts that the offline members solved at first.
        not_made_up: The same, less what was won elsewhere. Where starts hardly differ, success is
            partly luck, so that one start is lost and another won without any change.
        solved: Least number of starts that the offline members have to have solved.
    """

    reports: int = 5
    evaluations: int = 2
    share: float = 0.02
    entropy: float = 0.02
    growth: float = 5.0
    of_q: float = 0.1
    at_cap: float = 0.5
    near_zero: float = 0.95
    lost: float = 0.2
    not_made_up: float = 0.1
    solved: int = 5


@dataclass(frozen=True)
class Seen:
    """What a sign is read from.

    Attributes:
        now: The latest metrics.
        first: The metrics of the first report.
        members: Names of the acting policy's members, the learner's last.
        limits: When something counts as a sign.
    """

    now: Metrics
    first: Metrics
    members: Sequence[str]
    limits: Thresholds

    @property
    def offline_share(self) -> float:
        """How often the offline members acted; NaN where no choice by value says so.

        While the learner is not fully admitted to the choice, shares say nothing about its values.
        """
        if self.now.get("train/admitted", 0.0) < 1.0:
            return math.nan
        return 1.0 - self.now.get(f"train/{self.members[-1]}_policy_share", math.nan)


@dataclass(frozen=True)
class Try:
    """Advice.

    Attributes:
        text: For example `a larger --model.beta`.
        setting: The method's setting that it is about, if any; a method without it is not given
            this advice.
    """

    text: str
    setting: str | None = None


@dataclass(frozen=True)
class Sign:
    """One of the signs.

    Attributes:
        name: In `diagnostics.json`.
        source: The prefix of the metrics that it is read from.
        found: Says in words what is seen, or nothing.
        tries: What to try.
    """

    name: str
    source: str
    found: Callable[[Seen], str | None]
    tries: Sequence[Try] = field(default_factory=tuple)


def _never_offline(seen: Seen) -> str | None:
    if not seen.offline_share < seen.limits.share:
        return None
    return f"the offline policy acts in {_percent(seen.offline_share)} of the steps"


def _always_offline(seen: Seen) -> str | None:
    if not seen.offline_share > 1.0 - seen.limits.share:
        return None
    return f"the offline policy acts in {_percent(seen.offline_share)} of the steps"


def _entropy(seen: Seen) -> str | None:
    fraction = seen.now.get("train/choice_entropy_fraction", math.nan)
    if not fraction < seen.limits.entropy:
        return None
    return f"the entropy of the choice between policies is {_percent(fraction)} of its largest"


def _disagreement(seen: Seen) -> str | None:
    now, first = (row.get("train/q_disagreement", math.nan) for row in (seen.now, seen.first))
    size, size_at_first = (row.get("train/q_size", math.nan) for row in (seen.now, seen.first))
    limits = seen.limits
    # Q-functions that learn from nothing grow apart as they grow; relative to their size they do
    # not.
    relative = now > limits.of_q * size and now * size_at_first > first * size
    if not (now > limits.growth * first and relative):
        return None
    return f"the Q-functions differ by {now:.3g}, {first:.3g} at first, where Q is about {size:.3g}"


def _at_cap(seen: Seen) -> str | None:
    share = seen.now.get("train/weight_at_cap", math.nan)
    if not share > seen.limits.at_cap:
        return None
    return f"{_percent(share)} of the advantage weights are at their cap"


def _near_zero(seen: Seen) -> str | None:
    share = seen.now.get("train/weight_near_zero", math.nan)
    if not share > seen.limits.near_zero:
        return None
    return f"{_percent(share)} of the advantage weights are below 0.01"


def _lost_starts(seen: Seen) -> str | None:
    kept, lost, won = (
        seen.now.get(f"eval/starts_{what}", math.nan) for what in ("kept", "lost", "won")
    )
    solved, limits = kept + lost, seen.limits
    if not (
        solved >= limits.solved
        and lost > limits.lost * solved
        and lost - won > limits.not_made_up * solved
    ):
        return None
    return (
        f"{lost:.0f} of the {solved:.0f} episode starts that the offline policy solved at first "
        f"fail now, and {won:.0f} others succeed"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


_LESS_SHARP = Try("a smaller --model.inv_temperature", "inv_temperature")
_HELD_ENTROPY = Try("--model.target_entropy 0.3", "target_entropy")
_ADMISSION = Try(
    "--model.admission evidence with a larger --model.admission_certain", "admission_certain"
)
_MORE_Q = Try("a larger --model.num_q in both stages", "num_q")
_NORMALISED = Try("--model.layer_norm true in both stages", "layer_norm")

SIGNS = (
    Sign(
        "offline_share_near_0",
        "train",
        _never_offline,
        (_LESS_SHARP, _HELD_ENTROPY),
    ),
    Sign("offline_share_near_1", "train", _always_offline, (_LESS_SHARP, _HELD_ENTROPY)),
    Sign("entropy_collapsed", "train", _entropy, (_LESS_SHARP, _HELD_ENTROPY)),
    Sign(
        "disagreement_grows",
        "train",
        _disagreement,
        (_NORMALISED, _MORE_Q, Try("a smaller --model.learning_rate")),
    ),
    Sign(
        "weights_at_cap",
        "train",
        _at_cap,
        (
            Try("a smaller --model.beta", "beta"),
            Try("a larger --model.temperature", "temperature"),
        ),
    ),
    Sign(
        "weights_near_0",
        "train",
        _near_zero,
        (
            Try("a smaller --model.beta", "beta"),
            Try("a larger --model.temperature", "temperature"),
            Try("a lower --model.expectile", "expectile"),
        ),
    ),
    Sign(
        "starts_lost",
        "eval",
        _lost_starts,
        (_ADMISSION, Try("a larger --data.offline_fraction"), _LESS_SHARP),
    ),
)
"""All signs (PEX, arXiv 2302.00935; what each suggests is in docs/diagnostics.md)."""
