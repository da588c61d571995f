"""The rate budget of one process: how many calls per second it makes for one organisation.

The service allows an organisation 10 calls per second, over all its processes, and blocks it for 30
seconds when it makes more ("Rate limiting", the service's documentation).
"""

import asyncio
import threading
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from functools import partial
from weakref import WeakKeyDictionary

import anyio

SERVICE_LIMIT = 10.0
# After this many seconds without a response, a call is assumed to have reached the service.
ASSUMED_ARRIVED_AFTER = 5.0
ONE_SECOND = 1.0
# While too many calls are in flight, the longest sleep before the next check.
_RECHECK_AFTER = 0.25


class RateBudget:
    """A token bucket for each key, which names an organisation. Several event loops may share it.

    At most 9 calls may be in flight (fewer for a smaller share). A call still counts for one second
    after its response began, because calls that a stalled network delayed reach the service together.
    A call without a response after 5 seconds is assumed to have reached the service.

    Args:
        share: The part of the service's rate limit that the budget has, above 0 and at most 1.
        monotonic: Returns the seconds of a clock that never jumps.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        *,
        share: float = 1.0,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        # Rate and burst together stay below the limit, so that no second has more calls than the
        # service allows. With a limit below two calls per second, only one call fits into a second.
        limit = SERVICE_LIMIT * share
        max_in_flight = max(2 if limit >= 2 else 1, int(0.9 * limit + 1e-9))
        rate = 0.7 * limit if limit >= 2 else min(0.7 * limit, 0.9)
        burst = max(1.0, 0.2 * limit)
        self._monotonic = monotonic
        self._sleep = sleep
        self._buckets = defaultdict[str, _Bucket](
            lambda: _Bucket(rate=rate, burst=burst, max_in_flight=max_in_flight, now=monotonic())
        )
        # Guards the buckets, which the event loops of several threads may use. Reentrant, because the
        # garbage collector may end an abandoned call in the thread that holds the lock.
        self._using_buckets = threading.RLock()
        # A lock of anyio works in one event loop only.
        self._queues = WeakKeyDictionary[asyncio.AbstractEventLoop, defaultdict[str, anyio.Lock]]()

    async def acquire(self, key: str) -> Callable[[], None]:
        """Waits until a call may be made. A cancelled `acquire` uses nothing of the budget.

        Calls of one event loop are let through first come, first served. Between event loops the order
        is random.

        Returns:
            A function that ends the call's time in flight. It may be called more than once.
        """
        # The lock is a queue. A cancelled caller leaves it without taking a token.
        async with self._queue(key):
            while not isinstance(call := self._take(key), _Call):
                await self._sleep(call)

        def arrived() -> None:
            with self._using_buckets:
                self._buckets[key].arrived(call, self._monotonic())

        return arrived

    def block(self, key: str, seconds: float) -> None:
        """Lets no call through for some seconds, because the service blocks the organisation."""
        with self._using_buckets:
            self._buckets[key].block(self._monotonic() + seconds)

    def _queue(self, key: str) -> anyio.Lock:
        with self._using_buckets:
            queues = self._queues.setdefault(
                asyncio.get_running_loop(),
                defaultdict[str, anyio.Lock](partial(anyio.Lock, fast_acquire=True)),
            )
            return queues[key]

    def _take(self, key: str) -> "_Call | float":
        """Takes a token for a call. The seconds to wait before the next attempt, if there is none."""
        with self._using_buckets:
            bucket, now = self._buckets[key], self._monotonic()
            wait = bucket.wait(now)
            return wait if wait > 0 else bucket.take(now)


class _Call:
    """A call that has taken a token."""


class _Bucket:
    """Tokens that refill at a rate, up to a burst. A call also waits for room in flight and for a block."""

    def __init__(self, *, rate: float, burst: float, max_in_flight: int, now: float) -> None:
        self._rate, self._burst, self._max_in_flight = rate, burst, max_in_flight
        # The time until which each call counts as in flight.
        self._in_flight_until = dict[_Call, float]()
        self._tokens = burst
        self._filled_at = now
        self._blocked_until = now

    def wait(self, now: float) -> float:
        """Seconds to wait before checking again; 0 when a call may take a token now."""
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self._rate)
        self._filled_at = now
        missing = 1.0 - self._tokens
        # Ignore a rounding error: so short a sleep may not move the clock, and the wait would not end.
        until_token = 0.0 if missing < 1e-9 else missing / self._rate
        return max(until_token, self._blocked_until - now, self._until_room_in_flight(now))

    def take(self, now: float) -> _Call:
        self._tokens -= 1.0
        call = _Call()
        self._in_flight_until[call] = now + ASSUMED_ARRIVED_AFTER + ONE_SECOND
        return call

    def arrived(self, call: _Call, now: float) -> None:
        # A call that was assumed to have arrived may be gone from the dictionary.
        if call in self._in_flight_until:
            self._in_flight_until[call] = min(self._in_flight_until[call], now + ONE_SECOND)

    def _until_room_in_flight(self, now: float) -> float:
        self._in_flight_until = {
            call: until for call, until in self._in_flight_until.items() if until - now > 1e-9
        }
        if len(self._in_flight_until) < self._max_in_flight:
            return 0.0
        # A response may begin before the earliest of these times, so check again soon.
        return min(_RECHECK_AFTER, min(self._in_flight_until.values()) - now)

    def block(self, until: float) -> None:
        self._blocked_until = max(self._blocked_until, until)
