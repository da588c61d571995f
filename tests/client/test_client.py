"""Every operation of the client except `create`: what it sends, and what it returns or raises."""

import logging
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import doubles
import httpx
import pki
import pytest
from client_calls import SENDER_OPERATIONS, TOKEN, URL, URL_OPERATIONS, status
from doubles import (
    CUSTOMER,
    JOBS,
    NS,
    PERSON,
    ROOT,
    SENDER,
    Answer,
    client_of,
    frames_with_locals,
    signer_xml,
    status_xml,
)
from lxml import etree

from posten_signering import (
    DirectJobResponse,
    DirectJobStatus,
    Sender,
    StatusPoll,
    status_query_token_in,
)
from posten_signering.errors import (
    ArgumentTypeError,
    NotAvailableError,
    SenderNotSpecifiedError,
    StatusUrlMissingError,
    UntrustedUrlError,
)

pytestmark = pytest.mark.anyio

OTHER = Sender(organization_number="999888777", polling_queue="shop & Søn")


# --- Following a URL


@pytest.mark.parametrize("kind", ["response", "stored"])
@pytest.mark.parametrize("name", URL_OPERATIONS)
async def test_the_url_comes_from_a_response_or_is_stored_text(name, kind, tmp_path):
    operation = URL_OPERATIONS[name]
    response_or_url = operation.holding(URL) if kind == "response" else f" {URL}\n"
    async with client_of(Answer(200, operation.answer)) as (client, transport):
        await operation.call(client, response_or_url, tmp_path / "signed")
    [sent] = transport.sent
    assert sent.method == operation.method
    assert sent.url == (f"{URL}?status_query_token={TOKEN}" if operation.token else URL)
    assert sent.headers["Accept"] == operation.accept
    assert sent.timeout is operation.timeout
    assert (sent.body is None) == (name != "request_new_redirect_url")


@pytest.mark.parametrize(
    "name", [name for name, operation in URL_OPERATIONS.items() if operation.missing]
)
async def test_a_response_without_the_url_raises_its_own_error_and_nothing_is_sent(name, tmp_path):
    operation = URL_OPERATIONS[name]
    response, error = operation.missing
    async with client_of() as (client, transport):
        if error is None:
            await operation.call(client, response, tmp_path / "signed")
        else:
            with pytest.raises(error) as caught:
                await operation.call(client, response, tmp_path / "signed")
            assert isinstance(caught.value, NotAvailableError)
        assert transport.sent == []


async def test_confirming_a_status_without_a_confirmation_url_does_nothing(caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    async with client_of() as (client, transport):
        await client.confirm(status())
        # A user's tests may pass a double.
        await client.confirm(SimpleNamespace(confirmation_url=None))
        assert transport.sent == []
    assert caplog.text.count("nothing to confirm") == 2


async def test_the_token_does_not_show_when_the_status_url_is_missing():
    created = DirectJobResponse(job_id=7)
    async with client_of() as (client, _):
        with pytest.raises(StatusUrlMissingError) as caught:
            await client.get_status(created, "t0k3n")
    assert "t0k3n" not in doubles.frames_with_locals(caught.value)


@pytest.mark.parametrize("url", ["https://evil.example/api/x", "http://api.example/api", "", "x"])
@pytest.mark.parametrize("name", URL_OPERATIONS)
async def test_a_url_outside_the_service_is_not_followed(name, url, tmp_path):
    async with client_of() as (client, transport):
        with pytest.raises(UntrustedUrlError) as caught:
            await URL_OPERATIONS[name].call(client, url, tmp_path / "signed")
        assert transport.sent == []
    assert "evil" not in str(caught.value)


@pytest.mark.parametrize("code", [200, 201, 202, 204])
@pytest.mark.parametrize("name", ["confirm", "delete_documents"])
async def test_any_2xx_is_a_success(name, code, tmp_path):
    async with client_of(Answer(code, b"<anything/>")) as (client, _):
        assert await URL_OPERATIONS[name].call(client, URL, tmp_path) is None


# --- Results


async def test_get_status_sends_the_token_and_returns_the_status():
    async with client_of(Answer(200, status_xml())) as (client, transport):
        status_response = await client.get_status(f"{URL}?a=b", "t/k n")
    assert transport.sent[0].url == f"{URL}?a=b&status_query_token=t%2Fk%20n"
    assert (status_response.job_id, status_response.reference) == (7, "order-77")
    assert status_response.status is DirectJobStatus.COMPLETED_SUCCESSFULLY
    assert status_response.signature_of(PERSON).since == datetime(
        2026, 1, 2, 2, 4, 5, 678000, tzinfo=UTC
    )
    assert status_response.signature_of(CUSTOMER).xades_url == f"{JOBS}/7/xades/2"
    assert status_response.pades_url == f"{JOBS}/7/pades"


async def test_a_new_redirect_url_is_returned_with_its_signer():
    async with client_of(Answer(200, signer_xml())) as (client, transport):
        signer = await client.request_new_redirect_url(URL)
    assert (signer.redirect_url, signer.custom_identifier) == (
        "https://web.example#/redirect/new",
        CUSTOMER,
    )
    [sent] = transport.sent
    assert sent.headers["Content-Type"] == "application/xml"
    request = etree.fromstring(sent.body)
    assert request.tag == f"{{{NS}}}direct-signer-update-request"
    assert [element.tag for element in request] == [f"{{{NS}}}redirect-url"]


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("get_pades", b"%PDF-1.7", b"%%EOF"), ("get_xades", b"<signed>", b"</signed>")],
)
async def test_a_signed_document_is_returned_whole(name, first, last):
    chunks = [first, b"", b"x" * 100_000, last]
    async with client_of(Answer(200, chunks)) as (client, _):
        assert await getattr(client, name)(URL) == b"".join(chunks)


