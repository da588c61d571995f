"""Uses every public name as a caller would. mypy and pyright check this file; it is never executed."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, assert_never, assert_type

from posten_signering import (
    AuthenticationLevel,
    Body,
    BundleProcessor,
    CallEnded,
    CallRetried,
    CertificateAuthority,
    CertificateExpiring,
    CertificateInUse,
    CertificateKind,
    ChangeConfirmed,
    ChangeDeadLettered,
    ChangeDelivered,
    ChangeReleased,
    ClientConfiguration,
    Compression,
    DirectClient,
    DirectJob,
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSigner,
    DirectSignerResponse,
    Document,
    DocumentBundleToDisk,
    DocumentType,
    DownloadStream,
    EnterpriseCertificate,
    Environment,
    Event,
    ExitUrls,
    FailurePolicy,
    Fleet,
    FleetAvailable,
    FleetContext,
    FleetMember,
    FleetUnavailable,
    HandlerEnded,
    HandlerResult,
    IdentifierInSignedDocuments,
    InMemoryFleet,
    LeaseRunningOut,
    Observer,
    OnBehalfOf,
    OrganizationBlocked,
    PollCounts,
    PollResult,
    PollTurn,
    QueuePolled,
    QueueState,
    RedisFleet,
    ReleaseReason,
    Request,
    ResponseStream,
    Retries,
    Secret,
    Sender,
    SenderUnavailable,
    Signature,
    SignatureType,
    SignerStatus,
    StatusChanges,
    StatusPoll,
    StatusRetrievalMethod,
    TimeoutKind,
    Timeouts,
    Transport,
    TrustAnchors,
    WorkerStarted,
    WorkerStopped,
    load_pkcs12,
    status_query_token_in,
)
from posten_signering.errors import (
    ApiError,
    ArgumentTypeError,
    BrokerNotAuthorizedError,
    ClientStateError,
    ConfigurationError,
    CreateOutcomeUnknownError,
    DocumentChangedError,
    DocumentsNotDeletableError,
    InvalidJobError,
    InvalidStatusQueryTokenError,
    NotAuthorizedError,
    NotAvailableError,
    RateLimitedError,
    SenderNotSpecifiedError,
    SignedDocumentMissingError,
    SignerNotFoundError,
    SigningCeremonyNotCompletedError,
    SigningError,
    StatusQueryTokenMissingError,
    StatusUrlMissingError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
    UntrustedUrlError,
    Violation,
)
from posten_signering.opentelemetry import OpenTelemetryObserver
from posten_signering.sandbox import (
    BrokerSnapshot,
    ChangeSnapshot,
    DocumentSnapshot,
    Fault,
    FaultKind,
    Faults,
    JobSnapshot,
    Operation,
    OrganizationCounters,
    Overview,
    PendingFault,
    QueueSnapshot,
    RateLimit,
    Received,
    RequestSnapshot,
    Sandbox,
    SandboxError,
    SignerSnapshot,
    ThreadedSandbox,
)
from posten_signering.worker import (
    DirectoryStore,
    Handler,
    QueueHealth,
    SignedDocumentStore,
    StatusChangeWorker,
    StoreSignedDocuments,
    WorkCounts,
    WorkerHealth,
)

# --- Configuring


async def certificates() -> EnterpriseCertificate:
    path, content = Path("enterprise.p12"), b""
    assert_type(EnterpriseCertificate.from_pkcs12(path, password="x"), EnterpriseCertificate)
    assert_type(EnterpriseCertificate.from_pkcs12(content, password=None), EnterpriseCertificate)
    certificate = EnterpriseCertificate.from_pem(path, content, password="x")
    assert_type(certificate.missing_issuer([content]), str | None)
    assert_type(certificate.organization_number, str | None)
    assert_type(certificate.subject, str)
    assert_type((certificate.not_before, certificate.not_after), tuple[datetime, datetime])
    certificate.check(datetime.now(UTC))
    return await load_pkcs12("enterprise.p12", password="x")


async def anchors() -> TrustAnchors:
    assert_type(TrustAnchors.from_directory("anchors"), TrustAnchors)
    assert_type(TrustAnchors.from_files("a.cer", Path("b.cer")), TrustAnchors)
    assert_type(TrustAnchors.from_pem(b"").trusting(b"", "a.cer", Path("b.cer")), TrustAnchors)
    fetched = await TrustAnchors.fetch(
        Environment.STAGING, proxy=None, timeout=timedelta(seconds=9)
    )
    fetched.write_to(Path("anchors"))
    return fetched


def environments() -> Sequence[Environment]:
    own = Environment(
        name="Own",
        service_root="https://localhost:8443/api",
        authorities=[
            CertificateAuthority(name="Root", sha256="0" * 64, issuer=None, published_at=None)
        ],
        server_organization_number="984661185",
        default_poll_wait=timedelta(seconds=30),
    )
    assert_type(Environment.PRODUCTION, Environment)
    return [Environment.PRODUCTION, Environment.STAGING, Environment.DIFITEST, own]


def process(job: DirectJob, open_container: Callable[[], BinaryIO]) -> None:
    with open_container() as container:
        Path(f"{job.reference}.asice").write_bytes(container.read())


def observe(event: Event, /) -> None:
    match event:
        case CallEnded():
            assert_type(event.duration, timedelta)
            assert_type(event.status, int | None)
            assert_type(event.error_type, str | None)
        case CallRetried():
            assert_type(event.delay, timedelta)
        case OrganizationBlocked():
            assert_type(event.organization_number, str)
        case CertificateInUse():
            assert_type((event.subject, event.sha256, event.not_after), tuple[str, str, datetime])
        case CertificateExpiring():
            assert_type(event.kind, CertificateKind)
            assert_type((event.subject, event.sha256), tuple[str, str])
            assert_type((event.not_after, event.time_left), tuple[datetime, timedelta])
        case QueuePolled():
            assert_type(event.result, PollResult)
            assert_type(event.polling_queue, str | None)
        case FleetUnavailable():
            assert_type(event.calls_per_second, float)
        case FleetAvailable():
            assert_type(event, FleetAvailable)
        case _:
            observe_worker(event)


def observe_worker(event: Event) -> None:
    match event:
        case WorkerStarted():
            assert_type(event.queues, tuple[str, ...])
        case WorkerStopped() | SenderUnavailable():
            assert_type(event.error_type, str | None)
        case ChangeDelivered() | ChangeDeadLettered():
            assert_type(event.deliveries, int)
        case HandlerEnded():
            assert_type(event.result, HandlerResult)
            assert_type(event.retry_in, timedelta | None)
        case LeaseRunningOut():
            assert_type(event.used, timedelta)
        case ChangeConfirmed():
            assert_type(event.job_id, int)
        case ChangeReleased():
            assert_type(event.reason, ReleaseReason)
        case _:
            assert_type(event, Event)


def observed(observer: Observer) -> tuple[Observer, ...]:
    return (observer, observe, OpenTelemetryObserver(tracer_provider=None, meter_provider=None))


async def configurations(transport: Transport, fleet: Fleet) -> ClientConfiguration:
    async def sleep(seconds: float) -> None:
        assert_type(seconds, float)

    processors: list[BundleProcessor] = [process, DocumentBundleToDisk("sent")]
    assert_type(ClientConfiguration.from_env(), ClientConfiguration)
    fleets: list[Fleet] = [
        fleet,
        InMemoryFleet(share=0.25, per_certificate=True),
        RedisFleet("redis://localhost", share=0.25, members_at_least=8, per_certificate=True),
    ]

    return ClientConfiguration(
        environment=Environment.STAGING,
        certificate=await certificates(),
        trust_anchors=await anchors(),
        sender=Sender(organization_number="123456789", polling_queue="shop"),
        timeouts=Timeouts(connect=5, api=10.0, download=60),
        proxy="http://localhost:8080",
        user_agent_suffix="shop/1.0",
        max_connections=8,
        max_bytes_in_memory=64 * 1024 * 1024,
        compression=Compression.DEFLATED,
        retries=Retries(max_retries=2, budget=10, longest_retry_after=timedelta(seconds=20)),
        fleet=fleets[0],
        observers=observed(observe),
        bundle_processors=processors,
        clock=lambda: datetime.now(UTC),
        monotonic=lambda: 0.0,
        sleep=sleep,
        random=lambda: 0.5,
        transport=transport,
    )


# --- Creating


def job() -> DirectJob:
    return DirectJob(
        title="Lease",
        documents=[
            Document(title="Contract", content=Path("contract.pdf")),
            Document(title="Terms", content=b"terms", type=DocumentType.TEXT),
        ],
        signers=(
            DirectSigner(
                personal_identification_number="17885599999",
                signature_type=SignatureType.ADVANCED_SIGNATURE,
                on_behalf_of=OnBehalfOf.SELF,
            ),
            DirectSigner(custom_identifier="customer-42"),
        ),
        exit_urls=ExitUrls(
            completion="https://shop.example/1",
            rejection="https://shop.example/2",
            error="https://shop.example/3",
        ),
        reference="order-77",
        description=None,
        sender=None,
        authentication_level=AuthenticationLevel.FOUR,
        identifier_in_signed_documents=IdentifierInSignedDocuments.NAME,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )


def exit_urls() -> ExitUrls:
    return assert_type(ExitUrls.single("https://shop.example/back"), ExitUrls)


async def create(client: DirectClient) -> str:
    client.validate(job())
    created = await client.create(job())
    assert_type(created, DirectJobResponse)
    assert_type(created.signers, Sequence[DirectSignerResponse])
    assert_type((created.job_id, created.reference), tuple[int, str | None])
    assert_type(created.status_url, str | None)
    assert_type(created.single_signer, DirectSignerResponse)
    signer = await client.request_new_redirect_url(created.signer("customer-42"))
    assert_type(signer, DirectSignerResponse)
    assert_type(await client.request_new_redirect_url(signer.signer_url), DirectSignerResponse)
    return signer.redirect_url


# --- Getting the status


async def get_status(client: DirectClient, created: DirectJobResponse, exit_url: str) -> None:
    token = status_query_token_in(exit_url)
    status = await client.get_status(created, token)
    assert_type(status, DirectJobStatusResponse)
    assert_type(await client.get_status("https://localhost/status", token), DirectJobStatusResponse)
    assert_type(status.status, DirectJobStatus | str)
    assert_type(status.signatures, Sequence[Signature])
    assert_type(status.deduplication_key, str)
    signature = status.signature_of("customer-42")
    assert_type(signature.status, SignerStatus | str)
    assert_type(signature.since, datetime | None)
    assert_type((signature.signer, signature.xades_url), tuple[str | None, str | None])


def decide(status: DirectJobStatusResponse) -> str:
    """The last case matches statuses that the service adds later."""
    match status.status:
        case DirectJobStatus.IN_PROGRESS:
            return "wait"
        case DirectJobStatus.COMPLETED_SUCCESSFULLY:
            return "store"
        case DirectJobStatus.FAILED:
            return "tell"
        case unknown:
            assert_type(unknown, str)
            return unknown


def match_all_members(status: SignerStatus) -> int:
    """Matches every member of the enum."""
    match status:
        case SignerStatus.WAITING | SignerStatus.SIGNED | SignerStatus.REJECTED:
            return 1
        case SignerStatus.EXPIRED | SignerStatus.FAILED | SignerStatus.NOT_APPLICABLE:
            return 2
        case SignerStatus.SIGNERS_NAME_NOT_AVAILABLE:
            return 3
        case _:
            assert_never(status)


async def poll(client: DirectClient) -> None:
    sender = Sender(organization_number="123456789")
    result = await client.get_status_change(sender=sender)
    assert_type(result, StatusPoll)
    assert_type(result.change, DirectJobStatusResponse | None)
    assert_type(
        (result.wait, result.next_permitted_poll_time), tuple[timedelta | None, datetime | None]
    )

    def on_failure(error: SigningError, wait: timedelta) -> None:
        assert_type((error, wait), tuple[SigningError, timedelta])

    policy = FailurePolicy(max_failures=3, max_outage=timedelta(hours=1), on_failure=on_failure)
    changes = client.status_changes(sender=sender, failure_policy=policy)
    assert_type(changes, StatusChanges)
    async for change in changes:
        assert_type(change, DirectJobStatusResponse)
        await client.confirm(change)
        await client.confirm("https://localhost/complete")
    assert_type(changes.counts, PollCounts)
    while await changes.wait_until_due():
        assert_type(await changes.poll_once(), DirectJobStatusResponse | None)
        assert_type(changes.polled_at, float | None)
        assert_type(changes.answered_at, float | None)
        assert_type(changes.next_poll_in(), float)
    changes.stop()
    await changes.aclose()


# --- Downloading and deleting


async def download(client: DirectClient, status: DirectJobStatusResponse) -> None:
    def progress(written: int, expected: int | None) -> None:
        assert_type((written, expected), tuple[int, int | None])

    assert_type(await client.get_pades(status), bytes)
    assert_type(await client.download_pades(status, "a.pdf", progress=progress), int)
    async with client.open_pades("https://localhost/pades") as stream:
        assert_type(stream, DownloadStream)
        assert_type(stream.content_length, int | None)
        async for chunk in stream:
            assert_type(chunk, bytes)
    for signature in status.signatures:
        assert_type(await client.get_xades(signature), bytes)
        assert_type(await client.download_xades("https://localhost/x", Path("a.xml")), int)
        async with client.open_xades(signature) as stream:
            assert_type(stream, DownloadStream)
    await client.delete_documents(status)
    await client.delete_documents("https://localhost/delete")


async def open_client(configuration: ClientConfiguration) -> None:
    async with DirectClient(configuration) as client:
        assert_type(client, DirectClient)
        assert_type(await client.check_access(sender=None), str)
        assert_type(client.configuration, ClientConfiguration)
        await client.replace_certificate(configuration.certificate)
    await client.aclose()


# --- The worker


class Store:
    """A store that the caller implements."""

    async def save(self, *, job_id: int, name: str, content: bytes) -> None:
        assert_type((job_id, name, content), tuple[int, str, bytes])


async def work(client: DirectClient) -> None:
    async def handle(change: DirectJobStatusResponse) -> None:
        assert_type(change.job_id, int)

    stores: list[SignedDocumentStore] = [Store(), DirectoryStore("signed")]
    handlers: list[Handler] = [handle, StoreSignedDocuments(client, stores[0])]
    worker = StatusChangeWorker(
        client,
        handlers[0],
        senders=[Sender(organization_number="123456789")],
        concurrency=4,
        handler_timeout=timedelta(minutes=8),
        max_deliveries=10,
        dead_letter=handle,
        lease=timedelta(minutes=10),
        stop_within=timedelta(seconds=30),
        failure_policy=FailurePolicy(),
        handle_signals=True,
    )
    await worker.run()
    worker.add_sender(Sender(organization_number="999888777"))
    worker.remove_sender(Sender(organization_number="999888777"))
    worker.stop()
    assert_type(worker.health, WorkerHealth)
    assert_type(worker.health.queues, tuple[QueueHealth, ...])
    assert_type(worker.counts, WorkCounts)
    assert_type(worker.counts.polls, PollCounts)


# --- A transport and a fleet that the caller implements


class EmptyResponse:
    """A response with status 200 and an empty body."""

    @property
    def status(self) -> int:
        return 200

    @property
    def headers(self) -> Mapping[str, str]:
        return {}

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b""


class OwnTransport:
    """Responds to every request with the same response."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self.context = context

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator[ResponseStream]:
        assert_type(request.timeout, TimeoutKind)
        assert_type(request.headers, Mapping[str, str])
        assert_type(request.body, Body | None)
        if request.body is not None:
            assert_type(request.body.length, int)
            async for chunk in request.body.chunks():
                assert_type(chunk, bytes)
        assert_type(request.url, Secret[str])
        assert_type(request.url.reveal(), str)
        yield EmptyResponse()

    async def aclose(self) -> None:
        """Does nothing."""


