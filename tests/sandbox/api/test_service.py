"""The API over mutual TLS on loopback, called by an aiohttp client instead of the SDK's client."""

import asyncio
import logging
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

import aiohttp
import bundles
import pytest
from bundles import NOW, PERSON, SENDER
from callers import (
    caller_of,
    conforms,
    holder_in,
    redirect_urls,
    signer_named,
)

from posten_signering.sandbox import RateLimit, Sandbox
from posten_signering.sandbox._documents import processes
from posten_signering.sandbox._signed.documents import JobDocuments
from posten_signering.sandbox._values.hidden import Octets

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
SHOP = f"{POLLED}<polling-queue>shop &amp; co</polling-queue>"
BROKER = "111222333"
ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
NEXT_POLL = "X-Next-permitted-poll-time"
UPDATE_REQUEST = (
    f'<direct-signer-update-request xmlns="{bundles.SERVICE}"><redirect-url/>'
    "</direct-signer-update-request>"
).encode()


def status_url_with(created, exit_url):
    return (
        f"{created.text('//s:status-url/text()')}?{urlsplit(exit_url).query.partition('&b=2&')[2]}"
    )


# --- Creating


async def test_a_created_job_has_an_id_urls_and_signers(sandbox, sender):
    created = await sender.create()
    conforms(created.xml, "direct-signature-job-response")
    assert created.text("//s:reference/text()") == "ordre-77"
    job = f"{sender.jobs}/{created.text('//s:signature-job-id/text()')}"
    assert created.text("//s:status-url/text()") == f"{job}/status"
    # Not in the manifest's order: a client that relies on the order gets the wrong signer.
    assert created.texts("//s:signer/@href") == [f"{job}/signers/2", f"{job}/signers/1"]
    assert created.texts("//s:signer/*[1]/text()") == ["kunde-42", PERSON]
    assert created.texts("/*/s:redirect-url/@signer") == [PERSON, "kunde-42"]
    urls = redirect_urls(created)
    assert len(set(urls)) == 2
    assert all(url.startswith(f"{sandbox.signing_pages_url}#/redirect/") for url in urls)
    [received] = sandbox.received
    assert str(received.job_id) == created.text("//s:signature-job-id/text()")


async def test_a_polled_job_has_no_status_url(sender):
    created = await sender.create(extra=POLLED)
    conforms(created.xml, "direct-signature-job-response")
    assert created.text("//s:status-url/text()") is None


async def test_a_job_without_a_reference_gets_a_response_without_one(sender):
    body = sender.body().replace(b"<reference>ordre-77</reference>", b"")
    created = await sender.send(body)
    conforms(created.xml, "direct-signature-job-response")
    assert created.text("//s:reference") is None


async def test_a_body_of_unknown_length_is_accepted(sender):
    body = sender.body()

    async def chunks():
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    assert (await sender.send(chunks())).status == 200


async def test_an_invalid_request_is_refused_and_creates_no_job(sandbox, sender):
    packed = sender.body()
    wrong_request = packed.replace(b"exit-urls>", b"exit-url>")
    assert (await sender.send(wrong_request)).error == (400, "SCHEMA_VALIDATION_ERROR")
    foreign_certificate = sender.body(holder=bundles.enterprise())
    assert (await sender.send(foreign_certificate)).error == (400, "ASICE_VALIDATION_FAILED")
    wrong_sender = sender.body(sender="444555666")
    assert (await sender.send(wrong_sender)).error == (400, "ASICE_VALIDATION_FAILED")
    assert (await sender.post(sender.jobs)).error == (400, "ASICE_VALIDATION_FAILED")
    assert sandbox.received == ()
    assert (await sender.send(packed)).status == 200


@pytest.mark.parametrize(
    ("entry", "content", "reason"),
    [
        ("aaaa.pdf", b"hello", "The document aaaa.pdf is not a PDF of version 1.1 to 1.7"),
        ("aaaa.pdf", b"%PDF-1.4\n%%EOF\n", "The document aaaa.pdf is not a readable PDF"),
        (f"{PERSON}.pdf", b"", "The document ***********.pdf is empty"),
    ],
)
async def test_a_document_that_cannot_be_signed_is_refused(sandbox, sender, entry, content, reason):
    files = (bundles.File("0000_document.pdf", bundles.pdf()), bundles.File(entry, content))
    answer = await sender.send(sender.body(files=files))
    assert answer.error == (400, "ASICE_VALIDATION_FAILED")
    assert reason in answer.body.decode()
    assert sandbox.received == ()


