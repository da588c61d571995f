"""The connection of one client with Redis, with short timeouts. Needs the extra `redis`."""

import asyncio
import re
import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

from redis import exceptions
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript

from posten_signering._session.redis_member import Argument, RedisFailedError, Reply
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

# A Redis that is paused, or that can't be reached, holds up a call for this many seconds at most.
_TIMEOUT = 1.0

_TLS_ADVICE = (
    "TLS with the server in RedisFleet.url failed: {reason}. Check that its port speaks TLS, that Redis's "
    "certificate is valid for the host in the URL, and that the URL's option `ssl_ca_certs` names a file "
    "with the certificate of the authority that issued it."
)
_NO_TLS_ADVICE = (
    "The server in RedisFleet.url answers without TLS. Set the port on which Redis speaks TLS, or a `url` "
    "that begins with redis://."
)
_CLUSTER_ADVICE = (
    "The server in RedisFleet.url is a node of a Redis Cluster, which RedisFleet does not support. Set the "
    "URL of a single Redis server."
)
_URL_ADVICE = (
    "RedisFleet.url must be the URL of one Redis server: redis://host:port/db, rediss://host:port/db or "
    "unix:///path. Percent-encode special characters in the password, such as %2F for a slash. Redis "
    "Sentinel and Redis Cluster are not supported."
)
_OPTION_ADVICE = (
    "RedisFleet.url has an option, after the question mark, that redis-py does not know, or whose value "
    "it does not accept. Its documentation lists them as arguments of redis.asyncio.Connection."
)
_LOGIN_ADVICE = "Redis refused the user name or the password in RedisFleet.url, or it needs one that is missing there."
_PERMISSION_ADVICE = (
    "The Redis user in RedisFleet.url lacks a permission. It needs the keys `posten-signering:*`, all "
    "their data commands, and the commands EVALSHA, SCRIPT LOAD and TIME, and SELECT for a database other "
    "than 0."
)
_SERVER_ADVICE = (
    "The server in RedisFleet.url can't run scripts. It must be a Redis server of version 6.2 or later, "
    "and not a Redis Sentinel."
)
_DATABASE_ADVICE = "RedisFleet.url has the number of a database that does not exist in Redis."

# What the user can change about a failure. The first class that fits counts.
_ADVICE: list[tuple[type[Exception], str | None]] = [
    (exceptions.AuthenticationError, _LOGIN_ADVICE),
    (exceptions.AuthenticationWrongNumberOfArgsError, _LOGIN_ADVICE),
    (exceptions.NoPermissionError, _PERMISSION_ADVICE),
    (exceptions.MasterDownError, None),  # a replica whose server is away
    (exceptions.ClusterError, _CLUSTER_ADVICE),
    (exceptions.ClusterCrossSlotError, _CLUSTER_ADVICE),
    (exceptions.AskError, _CLUSTER_ADVICE),
]
_ADVICE_BY_TEXT = {
    # Older versions of redis-py have no classes for these.
    "clusterdown": _CLUSTER_ADVICE,
    "crossslot": _CLUSTER_ADVICE,
    "moved": _CLUSTER_ADVICE,
    "unknown command": _SERVER_ADVICE,
    "user executing the script": _PERMISSION_ADVICE,
    "db index is out of range": _DATABASE_ADVICE,
    "select is not allowed in cluster mode": _CLUSTER_ADVICE,
}


