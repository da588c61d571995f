"""Opens and closes a client, and prepares what its operations need. The operations are in `client`."""

import logging
import os
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar, cast
from weakref import WeakSet

import anyio
import anyio.to_thread

from posten_signering._client.downloads import DownloadStream, Progress, check_path, to_file
from posten_signering._client.poll_schedule import PollSchedule, Send
from posten_signering._configuration.configuration import ClientConfiguration
from posten_signering._http.tls import CERTIFICATE_ADVICE, client_context
from posten_signering._session.fleet import FleetContext, FleetMember, InMemoryFleet
from posten_signering._session.loop import OwnLoop
from posten_signering._session.observers import Observers
from posten_signering._session.session import Prepare, Session
from posten_signering._session.timing import Time
from posten_signering._trust.anchors import explain_untrusted, unpinned
from posten_signering._trust.certificates import (
    SANDBOX_CA_ADVICE,
    EnterpriseCertificate,
    complete_chain,
    is_from_sandbox,
    key_and_chain,
    key_size,
)
from posten_signering._trust.expiry import (
    ExpiryWarnings,
    WatchedCertificate,
    watched_certificates,
    without_expired,
)
from posten_signering._values.arguments import require
from posten_signering._values.events import CertificateInUse
from posten_signering._values.job import DirectJob, Sender
from posten_signering._values.secret import Secret
from posten_signering._values.status import StatusPoll
from posten_signering._values.version import __version__
from posten_signering._wire import operations
from posten_signering._wire.exchange import ResponseStream, Transport
from posten_signering._wire.operations import Operation
from posten_signering.errors import (
    ArgumentTypeError,
    ClientStateError,
    ConfigurationError,
    SenderNotSpecifiedError,
)

if TYPE_CHECKING:
    from posten_signering._client.creation import JobCreation, Sign
    from posten_signering._http.transport import HttpTransport

T = TypeVar("T")

logger = logging.getLogger("posten_signering")


