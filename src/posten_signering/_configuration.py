"""How a client reaches the service, as whom, and with what patience. Frozen values."""

import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from inspect import iscoroutinefunction
from pathlib import Path

import anyio

from posten_signering._container.layout import Compression
from posten_signering._container.processors import BundleProcessor
from posten_signering._session.rate import RateLimiter
from posten_signering._session.retry import Retries
from posten_signering._trust.anchors import TrustAnchors
from posten_signering._trust.certificates import EnterpriseCertificate
from posten_signering._trust.environment import Environment
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Transport
from posten_signering.errors import ConfigurationError

_PREFIX = "POSTEN_SIGNERING_"
_ENVIRONMENTS = {
    "production": Environment.PRODUCTION,
    "staging": Environment.STAGING,
    "difitest": Environment.DIFITEST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """How long to wait, in seconds, each time, for the network to do something.

    They bound silence, not a whole call: a large document on a slow line may take longer than any of
    them. Put `asyncio.timeout` around a call to bound it as a whole.

    Attributes:
        connect: For a connection with the service to stand, TLS included.
        api: For the service to take more of a request, or to send more of its answer.
        download: The same for downloads: the service makes the PAdES when it is asked for.
    """

    connect: float = 5.0
    api: float = 10.0
    download: float = 60.0

    def __post_init__(self) -> None:
        for name in ("connect", "api", "download"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"Timeouts.{name} must be more than 0 seconds.")


def utc_now() -> datetime:
    """The system's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientConfiguration:
    """Everything a `DirectClient` needs to know. A value: `dataclasses.replace` makes another.

    Attributes:
        environment: Which installation of the service. Production is the default.
        certificate: The enterprise certificate: it authenticates the client to the service and signs
            every container of documents.
        trust_anchors: Where the CA certificates that vouch for the service may be found.
        sender: For jobs and calls that name none.
        timeouts: How long to wait for the network.
        proxy: URL of an HTTP proxy, `http://user:password@host:port`, that tunnels to the service.
            One with an https URL must show a certificate of a public authority (certifi's) for its
            host name. Proxy variables of the environment are never read.
        user_agent_suffix: Added to the User-Agent in parentheses, such as your application's name
            and version.
        max_connections: How many connections are open at most for API calls, and as many again for
            downloads. More calls than that wait their turn.
        compression: How documents lie in the container.
        retries: How often a call that failed in passing is made again.
        rate_limiter: Paces the calls, so that the service does not block the organisation. None: an
            `InMemoryRateLimiter` of the client's own.
        bundle_processors: Called for every job before it is sent, in order, with the job and a way to
            open the finished container: see `BundleProcessor`.
        clock: The time now, aware. Read for the signing time, and to see certificates expire.
        monotonic: Seconds on a clock that is never set: for waiting.
        sleep: Waits for some seconds.
        random: A number from 0 up to 1: for delays, so that many clients do not act at once.
        transport: In place of the package's own mutual TLS. `certificate` then only signs.

    Raises:
        ConfigurationError: No CA certificate of the environment was found, or a value is out of
            range.
    """

    environment: Environment = Environment.PRODUCTION
    certificate: EnterpriseCertificate
    trust_anchors: TrustAnchors = field(default_factory=TrustAnchors)
    sender: Sender | None = None
    timeouts: Timeouts = field(default_factory=Timeouts)
    proxy: str | None = field(default=None, repr=False)
    user_agent_suffix: str | None = None
    max_connections: int = 8
    compression: Compression = Compression.STORED
    retries: Retries = field(default_factory=Retries)
    rate_limiter: RateLimiter | None = None
    bundle_processors: Sequence[BundleProcessor] = ()
    clock: Callable[[], datetime] = utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep
    random: Callable[[], float] = random.random
    transport: Transport | None = None

    def __post_init__(self) -> None:
        if self.max_connections < 1:
            raise ConfigurationError("max_connections must be 1 or more.")
        object.__setattr__(self, "bundle_processors", tuple(self.bundle_processors))
        for each in self.bundle_processors:
            # It would be called, and never run.
            if iscoroutinefunction(each) or iscoroutinefunction(getattr(each, "__call__", None)):  # noqa: B004 - not whether it can be called, but how
                raise ConfigurationError(
                    "A bundle processor must be a plain function: it is called in a worker thread, "
                    "and an async function would not run."
                )
        if self.transport is None:
            self.trust_anchors.select(self.environment, certificate=self.certificate)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> "ClientConfiguration":
        """Reads the configuration from environment variables.

        | Variable | Holds |
        | --- | --- |
        | `POSTEN_SIGNERING_CERTIFICATE` | path of the PKCS#12 file; required |
        | `POSTEN_SIGNERING_CERTIFICATE_PASSWORD` | its password |
        | `POSTEN_SIGNERING_ENVIRONMENT` | `production` (default), `staging` or `difitest` |
        | `POSTEN_SIGNERING_SERVICE_ROOT` | another service's root, such as a sandbox's |
        | `POSTEN_SIGNERING_TRUST_ANCHORS` | a directory, or one file, of CA certificates |
        | `POSTEN_SIGNERING_ORGANIZATION_NUMBER` | the default sender |
        | `POSTEN_SIGNERING_POLLING_QUEUE` | the default sender's polling queue |
        | `POSTEN_SIGNERING_PROXY` | URL of an HTTP proxy |

        With `_SERVICE_ROOT` the CA certificates of `_TRUST_ANCHORS` are trusted as they are, since
        nobody knows the fingerprints of such a service; without it only pinned ones are. Reads the
        files that are named, and blocks meanwhile. `dataclasses.replace` sets the rest.

        Args:
            environ: Where to read.

        Raises:
            ConfigurationError: A required variable is missing, or a value can't be used.
        """
        # Out of sight of a traceback with locals: it holds the password.
        hidden = Secret(environ)
        del environ

        def variable(name: str) -> str | None:
            return hidden.reveal().get(_PREFIX + name, "").strip() or None

        certificate = variable("CERTIFICATE")
        if certificate is None:
            raise ConfigurationError(
                f"Set {_PREFIX}CERTIFICATE to the path of the enterprise certificate's PKCS#12 file."
            )
        return cls(
            environment=_environment(variable("ENVIRONMENT"), variable("SERVICE_ROOT")),
            certificate=EnterpriseCertificate.from_pkcs12(
                Path(certificate),
                password=hidden.reveal().get(_PREFIX + "CERTIFICATE_PASSWORD"),
            ),
            trust_anchors=_trust_anchors(
                variable("TRUST_ANCHORS"), unpinned=variable("SERVICE_ROOT") is not None
            ),
            sender=_sender(variable("ORGANIZATION_NUMBER"), variable("POLLING_QUEUE")),
            proxy=variable("PROXY"),
        )


def _environment(name: str | None, service_root: str | None) -> Environment:
    known = _ENVIRONMENTS.get((name or "production").lower())
    if known is None and service_root is None:
        raise ConfigurationError(
            f"{_PREFIX}ENVIRONMENT must be one of {', '.join(_ENVIRONMENTS)} "
            f"(or set {_PREFIX}SERVICE_ROOT as well)."
        )
    if service_root is None:
        return known or Environment.PRODUCTION
    if known is None or name is None:
        return Environment(name=name or "custom", service_root=service_root)
    return replace(known, service_root=service_root)


def _trust_anchors(path: str | None, *, unpinned: bool) -> TrustAnchors:
    if path is None:
        return TrustAnchors()
    given = Path(path)
    found = TrustAnchors.from_directory(given) if given.is_dir() else TrustAnchors.from_files(given)
    return TrustAnchors().trusting(*found.candidates) if unpinned else found


def _sender(organization_number: str | None, polling_queue: str | None) -> Sender | None:
    if organization_number is not None:
        return Sender(organization_number=organization_number, polling_queue=polling_queue)
    if polling_queue is not None:
        raise ConfigurationError(
            f"{_PREFIX}POLLING_QUEUE is set without {_PREFIX}ORGANIZATION_NUMBER."
        )
    return None
