"""No identity number, token, URL, password or document shows: not in a log, a repr, an error or its frames.

Every operation meets every failure over real connections, and goes through a whole flow besides. What is
looked at: all loggers at DEBUG, the errors' texts, and the locals of the package's own frames as an error
tool renders them.
"""

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import client_calls
import doubles
import loopback
import pki
import pytest
from doubles import NS, Sleep, Unpaced, frames_with_locals, shown_in

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
from posten_signering.sandbox import Sandbox

pytestmark = pytest.mark.anyio

PERSON = "17885554321"
CUSTOMER = "canary-customer"
PASSWORD = "canary-password"
PROXY_USER, PROXY_PASSWORD = "canary-user", "canary-proxy-password"
TOKEN = client_calls.TOKEN

# Every one of them holds the word, but for numbers and for what is encoded.
CANARIES = [
    "canary",
    PERSON,
    base64.b64encode(f"{PROXY_USER}:{PROXY_PASSWORD}".encode()).decode(),
]
CONTENT = b"%PDF-1.4 canary document\n%%EOF"


def job(**fields) -> DirectJob:
    """A job whose every part is a canary."""
    given = {
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
    return DirectJob(**{**given, **fields})


@dataclass
class Seen:
    """What somebody who watches a program sees of it.

    Attributes:
        texts: All of it, except what is logged.
        errors: What calls ended with.
    """

    logged: pytest.LogCaptureFixture
    texts: list[str] = field(default_factory=list)
    errors: list[BaseException] = field(default_factory=list)

    def show(self, *values: object) -> None:
        self.texts += [f"{value!r} {value}" for value in values]

    async def watch(self, call: Awaitable[object]) -> BaseException | None:
        """Awaits the call; sees what it ends with."""
        try:
            self.show(type(await call))
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever comes is looked at
            self.errors.append(error)
            self.show(error)
            self.texts.append(frames_with_locals(error))
            libraries_are_not_chained(error)
            return error
        return None

    def canaries(self, canaries: list[str]) -> list[str]:
        """The canaries in all of it."""
        logged = [f"{each.getMessage()} {each.msg} {each.args!r}" for each in self.logged.records]
        return shown_in("\n".join([*self.texts, *logged, self.logged.text]), canaries)


def libraries_are_not_chained(error: BaseException) -> None:
    """The exceptions of libraries hold requests and values."""
    for other in (error.__cause__, error.__context__):
        if other is not None:
            assert isinstance(other, SigningError | OSError), (error, other)
            libraries_are_not_chained(other)


@pytest.fixture
def seen(caplog) -> Seen:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "asyncio", "posten_signering"):
        caplog.set_level(logging.DEBUG, name)
    return Seen(caplog)


@pytest.fixture(scope="module")
def certificate() -> EnterpriseCertificate:
    content = pki.sender().p12(PASSWORD.encode())
    return EnterpriseCertificate.from_pkcs12(content, password=PASSWORD)


# --- Each operation, and each failure


def calls(root: str, path: Path) -> dict[str, Callable[[DirectClient], Awaitable[object]]]:
    """Each operation on a stored URL with a canary, and with canaries in all that it is given."""
    url = f"{root}/{pki.SENDER}/canary/{PERSON}?canary={PERSON}"
    once = FailurePolicy(max_failures=1)
    return {
        **client_calls.every(path, url),
        **{
            f"{name} of a response": lambda client, each=each: each.call(
                client, each.holding(url), path
            )
            for name, each in client_calls.FOLLOWING.items()
        },
        "create": lambda client: client.create(job()),
        "status_changes": lambda client: anext(client.status_changes(failure_policy=once)),
    }


def telling(status: int, body: bytes, **headers: str) -> loopback.Handler:
    return loopback.always(loopback.answer(status, body, **headers))


QUOTING = (
    f'<error xmlns="{NS}"><error-code>SOME_CODE</error-code><error-message>The signer {PERSON} and '
    f"{PERSON}, or ({PERSON})</error-message><error-type>CLIENT</error-type></error>"
).encode()
PAGE = f"<html>{PERSON} {CUSTOMER} {TOKEN} canary</html>".encode()
CUT_OFF = (
    f'<direct-signature-job-status-response xmlns="{NS}"><reference>canary {PERSON}</reference>'
    f"<signature-job-id>canary {PERSON}</signature-job-id><status signer"
).encode()
# Whole documents, each without something that is required.
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


async def silent(_: loopback.Received) -> loopback.Answer:
    await asyncio.Event().wait()