class RedisConnection:
    """Runs scripts in Redis, one after the other.

    Args:
        url: The address of Redis.

    Raises:
        ConfigurationError: The URL is not one of a Redis server, or has an option that is not known.
    """

    def __init__(self, url: Secret[str]) -> None:
        self._pool = _pool(url)
        self._client = Redis.from_pool(self._pool)
        self._scripts = dict[str, AsyncScript]()
        self._uses_tls = issubclass(self._pool.connection_class, SSLConnection)
        self._is_first_request = True

    async def run(self, script: str, keys: Sequence[str], arguments: Sequence[Argument]) -> Reply:
        """The result of a script.

        Raises:
            RedisFailedError: Redis can't be used, or has not answered in time.
        """
        registered = self._scripts.get(script)
        if registered is None:
            registered = self._scripts[script] = self._client.register_script(script)
        try:
            async with asyncio.timeout(_TIMEOUT):
                reply: Reply = await registered(keys=keys, args=arguments)
                return reply
        except Exception as error:  # noqa: BLE001 - whatever happens in redis-py, the client continues
            failure = RedisFailedError(type(error).__name__, self._advice(error))
        finally:
            is_first_request, self._is_first_request = self._is_first_request, False
        if is_first_request and self._uses_tls and await self._answers_without_tls():
            failure = RedisFailedError(failure.error_type, _NO_TLS_ADVICE)
        # Raised here, because the text of the error above may have the address of Redis.
        raise failure

    def _advice(self, error: Exception) -> str | None:
        """What is wrong with the configuration; None if Redis is only away."""
        for kind, advice in _ADVICE:
            if isinstance(error, kind):
                return advice
        if isinstance(error, exceptions.ResponseError):
            text = str(error).lower()
            return next((advice for part, advice in _ADVICE_BY_TEXT.items() if part in text), None)
        for cause in _causes(error):
            # A server that ends in the middle of a handshake is away. It is not configured wrongly.
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError):
                return _TLS_ADVICE.format(reason=cause.reason or type(cause).__name__)
            if isinstance(cause, FileNotFoundError) and self._uses_tls:
                return _TLS_ADVICE.format(reason="a file with certificates does not exist")
        return None

    async def _answers_without_tls(self) -> bool:
        """Whether the server speaks no TLS. Redis never answers the TLS handshake on a port without TLS."""
        host = self._pool.connection_kwargs.get("host", "localhost")
        port = self._pool.connection_kwargs.get("port", 6379)
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_TIMEOUT):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(b"PING\r\n")
                    return await reader.read(1) in {b"+", b"-"}
                finally:
                    writer.close()
        return False

    async def aclose(self) -> None:
        """Closes the connection."""
        await self._client.aclose()


def _pool(url: Secret[str]) -> ConnectionPool:
    options = Secret[dict[str, Any]]({})
    try:
        options.reveal().update(parse_url(url.reveal()))
    except ValueError as error:
        # redis-py's own error names an option. Other errors may quote the URL.
        advice = _OPTION_ADVICE if str(error).startswith("Invalid value for") else _URL_ADVICE
    else:
        if not _names_server(url, options):
            raise ConfigurationError(_URL_ADVICE)
        options.reveal().update(
            decode_responses=True,
            socket_timeout=_TIMEOUT,
            socket_connect_timeout=_TIMEOUT,
            # Retry once and at once, because Redis or a proxy may have closed an idle connection.
            retry=Retry(NoBackoff(), 1, supported_errors=(exceptions.ConnectionError,)),
        )
        if options.reveal().get("connection_class") is SSLConnection and (
            options.reveal().get("ssl_cert_reqs", "required") == "required"
        ):
            # Older versions of redis-py do not check the name in the certificate by default.
            options.reveal().setdefault("ssl_check_hostname", True)
        with suppress(TypeError, ValueError, exceptions.RedisError):
            # `Secret`, because older versions of redis-py show the password in the repr of a pool.
            pool = Secret(ConnectionPool(**options.reveal()))
            # Raises an error if an option is not known. Opens nothing.
            pool.reveal().connection_class(**pool.reveal().connection_kwargs)
            return pool.reveal()
        advice = _OPTION_ADVICE
    # Raised here, because the text of the errors above may have a part of the URL.
    raise ConfigurationError(advice)


def _names_server(url: Secret[str], options: Secret[dict[str, Any]]) -> bool:
    """Whether the host can be one, and the path is the number of a database. redis-py ignores any other path."""
    if "path" in options.reveal():  # of a Unix socket
        return True
    has_path = bool(Secret(urlsplit(url.reveal()).path).reveal().strip("/"))
    is_host = re.search(r"[\s,]", options.reveal().get("host", "")) is None
    return is_host and (not has_path or "db" in options.reveal())


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__
