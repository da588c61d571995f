"""The slots of a second and the blocks of an organisation, in Redis. Imported only with the extra `redis`.

A slot is a key that a call makes and that Redis removes a second later, so that no second by Redis's clock
holds more calls than there are slots. No other machine's clock is used.
"""

import math
import time
from collections.abc import Callable
from typing import Any

from limits import RateLimitItemPerSecond
from limits.aio.storage import RedisStorage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import StorageError
from redis.asyncio import ConnectionPool
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

# Of the 10 calls that the service allows in a second. The rest is for calls that start apart and
# arrive together.
_SLOTS = 7
_PREFIX = "posten-signering"
_SCHEMES = {"redis://": "redis://", "rediss://": "rediss://", "redis+unix://": "unix://"}
# How long Redis may keep a call waiting.
_PATIENCE_SECONDS = 1.0
# All slots are taken: the longest until it is worth asking again. At random, so that processes take
# turns, and what began together comes apart.
_LOOK_AGAIN = 0.15
_LOOK_AGAIN_WHEN_BLOCKED = 1.0


class RedisSlots:
    """A budget in Redis, by the library limits.

    Args:
        uri: Where Redis is.
        share: Of what the service allows an organisation.
        random: A number from 0 up to 1.

    Attributes:
        failure: What is raised when Redis can't be used.

    Raises:
        ConfigurationError: The URI is not one of Redis.
    """

    failure: type[Exception] = StorageError

    def __init__(self, uri: Secret[str], *, share: float, random: Callable[[], float]) -> None:
        self._slots = max(1, math.floor(_SLOTS * share))
        self._random = random
        try:
            self._pool = ConnectionPool(
                **parse_url(_redis_uri(uri).reveal()),
                socket_timeout=_PATIENCE_SECONDS,
                socket_connect_timeout=_PATIENCE_SECONDS,
                # A connection that Redis closed meanwhile is made again.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:
            raise _unusable_uri() from None
        options: dict[str, Any] = {"connection_pool": self._pool}
        self._storage = RedisStorage(
            "async+redis://", wrap_exceptions=True, implementation="redispy", **options
        )
        self._fixed_window = FixedWindowRateLimiter(self._storage)
        self._one_a_second = RateLimitItemPerSecond(1, namespace=_PREFIX)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._pool.disconnect()

    async def take(self, organization_number: str) -> float:
        """Takes a slot, and gives 0; if there is none, gives the seconds until it is worth asking again."""
        if await self._storage.get(_block_key(organization_number)) > 0:
            return _LOOK_AGAIN_WHEN_BLOCKED * self._between_half_and_one
        # From a slot at random: others are asking for the first one already.
        first = int(self._random() * self._slots)
        for each in range(self._slots):
            slot = f"slot{(first + each) % self._slots}"
            if await self._fixed_window.hit(self._one_a_second, organization_number, slot):
                return 0.0
        return _LOOK_AGAIN * self._between_half_and_one

    async def block(self, organization_number: str, seconds: float) -> None:
        """Notes a block; one that lasts longer stays."""
        key = _block_key(organization_number)
        left = await self._storage.get_expiry(key) - time.time()
        if left < seconds:
            # A key expires so long after it was made.
            await self._storage.clear(key)
            await self._storage.incr(key, math.ceil(seconds))

    @property
    def _between_half_and_one(self) -> float:
        return 0.5 + 0.5 * self._random()


def _block_key(organization_number: str) -> str:
    return f"{_PREFIX}/{organization_number}/block"


def _redis_uri(uri: Secret[str]) -> Secret[str]:
    """The URI as the Redis client takes it."""
    for scheme, theirs in _SCHEMES.items():
        if uri.reveal().removeprefix("async+").startswith(scheme):
            return Secret(theirs + uri.reveal().removeprefix("async+").removeprefix(scheme))
    raise _unusable_uri()


def _unusable_uri() -> ConfigurationError:
    return ConfigurationError(
        "The storage_uri of a SharedRateLimiter must be one of Redis: redis://host:port/db, "
        "rediss://host:port/db or redis+unix:///path."
    )