class _State(Enum):
    NEW = "was not entered: use it in `async with DirectClient(...) as client`"
    OPENING = "is still being entered: share it once its `async with` block has begun"
    OPEN = "is open already: share it, or create another one"
    CLOSED = "is closed: create a new one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """The parts of an open client.

    Each call takes these parts once, when it begins, and keeps them. When the certificate is replaced, new
    calls get a copy with other `credentials`, `session` and `creation`. The copies share everything else.

    Attributes:
        credentials: What belongs to the enterprise certificate in use.
        session: Sends operations.
        creation: Checks, signs and sends jobs.
        transports: The transport of new calls, and earlier ones that calls still use.
        replacing: Held while the certificate is being replaced.
        expiry: Warns about certificates that expire.
        fleet: What the client shares with other clients and processes.
        observers: Receive events.
        schedule: Knows when each queue may be polled.
        time: The clocks, the sleep and the randomness of the configuration.
        loop: The event loop in which the client was entered.
        limiter: Limits the worker threads to one fewer than there are cores. With a busy thread on
            every core, the event loop would wait too long for the interpreter's lock.
        exits: Closes the connections, and leaves the fleet.
    """

    credentials: "Credentials"
    session: Session
    creation: "JobCreation"
    transports: "WeakSet[HttpTransport]"
    replacing: anyio.Lock
    expiry: ExpiryWarnings
    fleet: FleetMember
    observers: Observers
    schedule: PollSchedule
    time: Time
    loop: OwnLoop
    limiter: anyio.CapacityLimiter
    exits: AsyncExitStack


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """What belongs to one enterprise certificate.

    Attributes:
        transport: Carries the requests, with the certificate in its TLS connections.
        own_transport: The same, if it is the package's own; None for the configuration's.
        sign: Signs the files of a container with the certificate.
        key_size: The size of the certificate's RSA key in bits.
        anchors: The trust anchors in DER form, including those that have expired.
        watched: The certificates to warn about before they expire.
    """

    transport: Transport
    own_transport: "HttpTransport | None"
    sign: "Sign"
    key_size: int
    anchors: tuple[bytes, ...]
    watched: tuple[WatchedCertificate, ...]


class ClientLifecycle:
    """Opens and closes a client; the base of `DirectClient`, which adds the operations.

    Args:
        configuration: Which service to call, and the certificate and sender to use.
    """

    def __init__(self, configuration: ClientConfiguration) -> None:
        self._configuration = configuration
        self._certificate = configuration.certificate
        self._state = _State.NEW
        self._opened: Opened | None = None

    @property
    def configuration(self) -> ClientConfiguration:
        """The configuration that the client was created with, also after `replace_certificate`."""
        return self._configuration

    @property
    def certificate(self) -> EnterpriseCertificate:
        """The enterprise certificate that new calls use."""
        return self._certificate

    async def __aenter__(self) -> Self:
        """Checks the certificate and prepares TLS, but sends nothing.

        Raises:
            ConfigurationError: The certificate has expired or is not valid yet, or another value of
                the configuration can't be used.
            ClientStateError: The client was entered before, or no asyncio event loop is running.
        """
        if self._state is not _State.NEW:
            raise ClientStateError(f"This DirectClient {self._state.value}.")
        self._state = _State.OPENING
        try:
            opened = await open_client(self._configuration, self._current_send)
        except BaseException:
            if self._state is _State.OPENING:
                self._state = _State.NEW
            raise
        if self._state is not _State.OPENING:
            await opened.exits.aclose()
            raise ClientStateError(f"This DirectClient {self._state.value}.")
        self._opened = opened
        self._state = _State.OPEN
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Closes every connection, as the end of `async with` does. A second call does nothing.

        Call it in the event loop in which the client was entered. After that loop was closed, no
        connection can be closed properly any more: Python then frees their sockets, and the log has a
        WARNING.

        Raises:
            ClientStateError: The client belongs to a different event loop that is still open.
        """
        opened = self._opened
        here = opened is None or opened.loop.is_current
        if opened is not None and not here and not opened.loop.has_ended:
            raise ClientStateError(
                "This DirectClient belongs to a different event loop. Close it there: nothing was closed."
            )
        self._opened = None
        self._state = _State.CLOSED
        if opened is None:
            return
        if here:
            await opened.exits.aclose()
        else:
            logger.warning(
                "A DirectClient was not closed in time: it %s. Its connections are dropped. %s",
                opened.loop.describe(),
                opened.loop.remedy,
            )

    async def replace_certificate(self, certificate: EnterpriseCertificate) -> None:
        """Uses a different enterprise certificate of the same organisation for all new calls.

        A call that has begun keeps the old one for its connection, its signature and its retries, and a
        download that has begun finishes on its connection. Each poll of an iterator is a new call. Idle
        connections of the old certificate are closed at once, the others when their exchange ends.

        If this raises an error, the old certificate stays in use. After a cancellation, `certificate` says
        which one is in use. Replacements at the same time are applied in the order of their calls. If the
        certificate is in use already, it is checked, and nothing changes.

        The client trusts the CA certificates in the new `.p12` file in addition, if their fingerprints are
        pinned. With a custom `transport`, the certificate is used only to sign.

        Args:
            certificate: The new certificate. `load_pkcs12` reads one without blocking the event loop.

        Raises:
            ConfigurationError: The certificate has expired or is not valid yet, belongs to a different
                organisation, or can't be used for TLS.
            ArgumentTypeError: `certificate` is not an `EnterpriseCertificate`.
            ClientStateError: The client is not open, was closed meanwhile, or belongs to a different
                event loop.
        """
        opened = self._open()
        require(
            "certificate", Secret(certificate), "an EnterpriseCertificate", EnterpriseCertificate
        )
        # A lock of anyio is first come, first served.
        async with opened.replacing:
            opened = self._open()
            try:
                _check_same_organization(self._certificate, certificate)
                certificate.check(self._configuration.clock())
                if certificate == self._certificate:
                    return
                earlier_anchors = opened.credentials.anchors
                credentials = await anyio.to_thread.run_sync(
                    partial(_credentials, self._configuration, certificate, earlier_anchors),
                    limiter=opened.limiter,
                )
            except ConfigurationError as error:
                raise ConfigurationError(
                    f"The certificate was not replaced, and the old one stays in use. {error}"
                ) from None
            self._open()  # raises an error if the client was closed meanwhile
            if credentials.own_transport is not None:
                opened.transports.add(credentials.own_transport)
            session = opened.session.over(credentials.transport)
            creation = replace(
                opened.creation,
                session=session,
                sign=credentials.sign,
                key_size=credentials.key_size,
            )
            self._opened = replace(
                opened, credentials=credentials, session=session, creation=creation
            )
            self._certificate = certificate
            opened.observers.notify(_in_use(certificate))
            opened.expiry.watch(credentials.watched)
            if opened.credentials.own_transport is not None:
                await opened.credentials.own_transport.retire()

    @property
    def _root(self) -> str:
        return self._configuration.environment.service_root

    def _open(self) -> Opened:
        """The parts of the open client, for a call that runs in its event loop."""
        opened = self._open_elsewhere()
        opened.loop.check()
        opened.expiry.check()
        return opened

    def _open_elsewhere(self) -> Opened:
        """The parts of the open client, for a caller that checks the event loop later."""
        if self._opened is None:
            raise ClientStateError(f"This DirectClient {self._state.value}.")
        return self._opened

    def _sender(self, sender: Sender | None) -> Sender:
        resolved = self._or_default(sender)
        require("sender", Secret(resolved), "a Sender", Sender)
        return resolved

    def _sender_of(self, job: DirectJob) -> Sender:
        require("job", Secret(job), "a DirectJob", DirectJob)
        return self._or_default(job.sender)  # the checks of the job report a wrong type

    def _or_default(self, sender: Sender | None) -> Sender:
        resolved = self._configuration.sender if sender is None else sender
        if resolved is None:
            raise SenderNotSpecifiedError
        return resolved

    def _current_send(self) -> Send:
        session = self._open().session

        async def send_poll(sender: Sender, prepare: Prepare) -> StatusPoll:
            return await session.send(operations.poll(self._root, sender), prepare)

        return send_poll

    async def _send(self, operation: Operation[T]) -> T:
        return await self._open().session.send(operation)

    async def _to_file(
        self, operation: Operation[bytes], path: str | os.PathLike[str], progress: Progress | None
    ) -> int:
        opened = self._open()
        require("path", Secret(path), "text or a path", str, os.PathLike)
        if not (progress is None or callable(progress)):
            raise ArgumentTypeError("progress", expected="a function or None", found=type(progress))
        await anyio.to_thread.run_sync(check_path, path, limiter=opened.limiter)

        async def write(stream: ResponseStream, _exchange: AsyncExitStack) -> int:
            download = DownloadStream(stream, opened.loop)
            return await to_file(download, path, progress, opened.limiter)

        return await opened.session.receive(operation, write)