class OwnFleet:
    """Delegates to the fleet of one process."""

    @asynccontextmanager
    async def join(self, context: FleetContext, /) -> AsyncGenerator[FleetMember]:
        """Joins the other fleet."""
        async with InMemoryFleet().join(context) as member:
            assert_type(member, FleetMember)
            async with member.turn(Sender(organization_number="123456789")) as turn:
                assert_type(turn, PollTurn)
                assert_type(turn.state, QueueState)
            yield member


async def configure(context: ssl.SSLContext) -> ClientConfiguration:
    return await configurations(OwnTransport(context), OwnFleet())


def exchange(transport: Transport, request: Request) -> AbstractAsyncContextManager[ResponseStream]:
    return transport.exchange(request)


# --- Errors


def explain(error: SigningError) -> object:  # noqa: C901, PLR0911, PLR0912 - one case for each error
    """The attributes of each error."""
    match error:
        case DocumentChangedError():
            return error.violations
        case InvalidJobError():
            assert_type(error.violations, tuple[Violation, ...])
            return [(violation.path, violation.rule) for violation in error.violations]
        case (
            ArgumentTypeError()
            | SenderNotSpecifiedError()
            | ConfigurationError()
            | ClientStateError()
        ):
            return "fix the configuration"
        case UntrustedUrlError() | SignerNotFoundError():
            return "fix the call"
        case StatusUrlMissingError() | SignedDocumentMissingError() | DocumentsNotDeletableError():
            return "not available"
        case StatusQueryTokenMissingError() | NotAvailableError():
            return "not available"
        case CreateOutcomeUnknownError():
            assert_type(error.job_id, int | None)
            return error.reference, error.reason
        case TlsError():
            return assert_type(error.certificate_refused, bool)
        case TransportTimeoutError():
            return error.request_may_have_left
        case TransportError():
            return assert_type(error.request_may_have_left, bool)
        case TooEagerPollingError():
            assert_type(error.polled, bool)
            assert_type(error.wait, timedelta | None)
            return assert_type(error.next_permitted_poll_time, datetime | None)
        case RateLimitedError():
            assert_type(error.wait, timedelta | None)
            return assert_type(error.blocked_until, datetime | None)
        case BrokerNotAuthorizedError() | NotAuthorizedError():
            return "ask for access"
        case InvalidStatusQueryTokenError() | SigningCeremonyNotCompletedError():
            return "retry later"
        case ApiError():
            assert_type(error.status, int)
            assert_type(error.retry_after, timedelta | None)
            return error.code, error.message, error.type, error.answer
        case UnexpectedResponseError():
            return "the service's fault"
        case _:
            return assert_type(error, SigningError)


