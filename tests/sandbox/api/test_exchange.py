"""Faults over real TLS, as a client sees them: first an aiohttp client, then the SDK's client."""

import asyncio
import logging
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import partial
from urllib.parse import urlsplit

import aiohttp
import bundles
import pytest
from bundles import NOW
from callers import caller_of, conforms, redirect_urls
from lxml import etree

from posten_signering import DirectClient, DirectJob, DirectSigner, Document, ExitUrls
from posten_signering.errors import (
    ApiError,
    CreateOutcomeUnknownError,
    RateLimitedError,
    TlsError,
    TransportError,
    UnexpectedResponseError,
)
from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox
from posten_signering.sandbox._api import exchange

pytestmark = pytest.mark.anyio

ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
NEXT_POLL = "X-Next-permitted-poll-time"
UNKNOWN = "NOBODY_KNOWS_THIS"


@pytest.fixture
def slept():
    return []


@pytest.fixture
async def sandbox(clock, slept):
    async def sleep(seconds):
        slept.append(seconds)
        await asyncio.sleep(0)

    async with Sandbox(clock=clock, rate_limit=None, sleep=sleep) as running:
        yield running


@pytest.fixture
async def client(sandbox):
    async with DirectClient(sandbox.client_configuration(bundles.SENDER)) as opened:
        yield opened


def jobs(sandbox):
    return len(sandbox.overview().jobs)


def job():
    urls = ExitUrls(
        completion="https://example.com/1",
        rejection="https://example.com/2",
        error="https://example.com/3",
    )
    return DirectJob(
        title="Lease",
        documents=[Document(title="Lease", content=bundles.pdf())],
        signers=[DirectSigner(custom_identifier="kunde-42")],
        exit_urls=urls,
        reference="ordre-77",
    )


async def test_a_delay_delays_the_response(sandbox, sender, slept):
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=2.5, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=7, times=1, after=True))
    assert [(await sender.get(sender.root)).status for _ in range(2)] == [200, 200]
    assert slept == [2.5, 7]


@pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])
async def test_a_reset_happens_before_or_after_the_request_takes_effect(
    sandbox, sender, caplog, after, created
):
    sandbox.faults.add(Fault(kind=FaultKind.RESET, times=1, after=after))
    with pytest.raises((aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        await sender.send(sender.body())
    assert jobs(sandbox) == created
    assert (await sender.send(sender.body())).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
    assert sandbox.overview().requests[1].status is None
    assert sandbox.overview().requests[1].faults == ("reset",)


async def test_a_truncated_body_is_cut_in_the_middle(sandbox, sender, caplog):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    url = created.text("//s:status-url/text()").removesuffix("status") + "pades"
    whole = await sender.get(url)
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY, times=2))
    for _ in range(2):
        async with sender.session.get(url) as response:
            assert response.headers["Content-Length"] == str(len(whole.body))
            with pytest.raises(aiohttp.ClientPayloadError):
                await response.read()
    assert (await sender.get(url)).body == whole.body
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_truncated_body_without_a_content_length_seems_complete(sandbox, sender):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    url = created.text("//s:status-url/text()").removesuffix("status") + "pades"
    whole = await sender.get(url)
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY))
    sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header="Content-Length"))
    cut = await sender.get(url)
    assert "Content-Length" not in cut.headers
    assert cut.body == whole.body[: len(whole.body) // 2]


async def test_a_response_without_a_body_is_not_truncated(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY, times=1))
    assert (await sender.get(sender.jobs)).status == 204
    assert len(sandbox.faults.pending) == 1


@pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("status", [500, 502, 599])
async def test_a_server_error_is_an_html_page(sandbox, sender, status, after, created):
    sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, status=status, times=1, after=after))
    answer = await sender.send(sender.body())
    assert (answer.status, answer.xml) == (status, None)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert str(status).encode() in answer.body
    assert jobs(sandbox) == created


