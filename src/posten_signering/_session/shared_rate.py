"""One rate budget for a fleet of processes, kept in Redis; without Redis, a part for each process.

Needs the extra `redis`, and works without it until a limiter is made.
"""

import logging
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Self

import anyio

from posten_signering._session.rate import InMemoryRateLimiter
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

logger = logging.getLogger("posten_signering")

# How long Redis is left alone when it did not answer.
_LEFT_ALONE_SECONDS = 5.0
_SECOND = 1.0


class SharedRateLimiter:
    """One budget for all processes that use the same Redis: at most 7 calls a second together.

    A block by the service (30 seconds after too many calls) that one process meets holds all of them.
    Within a process calls are let through in the order of asking, at no more than 7 a second and 2 at
    once; between processes it is chance.

    When Redis can't be used, calls go on: after a second's pause each process paces itself with
    `share_alone` of the budget, and goes on to for 6 seconds after Redis is back, until every process
    knows. A warning tells so once, and a line at INFO when Redis is back; meanwhile it is tried every 5
    seconds. Each question to Redis waits for 2 seconds at most.

    Use one in one event loop, and `aclose` it in the end, or use it in `async with`.

    Args:
        storage_uri: Where Redis is: `redis://[user:password@]host:port[/db]`, `rediss://…` or
            `redis+unix:///path`; spelled `async+redis://…`, as in the library limits, too.
        share: The fleet's part of what the service allows the organisation, above 0 to 1.
        share_alone: This process's part of the fleet's while Redis can't be used: 0.25 for four.
        monotonic: Seconds on a clock that is never set.
        sleep: Waits for some seconds.
        random: A number from 0 up to 1.

    Raises:
        ConfigurationError: A share is out of range, the URI is not one of Redis, or the extra `redis`
            is not installed.
    """

    def __init__(
        self,
        storage_uri: str,
        *,
        share: float = 1.0,
        share_alone: float = 0.25,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
        random: Callable[[], float] = random.random,
    ) -> None:
        uri = Secret(storage_uri)
        del storage_uri  # It may hold a password.
        try:
            from posten_signering._session.redis_slots import RedisSlots  # noqa: PLC0415 - needs the extra
        except ImportError:
            raise ConfigurationError(
                "SharedRateLimiter needs an extra: pip install 'posten-signering[redis]'."
            ) from None
        # Smooths what this process does with the shared budget; counts nothing for the others.
        self._pace = InMemoryRateLimiter(share=share, monotonic=monotonic, sleep=sleep)
        self._alone = InMemoryRateLimiter(
            share=share * share_alone, monotonic=monotonic, sleep=sleep
        )
        self._share_alone = share * share_alone
        self._redis = RedisSlots(uri, share=share, random=random)
        self._monotonic = monotonic
        self._sleep = sleep
        self._turns = defaultdict[str, anyio.Lock](anyio.Lock)
        self._left_alone_until: float | None = None
        self._alone_from = float("-inf")
        self._alone_too_until = float("-inf")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections with Redis."""
        await self._redis.aclose()

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        """Returns when a call on behalf of the organisation may be made.

        One that is cancelled while it asks Redis may have taken a slot and a place, for a second.
        """
        # The lock is a queue, with one at its head who asks Redis.
        async with self._turns[organization_number]:
            arrived = await self._pace.acquire(organization_number)
            try:
                await self._share(organization_number)
            except BaseException:
                arrived()
                raise
        return arrived

    async def _share(self, organization_number: str) -> None:
        paced_alone = False
        while self._may_ask:
            # Others may still be on their own, or be again: what they take is not in Redis.
            if not paced_alone and self._others_may_be_alone:
                await self._acquire_alone(organization_number)
                paced_alone = True
            try:
                wait = await self._redis.take(organization_number)
            except self._redis.failure as error:
                self._lost(error)
                continue
            self._found()
            if wait == 0:
                return
            await self._sleep(wait)
        if not paced_alone:
            await self._acquire_alone(organization_number)

    async def block(self, organization_number: str, seconds: float) -> None:
        """Takes note that the service blocks the organisation: no process gets through meanwhile."""
        await self._pace.block(organization_number, seconds)
        await self._alone.block(organization_number, seconds)
        if self._may_ask:
            try:
                await self._redis.block(organization_number, seconds)
            except self._redis.failure as error:
                self._lost(error)

    async def _acquire_alone(self, organization_number: str) -> None:
        pause = self._alone_from - self._monotonic()
        if pause > 0:
            await self._sleep(pause)
        arrived = await self._alone.acquire(organization_number)
        arrived()  # How many are on their way is `_pace`'s to count.

    @property
    def _others_may_be_alone(self) -> bool:
        return self._left_alone_until is not None or self._monotonic() < self._alone_too_until

    @property
    def _may_ask(self) -> bool:
        return self._left_alone_until is None or self._monotonic() >= self._left_alone_until

    def _lost(self, error: Exception) -> None:
        if self._left_alone_until is None:
            logger.warning(
                "The rate budget is not shared, since Redis can't be used (%s). Until it is back, this "
                "process takes %.0f %% of an organisation's budget for itself.",
                error.__cause__ or error,
                100 * self._share_alone,
            )
            # What Redis gave away last is a second's worth.
            self._alone_from = self._monotonic() + _SECOND
        self._left_alone_until = self._monotonic() + _LEFT_ALONE_SECONDS

    def _found(self) -> None:
        if self._left_alone_until is not None:
            logger.info("Redis is back; the rate budget is shared again.")
            self._alone_too_until = self._monotonic() + _LEFT_ALONE_SECONDS + _SECOND
        self._left_alone_until = None