def opened_parts(client: ClientLifecycle) -> Opened:
    """The parts of an open client, for a caller that runs in its event loop.

    Raises:
        ClientStateError: The client is not open, or belongs to a different event loop.
    """
    return client._open()  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - for the worker, which is no operation


async def open_client(
    configuration: ClientConfiguration, current_send: Callable[[], Send]
) -> Opened:
    """Prepares the parts of an open client, but opens no connection.

    Args:
        configuration: The client's configuration.
        current_send: Returns the function that sends a poll. Called when a poll begins.

    Raises:
        ConfigurationError: A value of the configuration can't be used.
        ClientStateError: No asyncio event loop is running.
    """
    loop = OwnLoop("DirectClient")
    limiter = anyio.CapacityLimiter(max(1, (os.cpu_count() or 1) - 1))
    credentials, creation_with = await anyio.to_thread.run_sync(
        _credentials_and_creation, configuration, limiter=limiter
    )
    time = Time(
        clock=configuration.clock,
        monotonic=configuration.monotonic,
        sleep=configuration.sleep,
        random=configuration.random,
    )
    observers = Observers(configuration.observers)
    context = FleetContext(
        service_root=configuration.environment.service_root,
        organization_number=configuration.certificate.organization_number or "",
        time=time,
        notify=observers.notify,
    )
    exits = AsyncExitStack()
    fleet = await exits.enter_async_context((configuration.fleet or InMemoryFleet()).join(context))
    session = Session(
        credentials.transport,
        time=time,
        fleet=fleet,
        notify=observers.notify,
        retries=configuration.retries,
        service_root=configuration.environment.service_root,
        organization_number=configuration.certificate.organization_number or "",
        max_connections=configuration.max_connections,
        max_bytes_in_memory=configuration.max_bytes_in_memory,
    )
    schedule = PollSchedule(
        current_send=current_send,
        fleet=fleet,
        time=time,
        notify=observers.notify,
        default_wait=configuration.environment.default_poll_wait,
    )
    transports = WeakSet["HttpTransport"]()
    if credentials.own_transport is None:
        exits.push_async_callback(credentials.transport.aclose)
    else:
        transports.add(credentials.own_transport)
        exits.push_async_callback(_close_all, transports)
    observers.notify(_in_use(configuration.certificate))
    expiry = ExpiryWarnings(clock=time.clock, monotonic=time.monotonic, notify=observers.notify)
    expiry.watch(credentials.watched)
    return Opened(
        credentials=credentials,
        session=session,
        creation=creation_with(session=session, limiter=limiter),
        transports=transports,
        replacing=anyio.Lock(),
        expiry=expiry,
        fleet=fleet,
        observers=observers,
        schedule=schedule,
        time=time,
        loop=loop,
        limiter=limiter,
        exits=exits,
    )