async def test_unavailable_has_a_retry_after_header(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=1, seconds=120))
    first, second, third = [await sender.get(sender.root) for _ in range(3)]
    assert [first.status, second.status, third.status] == [503, 503, 200]
    assert [first.headers["Retry-After"], second.headers["Retry-After"]] == ["1", "120"]


@pytest.mark.parametrize(
    ("code", "status", "error_type"),
    [("NOT_AUTHORIZED", 403, "CLIENT"), ("INTERNAL_ERROR", 500, "SERVER"), ("NEW", 418, "CLIENT")],
)
async def test_an_error_document_follows_the_schema(sandbox, sender, code, status, error_type):
    sandbox.faults.add(Fault(kind=FaultKind.ERROR_DOCUMENT, code=code, status=status, times=1))
    answer = await sender.get(sender.jobs)
    assert answer.error == (status, code)
    assert answer.text("//s:error-type/text()") == error_type
    assert NEXT_POLL not in answer.headers


async def test_a_rate_limit_fault_blocks_for_its_time_also_without_a_rate_limit(
    sandbox, sender, clock
):
    sandbox.faults.add(Fault(kind=FaultKind.RATE_LIMITED, times=1))
    for _ in range(2):
        blocked = await sender.get(sender.root)
        assert (blocked.status, blocked.headers["DoSFilter"]) == (429, "rejected")
    clock.wait(seconds=30)
    assert (await sender.get(sender.root)).status == 200
    sandbox.faults.add(Fault(kind=FaultKind.RATE_LIMITED, times=1, seconds=5))
    assert (await sender.get(sender.root)).status == 429
    clock.wait(seconds=5)
    assert (await sender.get(sender.root)).status == 200