async def test_documents_that_take_too_long_are_refused(clock, tmp_path):
    async with (
        Sandbox(clock=clock, document_time_limit=timedelta(seconds=0.05)) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        pages = bundles.File("aaaa.txt", b"Terms" + b"\f" * 100_000, "text/plain")
        answer = await sender.send(sender.body(files=(pages,)))
        assert answer.error == (400, "ASICE_VALIDATION_FAILED")
        assert b"the documents take more than 0.05 seconds" in answer.body
        assert sandbox.received == ()


async def test_a_pdf_that_takes_too_long_to_sign_can_be_downloaded_later(
    sandbox, sender, monkeypatch
):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    url = created.text("//s:status-url/text()").removesuffix("status") + "pades"
    with monkeypatch.context() as patch:
        patch.setattr(processes, "Timer", Immediately)
        assert (await sender.get(url)).error == (503, "SIGNED_DOCUMENT_NOT_CREATED")
    assert (await sender.get(url)).body.startswith(b"%PDF")


class Immediately:
    """The timer of a call, whose time is over when it starts. The timer of a process's start never ends."""

    def __init__(self, _, function, arguments=None):
        self.start = lambda: arguments and function(*arguments)

    def cancel(self):
        pass


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_that_is_too_large_is_refused(clock, tmp_path, chunked):
    async with (
        Sandbox(clock=clock, largest_body=100_000) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):

        async def chunks():
            for _ in range(3):
                yield bytes(50_000)

        answer = await sender.send(chunks() if chunked else bytes(100_001))
        assert answer.error == (413, "REQUEST_TOO_LARGE")
        assert (await sender.send(bytes(99_999))).error == (400, "ASICE_VALIDATION_FAILED")


# --- The status by token, downloads, confirmation and deletion


async def test_the_whole_flow_by_token(sandbox, sender, clock):
    created = await sender.create()
    first, second = redirect_urls(created)
    clock.wait(minutes=1)
    url = status_url_with(created, await sandbox.sign(first))
    status = await sender.get(url)
    conforms(status.xml, "direct-signature-job-status-response")
    assert status.text("//s:signature-job-status/text()") == "IN_PROGRESS"
    assert status.texts("//s:status/text()") == ["SIGNED", "WAITING"]
    assert status.texts("//s:status/@signer") == [PERSON, "kunde-42"]
    assert status.texts("//s:status/@since") == [
        "2026-03-05T13:31:00.000+01:00",
        "2026-03-05T13:30:00.000+01:00",
    ]
    assert status.texts("//s:xades-url/@signer") == [PERSON]
    assert status.texts("//s:pades-url") == status.texts("//s:confirmation-url") == []

    await sandbox.sign(second)
    status = await sender.get(url)
    conforms(status.xml, "direct-signature-job-status-response")
    assert status.text("//s:signature-job-status/text()") == "COMPLETED_SUCCESSFULLY"
    assert status.text("//s:delete-documents-url") is None
    for address in status.texts("//s:xades-url/text()"):
        xades = await sender.get(address)
        assert xades.xml.tag == f"{{{bundles.DSIG}}}Signature"
    pades_url = status.text("//s:pades-url/text()")
    pades = await sender.get(pades_url)
    assert pades.body.startswith(b"%PDF-")
    assert pades.headers["Content-Length"] == str(len(pades.body))
    assert (await sender.get(pades_url)).body == pades.body

    confirmation_url = status.text("//s:confirmation-url/text()")
    assert confirmation_url.endswith("/complete")
    confirmed = await sender.post(confirmation_url)
    assert (confirmed.status, confirmed.body) == (204, b"")
    assert (await sender.post(confirmation_url)).error == (404, "NOT_FOUND")

    clock.wait(hours=24)
    delete_url = (await sender.get(url)).text("//s:delete-documents-url/text()")
    assert (await sender.call("DELETE", delete_url)).status == 204
    assert (await sender.call("DELETE", delete_url)).error == (404, "NOT_FOUND")
    assert (await sender.get(pades_url)).error == (410, "DOCUMENTS_DELETED")
    status = await sender.get(url)
    conforms(status.xml, "direct-signature-job-status-response")
    assert status.texts("//s:xades-url|//s:pades-url|//s:delete-documents-url") == []


async def test_documents_deleted_in_the_storage_are_reported_as_deleted(sandbox, sender):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    sandbox._now_running.control.storage.delete(1)
    job = created.text("//s:status-url/text()").removesuffix("/status")
    assert (await sender.get(f"{job}/pades")).error == (410, "DOCUMENTS_DELETED")


async def test_simultaneous_downloads_get_the_same_document(sandbox, sender):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    job = created.text("//s:status-url/text()").removesuffix("/status")
    for part in ("pades", "xades/1"):
        answers = await asyncio.gather(*(sender.get(f"{job}/{part}") for _ in range(3)))
        assert len({answer.body for answer in answers}) == 1


async def test_pdfsig_accepts_the_signed_pdf(sandbox, sender, tmp_path, pdfsig):
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    job = created.text("//s:status-url/text()").removesuffix("/status")
    path = tmp_path / "signed.pdf"
    path.write_bytes((await sender.get(f"{job}/pades")).body)
    process = await asyncio.create_subprocess_exec(
        pdfsig, "-nocert", path, stdout=asyncio.subprocess.PIPE
    )
    output, _ = await process.communicate()
    assert b"Signature is Valid." in output


async def test_a_status_request_with_no_or_a_wrong_token_or_too_early_is_refused(sandbox, sender):
    created, other = await sender.create(), await sender.create()
    url = created.text("//s:status-url/text()")
    exit_url = await sandbox.sign(redirect_urls(other)[0])
    for address in (url, f"{url}?status_query_token=guess", status_url_with(created, exit_url)):
        assert (await sender.get(address)).error == (403, "INVALID_STATUS_QUERY_TOKEN")
    token = sandbox.status_query_token(redirect_urls(created)[1])
    await sandbox.sign(redirect_urls(created)[0])
    early = await sender.get(f"{url}?status_query_token={token}")
    assert early.error == (404, "SIGNING_CEREMONY_NOT_COMPLETED")
    await sandbox.sign(redirect_urls(created)[1])
    assert (await sender.get(f"{url}?status_query_token={token}")).status == 200


async def test_an_unsigned_job_can_not_be_downloaded_confirmed_or_deleted(sender):
    created = await sender.create()
    job = created.text("//s:status-url/text()").removesuffix("/status")
    for part in ("pades", "xades/1", "xades/3", "xades/0"):
        assert (await sender.get(f"{job}/{part}")).error == (404, "NOT_FOUND")
    assert (await sender.post(f"{job}/complete")).error == (404, "NOT_FOUND")
    assert (await sender.call("DELETE", f"{job}/documents")).error == (
        409,
        "DOCUMENTS_NOT_DELETABLE",
    )


# --- New redirect URLs


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (UPDATE_REQUEST, {"Content-Type": "application/xml; charset=UTF-8"}),
        # The official Java client sends its charset in the header Content-Encoding.
        (UPDATE_REQUEST, {"Content-Type": "application/xml", "Content-Encoding": "UTF-8"}),
        # The official C# client sends no body.
        (b"", {}),
    ],
)
async def test_a_new_redirect_url_replaces_the_old_one(sandbox, sender, body, headers):
    created = await sender.create()
    signer = signer_named(created, "kunde-42")
    renewed = await sender.post(signer.get("href"), data=body, headers=headers)
    assert renewed.status == 200
    conforms(renewed.xml, "direct-signer-response")
    assert renewed.xml.get("href") == signer.get("href")
    assert renewed.text("//s:signer-identifier/text()") == "kunde-42"
    [old] = signer.xpath("*[local-name()='redirect-url']/text()")
    new = renewed.text("//s:redirect-url/text()")
    with pytest.raises(Exception, match="newer one"):
        await sandbox.sign(old)
    assert "status_query_token=" in await sandbox.sign(new)
    again = await sender.post(signer.get("href"), data=body, headers=headers)
    assert again.error == (409, "SIGNER_HAS_FINISHED")


