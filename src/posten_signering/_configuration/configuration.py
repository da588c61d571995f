"""The values of a client's configuration: service, certificate, timeouts, limits."""

import os
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import NoneType

import anyio

from posten_signering._container.compression import Compression
from posten_signering._container.processors import BundleProcessor
from posten_signering._session.fleet import Fleet
from posten_signering._session.retry import Retries
from posten_signering._trust.anchors import TrustAnchors
from posten_signering._trust.certificates import EnterpriseCertificate
from posten_signering._trust.environment import Environment
from posten_signering._values.arguments import is_async, require
from posten_signering._values.events import Observer
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Transport
from posten_signering.errors import ArgumentTypeError, ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long the client waits for the network, in seconds.

    Each timeout limits one wait, not the whole call: a large document on a slow line may take longer.
    To limit the whole call, put `asyncio.timeout` around it.

    Attributes:
        connect: To open a TCP connection to the service, and again for its TLS handshake.
        api: For the service to accept the next part of a request or send the next part of a response.
        download: The same for downloads. It is longer because the service creates a PAdES on request.

    Raises:
        ConfigurationError: A timeout is 0 or less, or not a number (NaN).
        ArgumentTypeError: A timeout is of a different type than int and float.
    """

    connect: float = 5.0
    api: float = 10.0
    download: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connect", "api", "download"):
            require(
                f"Timeouts.{name}", Secret(getattr(self, name)), "a number of seconds", int, float
            )
            if not getattr(self, name) > 0:
                raise ConfigurationError(
                    f"Timeouts.{name} must be more than 0 seconds, not {getattr(self, name)}."
                )


def utc_now() -> datetime:
    """The time of the system's clock, in UTC."""
    return datetime.now(UTC)


