"""`create` and `validate`: what leaves, and what is looked at before."""

import email
import email.policy
import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import doubles
import pki
import pytest
import verify_bundle
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
    Unpaced,
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
    Retries,
    Sender,
    StatusRetrievalMethod,
)
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
    for each in message.iter_parts():
        assert each.keys() == ["Content-Type"]
    return [
        (each.get_content_type(), each.get_payload(decode=True)) for each in message.iter_parts()
    ]


def texts(xml: bytes, path: str) -> list[str]:
    found = etree.fromstring(xml).xpath(path, namespaces={"s": NS})
    return [str(each) for each in found]


# --- What leaves


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("source", ["bytes", "path"])
async def test_the_request_and_a_container_that_others_verify(
    compression, source, tmp_path, xmlsec1
):
    """`email` reads the body, `zipfile` and xmlsec1 the container."""
    given = job()
    if source == "path":
        (tmp_path / "contract.pdf").write_bytes(PDF)
        contract = Document(title="Contract", content=tmp_path / "contract.pdf")
        given = replace(given, documents=[contract, given.documents[1]])
    async with client_of(CREATED, compression=compression) as (client, transport):
        await client.create(given)
    [sent] = transport.sent
    assert (sent.method, sent.url, sent.headers["Accept"]) == ("POST", JOBS, "application/xml")
    [(request_type, request), (container_type, container)] = parts(sent)
    assert (request_type, container_type) == ("application/xml", "application/octet-stream")

    (tmp_path / "judged").mkdir()
    verify_bundle.verify(container, root_pem=pki.root().pem, tmp_path=tmp_path / "judged")
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        names = archive.namelist()
        assert archive.read(names[0]) == PDF
        assert archive.read(names[1]) == "Vilkår".encode()
        manifest = archive.read("manifest.xml")
        stored = {each.compress_type for each in archive.infolist()}
    deflated = compression is Compression.DEFLATED
    assert (zipfile.ZIP_DEFLATED in stored) == deflated
    assert texts(request, "s:reference/text()") == ["order-77"]
    assert texts(request, "s:exit-urls/*/text()") == [
        f"https://shop.example/{each}" for each in ("done", "rejected", "error")
    ]
    assert texts(manifest, "s:sender/*/text()") == [pki.SENDER]
    assert texts(manifest, "s:signer/*/text()") == [PERSON, CUSTOMER]
    assert texts(manifest, "s:title/text()") == ["Lease"]


async def test_a_container_that_was_changed_on_the_way_is_found(tmp_path, xmlsec1):
    """The twin of the test above."""
    async with client_of(CREATED) as (client, transport):
        await client.create(job())
    changed = parts(transport.sent[0])[1][1].replace(b"Vilk", b"vilk")
    with pytest.raises(AssertionError):
        verify_bundle.verify(changed, root_pem=pki.root().pem, tmp_path=tmp_path)


async def test_the_signing_time_is_the_clocks_own():
    clock = Clock(pki.NOW + timedelta(days=3, milliseconds=250))
    async with client_of(CREATED, clock=clock) as (client, transport):
        await client.create(job())
    [_, (_, container)] = parts(transport.sent[0])
    assert clock.now - timedelta(seconds=1) < signing_time(container) <= clock.now