async def test_a_request_for_a_redirect_url_must_be_the_right_message(sender):
    created = await sender.create()
    href = signer_named(created, PERSON).get("href")
    for body in (b"<other/>", b"<", bundles.request_xml()):
        assert (await sender.post(href, data=body)).error == (400, "SCHEMA_VALIDATION_ERROR")
    unknown_signer = href.replace("/signers/1", "/signers/3")
    assert (await sender.post(unknown_signer)).error == (404, "NOT_FOUND")


# --- Polling


async def test_an_empty_queue_and_an_early_poll_give_the_next_permitted_time(sender, clock):
    empty = await sender.get(sender.jobs)
    assert (empty.status, empty.body) == (204, b"")
    assert empty.headers[NEXT_POLL] == "2026-03-05T13:30:30.000+01:00"
    clock.wait(seconds=29, milliseconds=999)
    early = await sender.get(sender.jobs)
    assert early.error == (429, "TOO_EAGER_POLLING")
    assert datetime.fromisoformat(early.headers[NEXT_POLL]) == NOW + timedelta(seconds=30)
    assert "DoSFilter" not in early.headers
    clock.wait(milliseconds=1)
    assert (await sender.get(sender.jobs)).status == 204


async def test_each_change_is_delivered_until_it_is_confirmed(sandbox, sender, clock):
    created = await sender.create(extra=SHOP)
    for url in redirect_urls(created):
        await sandbox.sign(url)
    queue = f"{sender.jobs}?polling_queue=shop%20%26%20co"
    changes = [await sender.get(queue) for _ in range(2)]
    for change in changes:
        assert change.status == 200
        conforms(change.xml, "direct-signature-job-status-response")
        assert datetime.fromisoformat(change.headers[NEXT_POLL]) == NOW
    first, last = changes
    assert first.text("//s:signature-job-status/text()") == "IN_PROGRESS"
    assert first.texts("//s:status/text()") == ["SIGNED", "WAITING"]
    assert first.text("//s:pades-url/text()") is None
    assert last.text("//s:signature-job-status/text()") == "COMPLETED_SUCCESSFULLY"
    assert (await sender.get(last.text("//s:pades-url/text()"))).status == 200
    assert (await sender.get(queue)).status == 204

    confirm = first.text("//s:confirmation-url/text()")
    assert (await sender.post(confirm)).status == 204
    assert (await sender.post(confirm)).error == (404, "NOT_FOUND")
    for suffix in ("x", "²", "9" * 5000):
        assert (await sender.post(confirm + suffix)).error == (404, "NOT_FOUND")
    clock.wait(minutes=10)
    again = await sender.get(queue)
    assert again.body == last.body
    assert (await sender.post(last.text("//s:confirmation-url/text()"))).status == 204
    clock.wait(minutes=10)
    assert (await sender.get(queue)).status == 204