async def test_malformed_xml_is_a_complete_body_with_half_a_message(sandbox, sender):
    whole = await sender.get(f"{sender.root}/elsewhere")
    sandbox.faults.add(Fault(kind=FaultKind.MALFORMED_XML, times=1))
    async with sender.session.get(f"{sender.root}/elsewhere") as response:
        body = await response.read()
    assert body == whole.body[: len(whole.body) // 2]
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(body)


async def corrupted(sandbox, sender, kind):
    """The body of the response to a create request with a fault of this kind."""
    sandbox.faults.add(Fault(kind=kind, times=1, operation=Operation.CREATE))
    headers = {"Content-Type": bundles.CONTENT_TYPE}
    async with sender.session.post(sender.jobs, data=sender.body(), headers=headers) as response:
        assert response.status == 200
        body = await response.read()
    assert sandbox.faults.pending == ()
    return body


async def test_doctype_and_entities_are_well_formed_xml(sandbox, sender):
    plain = etree.fromstring(await corrupted(sandbox, sender, FaultKind.DOCTYPE))
    assert plain.getroottree().docinfo.doctype == "<!DOCTYPE direct-signature-job-response>"
    hostile = await corrupted(sandbox, sender, FaultKind.ENTITIES)
    assert b"&a9;" in hostile
    assert hostile.count(b"<!ENTITY") == 10
    # libxml2 refuses to expand a billion `ha`.
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(hostile)
    few = hostile.replace(b"&a9;", b"&a1;")
    assert b"ha" * 10 in etree.tostring(etree.fromstring(few))


async def test_a_wrong_root_is_that_of_a_different_message(sandbox, sender):
    root = etree.fromstring(await corrupted(sandbox, sender, FaultKind.WRONG_ROOT))
    assert root.tag == f"{{{bundles.SERVICE}}}direct-signature-job-manifest"


async def test_doubled_elements_occur_twice(sandbox, sender):
    root = etree.fromstring(await corrupted(sandbox, sender, FaultKind.DOUBLED_ELEMENTS))
    assert len(root.findall(f"{{{bundles.SERVICE}}}signature-job-id")) == 2
    assert len(root.findall(f"{{{bundles.SERVICE}}}redirect-url")) == 2  # one for each signer


async def test_without_its_unknown_elements_the_message_follows_the_schema(sandbox, sender):
    root = etree.fromstring(await corrupted(sandbox, sender, FaultKind.UNKNOWN_ELEMENTS))
    with pytest.raises(etree.DocumentInvalid):
        conforms(root, "direct-signature-job-response")
    for element in list(root.iter()):
        element.attrib.pop("unknown-attribute", None)
        if "unknown" in etree.QName(element).localname:
            element.getparent().remove(element)
    conforms(root, "direct-signature-job-response")


@pytest.mark.parametrize(
    ("kinds", "job_status", "signer_status"),
    [
        (["UNKNOWN_SIGNER_STATUS"], "COMPLETED_SUCCESSFULLY", UNKNOWN),
        (["UNKNOWN_JOB_STATUS"], UNKNOWN, "SIGNED"),
        (["UNKNOWN_SIGNER_STATUS", "UNKNOWN_JOB_STATUS"], UNKNOWN, UNKNOWN),
        ([], "COMPLETED_SUCCESSFULLY", "SIGNED"),
    ],
)
async def test_an_unknown_status_happens_only_to_a_message_with_that_status(
    sandbox, sender, client, kinds, job_status, signer_status
):
    for kind in kinds:
        sandbox.faults.add(Fault(kind=FaultKind[kind]))
    created = await client.create(job())
    exit_url = await sandbox.sign(created.single_signer.redirect_url)
    token = exit_url.rpartition("=")[2]
    answer = await sender.get(f"{created.status_url}?status_query_token={token}")
    assert answer.text("//s:signature-job-status/text()") == job_status
    assert answer.texts("//s:status/text()") == [signer_status]
    status = await client.get_status(created, token)
    assert (status.status, status.signatures[0].status) == (job_status, signer_status)


async def test_a_xades_signature_can_only_be_cut_short(sandbox, sender):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    url = created.text("//s:status-url/text()").removesuffix("status") + "xades/1"
    whole = (await sender.get(url)).body
    messages = set(FaultKind) & {
        FaultKind.DOCTYPE,
        FaultKind.ENTITIES,
        FaultKind.WRONG_ROOT,
        FaultKind.DOUBLED_ELEMENTS,
        FaultKind.UNKNOWN_ELEMENTS,
        FaultKind.UNKNOWN_SIGNER_STATUS,
        FaultKind.UNKNOWN_JOB_STATUS,
    }
    for kind in messages:
        sandbox.faults.add(Fault(kind=kind, times=1))
    assert (await sender.get(url)).body == whole
    assert len(sandbox.faults.pending) == len(messages)
    sandbox.faults.clear()
    sandbox.faults.add(Fault(kind=FaultKind.MALFORMED_XML, times=1))
    async with sender.session.get(url) as response:
        assert await response.read() == whole[: len(whole) // 2]


async def test_a_missing_header_fault_waits_for_a_response_with_that_header(sandbox, sender):
    for header in ("Date", "x-next-permitted-poll-time", "Content-Type", "Content-Length"):
        sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header=header, times=1))
    access = await sender.get(sender.root)
    assert {"Date", "Content-Type", "Content-Length"} & set(access.headers) == set()
    assert access.body.startswith(b"You are")
    assert len(sandbox.faults.pending) == 1
    polled = await sender.get(sender.jobs)
    assert NEXT_POLL not in polled.headers
    assert "Date" in polled.headers


async def test_a_far_poll_time_is_only_in_the_header(sandbox, sender, client, clock):
    sandbox.faults.add(Fault(kind=FaultKind.FAR_POLL_TIME, seconds=86400, times=2))
    assert (await sender.get(sender.root)).status == 200  # has no poll time, so it does not happen
    polled = await sender.get(sender.jobs)
    far = NOW + timedelta(seconds=30 + 86400)
    assert datetime.fromisoformat(polled.headers[NEXT_POLL]) == far
    assert parsedate_to_datetime(polled.headers["Date"]) == NOW
    clock.wait(seconds=30)
    poll = await client.get_status_change()
    assert poll.next_permitted_poll_time == far + timedelta(seconds=30)


