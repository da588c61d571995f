"""Faults as a client meets them, over real TLS with another client than the SDK's."""

import asyncio
import logging
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
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

pytestmark = pytest.mark.anyio

ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
NEXT_POLL = "X-Next-permitted-poll-time"


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
    async with DirectClient(sandbox.client_configuration()) as opened:
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


async def test_a_delay_holds_the_answer_back(sandbox, sender, slept):
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=2.5, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=7, times=1, after=True))
    assert [(await sender.get(sender.root)).status for _ in range(2)] == [200, 200]
    assert slept == [2.5, 7]


@pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])
async def test_a_reset_comes_before_or_after_the_request_took_effect(
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


async def test_a_truncated_body_ends_in_the_middle(sandbox, sender, caplog):
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


async def test_a_truncated_body_of_unknown_length_seems_to_be_whole(sandbox, sender):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    url = created.text("//s:status-url/text()").removesuffix("status") + "pades"
    whole = await sender.get(url)
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY))
    sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header="Content-Length"))
    cut = await sender.get(url)
    assert "Content-Length" not in cut.headers
    assert cut.body == whole.body[: len(whole.body) // 2]


async def test_an_answer_without_a_body_is_not_truncated(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY, times=1))
    assert (await sender.get(sender.jobs)).status == 204
    assert len(sandbox.faults.pending) == 1


@pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])
@pytest.mark.parametrize("status", [500, 502, 599])
async def test_a_server_error_is_a_page_of_html(sandbox, sender, status, after, created):
    sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, status=status, times=1, after=after))
    answer = await sender.send(sender.body())
    assert (answer.status, answer.xml) == (status, None)
    assert answer.headers["Content-Type"].startswith("text/html")
    assert str(status).encode() in answer.body
    assert jobs(sandbox) == created


async def test_unavailable_says_when_to_come_back(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=1))
    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, times=1, seconds=120))
    first, second, third = [await sender.get(sender.root) for _ in range(3)]
    assert [first.status, second.status, third.status] == [503, 503, 200]
    assert [first.headers["Retry-After"], second.headers["Retry-After"]] == ["1", "120"]


@pytest.mark.parametrize(
    ("code", "status", "error_type"),
    [("NOT_AUTHORIZED", 403, "CLIENT"), ("INTERNAL_ERROR", 500, "SERVER"), ("NEW", 418, "CLIENT")],
)
async def test_an_error_document_is_one_of_the_schema(sandbox, sender, code, status, error_type):
    sandbox.faults.add(Fault(kind=FaultKind.ERROR_DOCUMENT, code=code, status=status, times=1))
    answer = await sender.get(sender.jobs)
    assert answer.error == (status, code)
    assert answer.text("//s:error-type/text()") == error_type
    assert NEXT_POLL not in answer.headers


