"""What is known of a job whose create failed: it exists, it does not, or nobody knows."""

import asyncio
import logging
from collections.abc import Callable

import anyio
import loopback
import pki
import pytest
from doubles import (
    CUSTOMER,
    PERSON,
    Answer,
    Hang,
    Unpaced,
    Unsent,
    client_of,
    configuration,
    created_xml,
    error_xml,
    job,
)
from transport_client import server_context

from posten_signering import DirectClient, Environment, Retries, TrustAnchors
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    CreateOutcomeUnknownError,
    RateLimitedError,
    TlsError,
    TransportError,
    TransportTimeoutError,
)

pytestmark = pytest.mark.anyio

CREATED = Answer(200, created_xml())


@pytest.mark.parametrize(
    "error",
    [
        TransportError("No connection.", request_may_have_left=False),
        TransportTimeoutError("No connection in time.", request_may_have_left=False),
        TlsError("Not trusted.", request_may_have_left=False),
    ],
)
async def test_a_job_that_certainly_never_left_keeps_its_error(error):
    async with client_of(Unsent(error), CREATED) as (client, _):
        with pytest.raises(TransportError) as caught:
            await client.create(job())
        assert caught.value is error
        await client.create(job())


@pytest.mark.parametrize(
    "error",
    [
        TransportError("The connection was lost.", request_may_have_left=True),
        TransportTimeoutError("The service was silent.", request_may_have_left=True),
        TlsError("The connection was lost.", request_may_have_left=True),
    ],
)
@pytest.mark.parametrize("in_answer", [False, True])
@pytest.mark.parametrize("reference", ["order-77", None])
async def test_a_job_that_may_have_left_may_exist(error, in_answer, reference):
    step = Answer(200, created_xml()[:40], broken_by=error) if in_answer else error
    patient = Retries(max_retries=5)
    async with client_of(step, CREATED, retries=patient) as (client, transport):
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await client.create(job(reference=reference))
        assert len(transport.sent) == 1, "it was sent again"
        await client.create(job())
    assert caught.value.reference == reference
    assert caught.value.__cause__ is error
    assert caught.value.reason == str(error)[0].lower() + str(error)[1:-1]
    assert caught.value.job_id is None


@pytest.mark.parametrize("status", [300, 302, 303, 307, 399, 500, 502, 503, 504])
async def test_a_5xx_and_a_redirect_leave_it_open_and_are_not_repeated(status):
    answer = Answer(status, b"<html/>", {"location": "https://elsewhere.example"})
    async with client_of(answer, retries=Retries(max_retries=5)) as (client, transport):
        with pytest.raises(CreateOutcomeUnknownError, match=f"answered HTTP {status}") as caught:
            await client.create(job())
        assert len(transport.sent) == 1
    assert ("a redirect" in str(caught.value.__cause__)) == (status < 400)


@pytest.mark.parametrize("status", [400, 499])
async def test_any_4xx_says_that_the_job_was_not_created(status):
    """The negative twin of the test above."""
    async with client_of(Answer(status, b"<html/>")) as (client, _):
        with pytest.raises(ApiError) as caught:
            await client.create(job())
    assert (type(caught.value), caught.value.status) == (ApiError, status)


TWICE = b"<status-url>https://api.example/api/s</status-url>"
ID = b"<signature-job-id>7</signature-job-id>"


@pytest.mark.parametrize(
    ("answer", "job_id"),
    [
        (created_xml().replace(ID, ID + TWICE), 7),
        (created_xml().replace(b"redirect-url>", b"other>"), 7),
        (created_xml().replace(ID, b"<signature-job-id> 7\n</signature-job-id>" + TWICE), 7),
        (created_xml().replace(ID, ID + ID), None),
        (created_xml().replace(ID, TWICE), None),
        (created_xml().replace(ID, b"<signature-job-id>seven</signature-job-id>" + TWICE), None),
        (created_xml().replace(ID, b"<signature-job-id/>" + TWICE), None),
        (
            created_xml().replace(
                ID, b"<signature-job-id>" + b"7" * 5000 + b"</signature-job-id>" + TWICE
            ),
            None,
        ),
        (created_xml().replace(ID, ID + TWICE).replace(b"direct-signature-job-r", b"r"), None),
        (created_xml().replace(ID, ID + TWICE)[:-9], None),
    ],
)
async def test_an_answer_that_can_not_be_read_leaves_it_open_and_gives_an_id_that_stands_once(
    answer, job_id
):
    async with client_of(Answer(200, answer)) as (client, _):
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await client.create(job())
    assert caught.value.job_id == job_id
    assert (f"job id {job_id}" in str(caught.value)) == (job_id is not None)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(400, error_xml("SCHEMA_VALIDATION_ERROR")), ApiError),
        (Answer(403, error_xml("BROKER_NOT_AUTHORIZED")), BrokerNotAuthorizedError),
        (Answer(500, error_xml("BROKER_NOT_AUTHORIZED")), BrokerNotAuthorizedError),
        (Answer(429, b"", {"dosfilter": "x"}), RateLimitedError),
    ],
)
async def test_a_refusal_means_that_there_is_no_job(answer, error):
    async with client_of(answer) as (client, transport):
        with pytest.raises(error) as caught:
            await client.create(job())
        assert type(caught.value) is error
        assert len(transport.sent) == 1