@pytest.mark.parametrize("query", ["", "?polling_queue", "?polling_queue="])
async def test_a_queue_without_a_name_is_the_default_queue(sandbox, sender, query):
    created = await sender.create(extra=POLLED, signers=ONE_SIGNER)
    await sandbox.reject(redirect_urls(created)[0])
    assert (await sender.get(f"{sender.jobs}?polling_queue=other")).status == 204
    change = await sender.get(f"{sender.jobs}{query}")
    assert change.text("//s:signature-job-status/text()") == "FAILED"
    assert change.texts("//s:status/text()") == ["REJECTED"]


# --- Who may call


async def test_the_access_check_names_the_caller(sandbox, sender):
    answer = await sender.get(sender.root)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.body.decode().startswith("You are ")
    assert SENDER in answer.body.decode()


async def test_a_broker_needs_the_permission_to_act_for_a_sender(sandbox, clock, tmp_path):
    async with caller_of(sandbox, clock, tmp_path, certificate=BROKER) as broker:
        for url in (broker.root, broker.jobs):
            assert (await broker.get(url)).error == (403, "BROKER_NOT_AUTHORIZED")
        assert (await broker.send(broker.body())).error == (403, "BROKER_NOT_AUTHORIZED")
        sandbox.authorize_broker(BROKER, SENDER)
        text = (await broker.get(broker.root)).body.decode()
        assert "on behalf of" in text
        assert BROKER in text
        assert SENDER in text
        created = await broker.create(signers=ONE_SIGNER)
        exit_url = await sandbox.sign(redirect_urls(created)[0])
        assert (await broker.get(status_url_with(created, exit_url))).status == 200


async def test_a_container_signed_by_a_broker_needs_the_permission_too(sandbox, sender):
    other = holder_in(*sandbox.enterprise_pkcs12(BROKER))
    assert (await sender.send(sender.body(holder=other))).error == (403, "BROKER_NOT_AUTHORIZED")
    sandbox.authorize_broker(BROKER, SENDER)
    assert (await sender.send(sender.body(holder=other))).status == 200


async def test_a_job_of_a_different_sender_is_not_found(sandbox, sender, clock, tmp_path):
    created = await sender.create()
    job_id = created.text("//s:signature-job-id/text()")
    async with caller_of(sandbox, clock, tmp_path, certificate=BROKER, sender=BROKER) as other:
        assert (await other.get(f"{other.jobs}/{job_id}/pades")).error == (404, "NOT_FOUND")
        foreign = await other.get(created.text("//s:status-url/text()"))
        assert foreign.error == (403, "BROKER_NOT_AUTHORIZED")


