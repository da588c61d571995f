"""Responses whose Content-Encoding can't be decoded: their HTTP status and headers still count."""

from pathlib import Path

import client_calls
import loopback
import pki
import pytest
from client_calls import URL_OPERATIONS
from doubles import Answer, client_of, configuration, job
from transport_client import server_context

from posten_signering import DirectClient, Environment, Retries, TrustAnchors
from posten_signering.errors import (
    ApiError,
    CreateOutcomeUnknownError,
    RateLimitedError,
    TransportError,
    UnexpectedResponseError,
)

pytestmark = pytest.mark.anyio

NEED_NO_BODY = {"confirm", "delete_documents"}
DOWNLOADS = {name for name in URL_OPERATIONS if name.endswith("ades")}
# `status_changes` is left out: it polls again after a response that can't be read.
NEED_BODY = set(client_calls.OPERATIONS) - NEED_NO_BODY - DOWNLOADS - {"create", "status_changes"}


def encoded(status: int, *before: bytes) -> Answer:
    """A response that can't be decoded after the chunks in `before`."""
    return Answer(status, [*before], broken_by=UnexpectedResponseError("Can't be decoded."))


@pytest.mark.parametrize("before", [(), (b"<begin",)])
@pytest.mark.parametrize("status", [200, 201, 302, 500, 503])
async def test_the_outcome_of_a_create_is_unknown(status, before):
    async with client_of(encoded(status, *before), retries=Retries()) as (client, transport):
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await client.create(job())
    assert len(transport.sent) == 1
    assert (caught.value.reference, caught.value.job_id) == ("order-77", None)


@pytest.mark.parametrize("status", [400, 403, 413])
async def test_a_4xx_is_a_refusal_with_its_status(status):
    async with client_of(encoded(status, b"<html>")) as (client, _):
        with pytest.raises(ApiError, match=r"\(can't be decoded\)") as caught:
            await client.create(job())
    assert type(caught.value) is ApiError
    assert (caught.value.status, caught.value.answer) == (status, None)


async def test_the_headers_of_a_refusal_are_read():
    answer = encoded(429)
    answer.headers = {"dosfilter": "delayed"}
    async with client_of(answer) as (client, _):
        with pytest.raises(RateLimitedError):
            await client.create(job())


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("name", sorted(NEED_NO_BODY))
async def test_a_success_without_a_needed_body_is_a_success(name, status, tmp_path):
    async with client_of(encoded(status)) as (client, _):
        assert await client_calls.all_calls(tmp_path)[name](client) is None


@pytest.mark.parametrize("name", sorted(NEED_NO_BODY))
async def test_a_refusal_without_a_needed_body_is_a_refusal(name, tmp_path):
    async with client_of(encoded(403)) as (client, _):
        with pytest.raises(ApiError) as caught:
            await client_calls.all_calls(tmp_path)[name](client)
    assert caught.value.status == 403


@pytest.mark.parametrize("name", sorted(NEED_BODY))
async def test_an_operation_that_needs_the_body_raises(name, tmp_path):
    async with client_of(encoded(200), retries=Retries()) as (client, transport):
        with pytest.raises(UnexpectedResponseError, match=r"^Can't be decoded\.$"):
            await client_calls.all_calls(tmp_path)[name](client)
    assert len(transport.sent) == 1


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
async def test_a_download_leaves_no_file(name, tmp_path):
    async with client_of(encoded(200, b"%PDF"), retries=Retries()) as (client, _):
        with pytest.raises(UnexpectedResponseError, match=r"^Can't be decoded\.$"):
            await client_calls.all_calls(tmp_path / "signed")[name](client)
    assert list(tmp_path.iterdir()) == []


async def test_a_204_is_an_empty_queue():
    async with client_of(encoded(204)) as (client, _):
        assert (await client.get_status_change()).change is None


async def test_a_cut_off_response_is_a_transport_error(tmp_path):
    """A cut-off response may lack more than its body. `confirm` is idempotent, so it can be retried."""
    cut = Answer(200, broken_by=TransportError("cut", request_may_have_left=True))
    async with client_of(cut) as (client, _):
        with pytest.raises(TransportError, match="cut"):
            await client_calls.all_calls(tmp_path)["confirm"](client)


@pytest.mark.parametrize("status", [200, 204])
async def test_the_packages_own_transport_behaves_the_same(status):
    """A 204 has no body to decode, but a gateway may still send a Content-Encoding header."""
    answer = loopback.answer(status, b"" if status == 204 else b"canary", Content_Encoding="br")
    async with loopback.http_server(loopback.always(answer), server_context()) as server:
        environment = Environment(name="Test", service_root=server.url("/api"))
        anchors = TrustAnchors().trusting(pki.root().pem)
        over_tls = configuration(None, environment=environment, trust_anchors=anchors)
        async with DirectClient(over_tls) as client:
            for name in sorted(NEED_NO_BODY):
                url = server.url("/api/stored")
                assert await client_calls.all_calls(Path(), url)[name](client) is None
            with pytest.raises(CreateOutcomeUnknownError):
                await client.create(job())
        assert len(server.received) == 3
