"""No identity number, token, URL, password or document appears in a log, a repr, an error, a traceback or a span.

Every operation runs into every failure over real connections, and a whole flow succeeds. The tests search the
logs of all loggers at DEBUG, the texts of errors, the local variables of the package's frames in tracebacks, and what
OpenTelemetry's instrumentation of httpx and our own observer record.
"""

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import client_calls
import doubles
import httpx
import loopback
import pki
import pytest
from doubles import NS, Sleep, UnlimitedFleet, frames_with_locals, shown_in
from telemetry import Telemetry

import posten_signering
from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    DocumentBundleToDisk,
    DocumentType,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    FailurePolicy,
    Retries,
    StatusRetrievalMethod,
    Timeouts,
    TrustAnchors,
)
from posten_signering.errors import (
    CreateOutcomeUnknownError,
    InvalidJobError,
    SignerNotFoundError,
    SigningError,
    TlsError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
    UntrustedUrlError,
)
from posten_signering.opentelemetry import OpenTelemetryObserver
from posten_signering.sandbox import Sandbox

pytestmark = pytest.mark.anyio

PERSON = "17885554321"
CUSTOMER = "canary-customer"
PASSWORD = "canary-password"
PROXY_USER, PROXY_PASSWORD = "canary-user", "canary-proxy-password"
TOKEN = client_calls.TOKEN

# All secrets contain the word "canary", except numbers and encoded text.
CANARIES = [
    "canary",
    PERSON,
    base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode(),
]
CONTENT = b"%PDF-1.4 canary document\n%%EOF"


def job(**fields) -> DirectJob:
    """A job with a canary in every part."""
    defaults = {
        "title": "canary title",
        "description": "canary description",
        "documents": [
            Document(title="canary title", content=doubles.PDF + b"% canary"),
            Document(title="canary", content=b"canary document" * 9999, type=DocumentType.TEXT),
        ],
        "signers": [
            DirectSigner(personal_identification_number=PERSON),
            DirectSigner(custom_identifier=CUSTOMER),
        ],
        "exit_urls": ExitUrls(
            completion="https://canary.example/1?canary",
            rejection="https://canary.example/2",
            error="https://canary.example/3",
        ),
        "reference": "order-77",
    }
    return DirectJob(**{**defaults, **fields})


@dataclass
class Output:
    """Everything that a program shows: log records, reprs, errors, tracebacks, and what OpenTelemetry records.

    Attributes:
        texts: Everything except the log records and the telemetry.
        errors: The errors that calls raised.
    """

    logged: pytest.LogCaptureFixture
    telemetry: Telemetry
    texts: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def show(self, *values: object) -> None:
        self.texts += [f"{value!r} {value}" for value in values]

    async def watch(self, call: Awaitable[object]) -> BaseException | None:
        """Awaits the call, and records its result or its error."""
        try:
            self.show(type(await call))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - every error is searched
            self.errors.append(error)
            self.show(error)
            self.texts.append(frames_with_locals(error))
            assert_no_library_error_is_chained(error)
            return error
        return None

    def canaries(self, canaries: list[str]) -> list[str]:
        """The canaries that appear in the output."""
        logged = [
            f"{record.getMessage()} {record.msg} {record.args!r}" for record in self.logged.records
        ]
        texts = [*self.texts, *logged, self.logged.text, self.telemetry.text()]
        return shown_in("\n".join(texts), canaries)


def assert_no_library_error_is_chained(error: BaseException) -> None:
    """Exceptions of libraries contain requests and values, so they must not be chained."""
    for chained in (error.__cause__, error.__context__):
        if chained is not None:
            assert isinstance(chained, SigningError | OSError), (error, chained)
            assert_no_library_error_is_chained(chained)


@pytest.fixture
def output(caplog) -> Iterator[Output]:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio", "posten_signering"):
        caplog.set_level(logging.DEBUG, name)
    telemetry = Telemetry()
    with telemetry.of_httpx():
        yield Output(caplog, telemetry)


