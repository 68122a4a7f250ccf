import numpy as np
import pytest

from pex_lightning.d4rl.reference_scores import score_reference
from pex_lightning.errors import UserError
from pex_lightning.evaluation.scores import ScoreReference


def test_reference_returns_score_0_and_100() -> None:
    reference = score_reference("HalfCheetah-v5")
    assert reference is not None
    assert reference.score(-280.178953) == 0
    assert reference.score(12135.0) == pytest.approx(100)
    assert reference.score(5927.41) == pytest.approx(50, abs=1e-3)


def test_arrays_are_scored_entry_by_entry() -> None:
    np.testing.assert_allclose(ScoreReference(10, 20).score(np.array([10.0, 15.0])), [0, 50])


@pytest.mark.parametrize(
    ("env_id", "minimum", "maximum"),
    [
        ("Hopper-v5", -20.272305, 3234.3),
        ("Hopper-v4", -20.272305, 3234.3),
        ("gymnasium_robotics:AdroitHandPen-v1", 96.262799, 3076.8331017826877),
        ("AdroitHandDoor-v1", -56.512833, 2880.5693087298737),
        ("AdroitHandHammer-v1", -274.856578, 12794.134825156867),
        ("AdroitHandRelocate-v1", -6.425911, 4233.877797728884),
        ("Walker2d-v5", 1.629008, 4592.3),
        ("pex_lightning/AntMaze-umaze-v0", 0, 1),
        ("pex_lightning/AntMaze-Large-v0", 0, 1),
        ("pex_lightning/PointMaze-UMaze-v0", 0, 1),
        ("pex_lightning/AdroitPen-v1", 96.262799, 3076.8331017826877),
        ("pex_lightning/Maze2D-UMaze-v1", 23.85, 161.86),
        ("pex_lightning/Maze2D-UMaze-Dense-v1", 68.537689, 193.66285642381482),
        ("pex_lightning/Maze2D-Open-v0", 0.01, 20.66),
    ],
)
def test_known_environments(env_id: str, minimum: float, maximum: float) -> None:
    assert score_reference(env_id) == ScoreReference(minimum, maximum)


@pytest.mark.parametrize(
    "env_id",
    [
        "Pendulum-v1",
        "AdroitHandDoorSparse-v1",
        "AntMaze_UMaze-v5",
        "HopperX-v5",
        "pex_lightning/Maze2D-Tiny-v1",
        "FrankaKitchen-v1",
    ],
)
def test_other_rewards_have_no_reference(env_id: str) -> None:
    assert score_reference(env_id) is None


@pytest.mark.parametrize("bounds", [(1.0, 1.0), (2.0, 1.0), (float("nan"), 1.0)])
def test_references_without_a_range_are_refused(bounds: tuple[float, float]) -> None:
    with pytest.raises(UserError, match="maximum above the minimum"):
        ScoreReference(*bounds)
