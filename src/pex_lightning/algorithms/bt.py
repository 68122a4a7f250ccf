"""Behaviour transfer (BT, arXiv 2102.13515), as a row of PEX's comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pex_lightning.algorithms.expansion import Expansion
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import check_range
from pex_lightning.handover.checkpoint import Checkpoint
from pex_lightning.policies.flights import Flights, ZetaLengths


class BT(Expansion):
    """A new policy π_θ that explores by flights along the offline policy π_β.

    No implementation of behaviour transfer is public, and PEX's paper gives no constants for its
    version with continuous actions, so that this is our reading: at a step outside of a flight, one
    of n steps along π_β begins with probability `flight_probability`, where n follows a zeta
    distribution. The critic is taken over as in Direct, with Q̄ := Q; π_θ is new and is evaluated
    alone. The default probability is that of the nearest published code, ε-z-greedy.

    Args:
        flight_probability: Probability, at a step outside of a flight, that one begins.
        flight_exponent: Exponent of the zeta distribution of their lengths; above 1.
        longest_flight: Largest number of steps of a flight.
        kwargs: As for Expansion.

    Raises:
        UserError: A value is outside of its range.
    """

    flights: Flights

    def __init__(
        self,
        flight_probability: float = 0.1,
        flight_exponent: float = 2.0,
        longest_flight: int = 100,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        fits = 0.0 <= flight_probability <= 1.0
        check_range("--model.flight_probability", flight_probability, fits, "between 0 and 1")
        check_range("--model.flight_exponent", flight_exponent, flight_exponent > 1.0, "above 1")
        check_range("--model.longest_flight", longest_flight, longest_flight >= 1, "at least 1")
        self.flight_probability = flight_probability
        self.flight_exponent = flight_exponent
        self.longest_flight = longest_flight

    def build(self, data: DataDescription) -> None:
        """Create the critic, Π and the policy that flies."""
        super().build(data)
        self.lengths = ZetaLengths(self.flight_exponent, self.longest_flight)
        flights = Flights(self.policies, self.lengths, self.flight_probability)
        self.hold_unregistered("flights", flights)

    def start(self, given: Sequence[Checkpoint]) -> None:
        """As every expansion, with Q̄ := Q."""
        super().start(given)
        self.critic.reset_target()

    def acting_policy(self) -> Flights:
        """π_θ with flights along π_β."""
        return self.flights