@pytest.fixture(scope="module")
def certificate() -> EnterpriseCertificate:
    content = pki.sender().p12(PASSWORD.encode())
    return EnterpriseCertificate.from_pkcs12(content, password=PASSWORD)


# --- Every operation with every failure


def calls(root: str, path: Path) -> dict[str, Callable[[DirectClient], Awaitable[object]]]:
    """Every operation, with canaries in all its arguments."""
    url = f"{root}/{pki.SENDER}/canary/{PERSON}?canary={PERSON}"
    once = FailurePolicy(max_failures=1)
    return {
        **client_calls.all_calls(path, url),
        **{
            f"{name} of a response": lambda client, operation=operation: operation.call(
                client, operation.holding(url), path
            )
            for name, operation in client_calls.URL_OPERATIONS.items()
        },
        "create": lambda client: client.create(job()),
        "status_changes": lambda client: anext(client.status_changes(failure_policy=once)),
    }


def responding(status: int, body: bytes, **headers: str) -> loopback.Handler:
    return loopback.always(loopback.answer(status, body, **headers))


ERROR_DOCUMENT = (
    f'<error xmlns="{NS}"><error-code>SOME_CODE</error-code><error-message>The signer {PERSON} and '
    f"{PERSON}, or ({PERSON})</error-message><error-type>CLIENT</error-type></error>"
).encode()
PAGE = f"<html>{PERSON} {CUSTOMER} {TOKEN} canary</html>".encode()
CUT_OFF = (
    f'<direct-signature-job-status-response xmlns="{NS}"><reference>canary {PERSON}</reference>'
    f"<signature-job-id>canary {PERSON}</signature-job-id><status signer"
).encode()
# Well-formed documents that lack a required part.
UNREADABLE = {
    "job": (
        f'<direct-signature-job-response xmlns="{NS}"><reference>canary</reference>'
        f"<signature-job-id>canary{PERSON}</signature-job-id><signer href='canary'>"
        f"<personal-identification-number>{PERSON}</personal-identification-number></signer>"
        "</direct-signature-job-response>"
    ),
    "job's signer": (
        f'<direct-signature-job-response xmlns="{NS}"><signature-job-id>7</signature-job-id>'
        f"<signer href='canary'><signer-identifier>{PERSON}</signer-identifier></signer>"
        "</direct-signature-job-response>"
    ),
    "signer": (
        f'<direct-signer-response xmlns="{NS}" href="canary"><personal-identification-number>'
        f"{PERSON}</personal-identification-number></direct-signer-response>"
    ),
    "status": (
        f'<direct-signature-job-status-response xmlns="{NS}"><signature-job-id>7</signature-job-id>'
        f'<status signer="{PERSON}" since="canary">SIGNED</status><pades-url>canary</pades-url>'
        "</direct-signature-job-status-response>"
    ),
}


async def never_respond(_: loopback.Received) -> loopback.Answer:
    await asyncio.Event().wait()


HANDLERS: dict[str, loopback.Handler] = {
    "silence": never_respond,
    "a reset": loopback.always(None),
    "an error document with canaries": responding(
        400, ERROR_DOCUMENT, Content_Type="application/xml"
    ),
    "a page with canaries": responding(502, PAGE, Content_Type="text/html; canary"),
    "a cut-off response": loopback.always(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n" + CUT_OFF
    ),
    "XML that is cut off": responding(200, CUT_OFF),
    **{
        f"XML of a {name} without a part": responding(200, document.encode())
        for name, document in UNREADABLE.items()
    },
    "a redirect": responding(302, b"canary", Location=f"https://canary.example/{TOKEN}"),
    "no HTTP": loopback.always(b"canary canary\r\n\r\n"),
    "headers with canaries": responding(
        429, b"canary", DoSFilter="canary", Set_Cookie="canary", Date="canary"
    ),
    "an unknown encoding": responding(200, PAGE, Content_Encoding="br"),
    "a length with a canary": loopback.always(
        b"HTTP/1.1 200 OK\r\nContent-Length: canary\r\nConnection: close\r\n\r\n"
    ),
}


