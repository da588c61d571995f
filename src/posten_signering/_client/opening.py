"""What entering a client makes ready, once: the certificate's chain, TLS, the schema."""

import logging
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import BinaryIO, TypeVar

import anyio
import anyio.to_thread

from posten_signering._client.creation import Sign
from posten_signering._client.poll_schedule import PollSchedule
from posten_signering._configuration import ClientConfiguration
from posten_signering._container import processors as bundle_processors
from posten_signering._container.processors import BundleProcessor
from posten_signering._container.xades import signatures_xml
from posten_signering._http.tls import client_context
from posten_signering._http.transport import HttpTransport
from posten_signering._session.rate import InMemoryRateLimiter
from posten_signering._session.session import Session, Time
from posten_signering._trust.anchors import explain_untrusted
from posten_signering._values.job import DirectJob
from posten_signering._values.secret import Secret
from posten_signering._wire import xml
from posten_signering._wire.exchange import Transport
from posten_signering.errors import ConfigurationError

T = TypeVar("T")

logger = logging.getLogger("posten_signering")

_PROCESSED_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """What an open client works with.

    Attributes:
        session: Sends operations.
        schedule: When each queue may be polled.
        time: What waiting takes.
        sign: Signs the files of a container with the enterprise certificate.
        limiter: For work in threads, one fewer than there are cores: as many as cores would starve
            the event loop of the interpreter's lock.
        processing: For bundle processors, which are the caller's own: however long one takes, it
            holds up no other call.
    """

    session: Session
    schedule: PollSchedule
    time: Time
    sign: Sign
    limiter: anyio.CapacityLimiter
    processing: anyio.CapacityLimiter

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Does work that takes long without holding up the event loop."""
        return await anyio.to_thread.run_sync(work, limiter=self.limiter)

    async def process(
        self,
        processors: Sequence[BundleProcessor],
        job: DirectJob,
        open_container: Callable[[], BinaryIO],
    ) -> None:
        """Lets every bundle processor look at a finished container."""
        if processors:
            await anyio.to_thread.run_sync(
                partial(bundle_processors.run, processors, job=job, open_container=open_container),
                limiter=self.processing,
            )


async def open_session(configuration: ClientConfiguration) -> Opened:
    """Makes everything ready that a client needs; connects to nobody.

    Raises:
        ConfigurationError: Something in the configuration can't be used.
    """
    limiter = anyio.CapacityLimiter(max(1, (os.cpu_count() or 1) - 1))
    transport, sign = await anyio.to_thread.run_sync(
        partial(_make_ready, configuration), limiter=limiter
    )
    time = Time(
        clock=configuration.clock,
        monotonic=configuration.monotonic,
        sleep=configuration.sleep,
        random=configuration.random,
    )
    session = Session(
        transport,
        time=time,
        rate_limiter=configuration.rate_limiter
        or InMemoryRateLimiter(monotonic=configuration.monotonic, sleep=configuration.sleep),
        retries=configuration.retries,
        organization_number=configuration.certificate.organization_number or "",
        max_connections=configuration.max_connections,
    )
    schedule = PollSchedule(configuration.monotonic, configuration.environment.default_poll_wait)
    return Opened(
        session=session,
        schedule=schedule,
        time=time,
        sign=sign,
        limiter=limiter,
        processing=anyio.CapacityLimiter(_PROCESSED_AT_ONCE),
    )


def _make_ready(configuration: ClientConfiguration) -> tuple[Transport, Sign]:
    certificate = configuration.certificate
    certificate.check(configuration.clock())
    anchors: tuple[bytes, ...] = ()
    # With a transport of its own a client trusts nobody itself, and may do without anchors.
    with suppress(*(() if configuration.transport is None else (ConfigurationError,))):
        anchors = configuration.trust_anchors.select(
            configuration.environment, certificate=certificate
        )
    chain, missing_issuer = certificate.complete_chain(anchors)
    if missing_issuer is not None:
        logger.warning(
            "The enterprise certificate's chain is not complete: the certificate of %s is missing. "
            "Containers carry what there is; add the file to the trust anchors.",
            missing_issuer,
        )
    xml.schema()
    sign = partial(signatures_xml, chain=chain, sign=certificate.sign)
    if configuration.transport is not None:
        return configuration.transport, sign
    environment, timeouts = configuration.environment, configuration.timeouts
    transport = HttpTransport(
        service_root=environment.service_root,
        ssl_context=client_context(
            chain,
            certificate.pem,
            anchors=anchors,
            server_organization_number=environment.server_organization_number,
        ),
        connect_seconds=timeouts.connect,
        api_seconds=timeouts.api,
        download_seconds=timeouts.download,
        user_agent=_user_agent(configuration.user_agent_suffix),
        explain=partial(explain_untrusted, environment, anchors),
        proxy=None if configuration.proxy is None else Secret(configuration.proxy),
        max_connections=configuration.max_connections,
    )
    return transport, sign


def _user_agent(suffix: str | None) -> str:
    product = f"posten-signering/{version('posten-signering')} (Python {platform.python_version()})"
    return product if suffix is None else f"{product} ({suffix})"