@asynccontextmanager
async def raw_answer(sandbox, sender, path, version="1.1"):
    """The head of the answer to a GET, as it is on the wire, and a reader of its body."""
    address = urlsplit(sandbox.service_root)
    reader, writer = await asyncio.open_connection(
        address.hostname, address.port, ssl=sender.session.connector._ssl
    )
    try:
        writer.write(f"GET {urlsplit(path).path} HTTP/{version}\r\nHost: sandbox\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        yield head.lower(), reader
    finally:
        writer.transport.abort()


@pytest.mark.parametrize(
    ("kind", "version", "header"),
    [
        ("OVERSIZED_BODY", "1.1", f"\r\ncontent-length: {1024**3}\r\n"),
        ("ENDLESS_BODY", "1.1", "\r\ntransfer-encoding: chunked\r\n"),
        ("ENDLESS_BODY", "1.0", "\r\n\r\n"),  # HTTP/1.0 has no chunks
    ],
)
async def test_a_body_goes_on_with_spaces_beyond_every_limit(
    sandbox, sender, caplog, kind, version, header
):
    sandbox.faults.add(Fault(kind=FaultKind[kind]))
    async with raw_answer(sandbox, sender, sender.root, version) as (head, reader):
        assert head.startswith(f"http/{version} 200 ok")
        assert header in head
        assert ("content-length" in head) is (kind == "OVERSIZED_BODY")
        assert ("chunked" in head) is (kind == "ENDLESS_BODY" and version == "1.1")
        assert b"You are Sandbox Enterprise" in await reader.readexactly(100)
        assert set(await reader.readexactly(3 * 2**20)) <= set(b" \r\n0123456789abcdef")
        # Other requests are answered meanwhile.
        sandbox.faults.clear()
        assert (await sender.get(sender.root)).status == 200
        await sandbox.reset()
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(2**30)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_oversized_body_ends_at_its_length(sandbox, sender, monkeypatch):
    monkeypatch.setitem(exchange._FLOODS, FaultKind.OVERSIZED_BODY, 100_000)
    sandbox.faults.add(Fault(kind=FaultKind.OVERSIZED_BODY, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.ENDLESS_BODY, times=1))
    large = await sender.get(sender.root)
    assert len(large.body) == 100_000
    # One request meets one of these faults.
    assert len(sandbox.faults.pending) == 1


async def test_no_header_is_sent_in_place_of_a_missing_one(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header="Date", times=1))
    for present in (False, True):
        async with raw_answer(sandbox, sender, sender.root) as (head, _):
            assert ("\r\ndate:" in head) is present


@pytest.mark.parametrize(
    "replacement",
    [
        Fault(kind=FaultKind.ERROR_DOCUMENT, code="SCHEMA_VALIDATION_ERROR", status=422),
        Fault(kind=FaultKind.SERVER_ERROR, status=422),
    ],
    ids=lambda fault: fault.kind.value,
)
async def test_an_error_can_be_cut_off(sandbox, sender, client, replacement):
    sandbox.faults.add(replacement)
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY))
    async with raw_answer(sandbox, sender, sender.root) as (head, reader):
        assert head.startswith("http/1.1 422 ")
        length = int(head.partition("content-length: ")[2].split()[0])
        assert len(await reader.read()) == length // 2
    for call in (client.check_access, partial(client.create, job()), client.get_status_change):
        with pytest.raises(ApiError) as raised:
            await call()
        assert raised.value.status == 422
    assert jobs(sandbox) == 0