class Held(Unpaced):
    """Lets a call through after half a minute, as during a block."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        self.clock.wait(seconds=30)
        return await super().acquire(organization_number)


async def test_the_signing_time_is_that_of_the_moment_when_the_request_leaves():
    """The service refuses one that is more than 5 seconds off, however long the call was held."""
    clock = Clock()
    async with client_of(CREATED, clock=clock, rate_limiter=Held(clock)) as (client, transport):
        await client.create(job())
    [_, (_, container)] = parts(transport.sent[0])
    assert clock.now - signing_time(container) <= timedelta(seconds=5)


def signing_time(container: bytes) -> datetime:
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        signatures = etree.fromstring(archive.read("META-INF/signatures.xml"))
    [time] = signatures.xpath("//*[local-name()='SigningTime']/text()")
    return datetime.fromisoformat(time)


async def test_boundaries_differ():
    async with client_of(CREATED, CREATED) as (client, transport):
        for _ in range(2):
            await client.create(job())
    assert len({each.headers["Content-Type"] for each in transport.sent}) == 2


async def test_the_created_job_comes_back_with_its_signers():
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


# --- On whose behalf


@pytest.mark.parametrize(
    ("default", "own", "expected"),
    [(SENDER, None, SENDER), (SENDER, OTHER, OTHER), (None, OTHER, OTHER)],
)
async def test_the_jobs_sender_goes_before_the_clients(default, own, expected):
    async with client_of(CREATED, sender=default) as (client, transport):
        await client.create(job(sender=own))
    [sent] = transport.sent
    assert f"/{expected.organization_number}/direct/signature-jobs" in sent.url
    assert "?" not in sent.url
    [(_, request), (_, container)] = parts(sent)
    queue = [] if expected.polling_queue is None else [expected.polling_queue]
    assert texts(request, "s:polling-queue/text()") == queue
    with zipfile.ZipFile(io.BytesIO(container)) as archive:
        manifest = archive.read("manifest.xml")
    assert texts(manifest, "s:sender/*/text()") == [expected.organization_number]


async def test_without_a_sender_no_document_is_even_read():
    absent = job(documents=[Document(title="x", content=Path("gone.pdf"))])
    async with client_of(sender=None) as (client, transport):
        with pytest.raises(SenderNotSpecifiedError):
            await client.create(absent)
        with pytest.raises(SenderNotSpecifiedError):
            client.validate(absent)
        assert transport.sent == []


# --- Rules that are checked before


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


async def test_all_violations_are_told_at_once_and_nothing_is_sent():
    async with client_of() as (client, transport):
        with pytest.raises(InvalidJobError) as caught:
            await client.create(BROKEN)
        with pytest.raises(InvalidJobError) as validated:
            client.validate(BROKEN)
        assert transport.sent == []
    assert caught.value.violations == validated.value.violations
    assert {each.path for each in caught.value.violations} >= {
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


# --- Bundle processors


async def test_processors_see_the_job_and_the_container_that_leaves(tmp_path):
    seen = []

    def look(given, open_container):
        assert transport.sent == []
        for _ in range(2):
            with open_container() as container:
                seen.append((given, container.read()))

    processors = [look, DocumentBundleToDisk(tmp_path), look]
    async with client_of(CREATED, bundle_processors=processors) as (client, transport):
        await client.create(given := job())
    [_, (_, sent)] = parts(transport.sent[0])
    assert seen == [(given, sent)] * 4
    [written] = tmp_path.iterdir()
    assert written.read_bytes() == sent


async def test_what_a_processor_raises_keeps_the_job_from_being_created():
    called = []

    def refuse(given, open_container):
        called.append("refuse")
        raise LookupError("not today")

    processors = [refuse, lambda *_: called.append("never")]
    async with client_of(CREATED, bundle_processors=processors) as (client, transport):
        with pytest.raises(LookupError, match="not today"):
            await client.create(job())
        assert transport.sent == []
    assert called == ["refuse"]


# --- On its way


async def test_a_job_that_never_left_is_sent_again_as_it_was(tmp_path, xmlsec1):
    """No connection: that alone is repeated, with the same bytes, which still verify."""
    refused = Unsent(TransportError("x", request_may_have_left=False))
    patient = Retries(max_retries=2)
    async with client_of(refused, refused, CREATED, retries=patient) as (client, transport):
        assert (await client.create(job())).job_id == 7
    [sent] = transport.sent
    [_, (_, container)] = parts(sent)
    verify_bundle.verify(container, root_pem=pki.root().pem, tmp_path=tmp_path)


async def test_a_document_that_changes_on_its_way_breaks_the_request_off(tmp_path):
    path = tmp_path / "contract.pdf"
    path.write_bytes(PDF)

    def change(given, open_container):
        path.write_bytes(PDF.replace(b"/Count 1", b"/Count 2"))

    changing = job(documents=[Document(title="Contract", content=path)])
    async with client_of(CREATED, bundle_processors=[change]) as (client, transport):
        with pytest.raises(DocumentChangedError, match=r"documents\[0\]\.content: must not change"):
            await client.create(changing)
        assert transport.sent == []


async def test_many_jobs_side_by_side_are_all_whole(tmp_path, xmlsec1):
    answers = [Answer(200, created_xml(job_id=number)) for number in range(6)]
    created = []

    async def create(number: int) -> None:
        text = Document(title="x", content=b"%d" % number * 100_000, type=DocumentType.TEXT)
        created.append(await client.create(job(documents=[text], reference=f"order-{number}")))

    async with client_of(*answers) as (client, transport), anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(create, number)
    assert sorted(each.job_id for each in created) == list(range(6))
    for sent in transport.sent:
        [(_, request), (_, container)] = parts(sent)
        [reference] = texts(request, "s:reference/text()")
        with zipfile.ZipFile(io.BytesIO(container)) as archive:
            assert archive.read(archive.namelist()[0])[:1] == reference[-1].encode()
            assert archive.testzip() is None
