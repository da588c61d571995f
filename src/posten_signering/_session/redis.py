"""The fleet that several processes share in Redis. The library redis is imported when a client is entered."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from importlib import import_module
from types import NoneType

from anyio import to_thread

from posten_signering._session.fleet import FleetContext, FleetMember, InMemoryFleet
from posten_signering._values.arguments import require
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

_NEEDS_EXTRA = "RedisFleet needs an extra: pip install 'posten-signering[redis]'."


@dataclass(frozen=True, slots=True)
class RedisFleet:
    """What several processes share in Redis, so that together they stay within the service's limits.

    All clients with the same Redis and the same service root are members of one fleet. It is only a
    description: each client opens its own connection when it is entered, and closes it at the end.

    With Redis, at most 9 calls of an organisation are in flight in the whole fleet. A call counts until
    one second after its response began, and at most 6 seconds without a response. When Redis has no
    data of the fleet, because the whole fleet starts or because Redis lost its data, new clients make no
    calls for 4 seconds.

    Without Redis, all clients continue. Each has fixed slots, in which all of them together make at most 6
    calls per second for an organisation. The first slot is 2 seconds after the first request that Redis
    did not answer. Poll times, turns and counts of deliveries are then those of the process. The log has one
    WARNING when Redis is away, and one INFO when it is back.

    Redis needs version 6.2 or later, and a clock that does not jump. Redis Sentinel and Redis Cluster
    are not supported. Valkey is not tested.

    Attributes:
        url: The address of Redis: `redis://[user:password@]host:port[/db]`, `rediss://…` for TLS, or
            `unix:///path`. Options of redis-py may follow, such as `?ssl_ca_certs=/path/ca.pem`.
        share: The part of the service's rate limit that the fleet may use, above 0 and at most 1.
        members_at_least: Each client assumes that the fleet has at least this many clients. Set it to the
            largest number, for clients that start while Redis is away. Until Redis answers, these
            clients together make at most 2 calls per second. By default, each of them makes at most one
            call in 10 seconds.
        per_certificate: Whether all senders share the budget of the certificate's organisation. By
            default each sender has its own budget.

    Raises:
        ConfigurationError: `share` or `members_at_least` is out of range.
        ArgumentTypeError: `url` is not text, or `share` or `members_at_least` is not a number.
    """

    url: str = field(repr=False)
    _: KW_ONLY
    share: float = 1.0
    members_at_least: int | None = None
    per_certificate: bool = False

    def __post_init__(self) -> None:
        require("url", Secret(self.url), "text", str)
        require("share", Secret(self.share), "a number", int, float)
        require(
            "members_at_least",
            Secret(self.members_at_least),
            "a whole number or None",
            int,
            NoneType,
        )
        if not 0 < self.share <= 1:
            raise ConfigurationError(
                f"RedisFleet.share must be above 0 and at most 1, but it is {self.share}."
            )
        if self.members_at_least is not None and self.members_at_least < 1:
            raise ConfigurationError(
                f"RedisFleet.members_at_least must be 1 or more, but it is {self.members_at_least}."
            )

    @asynccontextmanager
    async def join(self, context: FleetContext, /) -> AsyncGenerator[FleetMember]:
        """Opens a client's part in the fleet, with a connection of its own.

        Raises:
            ConfigurationError: The `url` is not one of a Redis server, Redis refuses the password, TLS
                failed, or the extra `redis` is not installed. A Redis that is away is no error.
        """
        try:
            # Importing redis would block the event loop for about 0.1 seconds.
            await to_thread.run_sync(import_module, "posten_signering._session.redis_connection")
            from posten_signering._session.redis_connection import (  # noqa: PLC0415 - needs the extra
                RedisConnection,
            )
            from posten_signering._session.redis_member import (  # noqa: PLC0415 - used only here
                RedisMember,
            )
        except ImportError:
            raise ConfigurationError(_NEEDS_EXTRA) from None
        async with AsyncExitStack() as exits:
            # In a worker thread too, because redis-py imports more modules for its first connection.
            redis = await to_thread.run_sync(RedisConnection, Secret(self.url))
            exits.push_async_callback(redis.aclose)
            local = await exits.enter_async_context(InMemoryFleet(share=None).join(context))
            member = RedisMember(self, context, redis, local)
            exits.push_async_callback(member.aclose)
            await member.open()
            yield member


def check_url(url: Secret[str]) -> None:
    """Checks that the URL is one of a Redis server, without opening a connection. Imports redis.

    Raises:
        ConfigurationError: The URL can't be used, or the extra `redis` is not installed.
    """
    try:
        from posten_signering._session.redis_connection import (  # noqa: PLC0415 - needs the extra
            RedisConnection,
        )
    except ImportError:
        raise ConfigurationError(_NEEDS_EXTRA) from None
    RedisConnection(url)