READ_AS_XML = {
    *("create", "get_status_change", "status_changes"),
    *("get_status", "get_status of a response"),
    *("request_new_redirect_url", "request_new_redirect_url of a response"),
}

# Operations that ignore the body of a success.
IGNORE_BODY = {"confirm", "delete_documents"}


@contextlib.asynccontextmanager
async def client_of(
    port: int, certificate: EnterpriseCertificate, output: Output, **fields
) -> AsyncIterator[DirectClient]:
    clock = doubles.Clock()
    providers = output.telemetry.tracer_provider, output.telemetry.meter_provider
    defaults = {
        "observers": [
            # Not the method itself: its repr is all of the output, and tracebacks would show it each time.
            lambda event: output.show(event),  # noqa: PLW0108 - see above
            OpenTelemetryObserver(*providers),
        ],
        "environment": Environment(name="Test", service_root=f"https://localhost:{port}/api"),
        "certificate": certificate,
        "trust_anchors": TrustAnchors().trusting(pki.root().pem),
        "sender": doubles.SENDER,
        "timeouts": Timeouts(connect=5, api=0.02, download=0.02),
        "fleet": UnlimitedFleet(),
        "retries": Retries(max_retries=1, budget=1000),
        "clock": clock,
        "monotonic": clock.monotonic,
        "sleep": Sleep(clock),
    }
    async with DirectClient(ClientConfiguration(**{**defaults, **fields})) as client:
        yield client


@pytest.mark.parametrize("failure", HANDLERS)
async def test_no_response_of_the_service_is_leaked(output, certificate, tmp_path, failure):
    context = pki.server_context(pki.service(), clients=pki.root())
    timeouts = Timeouts() if failure != "silence" else Timeouts(connect=5, api=0.02, download=0.02)
    async with (
        loopback.http_server(HANDLERS[failure], context) as server,
        client_of(server.port, certificate, output, timeouts=timeouts) as client,
    ):
        operations = calls(client.configuration.environment.service_root, tmp_path / "signed.pdf")
        ended = {name: await output.watch(call(client)) for name, call in operations.items()}
        assert server.received
        output.show(client, client.configuration, *output.errors)
    failed = {name for name, error in ended.items() if isinstance(error, SigningError)}
    expected = set(operations)
    if failure.startswith("XML"):
        # Broken XML may pass for a XAdES, and some operations ignore the body.
        expected = READ_AS_XML | {name for name in operations if "pades" in name}
    if failure == "an unknown encoding":
        expected = {name for name in operations if name.partition(" ")[0] not in IGNORE_BODY}
    assert failed == expected
    assert len(failed) == len(output.errors)
    assert output.canaries(CANARIES) == []


async def test_a_connection_failure_leaks_nothing(output, certificate, tmp_path):
    """Nothing listens on the port, the server is not trusted, or a proxy refuses."""
    untrusted_context = pki.server_context(pki.service(authority="Another CA"))
    proxied = f"http://{PROXY_USER}:{PROXY_PASSWORD}@localhost"
    expected = {}
    async with (
        loopback.http_server(responding(200, b""), untrusted_context) as untrusted,
        loopback.connect_proxy(b"HTTP/1.1 407 canary\r\nX: canary\r\n\r\n") as proxy,
    ):
        for port, fields, error in (
            (loopback.closed_port(), {}, TransportError),
            (untrusted.port, {"trust_anchors": other_anchors()}, TlsError),
            (untrusted.port, {"proxy": f"{proxied}:{proxy.port}"}, TransportError),
            (untrusted.port, {"proxy": f"{proxied}:{loopback.closed_port()}"}, TransportError),
        ):
            async with client_of(port, certificate, output, **fields) as client:
                root = client.configuration.environment.service_root
                for name, call in calls(root, tmp_path / "signed.pdf").items():
                    expected[name] = type(await output.watch(call(client)))
                    assert issubclass(expected[name], error), name
                output.show(client.configuration)
        assert untrusted.received == []
        assert proxy.received
    assert output.canaries(CANARIES) == []


