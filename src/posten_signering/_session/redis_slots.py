"""The slots of a second and the blocks of an organisation, in Redis. Imported only with the extra `redis`.

A call takes a slot by creating a key, which Redis removes one second later. So no second by Redis's clock
has more calls than there are slots. No other machine's clock is used.
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

# Below the 10 calls per second that the service allows, because calls that leave in different seconds
# may arrive in the same one.
_SLOTS = 7
_PREFIX = "posten-signering"
_CLIENT_SCHEMES = {"redis://": "redis://", "rediss://": "rediss://", "redis+unix://": "unix://"}
_REDIS_TIMEOUT_SECONDS = 1.0
# The longest wait before the next check. The wait is random, so that processes that started together
# do not check together, and all of them get slots.
_RECHECK_AFTER = 0.15
_RECHECK_AFTER_WHEN_BLOCKED = 1.0


class RedisSlots:
    """A rate budget in Redis, implemented with the library limits.

    Args:
        uri: The address of Redis.
        share: The part of the organisation's rate limit that all processes together may use.
        random: Returns a number from 0 up to 1.

    Attributes:
        failure: The exception that is raised when Redis can't be used.

    Raises:
        ConfigurationError: The URI is not a Redis URI.
    """

    failure: type[Exception] = StorageError

    def __init__(self, uri: Secret[str], *, share: float, random: Callable[[], float]) -> None:
        self._slots = max(1, math.floor(_SLOTS * share))
        self._random = random
        try:
            self._pool = ConnectionPool(
                **parse_url(_client_uri(uri).reveal()),
                socket_timeout=_REDIS_TIMEOUT_SECONDS,
                socket_connect_timeout=_REDIS_TIMEOUT_SECONDS,
                # One retry, because Redis may have closed an idle connection.
                retry=Retry(NoBackoff(), 1),
            )
        except ValueError:
            raise _invalid_uri() from None
        options: dict[str, Any] = {"connection_pool": self._pool}
        self._storage = RedisStorage(
            "async+redis://", wrap_exceptions=True, implementation="redispy", **options
        )
        self._fixed_window = FixedWindowRateLimiter(self._storage)
        self._one_per_second = RateLimitItemPerSecond(1, namespace=_PREFIX)

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._pool.disconnect()

    async def take(self, organization_number: str) -> float:
        """Takes a slot and returns 0; when there is none, returns the seconds to wait before the next check."""
        if await self._storage.get(_block_key(organization_number)) > 0:
            return _RECHECK_AFTER_WHEN_BLOCKED * self._random_factor
        # Start at a random slot: when all processes start at the first one, it is usually taken.
        first = int(self._random() * self._slots)
        for offset in range(self._slots):
            slot = f"slot{(first + offset) % self._slots}"
            if await self._fixed_window.hit(self._one_per_second, organization_number, slot):
                return 0.0
        return _RECHECK_AFTER * self._random_factor

    async def block(self, organization_number: str, seconds: float) -> None:
        """Stores a block of the organisation, unless a longer one is stored already."""
        key = _block_key(organization_number)
        left = await self._storage.get_expiry(key) - time.time()
        if left < seconds:
            # Only a new key gets an expiry time, so the old key is removed first.
            await self._storage.clear(key)
            await self._storage.incr(key, math.ceil(seconds))

    @property
    def _random_factor(self) -> float:
        """A random number between one half and one."""
        return 0.5 + 0.5 * self._random()


def _block_key(organization_number: str) -> str:
    return f"{_PREFIX}/{organization_number}/block"


def _client_uri(uri: Secret[str]) -> Secret[str]:
    """The URI in the form that the Redis client accepts."""
    for scheme, client_scheme in _CLIENT_SCHEMES.items():
        if uri.reveal().removeprefix("async+").startswith(scheme):
            return Secret(client_scheme + uri.reveal().removeprefix("async+").removeprefix(scheme))
    raise _invalid_uri()


def _invalid_uri() -> ConfigurationError:
    return ConfigurationError(
        "The storage_uri of a SharedRateLimiter must be a Redis URI: redis://host:port/db, "
        "rediss://host:port/db or redis+unix:///path."
    )
