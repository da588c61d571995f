"""The fixed slots in which a client may make calls while Redis can't tell how many others made."""

import math
from dataclasses import dataclass, field

# Calls per second of all clients together. This is below the 10 that the service allows, because clocks
# and networks are not exact.
RATE = 6.0
# The same for clients that do not know their rank: their slots are random, so some are close together.
RATE_WITHOUT_RANK = 2.0
# A slot ends after this many seconds. A call that comes later waits for the next one.
_LONGEST_SLOT = 1 / RATE


@dataclass(slots=True, kw_only=True)
class Slots:
    """The slots of one client. In each of them it may make one call for each rate budget.

    Args:
        rate: How many calls per second all members may make for each budget.
        rank: The position of the client among the members, from 0 up to `members`.
        members: The number of members.
    """

    rate: float
    rank: float
    members: int
    _last_taken: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def calls_per_second(self) -> float:
        """How many calls per second the client may make for each budget."""
        return self.rate / self.members

    def take(self, budget: str, now: float) -> float | None:
        """Takes the current slot of a budget.

        Args:
            budget: The name of the rate budget.
            now: The time in seconds, on a clock that is the same for all members.

        Returns:
            None when the slot was taken; else the seconds until the next slot begins.
        """
        period = 1 / self.calls_per_second
        number, since = divmod(now - self.rank / self.rate, period)
        slot = math.floor(number)
        if since < _LONGEST_SLOT and self._last_taken.get(budget) != slot:
            self._last_taken[budget] = slot
            return None
        return period - since