# --- The sandbox


async def sandbox() -> None:
    limit = RateLimit(calls=10, period=timedelta(seconds=1), block=timedelta(seconds=30))
    async with Sandbox(
        port=0,
        empty_queue_wait=timedelta(seconds=30),
        rate_limit=limit,
        clock=lambda: datetime.now(UTC),
    ) as running:
        assert_type(running, Sandbox)
        configuration = running.client_configuration(
            organization_number="123456789", polling_queue="shop", max_connections=2
        )
        assert_type(configuration, ClientConfiguration)
        assert_type((running.service_root, running.signing_pages_url), tuple[str, str])
        assert_type((running.overview_url, running.control_url), tuple[str, str])
        assert_type(running.exit_urls, ExitUrls)
        assert_type(running.ca_pem, bytes)
        assert_type(running.ca_certificates, Mapping[str, bytes])
        assert_type(running.enterprise_pkcs12("123456789"), tuple[bytes, str])
        running.authorize_broker("123456789", "987654321")
        await act_as_signer(running, "http://localhost")
        for received in running.received:
            assert_type(received, Received)
            assert_type((received.job_id, received.request), tuple[int, bytes])
            assert_type(received.documents, Mapping[str, bytes])
            assert_type((received.manifest, received.container), tuple[bytes, bytes])


