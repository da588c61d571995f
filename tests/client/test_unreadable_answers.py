"""Answers whose Content-Encoding can't be undone: their HTTP status says what it says all the same."""

from pathlib import Path

import client_calls
import loopback
import pki
import pytest
from client_calls import FOLLOWING
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

DONE_OR_NOT = {"confirm", "delete_documents"}
DOWNLOADS = {name for name in FOLLOWING if name.endswith("ades")}
# The iterator waits such an answer out.
READ_WHOLE = set(client_calls.EVERY) - DONE_OR_NOT - DOWNLOADS - {"create", "status_changes"}


def packed(status: int, *before: bytes) -> Answer:
    """An answer in an encoding that can't be undone, however much of it can."""
    return Answer(status, [*before], broken_by=UnexpectedResponseError("Not to be undone."))


@pytest.mark.parametrize("before", [(), (b"<begin",)])
@pytest.mark.parametrize("status", [200, 201, 302, 500, 503])
async def test_it_is_not_known_whether_a_job_was_created(status, before):
    async with client_of(packed(status, *before), retries=Retries()) as (client, transport):
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await client.create(job())
    assert len(transport.sent) == 1
    assert (caught.value.reference, caught.value.job_id) == ("order-77", None)


@pytest.mark.parametrize("status", [400, 403, 413])
async def test_a_4xx_is_a_refusal_that_is_told_with_its_status(status):
    async with client_of(packed(status, b"<html>")) as (client, _):
        with pytest.raises(ApiError, match="a content encoding that was not asked for") as caught:
            await client.create(job())
    assert type(caught.value) is ApiError
    assert (caught.value.status, caught.value.answer) == (status, None)


async def test_the_headers_of_a_refusal_count_too():
    answer = packed(429)
    answer.headers = {"dosfilter": "delayed"}
    async with client_of(answer) as (client, _):
        with pytest.raises(RateLimitedError):
            await client.create(job())


@pytest.mark.parametrize("status", [200, 202, 204])
@pytest.mark.parametrize("name", sorted(DONE_OR_NOT))
async def test_what_is_done_is_done(name, status, tmp_path):
    async with client_of(packed(status)) as (client, _):
        assert await client_calls.every(tmp_path)[name](client) is None


@pytest.mark.parametrize("name", sorted(DONE_OR_NOT))
async def test_what_is_not_done_is_not(name, tmp_path):
    """The twin of the test above."""
    async with client_of(packed(403)) as (client, _):
        with pytest.raises(ApiError) as caught:
            await client_calls.every(tmp_path)[name](client)
    assert caught.value.status == 403


@pytest.mark.parametrize("name", sorted(READ_WHOLE))
async def test_what_must_be_read_can_not_be(name, tmp_path):
    async with client_of(packed(200), retries=Retries()) as (client, transport):
        with pytest.raises(UnexpectedResponseError, match=r"^Not to be undone\.$"):
            await client_calls.every(tmp_path)[name](client)
    assert len(transport.sent) == 1


@pytest.mark.parametrize("name", sorted(DOWNLOADS))
async def test_a_download_leaves_no_file(name, tmp_path):
    async with client_of(packed(200, b"%PDF"), retries=Retries()) as (client, _):
        with pytest.raises(UnexpectedResponseError, match=r"^Not to be undone\.$"):
            await client_calls.every(tmp_path / "signed")[name](client)
    assert list(tmp_path.iterdir()) == []


async def test_an_empty_queue_is_empty():
    async with client_of(packed(204)) as (client, _):
        assert (await client.get_status_change()).change is None


async def test_an_answer_that_is_cut_off_is_no_answer(tmp_path):
    """Whoever cut it off may have cut off more: that is repeated, and confirm repeats well."""
    cut = Answer(200, broken_by=TransportError("cut", request_may_have_left=True))
    async with client_of(cut) as (client, _):
        with pytest.raises(TransportError, match="cut"):
            await client_calls.every(tmp_path)["confirm"](client)


@pytest.mark.parametrize("status", [200, 204])
async def test_over_the_packages_own_transport(status):
    """A 204 has no body that could be packed, and a gateway may name an encoding all the same."""
    answer = loopback.answer(status, b"" if status == 204 else b"kanari", Content_Encoding="br")
    async with loopback.http_server(loopback.always(answer), server_context()) as server:
        environment = Environment(name="Test", service_root=server.url("/api"))
        anchors = TrustAnchors().trusting(pki.root().pem)
        given = configuration(None, environment=environment, trust_anchors=anchors)
        async with DirectClient(given) as client:
            for name in sorted(DONE_OR_NOT):
                url = server.url("/api/stored")
                assert await client_calls.every(Path(), url)[name](client) is None
            with pytest.raises(CreateOutcomeUnknownError):
                await client.create(job())
        assert len(server.received) == 3