HANDLERS: dict[str, loopback.Handler] = {
    "silence": silent,
    "a reset": loopback.always(None),
    "an error document that quotes": telling(400, QUOTING, Content_Type="application/xml"),
    "a page that quotes": telling(502, PAGE, Content_Type="text/html; canary"),
    "a cut in the middle": loopback.always(
        b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\nConnection: close\r\n\r\n" + CUT_OFF
    ),
    "XML that ends too early": telling(200, CUT_OFF),
    **{
        f"XML of a {name} without a part": telling(200, document.encode())
        for name, document in UNREADABLE.items()
    },
    "a redirect": telling(302, b"canary", Location=f"https://canary.example/{TOKEN}"),
    "no HTTP": loopback.always(b"canary canary\r\n\r\n"),
    "headers that quote": telling(
        429, b"canary", DoSFilter="canary", Set_Cookie="canary", Date="canary"
    ),
    "an encoding that quotes": telling(200, PAGE, Content_Encoding="br"),
    "a length that quotes": loopback.always(
        b"HTTP/1.1 200 OK\r\nContent-Length: canary\r\nConnection: close\r\n\r\n"
    ),
}


READ_AS_XML = {
    *("create", "get_status_change", "status_changes"),
    *("get_status", "get_status of a response"),
    *("request_new_redirect_url", "request_new_redirect_url of a response"),
}

# What they say in a success is not looked at.
UNREAD = {"confirm", "delete_documents"}


@contextlib.asynccontextmanager
async def client_of(
    port: int, certificate: EnterpriseCertificate, **fields
) -> AsyncIterator[DirectClient]:
    clock = doubles.Clock()
    given = {
        "environment": Environment(name="Test", service_root=f"https://localhost:{port}/api"),
        "certificate": certificate,
        "trust_anchors": TrustAnchors().trusting(pki.root().pem),
        "sender": doubles.SENDER,
        "timeouts": Timeouts(connect=5, api=0.02, download=0.02),
        "rate_limiter": Unpaced(),
        "retries": Retries(max_retries=1, budget=1000),
        "clock": clock,
        "monotonic": clock.monotonic,
        "sleep": Sleep(clock),
    }
    async with DirectClient(ClientConfiguration(**{**given, **fields})) as client:
        yield client


@pytest.mark.parametrize("failure", HANDLERS)
async def test_what_the_service_answers_shows_nowhere(seen, certificate, tmp_path, failure):
    context = pki.server_context(pki.service(), clients=pki.root())
    patient = Timeouts() if failure != "silence" else Timeouts(connect=5, api=0.02, download=0.02)
    async with (
        loopback.http_server(HANDLERS[failure], context) as server,
        client_of(server.port, certificate, timeouts=patient) as client,
    ):
        operations = calls(client.configuration.environment.service_root, tmp_path / "signed.pdf")
        ended = {name: await seen.watch(call(client)) for name, call in operations.items()}
        assert server.received
        seen.show(client, client.configuration, *seen.errors)
    failed = {name for name, error in ended.items() if isinstance(error, SigningError)}
    expected = set(operations)
    if failure.startswith("XML"):
        # What is broken as XML may be a XAdES, or stand where nobody looks.
        expected = READ_AS_XML | {name for name in operations if "pades" in name}
    if failure == "an encoding that quotes":
        expected = {each for each in operations if each.partition(" ")[0] not in UNREAD}
    assert failed == expected
    assert len(failed) == len(seen.errors)
    assert seen.canaries(CANARIES) == []


async def test_what_ends_before_the_service_shows_nowhere(seen, certificate, tmp_path):
    """Nobody listens; or somebody does whom the client does not trust; or a proxy refuses."""
    stranger = pki.server_context(pki.service(authority="Another CA"))
    proxied = f"http://{PROXY_USER}:{PROXY_PASSWORD}@localhost"
    expected = {}
    async with (
        loopback.http_server(telling(200, b""), stranger) as untrusted,
        loopback.connect_proxy(b"HTTP/1.1 407 canary\r\nX: canary\r\n\r\n") as proxy,
    ):
        for port, fields, error in (
            (loopback.closed_port(), {}, TransportError),
            (untrusted.port, {"trust_anchors": other_anchors()}, TlsError),
            (untrusted.port, {"proxy": f"{proxied}:{proxy.port}"}, TransportError),
            (untrusted.port, {"proxy": f"{proxied}:{loopback.closed_port()}"}, TransportError),
        ):
            async with client_of(port, certificate, **fields) as client:
                root = client.configuration.environment.service_root
                for name, call in calls(root, tmp_path / "signed.pdf").items():
                    expected[name] = type(await seen.watch(call(client)))
                    assert issubclass(expected[name], error), name
                seen.show(client.configuration)
        assert untrusted.received == []
        assert proxy.received
    assert seen.canaries(CANARIES) == []


