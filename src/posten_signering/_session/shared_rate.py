"""One rate budget for several processes, kept in Redis. Without Redis, each process uses a part of it.

The extra `redis` is needed only when a limiter is created.
"""

import logging
import random
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Self

import anyio

from posten_signering._session.loop import OwnLoop
from posten_signering._session.rate import InMemoryRateLimiter
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

logger = logging.getLogger("posten_signering")

# After Redis failed, it is not called for this long.
_REDIS_PAUSE_SECONDS = 5.0
_ONE_SECOND = 1.0


class SharedRateLimiter:
    """One rate budget for all processes that use the same Redis: at most 7 calls per second in all.

    When the service blocks the organisation (for 30 seconds, after too many calls), no process calls
    for it. Within a process, calls are let through first come, first served, at most 7 per second and
    2 at the same moment. Between processes the order is random.

    When Redis can't be used, calls continue. After a pause of one second, each process limits itself
    to `share_alone` of the budget. It keeps this limit for 6 more seconds after Redis is back, until
    every process has noticed. The log has one WARNING for the outage and one INFO when Redis is back.
    Meanwhile the limiter checks Redis every 5 seconds. A request to Redis takes at most 2 seconds.

    A limiter belongs to the event loop that uses it first. Clients in other loops, threads and processes
    need their own. Close it with `aclose`, or use it in `async with`.

    Args:
        storage_uri: The address of Redis: `redis://[user:password@]host:port[/db]`, `rediss://…` or
            `redis+unix:///path`. The spelling `async+redis://…` of the library limits works too.
        share: The part of the organisation's rate limit that all these processes together may use,
            above 0 and at most 1.
        share_alone: The part of the shared budget that this process uses while Redis can't be used:
            0.25 for four processes.
        monotonic: Returns the seconds of a clock that never jumps.
        sleep: Waits for some seconds.
        random: Returns a number from 0 up to 1.

    Raises:
        ConfigurationError: A share is out of range, the URI is not a Redis URI, or the extra `redis`
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
        # Spreads this process's own calls evenly. Other processes do not see it.
        self._pace = InMemoryRateLimiter(share=share, monotonic=monotonic, sleep=sleep)
        self._local_share = share * share_alone
        if not 0 < self._local_share <= 1:
            raise ConfigurationError(
                "The share_alone of a SharedRateLimiter must be above 0, and share * share_alone at "
                f"most 1, but share_alone is {share_alone}."
            )
        # Replaces the shared budget while Redis can't be used.
        self._local_budget = InMemoryRateLimiter(
            share=self._local_share, monotonic=monotonic, sleep=sleep
        )
        self._redis = RedisSlots(uri, share=share, random=random)
        self._monotonic = monotonic
        self._sleep = sleep
        self._loop: OwnLoop | None = None
        self._queues = defaultdict[str, anyio.Lock](anyio.Lock)
        # None while Redis works; else the time of the next check.
        self._redis_paused_until: float | None = None
        self._local_budget_from = float("-inf")
        self._local_budget_until = float("-inf")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes the connections with Redis.

        Raises:
            ClientStateError: The limiter belongs to a different event loop.
        """
        self._check_loop()
        await self._redis.aclose()

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        """Waits until a call on behalf of the organisation may be made.

        A caller that is cancelled while it waits for Redis may have used a slot. The slot is free again
        one second later.

        Raises:
            ClientStateError: The limiter belongs to a different event loop.
        """
        self._check_loop()
        # The lock is a queue: only the first caller in it asks Redis.
        async with self._queues[organization_number]:
            arrived = await self._pace.acquire(organization_number)
            try:
                await self._acquire_shared(organization_number)
            except BaseException:
                arrived()
                raise
        return arrived

    async def _acquire_shared(self, organization_number: str) -> None:
        local_budget_acquired = False
        while self._may_ask_redis:
            # Other processes may use their local budgets now. Redis does not know of their calls, so
            # this process stays within its local budget too.
            if not local_budget_acquired and self._others_may_use_local_budgets:
                await self._acquire_local(organization_number)
                local_budget_acquired = True
            try:
                wait = await self._redis.take(organization_number)
            except self._redis.failure as error:
                self._redis_failed(error)
                continue
            self._redis_answered()
            if wait == 0:
                return
            await self._sleep(wait)
        if not local_budget_acquired:
            await self._acquire_local(organization_number)

    async def block(self, organization_number: str, seconds: float) -> None:
        """Lets no call of the organisation through in any process, because the service blocks it."""
        self._check_loop()
        await self._pace.block(organization_number, seconds)
        await self._local_budget.block(organization_number, seconds)
        if self._may_ask_redis:
            try:
                await self._redis.block(organization_number, seconds)
            except self._redis.failure as error:
                self._redis_failed(error)

    def _check_loop(self) -> None:
        if self._loop is None:
            self._loop = OwnLoop("SharedRateLimiter")
        self._loop.check()

    async def _acquire_local(self, organization_number: str) -> None:
        pause = self._local_budget_from - self._monotonic()
        if pause > 0:
            await self._sleep(pause)
        arrived = await self._local_budget.acquire(organization_number)
        arrived()  # `_pace` already limits the calls in flight.

    @property
    def _others_may_use_local_budgets(self) -> bool:
        return self._redis_paused_until is not None or self._monotonic() < self._local_budget_until

    @property
    def _may_ask_redis(self) -> bool:
        return self._redis_paused_until is None or self._monotonic() >= self._redis_paused_until

    def _redis_failed(self, error: Exception) -> None:
        if self._redis_paused_until is None:
            logger.warning(
                "Redis can't be used, so the rate budget is not shared between processes (%s). Until "
                "Redis is back, this process uses %.0f %% of an organisation's rate limit.",
                error.__cause__ or error,
                100 * self._local_share,
            )
            # The last slots taken in Redis still count for one second.
            self._local_budget_from = self._monotonic() + _ONE_SECOND
        self._redis_paused_until = self._monotonic() + _REDIS_PAUSE_SECONDS

    def _redis_answered(self) -> None:
        if self._redis_paused_until is not None:
            logger.info("Redis is back. The rate budget is shared between processes again.")
            self._local_budget_until = self._monotonic() + _REDIS_PAUSE_SECONDS + _ONE_SECOND
        self._redis_paused_until = None
