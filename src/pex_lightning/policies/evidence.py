"""Admission of the policy that learns by what whole episodes have returned."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import torch
from torch import Tensor, nn

from pex_lightning.policies.acting import Episode
from pex_lightning.policies.admission import without_learner
from pex_lightning.policies.choice import ChoiceRule
from pex_lightning.policies.composite import CompositePolicy
from pex_lightning.policies.policy_set import PolicySet
from pex_lightning.policies.values import CandidateValues

_ALONE, _ALL = 1.0, 2.0
"""What the memory of an episode holds once it is drawn; 0 before that."""

_FEWEST = 2
"""Episodes of each kind without which the full set is not favoured."""


class Evidence(nn.Module):
    """What episodes of the frozen members alone, and of the full set, have returned.

    The frozen members do not change, so that all their episodes count; of the full set, which
    changes while it learns, the last `window`. `certainty` is how sure it is that the full set's
    mean return is higher: Φ((m_full − m_frozen) / (s · √(1/n_full + 1/n_frozen))), with the
    standard deviation s of all these returns, which is a z-test of two means with the spread that
    they have if both are the same. Where no return differs from another it is ½.

    Until there is an update all episodes are the frozen members'. From then on the share of new
    episodes that the full set gets is 2 · `certainty`, at least `least` and at most n / (n + 1)
    after n episodes of the frozen members, so that these get few where the full set is as good, and
    more the surer it is that it is worse.

    Args:
        window: Episodes of the full set that count.
        least: Least share of episodes that the full set gets, so that there is always news of it.
        certain: Certainty from which on the full set is favoured, and with which it has to be worse
            before it is favoured no longer.

    Attributes:
        share: Share of new episodes that the full set gets.
        favoured: Whether the full set is what is evaluated and exported: from when `certainty`
            reaches `certain`, with at least 2 episodes of each, until it falls below 1 − `certain`.
    """

    learns: Tensor
    share: Tensor
    favoured: Tensor
    certainty: Tensor
    frozen: Tensor
    full: Tensor
    full_count: Tensor

    def __init__(self, window: int, least: float, certain: float) -> None:
        super().__init__()
        self.least = least
        self.certain = certain
        self.register_buffer("learns", torch.tensor(False))
        self.register_buffer("share", torch.zeros(()))
        self.register_buffer("favoured", torch.tensor(False))
        self.register_buffer("certainty", torch.zeros(()))
        # Count, mean and sum of squared deviations from the mean.
        self.register_buffer("frozen", torch.zeros(3))
        self.register_buffer("full", torch.zeros(window))
        self.register_buffer("full_count", torch.zeros((), dtype=torch.int64))
        self.forget()

    def learning(self, begun: bool) -> None:
        """Say whether the policy that learns has begun to; before that it gets no episodes."""
        if begun != bool(self.learns):
            self.learns.fill_(begun)
            self._judge()

    def add(self, episodes: Sequence[Episode]) -> None:
        """Take in episodes that have ended, in the order of their ends."""
        if not episodes:
            return
        for episode in episodes:
            if episode.learner_took_part:
                self.full.copy_(self.full.roll(-1))
                self.full[-1] = episode.episode_return
                self.full_count.add_(1)
            else:
                count, mean, squares = self.frozen.tolist()
                change = episode.episode_return - mean
                mean += change / (count + 1)
                squares += change * (episode.episode_return - mean)
                self.frozen.copy_(self.frozen.new_tensor([count + 1, mean, squares]))
        self._judge()

    def forget(self) -> None:
        """Start anew, where the members of the set have changed."""
        self.frozen.zero_()
        self.full_count.zero_()
        self.share.zero_()
        self.certainty.fill_(0.5)
        self.favoured.fill_(False)

    @property
    def compares(self) -> bool:
        """Whether there are enough episodes of both kinds."""
        return bool(self.frozen[0] >= _FEWEST) and bool(self.full_count >= _FEWEST)

    def _judge(self) -> None:
        count, mean, squares = self.frozen.tolist()
        recent = self.full[-min(len(self.full), int(self.full_count)) :]
        sure = 0.5
        if count > 0 and self.full_count > 0:
            full, among = float(recent.mean()), count * len(recent) / (count + len(recent))
            squares += float((recent - full).square().sum()) + among * (full - mean) ** 2
            error = math.sqrt(squares / (count + len(recent) - 1) / among)
            sure = NormalDist().cdf((full - mean) / error) if error > 0 else 0.5
        self.certainty.fill_(sure)
        most = count / (count + 1) if self.learns else 0.0
        self.share.fill_(min(most, max(self.least, 2.0 * sure)))
        if self.compares and sure >= self.certain:
            self.favoured.fill_(True)
        elif sure < 1.0 - self.certain:
            self.favoured.fill_(False)


class EvidenceRule(ChoiceRule):
    """Wraps a rule for evaluation: among all members once the evidence favours it.

    The learning member is the last one.

    Args:
        rule: Chooses among the members that are candidates.
        evidence: Says whether the learning member is one.
    """

    def __init__(self, rule: ChoiceRule, evidence: Evidence) -> None:
        super().__init__()
        self.rule = rule
        self.evidence = evidence

    def probs(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """Of all members, or of the frozen alone."""
        return self.within(values, filled, self.evidence.favoured)

    def within(self, values: Tensor, filled: Tensor | None, full: Tensor) -> Tensor:
        """Of all members where `full` (a scalar, or `[B, 1]`), elsewhere of the frozen alone."""
        alone = self.rule.probs(*without_learner(values, filled))
        frozen = torch.nn.functional.pad(alone, (0, 1))
        return torch.where(full, self.rule.probs(values, filled), frozen)

    def best(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """The favourite among all members, or among the frozen."""
        frozen = self.rule.best(*without_learner(values, filled))
        return torch.where(self.evidence.favoured, self.rule.best(values, filled), frozen)

    def decide(self, values: Tensor, filled: Tensor | None = None) -> Tensor:
        """As `best`, without chance."""
        frozen = self.rule.decide(*without_learner(values, filled))
        return torch.where(self.evidence.favoured, self.rule.decide(values, filled), frozen)

    @property
    def unfinished(self) -> str | None:
        """That the frozen members act alone, as episodes of the full set returned less."""
        if bool(self.evidence.favoured):
            return None
        if not self.evidence.compares:
            return (
                "too few episodes with and without it could be compared yet, and the frozen "
                "members act alone in evaluation until then"
            )
        return (
            f"it is only {math.floor(100 * float(self.evidence.certainty))} % sure that its "
            "episodes return more than those of the frozen members, which therefore act alone in "
            "evaluation"
        )

    def diagnose(self, values: Tensor, filled: Tensor | None = None) -> Mapping[str, Tensor]:
        """What the wrapped rule says of all members, `admitted` and `certainty`."""
        found = self.rule.diagnose(values, filled)
        return {**found, "admitted": self.evidence.share, "certainty": self.evidence.certainty}


class EvidencePolicy(CompositePolicy):
    """A composite policy that leaves some of the episodes to the frozen members alone.

    At the first step of an episode it is drawn, with the probability that the evidence says,
    whether all members are candidates in it. Memory: what was drawn.

    Args:
        policies: The policy set Π.
        values: Values of the members' candidates.
        rule: The choice between members, with the evidence.
        eval_epsilon: As for CompositePolicy.
    """

    rule: EvidenceRule

    def __init__(
        self, policies: PolicySet, values: CandidateValues, rule: EvidenceRule, eval_epsilon: float
    ) -> None:
        super().__init__(policies, values, rule, eval_epsilon, memory_size=1)

    def probs(self, values: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """P(i|s) of the kind of episode that was drawn, and the memory of it."""
        drawn = torch.where(torch.rand_like(memory) < self.rule.evidence.share, _ALL, _ALONE)
        memory = torch.where(memory == 0, drawn, memory)
        return self.rule.within(values, self.policies.filled, memory == _ALL), memory

    @property
    def decides_by_memory(self) -> bool:
        """No: which members are candidates in evaluation is the same for all episodes."""
        return False