def other_anchors() -> TrustAnchors:
    return TrustAnchors().trusting(pki.root("Elsewhere").pem)


async def test_a_url_that_is_not_followed_shows_nowhere(seen, certificate, tmp_path):
    urls = [
        f"https://canary.example/{PERSON}?status_query_token={TOKEN}",
        f"http://localhost/canary/{PERSON}",
        f"https://canary:{TOKEN}@localhost/canary",
        f"https://localhost/canary\n{PERSON}",
        "https://[canary/api",
        "canary",
    ]
    async with client_of(loopback.closed_port(), certificate) as client:
        for url in urls:
            for name, each in client_calls.FOLLOWING.items():
                for held in (url, each.holding(url)):
                    error = await seen.watch(each.call(client, held, tmp_path / "signed.pdf"))
                    assert isinstance(error, UntrustedUrlError), name
    assert seen.canaries(CANARIES) == []


@pytest.mark.parametrize("stage", ["before an answer", "in an answer"])
async def test_a_cancelled_call_shows_nothing(seen, certificate, tmp_path, stage):
    reached = asyncio.Event()

    async def hang(received: loopback.Received) -> loopback.Answer:
        reached.set()
        if stage == "in an answer":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n" + CUT_OFF
        return await silent(received)

    context = pki.server_context(pki.service(), clients=pki.root())
    async with (
        loopback.http_server(hang, context) as server,
        client_of(server.port, certificate, timeouts=Timeouts()) as client,
    ):
        root = client.configuration.environment.service_root
        for call in calls(root, tmp_path / "signed.pdf").values():
            reached.clear()
            task = asyncio.ensure_future(call(client))
            await reached.wait()
            for _ in range(5):  # on into the wait for what never comes
                await asyncio.sleep(0)
            task.cancel()
            assert isinstance(await seen.watch(task), asyncio.CancelledError)
    assert "Creating the job with reference 'order-77' was cancelled" in seen.logged.text
    assert seen.canaries(CANARIES) == []


# --- What is wrong with a job


async def test_a_job_that_breaks_rules_shows_nothing_of_itself(seen, certificate, tmp_path):
    (tmp_path / "canary").mkdir()
    (tmp_path / "canary.txt").write_bytes(b"canary \xff")
    wrong = [
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
    async with client_of(loopback.closed_port(), certificate) as client:
        for fields in wrong:
            error = await seen.watch(client.create(job(**fields)))
            assert isinstance(error, InvalidJobError), list(fields)
            seen.show(*error.violations)

            async def validate(fields: dict[str, object] = fields) -> None:
                client.validate(job(**fields))

            assert isinstance(await seen.watch(validate()), InvalidJobError)
    assert seen.canaries(CANARIES) == []


async def test_what_a_bundle_processor_raises_shows_no_container(seen, certificate, tmp_path):
    def raise_while_reading(given, open_container):
        with open_container() as container:
            container.read(1)
            raise LookupError("not today")

    def write_over_a_document(given, open_container):
        for each in given.documents:
            if isinstance(each.content, Path):
                each.content.write_bytes(b"canary, another")

    path = tmp_path / "canary.pdf"
    processors = [
        raise_while_reading,
        DocumentBundleToDisk(tmp_path / "gone"),
        write_over_a_document,
    ]
    for each in processors:
        path.write_bytes(doubles.PDF + b"% canary")
        given = job(documents=[Document(title="canary", content=path)])
        async with client_of(
            loopback.closed_port(), certificate, bundle_processors=[each]
        ) as client:
            assert await seen.watch(client.create(given)) is not None
    shown = "".join(seen.texts)
    assert "open_container" in shown
    assert seen.canaries(["canary document", "canary title", *CANARIES[1:]]) == []


async def test_a_document_that_changes_on_its_way_shows_nothing(seen, certificate, tmp_path):
    path = tmp_path / "canary.pdf"
    path.write_bytes(doubles.PDF + b"% canary")
    context = pki.server_context(pki.service(), clients=pki.root())
    async with (
        loopback.http_server(telling(200, b""), context) as server,
        client_of(
            server.port,
            certificate,
            timeouts=Timeouts(),
            bundle_processors=[lambda *_: path.write_bytes(doubles.PDF + b"% other!")],
        ) as client,
    ):
        error = await seen.watch(
            client.create(job(documents=[Document(title="canary", content=path)]))
        )
    assert isinstance(error, InvalidJobError)
    assert seen.canaries(CANARIES) == []


# --- A whole flow


async def test_a_whole_flow_shows_nothing(seen, tmp_path):
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
            rate_limiter=Unpaced(),
            monotonic=clock.monotonic,
            sleep=Sleep(clock),
            bundle_processors=[DocumentBundleToDisk(tmp_path, clock=clock)],
        )
        secrets.append(password)
        async with DirectClient(configuration) as client:
            seen.show(client, configuration, configuration.certificate, configuration.trust_anchors)
            client.validate(job())
            await client.check_access()
            for method in (None, StatusRetrievalMethod.POLLING):
                given = job(status_retrieval_method=method)
                created = await client.create(given)
                secrets.append(created.status_url)
                token = ""
                for identifier in (PERSON, CUSTOMER):
                    signer = await client.request_new_redirect_url(created.signer(identifier))
                    secrets += [signer.signer_url, signer.redirect_url]
                    secrets.append(signer.redirect_url.rpartition("/")[2])
                    exit_url = await sandbox.sign(signer.redirect_url)
                    [token] = parse_qs(urlsplit(exit_url).query)["status_query_token"]
                    secrets += [exit_url, token, quote(token, safe="")]
                    seen.show(given, created, signer)
                if method is None:
                    status = await client.get_status(created, token)
                else:
                    poll = await client.get_status_change()
                    seen.show(poll)
                    await client.confirm(poll.change)
                    status = await anext(client.status_changes())
                seen.show(status)
                secrets += [status.confirmation_url, status.pades_url]
                secrets += [each.xades_url for each in status.signatures]
                await client.get_pades(status)
                await client.download_pades(
                    status, tmp_path / "signed.pdf", progress=lambda *each: seen.show(each)
                )
                async with client.open_xades(status.signatures[0]) as stream:
                    seen.show(stream)
                    await anext(aiter(stream))
                await client.confirm(status)
            clock.wait(hours=25)
            seen.show(await client.get_status_change())
        seen.show(*sandbox.received)
        assert proxy.received
    urls = [each for each in secrets if each]
    assert len(urls) > 20
    names = {each.name.partition(".")[0] for each in seen.logged.records}
    assert "httpcore" in names, "what libraries log was not looked at"
    assert seen.canaries([*CANARIES, *urls]) == []


