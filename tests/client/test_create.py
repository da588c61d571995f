"""`create` and `validate`: the request that is sent, and the checks before it."""

import email
import email.policy
import io
import zipfile
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import anyio.lowlevel
import doubles
import pki
import pytest
import verify_bundle
from anyio import to_thread
from doubles import (
    CUSTOMER,
    JOBS,
    NS,
    PDF,
    PERSON,
    SENDER,
    Answer,
    Clock,
    Sent,
    UnlimitedFleet,
    Unsent,
    client_of,
    created_xml,
    job,
)
from lxml import etree

from posten_signering import (
    Compression,
    DirectSigner,
    Document,
    DocumentBundleToDisk,
    DocumentType,
    ExitUrls,
    Retries,
    Sender,
    StatusRetrievalMethod,
)
from posten_signering._client.creation import check
from posten_signering.errors import (
    DocumentChangedError,
    InvalidJobError,
    SenderNotSpecifiedError,
    SignerNotFoundError,
    TransportError,
)

pytestmark = pytest.mark.anyio

CREATED = Answer(200, created_xml())
OTHER = Sender(organization_number="999888777", polling_queue="shop")


def parts(sent: Sent) -> list[tuple[str, bytes]]:
    """The parts of a request's body, as Python's `email` reads them: media type and content."""
    head = f"Content-Type: {sent.headers['Content-Type']}\r\n\r\n".encode()
    message = email.message_from_bytes(head + sent.body, policy=email.policy.HTTP)
    assert message.get_content_type() == "multipart/mixed"
    assert message.defects == []
    for part in message.iter_parts():
        assert part.keys() == ["Content-Type"]
    return [
        (part.get_content_type(), part.get_payload(decode=True)) for part in message.iter_parts()
    ]


def texts(xml: bytes, path: str) -> list[str]:
    results = etree.fromstring(xml).xpath(path, namespaces={"s": NS})
    return [str(result) for result in results]


# --- The request


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("source", ["bytes", "path"])
async def test_other_programs_can_read_the_request_and_verify_the_container(
    compression, source, tmp_path, xmlsec1
):
    """`email` reads the body; `zipfile` and xmlsec1 read the container."""
    signature_job = job()
    if source == "path":
        (tmp_path / "contract.pdf").write_bytes(PDF)
        contract = Document(title="Contract", content=tmp_path / "contract.pdf")
        signature_job = replace(signature_job, documents=[contract, signature_job.documents[1]])
    async with client_of(CREATED, compression=compression) as (client, transport):
        await client.create(signature_job)
    [sent] = transport.sent
    assert (sent.method, sent.url, sent.headers["Accept"]) == ("POST", JOBS, "application/xml")
    [(request_type, request), (container_type, container)] = parts(sent)
    assert (request_type, container_type) == ("application/xml", "application/octet-stream")

    (tmp_path / "verified").mkdir()
    verify_bundle.verify(container, root_pem=pki.root().pem, tmp_path=tmp_path / "verified")
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        names = archive.namelist()
        assert archive.read(names[0]) == PDF
        assert archive.read(names[1]) == "Vilkår".encode()
        manifest = archive.read("manifest.xml")
        compress_types = {entry.compress_type for entry in archive.infolist()}
    deflated = compression is Compression.DEFLATED
    assert (zipfile.ZIP_DEFLATED in compress_types) == deflated
    assert texts(request, "s:reference/text()") == ["order-77"]
    assert texts(request, "s:exit-urls/*/text()") == [
        f"https://shop.example/{path}" for path in ("done", "rejected", "error")
    ]
    assert texts(manifest, "s:sender/*/text()") == [pki.SENDER]
    assert texts(manifest, "s:signer/*/text()") == [PERSON, CUSTOMER]
    assert texts(manifest, "s:title/text()") == ["Lease"]


async def test_a_changed_container_fails_the_verification(tmp_path, xmlsec1):
    async with client_of(CREATED) as (client, transport):
        await client.create(job())
    changed = parts(transport.sent[0])[1][1].replace(b"Vilk", b"vilk")
    with pytest.raises(AssertionError):
        verify_bundle.verify(changed, root_pem=pki.root().pem, tmp_path=tmp_path)


async def test_the_signing_time_comes_from_the_configured_clock():
    clock = Clock(pki.NOW + timedelta(days=3, milliseconds=250))
    async with client_of(CREATED, clock=clock) as (client, transport):
        await client.create(job())
    [_, (_, container)] = parts(transport.sent[0])
    assert clock.now - timedelta(seconds=1) < signing_time(container) <= clock.now


