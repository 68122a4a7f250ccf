from statistics import NormalDist

import numpy as np
import pytest
import torch

from pex_lightning.policies.acting import Episode
from pex_lightning.policies.choice import Boltzmann
from pex_lightning.policies.evidence import Evidence, EvidenceRule


def judged(frozen: list[float], full: list[float], window: int = 10) -> Evidence:
    evidence = Evidence(window, least=0.25, certain=0.8)
    evidence.learning(True)
    evidence.add([Episode(value, False) for value in frozen])
    evidence.add([Episode(value, True) for value in full])
    return evidence


def test_the_first_episode_and_all_before_the_first_update_are_the_frozen_members() -> None:
    evidence = Evidence(10, least=0.25, certain=0.8)
    assert float(evidence.share) == 0.0
    evidence.add([Episode(1.0, False)] * 4)
    assert float(evidence.share) == 0.0
    evidence.learning(True)
    assert float(evidence.share) == pytest.approx(4 / 5)
    assert float(judged([], []).share) == 0.0
    assert not evidence.favoured


def test_certainty_is_the_z_test_of_two_means_with_the_spread_of_all_returns() -> None:
    generator = np.random.default_rng(0)
    frozen, full = generator.normal(100.0, 20.0, 30), generator.normal(103.0, 10.0, 8)
    evidence = judged(frozen.tolist(), full.tolist())
    spread = np.concatenate((frozen, full)).std(ddof=1)
    error = spread * np.sqrt(1 / 30 + 1 / 8)
    expected = NormalDist().cdf((full.mean() - frozen.mean()) / error)
    assert 0.5 < expected < 0.95
    assert float(evidence.certainty) == pytest.approx(expected, abs=1e-4)


def test_the_share_grows_with_the_episodes_of_the_frozen_members_where_nothing_is_worse() -> None:
    assert float(judged([0.0] * 10, [0.0] * 10).share) == pytest.approx(10 / 11)
    assert float(judged([0.0], [0.0] * 10).share) == 0.5
    some = judged([0.0, 1.0] * 10, [0.0, 0.0, 0.0, 1.0, 1.0] * 2)
    assert 0.25 < float(some.certainty) < 0.5
    assert float(some.share) == pytest.approx(2 * float(some.certainty))


@pytest.mark.parametrize(
    ("frozen", "full", "favoured"),
    [
        ([0.0] * 2, [1.0] * 2, True),
        ([0.0] * 1, [1.0] * 2, False),
        ([0.0] * 2, [1.0] * 1, False),
        ([0.0, 1.0] * 5, [0.0, 1.0, 1.0] * 3, False),
        ([0.0] * 9, [0.0] * 9, False),
    ],
)
def test_the_full_set_is_favoured_once_it_is_surely_better(
    frozen: list[float], full: list[float], favoured: bool
) -> None:
    assert bool(judged(frozen, full).favoured) == favoured


def test_what_is_favoured_stays_so_until_it_is_as_surely_worse() -> None:
    evidence = judged([0.0, 1.0] * 5, [1.0] * 10)
    assert evidence.favoured
    evidence.add([Episode(0.0, True)] * 6)
    assert 0.2 < float(evidence.certainty) < 0.5
    assert evidence.favoured
    evidence.add([Episode(0.0, True)] * 2)
    assert float(evidence.certainty) < 0.2
    assert not evidence.favoured
    evidence.add([Episode(1.0, True)] * 5)
    assert 0.2 < float(evidence.certainty) < 0.8
    assert not evidence.favoured


def test_only_the_last_episodes_of_the_full_set_count() -> None:
    evidence = judged([0.0, 1.0, 1.0, 0.0], [1.0] * 20 + [0.0] * 5, window=5)
    assert float(evidence.full.mean()) == 0.0
    assert not evidence.favoured


def test_a_worse_full_set_keeps_its_least_share_and_comes_back_when_it_is_better() -> None:
    evidence = judged([1.0] * 20, [0.0] * 10)
    assert float(evidence.share) == 0.25
    assert not evidence.favoured
    evidence.add([Episode(2.0, True)] * 10)
    assert float(evidence.share) == pytest.approx(20 / 21)
    assert evidence.favoured
    evidence.add([Episode(0.0, True)] * 10)
    assert not evidence.favoured


def test_returns_without_any_spread_tell_nothing() -> None:
    evidence = judged([0.0] * 3, [0.0] * 3)
    assert float(evidence.certainty) == 0.5
    assert not evidence.favoured


def test_the_evidence_is_in_the_state_dict() -> None:
    evidence, other = judged([0.0, 1.0], [1.0, 1.0]), Evidence(10, least=0.25, certain=0.8)
    other.load_state_dict(evidence.state_dict())
    for one in (evidence, other):
        one.add([Episode(0.0, True), Episode(1.0, False)])
    for key, value in evidence.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key


def test_the_rule_is_that_of_the_frozen_members_until_the_evidence_favours_all() -> None:
    evidence = Evidence(10, least=0.25, certain=0.8)
    rule, all_members = EvidenceRule(Boltzmann(1.0), evidence), Boltzmann(1.0)
    values = torch.randn(3, 50)
    frozen = all_members.probs(values[:-1])
    assert torch.equal(rule.probs(values)[:, :-1], frozen)
    assert not rule.probs(values)[:, -1].any()
    assert torch.equal(rule.best(values), frozen.argmax(-1))
    assert rule.unfinished is not None
    assert "could be compared" in rule.unfinished
    evidence.add([Episode(1.0, False), Episode(0.0, True)] * 3)
    assert rule.unfinished is not None
    assert "only 1 % sure" in rule.unfinished
    evidence.favoured.fill_(True)
    assert torch.equal(rule.probs(values), all_members.probs(values))
    assert torch.equal(rule.decide(values), all_members.decide(values))
    assert rule.unfinished is None