def other_anchors() -> TrustAnchors:
    return TrustAnchors().trusting(pki.root("Elsewhere").pem)


async def test_a_url_that_is_not_followed_does_not_leak(output, certificate, tmp_path):
    urls = [
        f"https://canary.example/{PERSON}?status_query_token={TOKEN}",
        f"http://localhost/canary/{PERSON}",
        f"https://canary:{TOKEN}@localhost/canary",
        f"https://localhost/canary\n{PERSON}",
        "https://[canary/api",
        "canary",
    ]
    async with client_of(loopback.closed_port(), certificate, output) as client:
        for url in urls:
            for name, operation in client_calls.URL_OPERATIONS.items():
                for response_or_url in (url, operation.holding(url)):
                    error = await output.watch(
                        operation.call(client, response_or_url, tmp_path / "signed.pdf")
                    )
                    assert isinstance(error, UntrustedUrlError), name
    assert output.canaries(CANARIES) == []


@pytest.mark.parametrize("stage", ["before the response", "within the response"])
async def test_a_cancelled_call_leaks_nothing(output, certificate, tmp_path, stage):
    reached = asyncio.Event()

    async def hang(received: loopback.Received) -> loopback.Answer:
        reached.set()
        if stage == "within the response":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + CUT_OFF
        return await never_respond(received)

    context = pki.server_context(pki.service(), clients=pki.root())
    async with (
        loopback.http_server(hang, context) as server,
        client_of(server.port, certificate, output, timeouts=Timeouts()) as client,
    ):
        root = client.configuration.environment.service_root
        for call in calls(root, tmp_path / "signed.pdf").values():
            reached.clear()
            task = asyncio.ensure_future(call(client))
            await reached.wait()
            for _ in range(5):  # until the call waits for the rest of the response
                await asyncio.sleep(0)
            task.cancel()
            assert isinstance(await output.watch(task), asyncio.CancelledError)
    assert "Creating the job with reference 'order-77' was cancelled" in output.logged.text
    assert output.canaries(CANARIES) == []


# --- Jobs that are not created


async def test_an_invalid_job_leaks_nothing(output, certificate, tmp_path):
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary.txt").write_bytes(b"canary \xff")
    invalid = [
        {"title": "canary" * 20},
        {"title": "canary\0", "description": "canary\ud800", "reference": "x" * 51},
        {"description": "canary" * 50},
        {"documents": []},
        {"documents": [Document(title="canary" * 20, content=b"canary, and no PDF")]},
        {
            "documents": [
                Document(title="x", content=tmp_path / "canary.txt", type=DocumentType.TEXT)
            ]
        },
        {"documents": [Document(title="x", content=tmp_path / "canary")]},
        {"documents": [Document(title="x", content=tmp_path / "canary-gone.pdf")]},
        {"documents": [Document(title="x", content=Path("canary\0.pdf"))]},
        {"documents": [Document(title="x", content=b"%PDF-1.4 canary" + b"x" * 10_485_760)]},
        {"signers": []},
        {"signers": [DirectSigner()]},
        {"signers": [DirectSigner(personal_identification_number=f"{PERSON}0")]},
        {"signers": [DirectSigner(personal_identification_number=PERSON)] * 2},
        {"signers": [DirectSigner(custom_identifier="canary" * 20)]},
        {
            "signers": [
                DirectSigner(personal_identification_number=PERSON, custom_identifier=CUSTOMER)
            ]
        },
        {"signers": [DirectSigner(custom_identifier=CUSTOMER, signature_type="x")]},
        {
            "exit_urls": ExitUrls(
                completion="canary" * 99, rejection="\0canary", error="canary\ud800"
            )
        },
        {"authentication_level": "x"},
    ]
    async with client_of(loopback.closed_port(), certificate, output) as client:
        for fields in invalid:
            error = await output.watch(client.create(job(**fields)))
            assert isinstance(error, InvalidJobError), list(fields)
            output.show(*error.violations)

            async def validate(fields: dict[str, object] = fields) -> None:
                client.validate(job(**fields))

            assert isinstance(await output.watch(validate()), InvalidJobError)
    assert output.canaries(CANARIES) == []