# --- The twins


async def test_the_scanner_finds_what_does_show(seen, certificate):
    """A reference is meant to be seen: what watches for canaries finds it in each place."""
    planted = "planted-canary"
    context = pki.server_context(pki.service(), clients=pki.root())
    reached = asyncio.Event()

    async def hang(received: loopback.Received) -> loopback.Answer:
        reached.set()
        return await silent(received)

    async with (
        loopback.http_server(hang, context) as server,
        client_of(server.port, certificate) as client,
    ):
        error = await seen.watch(client.create(job(reference=planted)))
        assert isinstance(error, CreateOutcomeUnknownError)
        assert isinstance(error.__cause__, TransportTimeoutError)
        assert planted in str(error)
        assert planted in frames_with_locals(error).partition("CreateOutcome")[0]
        assert seen.canaries([planted, *CANARIES]) == [planted, "canary"]
        seen.texts.clear()
        seen.errors.clear()
        assert seen.canaries([planted]) == []
        reached.clear()
        patient = client_of(server.port, certificate, timeouts=Timeouts())
        async with patient as other:
            task = asyncio.ensure_future(other.create(job(reference=planted)))
            await reached.wait()
            task.cancel()
            await asyncio.wait([task])
    assert seen.canaries([planted]) == [planted]


def test_the_scanner_finds_each_of_the_canaries(caplog):
    seen = Seen(caplog)
    seen.texts.append(f"{PERSON} {CUSTOMER} {CANARIES[2]}")
    assert seen.canaries(CANARIES) == CANARIES


def test_the_scanner_finds_what_is_logged(seen):
    logging.getLogger("httpcore.http11").debug("send_request_headers %s", {"host": CUSTOMER})
    assert seen.canaries(CANARIES) == ["canary"]


def test_a_local_variable_of_the_package_would_be_found():
    """A function that passes for one of the package's own, and one that does not."""
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


def test_the_locals_of_a_cause_would_be_found():
    with pytest.raises(SignerNotFoundError) as caught:
        client_calls.FOLLOWING["get_status"].holding("x").signer(PERSON)
    assert shown_in(frames_with_locals(caught.value), CANARIES) == []
    above = UnexpectedResponseError("x")
    above.__cause__ = UnexpectedResponseError(CUSTOMER)
    assert shown_in(frames_with_locals(above), CANARIES) == ["canary"]
