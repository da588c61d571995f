"""What tests of the client share: a transport without a network, answers, a clock, a sleep.

The transport answers by a script and writes down what was sent. The answers are XML written here, so
that no test reads what the package itself rendered.
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
    Request,
    Retries,
    Sender,
    TimeoutKind,
)

ROOT = "https://api.example/api"
SENDER = Sender(organization_number=pki.SENDER)
JOBS = f"{ROOT}/{pki.SENDER}/direct/signature-jobs"
NS = "http://signering.posten.no/schema/v1"

# Synthetic: the eighties in the month mark a person who does not exist.
PERSON = "17885599999"
CUSTOMER = "customer-42"


# --- Answers


@dataclass
class Answer:
    """An answer of the service.

    Attributes:
        chunks: The body as it comes.
        broken_by: Raised after the last chunk, in place of the body's end; a `Hang`: nothing comes.
    """

    status: int = 200
    chunks: bytes | list[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    broken_by: "BaseException | Hang | None" = None


@dataclass
class Unsent:
    """Raised before anything of the request was taken."""

    error: BaseException


@dataclass
class Hang:
    """Takes the request, and never answers. `reached` is set when it has come so far."""

    reached: anyio.Event = field(default_factory=anyio.Event)

    async def forever(self) -> None:
        self.reached.set()
        await anyio.sleep_forever()


def created_xml(
    *, job_id: int = 7, reference: str | None = "order-77", polled: bool = False
) -> bytes:
    """Two signers, in another order than jobs here have them."""
    told = "" if reference is None else f"<reference>{reference}</reference>"
    status_url = "" if polled else f"<status-url> {JOBS}/{job_id}/status </status-url>"
    return (
        f'<direct-signature-job-response xmlns="{NS}">{told}'
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
    """A job that both have signed, with every URL."""
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


# Each ends as one of its kind does.
PADES = b"%PDF-1.7\nsigned\n%%EOF\n"
XADES = b"<XAdESSignatures></XAdESSignatures>"


def poll_headers(now: datetime, wait: timedelta) -> dict[str, str]:
    """What the service says of time when a queue is polled."""
    return {
        "date": f"{now:%a, %d %b %Y %H:%M:%S} GMT",
        "x-next-permitted-poll-time": (now + wait).isoformat(),
    }


# --- The transport


@dataclass
class Sent:
    """A request as it was taken, with its whole body."""

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
    exchanging: "ScriptedTransport"

    async def chunks(self) -> AsyncIterator[bytes]:
        chunks = self.answer.chunks
        for chunk in [chunks] if isinstance(chunks, bytes) else chunks:
            await anyio.lowlevel.checkpoint()
            self.exchanging.given.append(len(chunk))
            yield chunk
        if isinstance(self.answer.broken_by, Hang):
            await self.answer.broken_by.forever()
        elif self.answer.broken_by is not None:
            raise self.answer.broken_by


class ScriptedTransport:
    """A `Transport` that answers each request with the next step of its script.

    An exception among the steps is raised after the whole request was taken. A request without a
    step left fails the test.
    """

    def __init__(self, *script: "Answer | Unsent | Hang | BaseException") -> None:
        self.script = deque(script)
        self.sent: list[Sent] = []
        self.given: list[int] = []
        self.open = 0
        self.closed = 0

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncIterator[_Stream]:
        assert self.script, f"a request that nobody expected: {request.method}"
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
    """The descriptors that this process has open."""
    return sorted(Path("/dev/fd").iterdir())


# --- Time, and the pace


class Clock:
    """Stands still until it is moved."""

    def __init__(self, now: datetime = pki.NOW) -> None:
        self.now = now
        self.seconds = 12345.0

    def __call__(self) -> datetime:
        return self.now

    def monotonic(self) -> float:
        """Seconds, with another zero than the clock's, and finer."""
        return self.seconds

    def wait(self, *, seconds: float = 0, **time: float) -> None:
        self.now += timedelta(seconds=seconds, **time)
        self.seconds += seconds + timedelta(**time).total_seconds()


class Sleep:
    """Takes no time: writes down how long it was asked to, and moves the clock on."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.slept: list[float] = []

    async def __call__(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.slept.append(seconds)
        self.clock.wait(seconds=seconds)


class Unpaced:
    """A `RateLimiter` that lets everybody through, and writes down what it was told.

    Attributes:
        paid: The organisation number of each call.
        on_its_way: How many calls of an organisation have left and not arrived.
        blocks: Each block: the organisation number, and its seconds.
    """

    def __init__(self) -> None:
        self.paid: list[str] = []
        self.on_its_way = Counter[str]()
        self.blocks: list[tuple[str, float]] = []

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        self.paid.append(organization_number)
        self.on_its_way[organization_number] += 1
        calls = [organization_number]

        def arrived() -> None:
            if calls:
                self.on_its_way[calls.pop()] -= 1

        return arrived

    async def block(self, organization_number: str, seconds: float) -> None:
        self.blocks.append((organization_number, seconds))


# --- The client's side


@functools.cache
def enterprise() -> EnterpriseCertificate:
    """The sender's; reading a key takes long."""
    return pki.sender().enterprise()


def configuration(transport: ScriptedTransport | None, **fields) -> ClientConfiguration:
    """A configuration whose client meets no network, no waiting and no chance, and repeats nothing."""
    clock = fields.get("clock") or Clock()
    given = {
        "environment": Environment(
            name="Test", service_root=ROOT, default_poll_wait=timedelta(seconds=30)
        ),
        "certificate": enterprise(),
        "sender": SENDER,
        "clock": clock,
        "monotonic": clock.monotonic,
        "sleep": Sleep(clock),
        "random": lambda: 0.0,
        "rate_limiter": Unpaced(),
        "retries": Retries(max_retries=0),
        "transport": transport,
    }
    return ClientConfiguration(**{**given, **fields})


@asynccontextmanager
async def client_of(
    *script: Answer | Unsent | Hang | BaseException, **fields
) -> AsyncIterator[tuple[DirectClient, ScriptedTransport]]:
    """An open client, and its transport."""
    transport = ScriptedTransport(*script)
    async with DirectClient(configuration(transport, **fields)) as client:
        yield client, transport


def _pdf() -> bytes:
    """The smallest PDF of one page, with its table of offsets."""
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>",
    ]
    content, table = b"%PDF-1.4\n", b"xref\n0 4\n0000000000 65535 f \n"
    for number, each in enumerate(objects, start=1):
        table += b"%010d 00000 n \n" % len(content)
        content += b"%d 0 obj%sendobj\n" % (number, each)
    return (
        content + table + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(content)
    )


PDF = _pdf()


def job(**fields) -> DirectJob:
    """A PDF and a text for two signers, one of each kind."""
    given = {
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
    return DirectJob(**{**given, **fields})


# --- Secrets

_PACKAGE = Path(posten_signering.__file__).parent


def frames_with_locals(error: BaseException) -> str:
    """What an error tool that renders locals shows of the package's own frames, causes included.

    The sandbox is another party, and its frames are left out.
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
    """Which of the canaries a text shows."""
    return [each for each in canaries if each in text]