def production() -> Environment:
    """The environment of a configuration that names none."""
    return Environment.PRODUCTION


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfiguration:
    """The configuration of a `DirectClient`. It is frozen: change a copy with `dataclasses.replace`.

    Attributes:
        environment: The installation of the service to use. The default is production.
        certificate: The enterprise certificate. It identifies the client to the service, and it signs
            the container of each job.
        trust_anchors: CA certificates that may vouch for the service's certificate, in addition to those
            in your `.p12` file and in certifi.
        sender: The default sender, for jobs and calls that name no sender.
        timeouts: How long the client waits for the network.
        proxy: URL of an HTTP proxy, `http://user:password@host:port`. The client opens a tunnel to the
            service through it. A proxy with an https URL needs a certificate from a public authority
            (one of certifi's). The client never reads proxy variables of the environment.
        user_agent_suffix: Added to the User-Agent header in parentheses, such as the name and version
            of your application.
        max_connections: The maximum number of open connections for API calls. Downloads have a pool of
            the same size. When all connections are in use, further calls wait.
        max_bytes_in_memory: The size in bytes of the largest document that `get_pades` and `get_xades`
            download into memory, at least 1. The `download_` and `open_` methods have no limit.
        compression: Whether documents are compressed in the container.
        retries: How often the client retries a call after a transient failure.
        fleet: What the client shares with other clients and processes, so that together they stay within
            the service's limits. When None, the client has an `InMemoryFleet` of its own.
        observers: Functions that receive an event for each call, poll, retry, block and handled change:
            see `Observer`. Logging needs no observer.
        bundle_processors: Functions that the client calls, in order, before it sends a job: see
            `BundleProcessor`.
        clock: Returns the current time as an aware datetime, for signing and for checking certificates.
        monotonic: Returns the seconds of a clock that never jumps, to measure waits.
        sleep: An async function that waits for a number of seconds.
        random: Returns a number from 0 up to 1, for the jitter of waits.
        transport: Replaces the package's own transport, which uses mutual TLS. `certificate` is then
            used only to sign.

    Raises:
        ConfigurationError: No CA certificate of the environment was found, or a value is not permitted.
        ArgumentTypeError: A value has a wrong type, for example `fleet` is not a fleet.
    """

    environment: Environment = field(default_factory=production)
    certificate: EnterpriseCertificate = field(repr=False)  # by mistake, it may be a key
    trust_anchors: TrustAnchors = field(default_factory=TrustAnchors)
    sender: Sender | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    proxy: str | None = field(default=None, repr=False)
    user_agent_suffix: str | None = None
    max_connections: int = 8
    max_bytes_in_memory: int = 64 * 1024 * 1024
    compression: Compression = Compression.STORED
    retries: Retries = field(default_factory=Retries)
    fleet: Fleet | None = field(
        default=None, repr=False
    )  # by mistake, it may be a URL with a password
    observers: Sequence[Observer] = field(default=(), repr=False)
    bundle_processors: Sequence[BundleProcessor] = ()
    clock: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random
    transport: Transport | None = None

    def __post_init__(self) -> None:
        for name, (expected, *types) in _TYPES.items():
            require(name, Secret(getattr(self, name)), expected, *types)
        for name in ("max_connections", "max_bytes_in_memory"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} must be 1 or more, not {getattr(self, name)}.")
        _check_fleet(Secret(self.fleet))
        require("observers", Secret(self.observers), "a list of functions", Iterable)
        object.__setattr__(self, "bundle_processors", tuple(self.bundle_processors))
        object.__setattr__(self, "observers", tuple(self.observers))
        if any(is_async(processor) for processor in self.bundle_processors):
            raise ConfigurationError(
                "bundle_processors contains an async function. A bundle processor runs in a worker "
                "thread, so it must be a plain function."
            )
        if any(is_async(observer) for observer in self.observers):
            raise ConfigurationError(
                "observers contains an async function. The client does not await an observer, so it must "
                "be a plain function."
            )
        if not all(callable(observer) for observer in self.observers):
            raise ConfigurationError(
                "observers contains an object that can't be called. An observer is a function with one "
                "argument, the event."
            )
        if self.transport is None:
            self.trust_anchors.select(self.environment, certificate=self.certificate)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> "ClientConfiguration":
        """The configuration that the environment variables `POSTEN_SIGNERING_*` describe.

        `POSTEN_SIGNERING_CERTIFICATE` is required. docs/reference/configuration.md lists all variables. Set other
        options with `dataclasses.replace`. A variable with this prefix that is not known is logged at
        WARNING. This method reads the named files, and imports redis if a Redis is named, so it blocks.

        Args:
            environ: The variables to read. None means those of the process (`os.environ`).

        Raises:
            ConfigurationError: A required variable is missing, or a value can't be used. The message
                names the variable.
        """
        from posten_signering._configuration import variables  # noqa: PLC0415 - keeps the import of the package cheap

        # The variables hold the password. In a Secret, no traceback with local variables shows them.
        secret_environ = Secret(os.environ if environ is None else environ)
        del environ
        variables.warn_of_unknown(secret_environ)
        return cls(
            timeouts=Timeouts(**variables.timeouts(secret_environ)),
            **variables.settings(secret_environ),
        )


_TYPES: dict[str, tuple[str, *tuple[type, ...]]] = {
    "environment": ("an Environment, such as Environment.STAGING", Environment),
    "certificate": ("an EnterpriseCertificate", EnterpriseCertificate),
    "trust_anchors": ("TrustAnchors", TrustAnchors),
    "sender": ("a Sender or None", Sender, NoneType),
    "timeouts": ("Timeouts", Timeouts),
    "proxy": ("text or None", str, NoneType),
    "user_agent_suffix": ("text or None", str, NoneType),
    "max_connections": ("a whole number", int),
    "max_bytes_in_memory": ("a whole number", int),
    "compression": ("a Compression", Compression),
    "retries": ("Retries", Retries),
}


def _check_fleet(fleet: Secret[object]) -> None:
    # A URL has a method `join` too, and so has the class of a fleet.
    joins = hasattr(fleet.reveal(), "join") and not isinstance(fleet.reveal(), str | type)
    if not joins and fleet.reveal() is not None:
        raise ArgumentTypeError(
            "fleet", expected="a fleet such as RedisFleet(url), or None", found=type(fleet.reveal())
        )
