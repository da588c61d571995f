"""The clock of a sandbox, which `advance` moves forward."""

import asyncio
import time
from collections.abc import Callable, MutableMapping
from datetime import UTC, datetime, timedelta

from posten_signering.sandbox._values.refusal import Refusal

Clock = Callable[[], datetime]

_ADVANCED_BY = "advanced by"
_FURTHEST_AHEAD = timedelta(days=50 * 365)
# In seconds: how soon a sleep notices that the clock was advanced.
_LONGEST_SLEEP = 0.05


class AdvancedClock:
    """A clock that can be moved forward. It is then ahead of the clock that it wraps.

    The sandbox and the clients in its process use it, in any thread.

    Attributes:
        given: The wrapped clock.
        offsets: Stores how many seconds this clock is ahead, under one name. A sandbox replaces it when
            it starts.
    """

    def __init__(self, given: Clock) -> None:
        self.given = given
        self.offsets: MutableMapping[str, float] = {}
        self._skipped = 0.0

    def __call__(self) -> datetime:
        return self.given() + timedelta(seconds=self.ahead)

    @property
    def ahead(self) -> float:
        """How many seconds this clock is ahead of the wrapped clock."""
        return self.offsets.get(_ADVANCED_BY, 0.0)

    def advance(self, seconds: float) -> None:
        """Moves the clock forward.

        Raises:
            Refusal: The clock would be more than 50 years ahead. Certificates and dates have an end.
        """
        ahead = self.ahead + seconds
        if ahead > _FURTHEST_AHEAD.total_seconds():
            raise Refusal(
                409,
                "TOO_FAR_AHEAD",
                "The sandbox's time can be at most 50 years ahead of its clock: reset the sandbox first.",
            )
        self.offsets[_ADVANCED_BY] = ahead
        self._skipped += seconds

    def monotonic(self) -> float:
        """Seconds that only grow. `advance` adds to them, and a reset or a restart takes nothing away."""
        return time.monotonic() + self._skipped

    async def sleep(self, seconds: float) -> None:
        """Waits as `asyncio.sleep` does. `advance` shortens the wait."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self._skipped + seconds
        remaining = max(0.0, seconds)
        while True:
            # In short sleeps, because `advance` may be called in a different thread.
            await asyncio.sleep(min(remaining, _LONGEST_SLEEP))
            remaining = end - loop.time() - self._skipped
            if remaining <= 0:
                return


def system_clock() -> datetime:
    """The current time of this machine."""
    return datetime.now(UTC)