class DelayingFleet(UnlimitedFleet):
    """Delays every call by half a minute, as a block does."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        self.clock.wait(seconds=30)
        return await super().acquire(organization_number)


async def test_the_job_is_signed_just_before_the_request_is_sent():
    """The service refuses a signing time that is more than 5 seconds off, and a call may wait for longer."""
    clock = Clock()
    async with client_of(CREATED, clock=clock, fleet=DelayingFleet(clock)) as (
        client,
        transport,
    ):
        await client.create(job())
    [_, (_, container)] = parts(transport.sent[0])
    assert clock.now - signing_time(container) <= timedelta(seconds=5)


def signing_time(container: bytes) -> datetime:
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        signatures = etree.fromstring(archive.read("META-INF/signatures.xml"))
    [time] = signatures.xpath("//*[local-name()='SigningTime']/text()")
    return datetime.fromisoformat(time)


async def test_every_request_has_a_different_multipart_boundary():
    async with client_of(CREATED, CREATED) as (client, transport):
        for _ in range(2):
            await client.create(job())
    assert len({sent.headers["Content-Type"] for sent in transport.sent}) == 2


async def test_the_created_job_is_returned_with_its_signers():
    async with client_of(CREATED) as (client, _):
        created = await client.create(job())
    assert (created.job_id, created.reference) == (7, "order-77")
    assert created.status_url == f"{JOBS}/7/status"
    assert created.signer(PERSON).signer_url == f"{JOBS}/7/signers/1"
    assert created.signer(CUSTOMER).redirect_url == "https://web.example#/redirect/two"
    with pytest.raises(SignerNotFoundError):
        _ = created.single_signer


async def test_a_polled_job_has_no_status_url():
    polled = job(status_retrieval_method=StatusRetrievalMethod.POLLING)
    async with client_of(Answer(201, created_xml(polled=True))) as (client, transport):
        assert (await client.create(polled)).status_url is None
    [(_, request), _] = parts(transport.sent[0])
    assert texts(request, "s:status-retrieval-method/text()") == ["POLLING"]


# --- The sender


@pytest.mark.parametrize(
    ("default", "of_job", "expected"),
    [(SENDER, None, SENDER), (SENDER, OTHER, OTHER), (None, OTHER, OTHER)],
)
async def test_the_sender_of_the_job_overrides_that_of_the_client(default, of_job, expected):
    async with client_of(CREATED, sender=default) as (client, transport):
        await client.create(job(sender=of_job))
    [sent] = transport.sent
    assert f"/{expected.organization_number}/direct/signature-jobs" in sent.url
    assert "?" not in sent.url
    [(_, request), (_, container)] = parts(sent)
    queue = [] if expected.polling_queue is None else [expected.polling_queue]
    assert texts(request, "s:polling-queue/text()") == queue
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        manifest = archive.read("manifest.xml")
    assert texts(manifest, "s:sender/*/text()") == [expected.organization_number]


async def test_without_a_sender_no_document_is_read():
    absent = job(documents=[Document(title="x", content=Path("gone.pdf"))])
    async with client_of(sender=None) as (client, transport):
        with pytest.raises(SenderNotSpecifiedError):
            await client.create(absent)
        with pytest.raises(SenderNotSpecifiedError):
            client.validate(absent)
        assert transport.sent == []


# --- Rules


BROKEN = job(
    title="",
    documents=[
        Document(title="x" * 81, content=b"not a PDF"),
        Document(title="x", content=Path("gone.pdf")),
    ],
    signers=[
        DirectSigner(),
        DirectSigner(custom_identifier="a", personal_identification_number="1"),
    ],
    reference="\0",
)


BROKEN_SMALL = job(title="")


async def test_all_violations_are_reported_together_and_nothing_is_sent():
    async with client_of() as (client, transport):
        with pytest.raises(InvalidJobError) as caught:
            await client.create(BROKEN)
        with pytest.raises(InvalidJobError) as validated:
            client.validate(BROKEN)
        assert transport.sent == []
    assert caught.value.violations == validated.value.violations
    assert {violation.path for violation in caught.value.violations} >= {
        "title",
        "documents[0].title",
        "documents[0].content",
        "documents[1].content",
        "signers[0]",
        "signers[1]",
        "reference",
    }


async def test_validate_sends_nothing_and_needs_no_open_client():
    transport = doubles.ScriptedTransport()
    client = doubles.DirectClient(doubles.configuration(transport))
    assert client.validate(job()) is None
    assert transport.sent == []


# --- Worker threads


@pytest.fixture
def thread_calls(monkeypatch) -> list[str]:
    """The names of the functions that are called in worker threads."""
    calls = []
    run_sync = to_thread.run_sync

    async def recording(function, *arguments, **options):
        calls.append(getattr(function, "func", function).__name__)
        return await run_sync(function, *arguments, **options)

    monkeypatch.setattr(to_thread, "run_sync", recording)
    return calls


def pdf_of(size: int) -> bytes:
    return b"%PDF-1.7\n".ljust(size, b"x")


def pdf_with_trailer_of(size: int) -> bytes:
    """A PDF whose last `startxref` points so far back from the end."""
    end = b"\nstartxref\n9\n"
    return b"%PDF-1.7\n" + end.rjust(size, b"[")


def contracts(*contents: bytes | Path) -> dict[str, list[Document]]:
    return {"documents": [Document(title="x", content=content) for content in contents]}


def signers(count: int) -> dict[str, list[DirectSigner]]:
    return {"signers": [DirectSigner(custom_identifier=str(index)) for index in range(count)]}


LONG = 8 * 1024 + 1
LARGEST = 64 * 1024


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({}, []),
        (contracts(pdf_of(LARGEST)), []),
        (contracts(pdf_of(LARGEST + 1)), ["check"]),
        (contracts(pdf_of(LARGEST // 2), pdf_of(LARGEST // 2)), []),
        (contracts(pdf_of(LARGEST // 2), pdf_of(LARGEST // 2 + 1)), ["check"]),
        (contracts(pdf_with_trailer_of(4096)), []),
        (contracts(pdf_with_trailer_of(4097)), ["check"]),
        (contracts(*[pdf_with_trailer_of(2049)] * 2), ["check"]),
        (contracts(*[PDF] * 4), []),
        (contracts(*[PDF] * 5), ["check"]),
        (signers(4), []),
        (signers(5), ["check"]),
    ],
)
async def test_a_small_job_from_bytes_needs_no_worker_thread(thread_calls, fields, calls):
    async with client_of(CREATED) as (client, _):
        thread_calls.clear()
        await client.create(job(**fields))
    assert thread_calls == calls


@pytest.mark.parametrize(
    ("content", "calls"), [(PDF, ["check"]), (PDF + bytes(64 * 1024), ["check", "_next"])]
)
async def test_a_large_file_is_read_twice_in_a_worker_thread(
    thread_calls, tmp_path, content, calls
):
    (tmp_path / "contract.pdf").write_bytes(content)
    async with client_of(CREATED) as (client, _):
        thread_calls.clear()
        await client.create(job(**contracts(PDF, tmp_path / "contract.pdf")))
    assert thread_calls == calls


async def test_a_job_is_compressed_in_a_worker_thread(thread_calls):
    async with client_of(CREATED, compression=Compression.DEFLATED) as (client, _):
        thread_calls.clear()
        await client.create(job())
    assert thread_calls == ["check"]


async def test_a_large_key_signs_in_a_worker_thread(thread_calls, monkeypatch):
    monkeypatch.setattr("posten_signering._client.creation._LARGEST_KEY_IN_LOOP", 2047)
    async with client_of(CREATED) as (client, _):
        thread_calls.clear()
        await client.create(job())
    assert thread_calls == ["_prepare"]


@pytest.mark.parametrize(
    ("fields", "calls"),
    [
        ({"title": "x" * LONG}, ["check"]),
        ({"sender": Sender(organization_number="9" * LONG)}, ["check"]),
        (signers(100), ["check"]),
        ({"signers": [DirectSigner(custom_identifier="x" * LONG)]}, ["check"]),
        ({"documents": [Document(title="x" * LONG, content=PDF)]}, ["check"]),
        ({"exit_urls": ExitUrls(completion="x" * LONG, rejection="x", error="x")}, ["check"]),
        (contracts(Path("gone.pdf")), ["check"]),
        # Values of a wrong type
        ({"documents": None}, ["check"]),
        ({"documents": b"%PDF-1.7"}, ["check"]),
        ({"documents": [None, 1]}, ["check"]),
        (contracts("gone.pdf"), ["check"]),
        (contracts(bytearray(PDF)), ["check"]),
        ({"documents": [Document]}, ["check"]),
        ({"signers": None}, ["check"]),
        ({"signers": [None, None]}, []),
        ({"signers": [DirectSigner]}, ["check"]),
        ({"signers": "x"}, []),
        ({"title": None, "exit_urls": None, "sender": "123456789"}, []),
        ({"title": 1}, ["check"]),
        ({"title": ["x"] * LONG, "description": b"x"}, ["check"]),
        ({"title": ("x",) * LONG}, ["check"]),
        ({"sender": Sender(organization_number=None, polling_queue=b"1")}, []),
    ],
)
async def test_an_invalid_job_has_the_same_errors_in_the_event_loop_and_in_a_thread(
    thread_calls, fields, calls
):
    invalid = job(**fields)
    async with client_of() as (client, _):
        thread_calls.clear()
        with pytest.raises(InvalidJobError) as created:
            await client.create(invalid)
        assert thread_calls == calls
        with pytest.raises(InvalidJobError) as validated:
            client.validate(invalid)
    assert created.value.violations == validated.value.violations


@pytest.mark.parametrize("signature_job", [job(), BROKEN_SMALL])
async def test_many_small_jobs_leave_turns_of_the_event_loop_to_other_tasks(
    monkeypatch, signature_job
):
    turn, checks = 0, []

    def recording_check(*arguments):
        checks.append(turn)
        return check(*arguments)

    monkeypatch.setattr("posten_signering._client.creation.check", recording_check)

    async def create() -> None:
        with suppress(InvalidJobError):
            await client.create(signature_job)

    async with client_of(*[CREATED] * 20) as (client, _), anyio.create_task_group() as counting:

        async def count_turns() -> None:
            nonlocal turn
            while True:
                await anyio.lowlevel.checkpoint()
                turn += 1

        counting.start_soon(count_turns)
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(create)
        for _ in range(10):
            await create()
        counting.cancel_scope.cancel()
    assert len(checks) == 20
    assert max(Counter(checks).values()) <= 2


# --- Bundle processors


async def test_processors_get_the_job_and_the_container_that_is_sent(tmp_path):
    seen = []

    def read_twice(signature_job, open_container):
        assert transport.sent == []
        for _ in range(2):
            with open_container() as container:
                seen.append((signature_job, container.read()))

    processors = [read_twice, DocumentBundleToDisk(tmp_path), read_twice]
    async with client_of(CREATED, bundle_processors=processors) as (client, transport):
        await client.create(signature_job := job())
    [_, (_, sent)] = parts(transport.sent[0])
    assert seen == [(signature_job, sent)] * 4
    [written] = tmp_path.iterdir()
    assert written.read_bytes() == sent


async def test_an_exception_in_a_processor_prevents_the_creation():
    called = []

    def refuse(signature_job, open_container):
        called.append("refuse")
        raise LookupError("not today")

    processors = [refuse, lambda *_: called.append("never")]
    async with client_of(CREATED, bundle_processors=processors) as (client, transport):
        with pytest.raises(LookupError, match="not today"):
            await client.create(job())
        assert transport.sent == []
    assert called == ["refuse"]


# --- Sending


async def test_a_job_that_was_not_sent_is_retried_and_still_verifies(tmp_path, xmlsec1):
    refused = Unsent(TransportError("x", request_may_have_left=False))
    script = [refused, refused, CREATED]
    async with client_of(*script, retries=Retries(max_retries=2)) as (client, transport):
        assert (await client.create(job())).job_id == 7
    [sent] = transport.sent
    [_, (_, container)] = parts(sent)
    verify_bundle.verify(container, root_pem=pki.root().pem, tmp_path=tmp_path)


async def test_a_document_that_changes_while_it_is_sent_aborts_the_request(tmp_path):
    path = tmp_path / "contract.pdf"
    large = PDF + bytes(64 * 1024)
    path.write_bytes(large)

    def change(signature_job, open_container):
        path.write_bytes(large.replace(b"/Count 1", b"/Count 2"))

    changing = job(documents=[Document(title="Contract", content=path)])
    async with client_of(CREATED, bundle_processors=[change]) as (client, transport):
        with pytest.raises(DocumentChangedError, match=r"documents\[0\]\.content: must not change"):
            await client.create(changing)
        assert transport.sent == []


async def test_concurrently_created_jobs_do_not_mix(tmp_path, xmlsec1):
    answers = [Answer(200, created_xml(job_id=number)) for number in range(1, 7)]
    created = []

    async def create(number: int) -> None:
        text = Document(title="x", content=b"%d" % number * 100_000, type=DocumentType.TEXT)
        created.append(await client.create(job(documents=[text], reference=f"order-{number}")))

    async with client_of(*answers) as (client, transport), anyio.create_task_group() as tasks:
        for number in range(1, 7):
            tasks.start_soon(create, number)
    assert sorted(response.job_id for response in created) == list(range(1, 7))
    for sent in transport.sent:
        [(_, request), (_, container)] = parts(sent)
        [reference] = texts(request, "s:reference/text()")
        with zipfile.ZipFile(io.BytesIO(container)) as archive:
            assert archive.read(archive.namelist()[0])[:1] == reference[-1].encode()
            assert archive.testzip() is None