async def test_a_rate_limit_block_lasts_for_its_time_also_without_a_rate_limit(
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


async def test_malformed_xml_is_a_whole_body_of_half_a_message(sandbox, sender):
    whole = await sender.get(f"{sender.root}/elsewhere")
    sandbox.faults.add(Fault(kind=FaultKind.MALFORMED_XML, times=1))
    async with sender.session.get(f"{sender.root}/elsewhere") as response:
        body = await response.read()
    assert body == whole.body[: len(whole.body) // 2]
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(body)


async def spoiled(sandbox, sender, kind):
    """The bytes of the answer to a create with a fault of this kind."""
    sandbox.faults.add(Fault(kind=kind, times=1, operation=Operation.CREATE))
    headers = {"Content-Type": bundles.CONTENT_TYPE}
    async with sender.session.post(sender.jobs, data=sender.body(), headers=headers) as response:
        assert response.status == 200
        body = await response.read()
    assert sandbox.faults.pending == ()
    return body


async def test_a_doctype_and_entities_are_there_for_a_parser_that_takes_them(sandbox, sender):
    plain = etree.fromstring(await spoiled(sandbox, sender, FaultKind.DOCTYPE))
    assert plain.getroottree().docinfo.doctype == "<!DOCTYPE direct-signature-job-response>"
    hostile = await spoiled(sandbox, sender, FaultKind.ENTITIES)
    assert b"&a9;" in hostile
    assert hostile.count(b"<!ENTITY") == 10
    # A billion `ha` are too many for libxml2 itself.
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(hostile)
    few = hostile.replace(b"&a9;", b"&a1;")
    assert b"ha" * 10 in etree.tostring(etree.fromstring(few))


async def test_a_wrong_root_is_another_message(sandbox, sender):
    root = etree.fromstring(await spoiled(sandbox, sender, FaultKind.WRONG_ROOT))
    assert root.tag == f"{{{bundles.SERVICE}}}direct-signature-job-manifest"


async def test_doubled_elements_stand_there_twice(sandbox, sender):
    root = etree.fromstring(await spoiled(sandbox, sender, FaultKind.DOUBLED_ELEMENTS))
    assert len(root.findall(f"{{{bundles.SERVICE}}}signature-job-id")) == 2
    assert len(root.findall(f"{{{bundles.SERVICE}}}redirect-url")) == 2  # one for each signer


async def test_unknown_elements_break_the_schema_and_are_all_that_does(sandbox, sender):
    root = etree.fromstring(await spoiled(sandbox, sender, FaultKind.UNKNOWN_ELEMENTS))
    with pytest.raises(etree.DocumentInvalid):
        conforms(root, "direct-signature-job-response")
    for element in list(root.iter()):
        element.attrib.pop("unknown-attribute", None)
        if "unknown" in etree.QName(element).localname:
            element.getparent().remove(element)
    conforms(root, "direct-signature-job-response")


async def test_unknown_statuses_wait_for_a_message_that_has_one(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.UNKNOWN_STATUSES, times=1))
    created = await sender.create(signers=ONE_SIGNER)
    exit_url = await sandbox.sign(redirect_urls(created)[0])
    token = exit_url.rpartition("=")[2]
    url = f"{created.text('//s:status-url/text()')}?status_query_token={token}"
    unknown = await sender.get(url)
    assert unknown.text("//s:signature-job-status/text()") == "NOBODY_KNOWS_THIS"
    assert unknown.texts("//s:status/text()") == ["NOBODY_KNOWS_THIS"]
    assert (await sender.get(url)).texts("//s:status/text()") == ["SIGNED"]


async def test_what_is_no_message_of_the_service_is_spoiled_only_by_its_end(sandbox, sender):
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
        FaultKind.UNKNOWN_STATUSES,
    }
    for kind in messages:
        sandbox.faults.add(Fault(kind=kind, times=1))
    assert (await sender.get(url)).body == whole
    assert len(sandbox.faults.pending) == len(messages)
    sandbox.faults.clear()
    sandbox.faults.add(Fault(kind=FaultKind.MALFORMED_XML, times=1))
    async with sender.session.get(url) as response:
        assert await response.read() == whole[: len(whole) // 2]


async def test_a_missing_header_is_missing_where_it_would_stand(sandbox, sender):
    for header in ("Date", "x-next-permitted-poll-time", "Content-Type", "Content-Length"):
        sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header=header, times=1))
    who = await sender.get(sender.root)
    assert {"Date", "Content-Type", "Content-Length"} & set(who.headers) == set()
    assert who.body.startswith(b"You are")
    assert len(sandbox.faults.pending) == 1
    polled = await sender.get(sender.jobs)
    assert NEXT_POLL not in polled.headers
    assert "Date" in polled.headers


async def test_a_clock_skew_moves_the_date_and_the_poll_time_alike(sandbox, sender):
    sandbox.faults.add(Fault(kind=FaultKind.CLOCK_SKEW, seconds=-600, times=1))
    skewed = await sender.get(sender.jobs)
    assert parsedate_to_datetime(skewed.headers["Date"]) == NOW - timedelta(minutes=10)
    told = datetime.fromisoformat(skewed.headers[NEXT_POLL])
    assert told == NOW + timedelta(seconds=30) - timedelta(minutes=10)
    right = await sender.get(sender.jobs)
    assert parsedate_to_datetime(right.headers["Date"]) == NOW
    assert datetime.fromisoformat(right.headers[NEXT_POLL]) == NOW + timedelta(seconds=30)


async def test_new_connections_meet_the_certificate_of_another_organisation(sandbox, sender):
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
    assert (await sender.get(sender.root)).status == 200  # an old connection
    assert await organization() == "NTRNO-900000001"
    assert await organization() == "NTRNO-984661185"


async def test_several_faults_happen_together_but_one_answer_takes_the_place(
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


async def test_faults_with_a_probability_follow_the_random_argument(clock, tmp_path):
    numbers = iter([0.9, 0.1, 0.9])
    async with (
        Sandbox(clock=clock, rate_limit=None, random=lambda: next(numbers)) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, probability=0.5))
        assert [(await sender.get(sender.root)).status for _ in range(3)] == [200, 500, 200]


# --- As the SDK meets them


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind=FaultKind.RESET, after=True), CreateOutcomeUnknownError),
        (Fault(kind=FaultKind.TRUNCATED_BODY), CreateOutcomeUnknownError),
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
async def test_a_create_of_the_client_tells_each_fault_by_its_type(sandbox, client, fault, error):
    sandbox.faults.add(fault)
    with pytest.raises(error):
        await client.create(job())


async def test_the_client_takes_what_grows(sandbox, client):
    sandbox.faults.add(Fault(kind=FaultKind.UNKNOWN_ELEMENTS))
    sandbox.faults.add(Fault(kind=FaultKind.MISSING_HEADER, header="Date"))
    created = await client.create(job())
    assert created.reference == "ordre-77"


async def test_the_client_tells_a_truncated_download(sandbox, client):
    created = await client.create(job())
    exit_url = await sandbox.sign(created.single_signer.redirect_url)
    status = await client.get_status(created, exit_url.rpartition("=")[2])
    sandbox.faults.add(Fault(kind=FaultKind.TRUNCATED_BODY, operation=Operation.PADES))
    with pytest.raises((TransportError, UnexpectedResponseError)):
        await client.get_pades(status)
    sandbox.faults.clear()
    assert (await client.get_pades(status)).startswith(b"%PDF-")
