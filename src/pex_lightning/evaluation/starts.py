"""Which of the episode starts that a policy solved another one solves too."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pex_lightning.evaluation.rollouts import EvaluationResult


@dataclass(frozen=True)
class SolvedStarts:
    """The starts that the offline members solved, each of them alone.

    Attributes:
        seed: Seed of the first episode.
        episodes: Number of episodes E.
        solved: [E] bool, whether any of them solved the start; all false if the environment reports
            no success.
    """

    seed: int
    episodes: int
    solved: np.ndarray

    @classmethod
    def of(cls, seed: int, results: list[EvaluationResult]) -> SolvedStarts:
        """What was solved in evaluations on the same starts."""
        solved = np.zeros(results[0].episodes, dtype=bool)
        for result in results:
            if result.successes is not None:
                solved |= result.successes
        return cls(seed, len(solved), solved)

    def are(self, seed: int, episodes: int) -> bool:
        """Whether evaluations with that seed and number of episodes have these starts."""
        return (self.seed, self.episodes) == (seed, episodes)

    def compare(self, result: EvaluationResult) -> dict[str, float]:
        """`starts_kept`, `starts_lost` and `starts_won`: numbers of starts.

        Kept and lost are those of the solved starts that `result` solves and does not solve; won
        are those that it solves alone. Empty if no success is reported.
        """
        now = result.successes
        if now is None:
            return {}
        return {
            "starts_kept": float((self.solved & now).sum()),
            "starts_lost": float((self.solved & ~now).sum()),
            "starts_won": float((~self.solved & now).sum()),
        }