async def test_check_access_returns_the_sentence_of_the_service():
    sentence = "You are Ås AS, organisation number 123456789\n"
    async with client_of(Answer(200, sentence.encode(), {"content-type": "text/plain"})) as (
        client,
        transport,
    ):
        assert await client.check_access() == sentence.strip()
    [sent] = transport.sent
    assert sent.headers["Accept"] == "text/plain, application/xml"


# --- The sender


@pytest.mark.parametrize(
    ("default", "of_call", "number", "query"),
    [
        (SENDER, None, pki.SENDER, ""),
        (SENDER, OTHER, "999888777", "?polling_queue=shop%20%26%20S%C3%B8n"),
        (None, OTHER, "999888777", "?polling_queue=shop%20%26%20S%C3%B8n"),
    ],
)
@pytest.mark.parametrize("name", SENDER_OPERATIONS)
async def test_the_sender_of_the_call_overrides_that_of_the_client(
    name, default, of_call, number, query
):
    async with client_of(Answer(200, status_xml()), sender=default) as (client, transport):
        await SENDER_OPERATIONS[name](client, of_call)
    [sent] = transport.sent
    path = "" if name == "check_access" else "/direct/signature-jobs"
    assert sent.url == f"{ROOT}/{number}{path}{'' if name == 'check_access' else query}"
    assert (sent.method, sent.body) == ("GET", None)
    assert sent.headers["Accept"].endswith("application/xml")


@pytest.mark.parametrize("name", SENDER_OPERATIONS)
async def test_without_a_sender_nothing_is_sent(name):
    async with client_of(sender=None) as (client, transport):
        with pytest.raises(
            SenderNotSpecifiedError, match=r"No sender is set.*POSTEN_SIGNERING_ORGANIZATION_NUMBER"
        ):
            await SENDER_OPERATIONS[name](client, None)
        assert transport.sent == []


# --- Arguments of a wrong type

ACCEPTED = {
    "get_status": "job must be a DirectJobResponse or the stored status_url as text",
    "request_new_redirect_url": "signer must be a DirectSignerResponse or the stored signer_url as text",
    "confirm": "status must be a DirectJobStatusResponse or the stored confirmation_url as text",
    **dict.fromkeys(
        ("get_pades", "download_pades", "open_pades"),
        "status must be a DirectJobStatusResponse or the stored pades_url as text",
    ),
    **dict.fromkeys(
        ("get_xades", "download_xades", "open_xades"),
        "signature must be a Signature or the stored xades_url as text",
    ),
    "delete_documents": (
        "status must be a DirectJobStatusResponse or the stored delete_documents_url as text"
    ),
}
CANARY = "https://canary.example/x"


