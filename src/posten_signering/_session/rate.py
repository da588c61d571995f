"""The rate budget: fewer calls than the service allows an organisation, and silence while it blocks.

The service allows an organisation 10 calls a second, over all its processes, and blocks it for 30
seconds when there are more ("Rate limiting", the service's documentation).
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from posten_signering.errors import ConfigurationError

_SERVICE_LIMIT = 10.0
# Seconds after which a call without an answer is taken to be at the service.
_LONGEST_WAY = 5.0
_SECOND = 1.0
_LOOK_AGAIN = 0.25


class RateLimiter(Protocol):
    """Lets calls to the service through at the pace that an organisation is allowed.

    `ClientConfiguration(rate_limiter=...)` takes one. Give several clients the same one, or one that
    knows of other processes, to share a budget.
    """

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        """Returns when a call on behalf of the organisation may be made, in the order of asking.

        Cancelling it leaves the budget as if it had not been asked.

        Returns:
            To be called when the call has an answer coming in, or has failed: until then it is on its
            way. May be called more than once.
        """
        ...

    async def block(self, organization_number: str, seconds: float) -> None:
        """Takes note that the service blocks the organisation: nobody gets through meanwhile."""
        ...


class InMemoryRateLimiter:
    """A token bucket for each organisation, for the clients of one process.

    At most 9 calls are on their way at once, of a smaller share as many fewer, those counted that arrived
    within the last second: what a stall of the network holds up arrives all together when it ends. One
    that has had no answer for 5 seconds is taken to have arrived, and to be worked on.

    Args:
        share: This process's part of what the service allows the organisation, above 0 to 1: four
            processes have 0.25 each. More than ten processes can't be kept apart by shares alone,
            should all of them call in the same second: let them share a `RateLimiter`.
        monotonic: Seconds on a clock that is never set.
        sleep: Waits for some seconds.

    Raises:
        ConfigurationError: The share is out of range.
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        if not 0 < share <= 1:
            raise ConfigurationError("The share of the rate budget must be above 0, and at most 1.")
        # Rate and burst together stay below the limit, so that no second holds more calls than the
        # service allows. Of a share of less than two calls a second one fits into a second, not two.
        limit = _SERVICE_LIMIT * share
        places = max(2 if limit >= 2 else 1, int(0.9 * limit + 1e-9))
        rate = 0.7 * limit if limit >= 2 else min(0.7 * limit, 0.9)
        burst = max(1.0, 0.2 * limit)
        self._monotonic = monotonic
        self._sleep = sleep
        self._buckets = defaultdict[str, _Bucket](
            lambda: _Bucket(rate=rate, burst=burst, places=places, now=monotonic())
        )

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        """Returns when a call on behalf of the organisation may be made, in the order of asking."""
        bucket = self._buckets[organization_number]
        # The lock is a queue: whoever is cancelled leaves it, and takes nothing along.
        async with bucket.turn:
            while (wait := bucket.wait(self._monotonic())) > 0:
                await self._sleep(wait)
            call = bucket.take(self._monotonic())
        return lambda: bucket.arrived(call, self._monotonic())

    async def block(self, organization_number: str, seconds: float) -> None:
        """Takes note that the service blocks the organisation: nobody gets through meanwhile."""
        self._buckets[organization_number].block(self._monotonic() + seconds)


class _Bucket:
    """Tokens that come back at a rate, up to a burst; none during a block, or without a place."""

    def __init__(self, *, rate: float, burst: float, places: int, now: float) -> None:
        self.turn = anyio.Lock()
        self._rate, self._burst, self._places = rate, burst, places
        # Until when each call has its place: for a second after it arrived, as far as that is known.
        self._on_the_way = dict[object, float]()
        self._tokens = burst
        self._filled_at = now
        self._blocked_until = now

    def wait(self, now: float) -> float:
        """Seconds until there is a token and no block; 0 when a token may be taken now."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        missing = 1.0 - self._tokens
        # What rounding leaves over is not worth a sleep, which may be too short to move a clock.
        until_token = 0.0 if missing < 1e-9 else missing / self._rate
        return max(until_token, self._blocked_until - now, self._until_place(now))

    def take(self, now: float) -> object:
        self._tokens -= 1.0
        call = object()
        self._on_the_way[call] = now + _LONGEST_WAY + _SECOND
        return call

    def arrived(self, call: object, now: float) -> None:
        # One that was taken to have arrived long ago has given its place up.
        if call in self._on_the_way:
            self._on_the_way[call] = min(self._on_the_way[call], now + _SECOND)

    def _until_place(self, now: float) -> float:
        self._on_the_way = {
            call: until for call, until in self._on_the_way.items() if until - now > 1e-9
        }
        if len(self._on_the_way) < self._places:
            return 0.0
        # An answer may come earlier than the first of them gives its place up.
        return min(_LOOK_AGAIN, min(self._on_the_way.values()) - now)

    def block(self, until: float) -> None:
        self._blocked_until = max(self._blocked_until, until)
