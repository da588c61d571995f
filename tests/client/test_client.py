"""Every operation of the client but `create`: what it sends, and what its caller gets."""

import logging
from datetime import UTC, datetime
from types import SimpleNamespace

import doubles
import pki
import pytest
from client_calls import ADDRESSED, FOLLOWING, TOKEN, URL, status
from doubles import (
    CUSTOMER,
    JOBS,
    NS,
    PERSON,
    ROOT,
    SENDER,
    Answer,
    client_of,
    signer_xml,
    status_xml,
)
from lxml import etree

from posten_signering import (
    DirectJobResponse,
    DirectJobStatus,
    Sender,
)
from posten_signering.errors import (
    NotAvailableError,
    SenderNotSpecifiedError,
    StatusUrlMissingError,
    UntrustedUrlError,
)

pytestmark = pytest.mark.anyio

OTHER = Sender(organization_number="999888777", polling_queue="shop & Søn")


# --- Following a URL


@pytest.mark.parametrize("kind", ["response", "stored"])
@pytest.mark.parametrize("name", FOLLOWING)
async def test_a_url_is_followed_from_a_response_or_from_store(name, kind, tmp_path):
    operation = FOLLOWING[name]
    held = operation.holding(URL) if kind == "response" else f" {URL}\n"
    async with client_of(Answer(200, operation.answer)) as (client, transport):
        await operation.call(client, held, tmp_path / "signed")
    [sent] = transport.sent
    assert sent.method == operation.method
    assert sent.url == (f"{URL}?status_query_token={TOKEN}" if operation.token else URL)
    assert sent.headers["Accept"] == operation.accept
    assert sent.timeout is operation.timeout
    assert (sent.body is None) == (name != "request_new_redirect_url")


@pytest.mark.parametrize("name", [name for name, each in FOLLOWING.items() if each.missing])
async def test_a_response_without_the_url_has_an_error_of_its_own_and_sends_nothing(name, tmp_path):
    operation = FOLLOWING[name]
    without, error = operation.missing
    async with client_of() as (client, transport):
        if error is None:
            await operation.call(client, without, tmp_path / "signed")
        else:
            with pytest.raises(error) as caught:
                await operation.call(client, without, tmp_path / "signed")
            assert isinstance(caught.value, NotAvailableError)
        assert transport.sent == []


async def test_a_status_without_a_confirmation_url_is_confirmed_by_doing_nothing(caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    async with client_of() as (client, transport):
        await client.confirm(status())
        # A double of a user's tests too.
        await client.confirm(SimpleNamespace(confirmation_url=None))
        assert transport.sent == []
    assert caplog.text.count("nothing to confirm") == 2


async def test_a_status_that_can_not_be_asked_for_shows_no_token():
    created = DirectJobResponse(job_id=7)
    async with client_of() as (client, _):
        with pytest.raises(StatusUrlMissingError) as caught:
            await client.get_status(created, "t0k3n")
    assert "t0k3n" not in doubles.frames_with_locals(caught.value)


@pytest.mark.parametrize("url", ["https://evil.example/api/x", "http://api.example/api", "", "x"])
@pytest.mark.parametrize("name", FOLLOWING)
async def test_a_url_of_somebody_else_is_not_followed(name, url, tmp_path):
    async with client_of() as (client, transport):
        with pytest.raises(UntrustedUrlError) as caught:
            await FOLLOWING[name].call(client, url, tmp_path / "signed")
        assert transport.sent == []
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("code", [200, 201, 202, 204])
@pytest.mark.parametrize("name", ["confirm", "delete_documents"])
async def test_any_2xx_is_a_yes(name, code, tmp_path):
    async with client_of(Answer(code, b"<anything/>")) as (client, _):
        assert await FOLLOWING[name].call(client, URL, tmp_path) is None


# --- What comes back


async def test_a_status_by_token():
    async with client_of(Answer(200, status_xml())) as (client, transport):
        got = await client.get_status(f"{URL}?a=b", "t/k n")
    assert transport.sent[0].url == f"{URL}?a=b&status_query_token=t%2Fk%20n"
    assert (got.job_id, got.reference) == (7, "order-77")
    assert got.status is DirectJobStatus.COMPLETED_SUCCESSFULLY
    assert got.signature_of(PERSON).since == datetime(2026, 1, 2, 2, 4, 5, 678000, tzinfo=UTC)
    assert got.signature_of(CUSTOMER).xades_url == f"{JOBS}/7/xades/2"
    assert got.pades_url == f"{JOBS}/7/pades"


async def test_a_new_redirect_url_comes_with_its_signer():
    async with client_of(Answer(200, signer_xml())) as (client, transport):
        got = await client.request_new_redirect_url(URL)
    assert (got.redirect_url, got.custom_identifier) == (
        "https://web.example#/redirect/new",
        CUSTOMER,
    )
    [sent] = transport.sent
    assert sent.headers["Content-Type"] == "application/xml"
    sent = etree.fromstring(sent.body)
    assert sent.tag == f"{{{NS}}}direct-signer-update-request"
    assert [each.tag for each in sent] == [f"{{{NS}}}redirect-url"]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("get_pades", b"%PDF-1.7", b"%%EOF"), ("get_xades", b"<signed>", b"</signed>")],
)
async def test_a_signed_document_comes_whole(name, first, last):
    chunks = [first, b"", b"x" * 100_000, last]
    async with client_of(Answer(200, chunks)) as (client, _):
        assert await getattr(client, name)(URL) == b"".join(chunks)


async def test_access_is_the_services_own_sentence():
    said = "You are Ås AS, organisation number 123456789\n"
    async with client_of(Answer(200, said.encode(), {"content-type": "text/plain"})) as (
        client,
        transport,
    ):
        assert await client.check_access() == said.strip()
    [sent] = transport.sent
    assert sent.headers["Accept"] == "text/plain, application/xml"


# --- On whose behalf


@pytest.mark.parametrize(
    ("default", "given", "number", "query"),
    [
        (SENDER, None, pki.SENDER, ""),
        (SENDER, OTHER, "999888777", "?polling_queue=shop%20%26%20S%C3%B8n"),
        (None, OTHER, "999888777", "?polling_queue=shop%20%26%20S%C3%B8n"),
    ],
)
@pytest.mark.parametrize("name", ADDRESSED)
async def test_the_senders_of_a_call_go_before_the_clients(name, default, given, number, query):
    async with client_of(Answer(200, status_xml()), sender=default) as (client, transport):
        await ADDRESSED[name](client, given)
    [sent] = transport.sent
    path = "" if name == "check_access" else "/direct/signature-jobs"
    assert sent.url == f"{ROOT}/{number}{path}{'' if name == 'check_access' else query}"
    assert (sent.method, sent.body) == ("GET", None)
    assert sent.headers["Accept"].endswith("application/xml")


@pytest.mark.parametrize("name", ADDRESSED)
async def test_without_a_sender_nothing_is_sent(name):
    async with client_of(sender=None) as (client, transport):
        with pytest.raises(SenderNotSpecifiedError, match="ClientConfiguration a default one"):
            await ADDRESSED[name](client, None)
        assert transport.sent == []