async def test_an_organisation_without_an_agreement_is_refused(clock, tmp_path):
    async with (
        Sandbox(clock=clock, organizations=frozenset({BROKER})) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        assert (await sender.get(sender.root)).error == (403, "NOT_AUTHORIZED")
        assert (await sender.get(f"{sandbox.service_root}/elsewhere")).error == (
            403,
            "NOT_AUTHORIZED",
        )


# --- The rate limit


async def test_more_than_ten_calls_per_second_block_the_organisation(clock, tmp_path):
    async with (
        Sandbox(clock=clock, rate_limit=RateLimit()) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        assert [(await sender.get(sender.root)).status for _ in range(10)] == [200] * 10
        clock.wait(milliseconds=999)
        blocked = await sender.get(sender.jobs)
        assert blocked.status == 429
        assert "DoSFilter" in blocked.headers
        assert NEXT_POLL not in blocked.headers
        clock.wait(seconds=29, milliseconds=999)
        assert (await sender.send(sender.body())).status == 429
        clock.wait(milliseconds=1)
        assert (await sender.get(sender.root)).status == 200


# --- HTTP


async def test_the_date_follows_the_sandboxs_clock(sender, clock):
    clock.wait(days=3, milliseconds=900)
    for url in (sender.root, f"{sender.root}/elsewhere"):
        date = (await sender.get(url)).headers["Date"]
        assert parsedate_to_datetime(date) == NOW + timedelta(days=3)


async def test_a_refusal_by_aiohttp_itself_has_the_services_headers(sender, clock):
    answer = await sender.call("POST", sender.jobs, data=b"x", headers={"Expect": "the moon"})
    assert answer.status == 417
    assert parsedate_to_datetime(answer.headers["Date"]) == clock.now
    assert answer.headers["Server"] == "posten-signering-sandbox"


async def test_unknown_paths_and_methods_get_error_documents(sandbox, sender):
    assert (await sender.get(f"{sandbox.service_root}/elsewhere")).error == (404, "NOT_FOUND")
    assert (await sender.get(f"{sender.jobs}/1")).error == (404, "NOT_FOUND")
    assert (await sender.get(f"{sender.jobs}/x/status")).error == (404, "NOT_FOUND")
    answer = await sender.call("DELETE", sender.jobs)
    assert answer.error == (405, "METHOD_NOT_ALLOWED")
    assert answer.headers["Allow"] == "GET,POST"


async def test_an_aborted_upload_creates_no_job_and_logs_no_warning(sandbox, sender, caplog):
    async def half():
        yield sender.body()[:1000]
        raise ConnectionAbortedError

    with pytest.raises(aiohttp.ClientOSError):
        await sender.send(half())
    assert (await sender.get(sender.root)).status == 200
    assert sandbox.received == ()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_an_aborted_download_logs_no_warning(sandbox, sender, caplog, monkeypatch):
    async def large(*_):
        return Octets(50 * 1024 * 1024)

    monkeypatch.setattr(JobDocuments, "pades", large)
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    job = created.text("//s:status-url/text()").removesuffix("/status")
    async with sender.session.get(f"{job}/pades") as response:
        assert len(await response.content.read(1000)) == 1000
        response.close()
    assert (await sender.get(sender.root)).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


async def test_a_bug_in_the_sandbox_is_logged_and_is_an_internal_error(
    sandbox, sender, caplog, monkeypatch
):
    async def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(JobDocuments, "pades", broken)
    created = await sender.create(signers=ONE_SIGNER)
    await sandbox.sign(redirect_urls(created)[0])
    job = created.text("//s:status-url/text()").removesuffix("/status")
    assert (await sender.get(f"{job}/pades")).error == (500, "INTERNAL_ERROR")
    [record] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "GET" in record.getMessage()
    assert record.exc_info is not None


async def test_no_log_line_shows_a_token_or_an_identity_number(sandbox, sender, caplog):
    caplog.set_level(logging.DEBUG)
    created = await sender.create()
    exit_url = await sandbox.sign(redirect_urls(created)[0])
    await sender.get(status_url_with(created, exit_url))
    await sender.get(f"{created.text('//s:status-url/text()')}?status_query_token=guess")
    tokens = [url.rpartition("/")[2] for url in (*redirect_urls(created), exit_url)]
    tokens.append(exit_url.rpartition("=")[2])
    assert caplog.records
    for secret in (PERSON, "guess", *tokens):
        assert secret not in caplog.text
