import numpy as np

from pex_lightning.evaluation.rollouts import EvaluationResult
from pex_lightning.evaluation.starts import SolvedStarts


def result(*successes: int) -> EvaluationResult:
    lengths = np.ones(len(successes), dtype=np.int64)
    return EvaluationResult(lengths.astype(float), lengths, np.array(successes, dtype=bool))


def silent(episodes: int) -> EvaluationResult:
    return EvaluationResult(np.ones(episodes), np.ones(episodes, dtype=np.int64), None)


def test_starts_are_kept_lost_and_won() -> None:
    before = SolvedStarts.of(7, [result(1, 1, 1, 0, 0, 0)])
    assert before.compare(result(1, 0, 0, 1, 0, 0)) == {
        "starts_kept": 1.0,
        "starts_lost": 2.0,
        "starts_won": 1.0,
    }


def test_what_any_offline_member_solved_counts() -> None:
    before = SolvedStarts.of(7, [result(1, 0, 0), result(0, 1, 0)])
    assert before.compare(result(0, 0, 0))["starts_lost"] == 2.0


def test_without_successes_there_is_nothing_to_compare() -> None:
    before = SolvedStarts.of(7, [silent(3)])
    assert before.episodes == 3
    assert before.compare(silent(3)) == {}


def test_other_seeds_and_numbers_of_episodes_are_other_starts() -> None:
    before = SolvedStarts.of(7, [result(1, 0)])
    assert before.are(7, 2)
    assert not before.are(8, 2)
    assert not before.are(7, 3)