async def test_a_clock_skew_changes_the_date_and_the_poll_time_equally(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.CLOCK_SKEW, seconds=-600, times=1))
    skewed = await sender.get(sender.jobs)
    assert parsedate_to_datetime(skewed.headers["Date"]) == NOW - timedelta(minutes=10)
    poll_time = datetime.fromisoformat(skewed.headers[NEXT_POLL])
    assert poll_time == NOW + timedelta(seconds=30) - timedelta(minutes=10)
    correct = await sender.get(sender.jobs)
    assert parsedate_to_datetime(correct.headers["Date"]) == NOW
    assert datetime.fromisoformat(correct.headers[NEXT_POLL]) == NOW + timedelta(seconds=30)


async def test_a_new_connection_gets_the_certificate_of_a_different_organisation(sandbox, sender):
    async def organization():
        address = urlsplit(sandbox.service_root)
        _, writer = await asyncio.open_connection(
            address.hostname, address.port, ssl=sender.session.connector._ssl
        )
        subject = writer.get_extra_info("peercert")["subject"]
        writer.transport.abort()
        return dict(pair[0] for pair in subject)["organizationIdentifier"]

    assert (await sender.get(sender.root)).status == 200
    sandbox.faults.add(Fault(kind=FaultKind.FOREIGN_CERTIFICATE, times=1))
    assert (await sender.get(sender.root)).status == 200  # on the existing connection
    assert await organization() == "NTRNO-900000001"
    assert await organization() == "NTRNO-984661185"


async def test_several_faults_happen_together_but_only_one_replaces_the_response(
    sandbox, sender, slept
):
    sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, status=502, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=1, times=1))
    assert [(await sender.get(sender.root)).status for _ in range(3)] == [502, 503, 200]
    assert slept == [1]
    requests = sandbox.overview().requests
    assert [request.faults for request in requests] == [
        (),
        ("unavailable",),
        ("delay", "server_error"),
    ]


async def test_faults_with_a_probability_use_the_random_argument(clock, tmp_path):
    numbers = iter([0.9, 0.1, 0.9])
    async with (
        Sandbox(clock=clock, rate_limit=None, random=lambda: next(numbers)) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, probability=0.5))
        assert [(await sender.get(sender.root)).status for _ in range(3)] == [200, 500, 200]


# --- With the SDK's client


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind=FaultKind.RESET, after=True), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.TRUNCATED_BODY), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.OVERSIZED_BODY), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.ENDLESS_BODY), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.SERVER_ERROR, status=502, after=True), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.MALFORMED_XML), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.WRONG_ROOT), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.DOUBLED_ELEMENTS), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.DOCTYPE), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.ENTITIES), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.ERROR_DOCUMENT, code="SCHEMA_VALIDATION_ERROR"), ApiError),
        (Fault(kind=FaultKind.RATE_LIMITED), RateLimitedError),
        (Fault(kind=FaultKind.FOREIGN_CERTIFICATE), TlsError),
    ],
    ids=lambda value: value.kind.value if isinstance(value, Fault) else "",
)
async def test_a_create_of_the_client_raises_an_error_for_each_fault(sandbox, client, fault, error):
    sandbox.faults.add(fault)
    with pytest.raises(error):
        await client.create(job())


async def test_the_client_accepts_unknown_elements_and_a_missing_date(sandbox, client):
    sandbox.faults.add(Fault(kind=FaultKind.UNKNOWN_ELEMENTS))
    sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header="Date"))
    created = await client.create(job())
    assert created.reference == "ordre-77"


async def test_the_client_detects_a_truncated_or_oversized_download(sandbox, client):
    created = await client.create(job())
    exit_url = await sandbox.sign(created.single_signer.redirect_url)
    status = await client.get_status(created, exit_url.rpartition("=")[2])
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY, operation=Operation.PADES))
    with pytest.raises((TransportError, UnexpectedResponseError)):
        await client.get_pades(status)
    sandbox.faults.clear()
    sandbox.faults.add(Fault(kind=FaultKind.OVERSIZED_BODY))
    with pytest.raises(UnexpectedResponseError, match="larger than"):
        await client.get_pades(status)
    sandbox.faults.clear()
    assert (await client.get_pades(status)).startswith(b"%PDF-")