async def _close_all(transports: "WeakSet[HttpTransport]") -> None:
    async with AsyncExitStack() as exits:
        for transport in tuple(transports):
            exits.push_async_callback(transport.aclose)


def _credentials_and_creation(
    configuration: ClientConfiguration,
) -> "tuple[Credentials, partial[JobCreation]]":
    """Does the slow part of opening a client, in a worker thread: imports, certificate chain, TLS, schema.

    httpx and the XML libraries take as long to import as everything else together. Imported here, they delay
    neither the import of the package nor the event loop. After this, the client imports nothing more.
    """
    from posten_signering._client.creation import JobCreation  # noqa: PLC0415 - see above
    from posten_signering._wire import xml  # noqa: PLC0415 - see above

    configuration.certificate.check(configuration.clock())
    credentials = _credentials(configuration, configuration.certificate)
    xml.schema()
    creation = partial(
        JobCreation,
        sign=credentials.sign,
        key_size=credentials.key_size,
        clock=configuration.clock,
        compression=configuration.compression,
        processors=configuration.bundle_processors,
    )
    note = unpinned(configuration.trust_anchors, configuration.environment)
    if note is not None and configuration.transport is None:
        logger.warning(note)
    return credentials, creation


def _credentials(
    configuration: ClientConfiguration,
    certificate: EnterpriseCertificate,
    earlier_anchors: tuple[bytes, ...] = (),
) -> Credentials:
    """What belongs to a certificate. Call it in a worker thread.

    Args:
        configuration: The client's configuration, whose own certificate is not used.
        certificate: The certificate.
        earlier_anchors: Trust anchors to use in addition. Some may come from the `.p12` file of the certificate
            before, and the service's certificate has not changed with ours.

    Raises:
        ConfigurationError: The certificate or a value of the configuration can't be used.
    """
    from posten_signering._container.xades import (  # noqa: PLC0415 - imports the XML libraries
        SigningCertificate,
        signatures_xml,
    )
    from posten_signering._http.transport import HttpTransport  # noqa: PLC0415 - imports httpx

    environment, anchors = configuration.environment, earlier_anchors
    # ClientConfiguration has checked that there is an anchor. Only a custom transport needs none.
    with suppress(ConfigurationError):
        selected = configuration.trust_anchors.select(environment, certificate=certificate)
        anchors = tuple(dict.fromkeys((*selected, *earlier_anchors)))
    chain, missing_issuer = complete_chain(certificate, anchors)
    if missing_issuer is not None:
        logger.warning(
            "The enterprise certificate's chain is not complete: the certificate of %s is missing. "
            "Signed containers lack it too. Use a .p12 file that has it, or add it to `trust_anchors`.",
            missing_issuer,
        )
    own_transport: HttpTransport | None = None
    if configuration.transport is None:
        note = unpinned(configuration.trust_anchors, environment)
        usable_anchors = without_expired(anchors, configuration.clock())
        own_transport = HttpTransport(
            service_root=environment.service_root,
            ssl_context=client_context(
                chain,
                partial(key_and_chain, certificate),
                anchors=usable_anchors,
                server_organization_number=environment.server_organization_number,
            ),
            connect_seconds=configuration.timeouts.connect,
            api_seconds=configuration.timeouts.api,
            download_seconds=configuration.timeouts.download,
            user_agent=_user_agent(configuration.user_agent_suffix),
            explain=partial(
                explain_untrusted,
                environment,
                usable_anchors,
                expired=[der for der in anchors if der not in usable_anchors],
                note=note,
            ),
            certificate_advice=_certificate_advice(certificate),
            proxy=None if configuration.proxy is None else Secret(configuration.proxy),
        )
    return Credentials(
        transport=own_transport or cast("Transport", configuration.transport),
        own_transport=own_transport,
        sign=partial(
            signatures_xml, certificate=SigningCertificate.of_chain(chain), sign=certificate.sign
        ),
        key_size=key_size(certificate),
        anchors=anchors,
        # A custom transport has trust anchors of its own.
        watched=watched_certificates(certificate, () if own_transport is None else anchors),
    )