async def act_as_signer(running: Sandbox, redirect_url: str) -> None:
    try:
        assert_type(running.status_query_token(redirect_url), str)
        assert_type(await running.sign(redirect_url), str)
        assert_type(await running.reject(redirect_url), str)
        assert_type(await running.fail(redirect_url), str)
        await running.expire(1)
        await running.end_lease(1, 1)
        await running.delete_documents(1)
        await running.advance(30.0)
        await running.reset()
    except SandboxError as error:
        assert_type(str(error), str)


def break_things(running: Sandbox) -> Sequence[PendingFault]:
    faults = running.faults
    assert_type(faults, Faults)
    number = faults.add(Fault(kind=FaultKind.DELAY, seconds=3, operation=Operation.CREATE, times=1))
    assert_type(faults.remove(number), bool)
    faults.clear()
    return faults.pending


def inspect(running: Sandbox) -> Mapping[str, OrganizationCounters]:
    overview = running.overview()
    assert_type(overview, Overview)
    assert_type(overview.jobs, tuple[JobSnapshot, ...])
    for job in overview.jobs:
        assert_type((job.signers, job.documents), tuple[Signers, Documents])
    assert_type(overview.queues, tuple[QueueSnapshot, ...])
    for queue in overview.queues:
        assert_type(queue.changes, tuple[ChangeSnapshot, ...])
    assert_type(overview.requests, tuple[RequestSnapshot, ...])
    assert_type(overview.brokers, tuple[BrokerSnapshot, ...])
    return running.counters


Signers = tuple[SignerSnapshot, ...]
Documents = tuple[DocumentSnapshot, ...]


def sandbox_in_a_thread() -> ClientConfiguration:
    with ThreadedSandbox(rate_limit=None) as running:
        assert_type(running, ThreadedSandbox)
        assert_type(running.sign("http://localhost"), str)
        running.faults.add(Fault(kind=FaultKind.RESET, after=True))
        return running.client_configuration()