async def cancelled_while(hang: Hang, creating) -> BaseException:
    """What a native cancellation, once the request has left, makes of a task."""
    task = asyncio.get_running_loop().create_task(creating)
    await hang.reached.wait()
    task.cancel()
    [result] = await asyncio.gather(task, return_exceptions=True)
    return result


@pytest.mark.parametrize(
    ("reference", "named"),
    [("order-77", "with reference 'order-77'"), (None, "without a reference")],
)
async def test_a_cancelled_create_stays_one_and_leaves_one_line(caplog, reference, named):
    caplog.set_level(logging.DEBUG)
    hang = Hang()
    async with client_of(hang, CREATED) as (client, _):
        result = await cancelled_while(hang, client.create(job(reference=reference)))
        assert isinstance(result, asyncio.CancelledError)
        [record] = [each for each in caplog.records if each.name == "posten_signering"]
        await client.create(job())
    assert record.levelno == logging.WARNING
    assert (
        f"job {named} was cancelled while it was in flight: the job may exist"
        in record.getMessage()
    )
    for canary in (PERSON, CUSTOMER, "Lease", "Vilk", "shop.example"):
        assert canary not in caplog.text


async def test_a_cancelled_create_in_a_scope_leaves_one_line(caplog):
    hang = Hang()
    async with client_of(hang) as (client, _), anyio.create_task_group() as tasks:
        tasks.start_soon(client.create, job())
        await hang.reached.wait()
        tasks.cancel_scope.cancel()
    assert [each.levelname for each in caplog.records] == ["WARNING"]


class Never(Unpaced):
    """Lets nobody through."""

    def __init__(self) -> None:
        super().__init__()
        self.hang = Hang()

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        await self.hang.forever()
        raise AssertionError


async def test_a_create_that_is_cancelled_before_its_turn_is_no_job(caplog):
    pace = Never()
    async with client_of(CREATED, rate_limiter=pace) as (client, transport):
        result = await cancelled_while(pace.hang, client.create(job()))
        assert isinstance(result, asyncio.CancelledError)
        assert transport.sent == []
    assert "the job may exist" not in caplog.text


async def cancelled_at(server: loopback.Server, reached: asyncio.Event) -> None:
    """Cancels a create over the package's own transport, once the server has come so far."""
    over_tls = configuration(
        None,
        environment=Environment(name="Test", service_root=server.url("/api")),
        trust_anchors=TrustAnchors().trusting(pki.root().pem),
    )
    async with DirectClient(over_tls) as client:
        task = asyncio.create_task(client.create(job()))
        await reached.wait()
        task.cancel()
        [result] = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(result, asyncio.CancelledError)


async def test_a_create_that_is_cancelled_in_the_handshake_is_no_job(caplog):
    reached = asyncio.Event()

    async def connected(reader, writer):
        assert await reader.read(1)
        reached.set()
        await asyncio.Event().wait()

    async with loopback.serving(connected) as server:
        await cancelled_at(server, reached)
    assert "the job may exist" not in caplog.text


async def test_a_create_that_is_cancelled_after_the_handshake_may_be_one(caplog):
    """The twin of the test above."""
    reached = asyncio.Event()

    async def hold(received):
        reached.set()
        await asyncio.Event().wait()

    async with loopback.http_server(hold, server_context()) as server:
        await cancelled_at(server, reached)
    assert (
        "with reference 'order-77' was cancelled while it was in flight: the job may exist"
        in caplog.text
    )