async def test_an_exception_in_a_bundle_processor_leaks_no_container(output, certificate, tmp_path):
    def raise_while_reading(signature_job, open_container):
        with open_container() as container:
            container.read(1)
            raise LookupError("not today")

    def write_over_a_document(signature_job, open_container):
        for document in signature_job.documents:
            if isinstance(document.content, Path):
                document.content.write_bytes(b"canary, another")

    path = tmp_path / "canary.pdf"
    processors = [
        raise_while_reading,
        DocumentBundleToDisk(tmp_path / "gone"),
        write_over_a_document,
    ]
    for processor in processors:
        path.write_bytes(doubles.PDF + b"% canary")
        signature_job = job(documents=[Document(title="canary", content=path)])
        async with client_of(
            loopback.closed_port(), certificate, output, bundle_processors=[processor]
        ) as client:
            assert await output.watch(client.create(signature_job)) is not None
    shown = "".join(output.texts)
    assert "open_container" in shown
    assert output.canaries(["canary document", "canary title", *CANARIES[1:]]) == []


async def test_a_document_that_changes_while_it_is_sent_does_not_leak(
    output, certificate, tmp_path
):
    path = tmp_path / "canary.pdf"
    large = doubles.PDF + b"%" * 64 * 1024  # a smaller file stays in memory, so it can't change
    path.write_bytes(large + b"canary")
    context = pki.server_context(pki.service(), clients=pki.root())
    async with (
        loopback.http_server(responding(200, b""), context) as server,
        client_of(
            server.port,
            certificate,
            output,
            timeouts=Timeouts(),
            bundle_processors=[lambda *_: path.write_bytes(large + b"other!")],
        ) as client,
    ):
        error = await output.watch(
            client.create(job(documents=[Document(title="canary", content=path)]))
        )
    assert isinstance(error, InvalidJobError)
    assert output.canaries(CANARIES) == []


# --- A whole flow


async def test_a_whole_flow_leaks_nothing(output, tmp_path):
    """Over mutual TLS, through a proxy with a password, by token and by polling."""
    clock = doubles.Clock()
    secrets: list[str | None] = []
    async with (
        Sandbox(clock=clock, rate_limit=None) as sandbox,
        loopback.connect_proxy() as proxy,
    ):
        content, password = sandbox.enterprise_pkcs12(pki.SENDER)
        configuration = sandbox.client_configuration(
            certificate=EnterpriseCertificate.from_pkcs12(content, password=password),
            proxy=f"http://{PROXY_USER}:{PROXY_PASSWORD}@localhost:{proxy.port}",
            fleet=UnlimitedFleet(),
            monotonic=clock.monotonic,
            sleep=Sleep(clock),
            bundle_processors=[DocumentBundleToDisk(tmp_path, clock=clock)],
        )
        secrets.append(password)
        async with DirectClient(configuration) as client:
            output.show(
                client, configuration, configuration.certificate, configuration.trust_anchors
            )
            client.validate(job())
            await client.check_access()
            for method in (None, StatusRetrievalMethod.POLLING):
                signature_job = job(status_retrieval_method=method)
                created = await client.create(signature_job)
                secrets.append(created.status_url)
                token = ""
                for identifier in (PERSON, CUSTOMER):
                    signer = await client.request_new_redirect_url(created.signer(identifier))
                    secrets += [signer.signer_url, signer.redirect_url]
                    secrets.append(signer.redirect_url.rpartition("/")[2])
                    exit_url = await sandbox.sign(signer.redirect_url)
                    [token] = parse_qs(urlsplit(exit_url).query)["status_query_token"]
                    secrets += [exit_url, token, quote(token, safe="")]
                    output.show(signature_job, created, signer)
                if method is None:
                    status = await client.get_status(created, token)
                else:
                    poll = await client.get_status_change()
                    output.show(poll)
                    await client.confirm(poll.change)
                    status = await anext(client.status_changes())
                output.show(status)
                secrets += [status.confirmation_url, status.pades_url]
                secrets += [signature.xades_url for signature in status.signatures]
                await client.get_pades(status)
                await client.download_pades(
                    status, tmp_path / "signed.pdf", progress=lambda *report: output.show(report)
                )
                async with client.open_xades(status.signatures[0]) as stream:
                    output.show(stream)
                    await anext(aiter(stream))
                await client.confirm(status)
            clock.wait(hours=25)
            output.show(await client.get_status_change())
        output.show(*sandbox.received)
        assert proxy.received
    urls_and_tokens = [secret for secret in secrets if secret]
    assert len(urls_and_tokens) > 20
    names = {record.name.partition(".")[0] for record in output.logged.records}
    assert "httpcore" in names, "the logs of libraries were not searched"
    assert output.canaries([*CANARIES, *urls_and_tokens]) == []


