"""Test doubles for tests of the client: a transport without a network, its responses, a clock, a sleep.

The transport responds according to a script and records the requests. The XML of the responses is written here, so
that no test reads XML that the package itself rendered.
"""

import functools
import traceback
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import pki

import posten_signering
from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    InMemoryFleet,
    Request,
    Retries,
    Sender,
    TimeoutKind,
)

ROOT = "https://api.example/api"
SENDER = Sender(organization_number=pki.SENDER)
JOBS = f"{ROOT}/{pki.SENDER}/direct/signature-jobs"
NS = "http://signering.posten.no/schema/v1"

# A synthetic identity number: 80 is added to the month, so it belongs to no real person.
PERSON = "17885599999"
CUSTOMER = "customer-42"


# --- Responses


@dataclass
class Answer:
    """A response of the service.

    Attributes:
        chunks: The body, whole or in the chunks in which it arrives.
        broken_by: What follows the last chunk: the exception is raised, or a `Hang` waits forever. None: the body ends.
    """

    status: int = 200
    chunks: bytes | list[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    broken_by: "BaseException | Hang | None" = None


@dataclass
class Unsent:
    """A failure before any byte of the request was sent."""

    error: BaseException


@dataclass
class Hang:
    """The service receives the request and never responds. `reached` is set when the waiting starts."""

    reached: anyio.Event = field(default_factory=anyio.Event)

    async def forever(self) -> None:
        self.reached.set()
        await anyio.sleep_forever()


def created_xml(
    *, job_id: int = 7, reference: str | None = "order-77", polled: bool = False
) -> bytes:
    """The response to a create, with two signers. Their order differs from that in `job()`."""
    reference_xml = "" if reference is None else f"<reference>{reference}</reference>"
    status_url = "" if polled else f"<status-url> {JOBS}/{job_id}/status </status-url>"
    return (
        f'<direct-signature-job-response xmlns="{NS}">{reference_xml}'
        f"<signature-job-id>{job_id}</signature-job-id>{status_url}"
        f'<signer href="{JOBS}/{job_id}/signers/2"><signer-identifier>{CUSTOMER}'
        "</signer-identifier><redirect-url>https://web.example#/redirect/two</redirect-url></signer>"
        f'<signer href="{JOBS}/{job_id}/signers/1"><personal-identification-number>{PERSON}'
        "</personal-identification-number><redirect-url>https://web.example#/redirect/one"
        "</redirect-url></signer></direct-signature-job-response>"
    ).encode()


def signer_xml() -> bytes:
    return (
        f'<direct-signer-response xmlns="{NS}" href="{JOBS}/7/signers/2"><signer-identifier>'
        f"{CUSTOMER}</signer-identifier><redirect-url>https://web.example#/redirect/new"
        "</redirect-url></direct-signer-response>"
    ).encode()


def status_xml(status: str = "COMPLETED_SUCCESSFULLY", *, job_id: int = 7) -> bytes:
    """The status of a job that both signers have signed, with every URL."""
    return (
        f'<direct-signature-job-status-response xmlns="{NS}"><reference>order-77</reference>'
        f"<signature-job-id>{job_id}</signature-job-id>"
        f"<signature-job-status>{status}</signature-job-status>"
        f'<status signer="{PERSON}" since="2026-01-02T03:04:05.678+01:00">SIGNED</status>'
        f'<status signer="{CUSTOMER}" since="2026-01-02T02:05:00Z">SIGNED</status>'
        f"<confirmation-url>{JOBS}/{job_id}/complete</confirmation-url>"
        f"<delete-documents-url>{JOBS}/{job_id}/delete</delete-documents-url>"
        f'<xades-url signer="{PERSON}">{JOBS}/{job_id}/xades/1</xades-url>'
        f'<xades-url signer="{CUSTOMER}">{JOBS}/{job_id}/xades/2</xades-url>'
        f"<pades-url>{JOBS}/{job_id}/pades</pades-url></direct-signature-job-status-response>"
    ).encode()


def error_xml(code: str, message: str = "Because.") -> bytes:
    return (
        f'<error xmlns="{NS}"><error-code>{code}</error-code><error-message>{message}'
        "</error-message><error-type>CLIENT</error-type></error>"
    ).encode()


# Their last bytes are those of a complete document.
PADES = b"%PDF-1.7\nsigned\n%%EOF\n"
XADES = b"<XAdESSignatures></XAdESSignatures>"


def poll_headers(now: datetime, wait: timedelta) -> dict[str, str]:
    """The headers with times in the response to a poll."""
    return {
        "date": f"{now:%a, %d %b %Y %H:%M:%S} GMT",
        "x-next-permitted-poll-time": (now + wait).isoformat(),
    }


# --- The transport


@dataclass
class Sent:
    """A request that the transport sent, with its whole body."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    timeout: TimeoutKind


@dataclass
class _Stream:
    status: int
    headers: Mapping[str, str]
    answer: Answer
    transport: "ScriptedTransport"

    async def chunks(self) -> AsyncIterator[bytes]:
        chunks = self.answer.chunks
        for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
            await anyio.lowlevel.checkpoint()
            self.transport.chunk_sizes.append(len(chunk))
            yield chunk
        if isinstance(self.answer.broken_by, Hang):
            await self.answer.broken_by.forever()
        elif self.answer.broken_by is not None:
            raise self.answer.broken_by


class ScriptedTransport:
    """A `Transport` that responds to each request with the next step of its script.

    If a step is an exception, it is raised after the whole request was sent. A request after the last step fails
    the test.

    Attributes:
        sent: The requests.
        chunk_sizes: The size of each chunk of a response that the client has read.
        open: The number of responses that the client has not closed.
        closed: How often the transport was closed.
    """

    def __init__(self, *script: "Answer | Unsent | Hang | BaseException") -> None:
        self.script = deque(script)
        self.sent: list[Sent] = []
        self.chunk_sizes: list[int] = []
        self.open = 0
        self.closed = 0

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncIterator[_Stream]:
        assert self.script, f"Unexpected request, no step is left: {request.method}"
        step = self.script.popleft()
        if isinstance(step, Unsent):
            raise step.error
        body = request.body
        content = None if body is None else b"".join([chunk async for chunk in body.chunks()])
        if body is not None:
            assert body.length == len(content)
        self.sent.append(
            Sent(
                request.method,
                request.url.reveal(),
                dict(request.headers),
                content,
                request.timeout,
            )
        )
        if isinstance(step, Hang):
            await step.forever()
        if isinstance(step, BaseException):
            raise step
        self.open += 1
        try:
            yield _Stream(step.status, step.headers, step, self)
        finally:
            self.open -= 1

    async def aclose(self) -> None:
        self.closed += 1


def opened_files() -> list[Path]:
    """The open file descriptors of this process."""
    return sorted(Path("/dev/fd").iterdir())


# --- Time and rate limit


class Clock:
    """A clock that advances only when `wait` is called."""

    def __init__(self, now: datetime = pki.NOW) -> None:
        self.now = now
        self.seconds = 12345.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        """The time in seconds, as a number that differs from the clock's."""
        return self.seconds

    def wait(self, *, seconds: float = 0, **time: float) -> None:
        self.now += timedelta(seconds=seconds, **time)
        self.seconds += seconds + timedelta(**time).total_seconds()


class Sleep:
    """A sleep that takes no time. It records the duration and advances the clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.slept.append(seconds)
        self.clock.wait(seconds=seconds)


class FleetDouble:
    """A fleet with the rate budget of a subclass. Its turns and deliveries are those of an `InMemoryFleet`."""

    @asynccontextmanager
    async def join(self, context):
        async with InMemoryFleet(share=None).join(context) as member:
            member.acquire, member.block = self.acquire, self.block
            yield member


class UnlimitedFleet(FleetDouble):
    """A `Fleet` whose calls never wait. It records them.

    Attributes:
        acquired: The organisation number of each call.
        in_flight: The number of calls in flight, by organisation number.
        blocks: The organisation number and the seconds of each block.
    """

    def __init__(self) -> None:
        self.acquired: list[str] = []
        self.in_flight = Counter[str]()
        self.blocks: list[tuple[str, float]] = []

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        self.acquired.append(organization_number)
        self.in_flight[organization_number] += 1
        calls = [organization_number]

        def release() -> None:
            if calls:
                self.in_flight[calls.pop()] -= 1

        return release

    async def block(self, organization_number: str, seconds: float) -> None:
        self.blocks.append((organization_number, seconds))


# --- The client


@functools.cache
def enterprise() -> EnterpriseCertificate:
    """The sender's certificate. It is cached, because reading a key is slow."""
    return pki.sender().enterprise()


def configuration(transport: ScriptedTransport | None, **fields) -> ClientConfiguration:
    """A configuration whose client uses no network, never waits, is not random and does not retry."""
    clock = fields.get("clock") or Clock()
    defaults = {
        "environment": Environment(
            name="Test", service_root=ROOT, default_poll_wait=timedelta(seconds=30)
        ),
        "certificate": enterprise(),
        "sender": SENDER,
        "clock": clock,
        "monotonic": clock.monotonic,
        "sleep": Sleep(clock),
        "random": lambda: 0.0,
        "fleet": UnlimitedFleet(),
        "retries": Retries(max_retries=0),
        "transport": transport,
    }
    return ClientConfiguration(**{**defaults, **fields})


@asynccontextmanager
async def client_of(
    *script: Answer | Unsent | Hang | BaseException, **fields
) -> AsyncIterator[tuple[DirectClient, ScriptedTransport]]:
    """An open client and its transport."""
    transport = ScriptedTransport(*script)
    async with DirectClient(configuration(transport, **fields)) as client:
        yield client, transport


def _pdf() -> bytes:
    """A minimal PDF of one page, with its cross-reference table."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>",
    ]
    content, table = b"%PDF-1.4\n", b"xref\n0 4\n0000000000 65535 f \n"
    for number, dictionary in enumerate(objects, start=1):
        table += b"%010d 00000 n \n" % len(content)
        content += b"%d 0 obj%sendobj\n" % (number, dictionary)
    return (
        content + table + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(content)
    )


PDF = _pdf()


def job(**fields) -> DirectJob:
    """A job with a PDF and a text document, for two signers with the two kinds of identifiers."""
    defaults = {
        "title": "Lease",
        "documents": [
            Document(title="Contract", content=PDF),
            Document(title="Terms", content="Vilkår".encode(), type=DocumentType.TEXT),
        ],
        "signers": [
            DirectSigner(personal_identification_number=PERSON),
            DirectSigner(custom_identifier=CUSTOMER),
        ],
        "exit_urls": ExitUrls(
            completion="https://shop.example/done",
            rejection="https://shop.example/rejected",
            error="https://shop.example/error",
        ),
        "reference": "order-77",
    }
    return DirectJob(**{**defaults, **fields})


# --- Secrets

_PACKAGE = Path(posten_signering.__file__).parent


def frames_with_locals(error: BaseException) -> str:
    """The text that an error reporting tool shows for the package's own frames, with their local variables.

    It includes the causes of the error. Frames of the sandbox are left out, because it is not part of the client.
    """
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "\n".join(_frames(shown))


def _frames(shown: traceback.TracebackException) -> Iterator[str]:
    for frame in shown.stack:
        path = Path(frame.filename)
        if path.is_relative_to(_PACKAGE) and "sandbox" not in path.relative_to(_PACKAGE).parts:
            yield "".join(traceback.StackSummary.from_list([frame]).format())
    yield "".join(shown.format_exception_only())
    for other in (shown.__cause__, shown.__context__, *(shown.exceptions or ())):
        if other is not None:
            yield from _frames(other)


def shown_in(text: str, canaries: Iterable[str]) -> list[str]:
    """The canaries that appear in a text."""
    return [canary for canary in canaries if canary in text]