@pytest.mark.parametrize(
    "wrong",
    [None, CANARY.encode(), Path(CANARY), (CANARY,), StatusPoll(), httpx.URL(CANARY), 7],
    ids=lambda wrong: type(wrong).__name__,
)
@pytest.mark.parametrize("name", URL_OPERATIONS)
async def test_an_argument_of_a_wrong_type_is_named_and_nothing_is_sent(name, wrong, tmp_path):
    async with client_of() as (client, transport):
        with pytest.raises(ArgumentTypeError) as caught:
            await URL_OPERATIONS[name].call(client, wrong, tmp_path / "signed")
    assert str(caught.value) == f"The argument {ACCEPTED[name]}, not {type(wrong).__name__}."
    assert isinstance(caught.value, TypeError)
    assert "canary" not in frames_with_locals(caught.value)
    assert transport.sent == []


@pytest.mark.parametrize("name", URL_OPERATIONS)
async def test_a_response_of_a_different_operation_is_refused(name, tmp_path):
    right = type(URL_OPERATIONS[name].holding(URL))
    responses = {type(held): held for held in (o.holding(URL) for o in URL_OPERATIONS.values())}
    async with client_of() as (client, transport):
        for wrong in [held for kind, held in responses.items() if kind is not right]:
            with pytest.raises(ArgumentTypeError, match=f"not {type(wrong).__name__}"):
                await URL_OPERATIONS[name].call(client, wrong, tmp_path / "signed")
    assert transport.sent == []


@pytest.mark.parametrize("name", URL_OPERATIONS)
async def test_a_url_in_a_response_must_be_text(name, tmp_path):
    async with client_of() as (client, transport):
        holding = URL_OPERATIONS[name].holding(CANARY.encode())
        with pytest.raises(ArgumentTypeError, match="_url must be text or None, not b") as caught:
            await URL_OPERATIONS[name].call(client, holding, tmp_path / "signed")
    assert "canary" not in str(caught.value)
    assert transport.sent == []


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda c: c.create(None), "job must be a DirectJob, not NoneType."),
        (lambda c: c.create([doubles.job()]), "job must be a DirectJob, not list."),
        (lambda c: c.get_status(URL, None), "status_query_token must be text, not NoneType."),
        (lambda c: c.get_status(URL, b"canary"), "status_query_token must be text, not bytes."),
        *(
            (lambda c, call=call: call(c, "canary"), "sender must be a Sender, not str.")
            for call in SENDER_OPERATIONS.values()
        ),
        (lambda c: c.get_status_change(sender=""), "sender must be a Sender, not str."),
        (lambda c: c.download_pades(URL, None), "path must be text or a path, not NoneType."),
        (lambda c: c.download_xades(URL, b"canary"), "path must be text or a path, not bytes."),
        (
            lambda c: c.download_pades(URL, "x", progress=True),
            "progress must be a function or None, not bool.",
        ),
    ],
)
async def test_another_argument_of_a_wrong_type_is_named_too(call, message):
    async with client_of() as (client, transport):
        with pytest.raises(ArgumentTypeError) as caught:
            await call(client)
    assert str(caught.value) == f"The argument {message}"
    assert transport.sent == []


async def test_arguments_of_functions_that_send_nothing_are_checked():
    async with client_of() as (client, _):
        with pytest.raises(
            ArgumentTypeError, match=r"^The argument job must be a DirectJob, not dict\.$"
        ):
            client.validate({})
        with pytest.raises(
            ArgumentTypeError, match=r"^The argument failure_policy must be a FailurePolicy, not"
        ):
            client.status_changes(failure_policy=3)
    created = DirectJobResponse(
        job_id=7, signers=[URL_OPERATIONS["request_new_redirect_url"].holding(URL)]
    )
    with pytest.raises(
        ArgumentTypeError, match=r"^The argument identifier must be text, not NoneType\.$"
    ):
        created.signer(None)
    with pytest.raises(
        ArgumentTypeError, match=r"^The argument identifier must be text, not int\.$"
    ):
        status().signature_of(7)
    with pytest.raises(
        ArgumentTypeError, match=r"^The argument url_or_query must be text, not URL\.$"
    ):
        status_query_token_in(httpx.URL(CANARY))


async def test_a_sender_of_a_wrong_type_is_named():
    async with client_of() as (client, _):
        with pytest.raises(
            ArgumentTypeError, match=r"^The argument sender must be a Sender, not str\.$"
        ):
            await client.get_status_change(sender="123456789")
