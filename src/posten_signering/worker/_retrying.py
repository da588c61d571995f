"""How long the worker waits before it retries, how many changes may wait, and when it fetches no more."""

from collections.abc import Awaitable, Callable

import anyio

_FIRST_WAIT = 1.0
_LONGEST_WAIT = 30.0


def backoff(attempt: int, random: float) -> float:
    """Seconds between a failed attempt and the next one: 1, 2, 4 and so on up to 30, minus up to half.

    Args:
        attempt: The number of the failed attempt, from 1.
        random: From 0 to 1, for the jitter.
    """
    exponential = _FIRST_WAIT * 2.0 ** min(attempt - 1, 20)
    return min(_LONGEST_WAIT, exponential) * (0.5 + 0.5 * random)


class RetryRoom:
    """Limits how many changes wait for another attempt of their handler.

    If a database is away, every handler fails. The changes that wait show when it is back. Until then
    the worker fetches hardly any further changes, because it would have to release them, and they would
    come back only when their leases end.

    Args:
        size: How many changes may wait.
        sleep: Waits for some seconds.
    """

    def __init__(self, size: int, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._size = size
        self._sleep = sleep
        self._waits = set[anyio.CancelScope]()
        self._closed = False
        # How many attempts in a row have failed.
        self._failures = 0
        self._success = anyio.Event()
        self._fetching = anyio.Lock()

    @property
    def waiting(self) -> int:
        """How many changes wait."""
        return len(self._waits)

    @property
    def has_room(self) -> bool:
        """Whether one more change may wait."""
        return not self._closed and self.waiting < self._size

    def succeeded(self) -> None:
        """Notes that a handler returned."""
        self._failures = 0
        self._success.set()
        self._success = anyio.Event()

    def failed(self) -> None:
        """Notes that a handler raised."""
        self._failures += 1

    def close(self) -> None:
        """Ends every wait, because the worker stops."""
        self._closed = True
        for scope in self._waits:
            scope.cancel()

    async def wait(self, seconds: float) -> bool:
        """Waits for the next attempt. False if the worker stops, so that there is none."""
        with anyio.CancelScope() as scope:
            self._waits.add(scope)
            try:
                await self._sleep(seconds)
                return True
            finally:
                self._waits.discard(scope)
        return False

    async def wait_to_fetch(self) -> None:
        """Waits before a change is fetched, while there is no room and no handler succeeds.

        The wait is a backoff of up to 30 seconds, and ends when a handler returns. It ends by itself,
        because a few changes whose handler always fails must not keep the worker from all others.
        """
        async with self._fetching:
            if self.waiting >= self._size and self._failures >= self._size:
                with anyio.move_on_after(backoff(1 + self._failures - self._size, 1.0)):
                    await self._success.wait()