def _check_same_organization(
    current: EnterpriseCertificate, certificate: EnterpriseCertificate
) -> None:
    """Refuses a certificate of a different organisation: its calls would use a different budget and queue.

    Raises:
        ConfigurationError: The certificate belongs to a different organisation.
    """
    if certificate.organization_number != current.organization_number:
        raise ConfigurationError(
            f"The new certificate belongs to {_organization(certificate)}, but the client was created "
            f"for {_organization(current)}. Give a certificate of the same organisation, or create a second "
            "DirectClient."
        )


def _organization(certificate: EnterpriseCertificate) -> str:
    number = certificate.organization_number
    return "no organisation number" if number is None else f"organisation {number}"


def _certificate_advice(certificate: EnterpriseCertificate) -> str:
    if is_from_sandbox(certificate.chain[0]):
        return f"A sandbox issued this certificate, and no other service accepts it. {SANDBOX_CA_ADVICE}"
    return CERTIFICATE_ADVICE


def _in_use(certificate: EnterpriseCertificate) -> CertificateInUse:
    return CertificateInUse(
        subject=certificate.subject, sha256=certificate.sha256, not_after=certificate.not_after
    )


def _user_agent(suffix: str | None) -> str:
    # As platform.python_version(), but importing `platform` takes 1.5 ms.
    python_version, _, _ = sys.version.partition(" ")
    product = f"posten-signering/{__version__} (Python {python_version})"
    return product if suffix is None else f"{product} ({suffix})"