# --- Tests of the scanner


async def test_the_scanner_finds_a_planted_value_everywhere(output, certificate):
    """A reference may appear in the output, so it shows that the scanner searches every place."""
    planted = "planted-canary"
    context = pki.server_context(pki.service(), clients=pki.root())
    reached = asyncio.Event()

    async def hang(received: loopback.Received) -> loopback.Answer:
        reached.set()
        return await never_respond(received)

    async with (
        loopback.http_server(hang, context) as server,
        client_of(server.port, certificate, output) as client,
    ):
        error = await output.watch(client.create(job(reference=planted)))
        assert isinstance(error, CreateOutcomeUnknownError)
        assert isinstance(error.__cause__, TransportTimeoutError)
        assert planted in str(error)
        assert planted in frames_with_locals(error).partition("CreateOutcome")[0]
        assert output.canaries([planted, *CANARIES]) == [planted, "canary"]
        output.texts.clear()
        output.errors.clear()
        assert output.canaries([planted]) == []
        reached.clear()
        async with client_of(server.port, certificate, output, timeouts=Timeouts()) as other_client:
            task = asyncio.ensure_future(other_client.create(job(reference=planted)))
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])
    assert output.canaries([planted]) == [planted]


def test_the_scanner_finds_every_canary(output):
    output.texts.append(f"{PERSON} {CUSTOMER} {CANARIES[2]}")
    assert output.canaries(CANARIES) == CANARIES


def test_the_scanner_finds_a_logged_value(output):
    logging.getLogger("httpcore.http11").debug("send_request_headers %s", {"host": CUSTOMER})
    assert output.canaries(CANARIES) == ["canary"]


async def test_the_scanner_finds_the_url_of_a_bare_call(output):
    async with httpx.AsyncClient() as bare:
        with contextlib.suppress(httpx.ConnectError):
            await bare.get(f"http://localhost:{loopback.closed_port()}/{CUSTOMER}")
    output.logged.clear()
    assert output.canaries(CANARIES) == ["canary"]


def test_the_scanner_finds_local_variables_of_the_package():
    """The path of a function decides whether it counts as part of the package."""
    source = "def plant(secret):\n    raise LookupError\n"
    folder = Path(posten_signering.__file__).parent
    for path, expected in (
        (folder / "_planted.py", ["canary"]),
        (folder / "_wire" / "planted.py", ["canary"]),
        (folder / "sandbox" / "planted.py", []),
        (folder.parent / "planted.py", []),
    ):
        names: dict[str, Callable[[str], None]] = {}
        exec(compile(source, path, "exec"), names)
        with pytest.raises(LookupError) as caught:
            names["plant"](TOKEN)
        assert shown_in(frames_with_locals(caught.value), CANARIES) == expected


def test_the_scanner_finds_the_text_of_a_cause():
    with pytest.raises(SignerNotFoundError) as caught:
        client_calls.URL_OPERATIONS["get_status"].holding("x").signer(PERSON)
    assert shown_in(frames_with_locals(caught.value), CANARIES) == []
    above = UnexpectedResponseError("x")
    above.__cause__ = UnexpectedResponseError(CUSTOMER)
    assert shown_in(frames_with_locals(above), CANARIES) == ["canary"]
