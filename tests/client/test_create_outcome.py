"""A failed create: the type of the error says whether the job exists, does not exist or may exist."""

import asyncio
import logging
import traceback
from collections.abc import Callable

import anyio
import loopback
import lxml.etree
import pki
import pytest
from doubles import (
    CUSTOMER,
    PERSON,
    Answer,
    Hang,
    UnlimitedFleet,
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
async def test_an_error_before_the_request_left_is_raised_unchanged(error):
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
@pytest.mark.parametrize("in_response", [False, True])
@pytest.mark.parametrize("reference", ["order-77", None])
async def test_after_an_error_in_flight_the_job_may_exist(error, in_response, reference):
    step = Answer(200, created_xml()[:40], broken_by=error) if in_response else error
    async with client_of(step, CREATED, retries=Retries(max_retries=5)) as (client, transport):
        with pytest.raises(CreateOutcomeUnknownError) as caught:
            await client.create(job(reference=reference))
        assert len(transport.sent) == 1, "the create was retried"
        await client.create(job())
    assert caught.value.reference == reference
    assert caught.value.__cause__ is error
    assert caught.value.reason == str(error)[0].lower() + str(error)[1:-1]
    assert caught.value.job_id is None


class OwnError(Exception):
    """An error of code that is not the package's, such as a custom fleet's."""


@pytest.mark.parametrize("place", ["in_request", "in_response", "after_response"])
@pytest.mark.parametrize(
    "error", [RuntimeError("Event loop is closed"), OwnError(), ExceptionGroup("", [OSError()])]
)
async def test_after_an_unexpected_error_in_flight_the_job_may_exist(place, error):
    step: object = error
    limiter = UnlimitedFleet()
    if place == "in_response":
        step = Answer(200, created_xml()[:40], broken_by=error)
    elif place == "after_response":
        step = Answer(429, b"", {"dosfilter": "delayed"})

        async def fail(organization_number, seconds):
            raise error

        limiter.block = fail
    async with client_of(step, fleet=limiter) as (client, transport):
        with pytest.raises(CreateOutcomeUnknownError, match="an unexpected") as caught:
            await client.create(job())
        assert len(transport.sent) == 1
    assert caught.value.reference == "order-77"
    assert caught.value.reason == f"an unexpected {type(error).__name__} was raised"
    assert caught.value.__cause__ is error


async def test_an_unexpected_error_before_the_request_left_is_raised_unchanged():
    error = RuntimeError("Event loop is closed")
    async with client_of(Unsent(error)) as (client, _):
        with pytest.raises(RuntimeError) as caught:
            await client.create(job())
    assert caught.value is error


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(), GeneratorExit()])
async def test_an_exception_that_ends_the_program_is_raised_unchanged(error):
    async with client_of(error) as (client, _):
        with pytest.raises(type(error)) as caught:
            await client.create(job())
    assert caught.value is error


def caused_by(error: Exception) -> Exception:
    caused = RuntimeError("Failed.")
    caused.__cause__ = error
    return caused


@pytest.mark.parametrize(
    "error_of",
    [lambda error: error, lambda error: ExceptionGroup("Failed.", [error]), caused_by],
    ids=["itself", "in a group", "as a cause"],
)
async def test_an_unexpected_error_whose_text_may_quote_values_is_not_chained(error_of):
    error = error_of(lxml.etree.XMLSyntaxError(f"Bad value {PERSON}", 1, 1, 1))
    async with client_of(error) as (client, _):
        with pytest.raises(
            CreateOutcomeUnknownError, match=f"an unexpected {type(error).__name__}"
        ) as caught:
            await client.create(job())
    assert PERSON not in "".join(traceback.format_exception(caught.value))
    assert caught.value.__context__ is None


@pytest.mark.parametrize("status", [300, 302, 303, 307, 399, 500, 502, 503, 504])
async def test_after_a_5xx_or_a_redirect_the_job_may_exist_and_is_not_retried(status):
    answer = Answer(status, b"<html/>", {"location": "https://elsewhere.example"})
    async with client_of(answer, retries=Retries(max_retries=5)) as (client, transport):
        with pytest.raises(
            CreateOutcomeUnknownError, match=f"responded with HTTP {status}"
        ) as caught:
            await client.create(job())
        assert len(transport.sent) == 1
    assert ("a redirect" in str(caught.value.__cause__)) == (status < 400)


@pytest.mark.parametrize("status", [400, 499])
async def test_any_4xx_means_that_the_job_does_not_exist(status):
    async with client_of(Answer(status, b"<html/>")) as (client, _):
        with pytest.raises(ApiError) as caught:
            await client.create(job())
    assert (type(caught.value), caught.value.status) == (ApiError, status)


SECOND_STATUS_URL = b"<status-url>https://api.example/api/s</status-url>"
ID = b"<signature-job-id>7</signature-job-id>"


@pytest.mark.parametrize(
    ("answer", "job_id"),
    [
        (created_xml().replace(ID, ID + SECOND_STATUS_URL), 7),
        (created_xml().replace(b"redirect-url>", b"other>"), 7),
        (
            created_xml().replace(
                ID, b"<signature-job-id> 7\n</signature-job-id>" + SECOND_STATUS_URL
            ),
            7,
        ),
        (created_xml().replace(ID, ID + ID), None),
        (created_xml().replace(ID, SECOND_STATUS_URL), None),
        (
            created_xml().replace(
                ID, b"<signature-job-id>seven</signature-job-id>" + SECOND_STATUS_URL
            ),
            None,
        ),
        (created_xml().replace(ID, b"<signature-job-id/>" + SECOND_STATUS_URL), None),
        (
            created_xml().replace(
                ID, b"<signature-job-id>" + b"7" * 5000 + b"</signature-job-id>" + SECOND_STATUS_URL
            ),
            None,
        ),
        (
            created_xml()
            .replace(ID, ID + SECOND_STATUS_URL)
            .replace(b"direct-signature-job-r", b"r"),
            None,
        ),
        (created_xml().replace(ID, ID + SECOND_STATUS_URL)[:-9], None),
    ],
)
async def test_after_an_unreadable_response_the_job_may_exist_and_its_unique_id_is_given(
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
async def test_a_refusal_means_that_the_job_does_not_exist(answer, error):
    async with client_of(answer) as (client, transport):
        with pytest.raises(error) as caught:
            await client.create(job())
        assert type(caught.value) is error
        assert len(transport.sent) == 1


async def cancelled_while(hang: Hang, creating) -> BaseException:
    """Runs the coroutine as a task, cancels the task natively at the hang, and returns its result."""
    task = asyncio.get_running_loop().create_task(creating)
    await hang.reached.wait()
    task.cancel()
    [result] = await asyncio.gather(task, return_exceptions=True)
    return result


@pytest.mark.parametrize(
    ("reference", "named"),
    [("order-77", "with reference 'order-77'"), (None, "without a reference")],
)
async def test_a_cancelled_create_raises_cancelled_error_and_logs_one_warning(
    caplog, reference, named
):
    caplog.set_level(logging.DEBUG)
    hang = Hang()
    async with client_of(hang, CREATED) as (client, _):
        result = await cancelled_while(hang, client.create(job(reference=reference)))
        assert isinstance(result, asyncio.CancelledError)
        [record] = [record for record in caplog.records if record.name == "posten_signering"]
        await client.create(job())
    assert record.levelno == logging.WARNING
    assert (
        f"job {named} was cancelled while it was in flight: the job may exist"
        in record.getMessage()
    )
    for canary in (PERSON, CUSTOMER, "Lease", "Vilk", "shop.example"):
        assert canary not in caplog.text


async def test_a_create_cancelled_by_its_scope_logs_one_warning(caplog):
    hang = Hang()
    async with client_of(hang) as (client, _), anyio.create_task_group() as tasks:
        tasks.start_soon(client.create, job())
        await hang.reached.wait()
        tasks.cancel_scope.cancel()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_abandoned_create_ends_without_an_error():
    """The garbage collector closes its coroutine outside of a task, where anyio knows no event loop."""

    async def abandon() -> None:
        hang, closed = Hang(), asyncio.Event()

        def close() -> None:
            try:
                task.get_coro().close()
            except RuntimeError as error:
                errors.append(error)
            closed.set()

        async with client_of(hang) as (client, _):
            task = asyncio.create_task(client.create(job()))
            await hang.reached.wait()
            asyncio.get_running_loop().call_soon(close)
            await closed.wait()

    errors: list[BaseException] = []
    asyncio.run(abandon())
    assert errors == []


class BlockingFleet(UnlimitedFleet):
    """Lets no call through."""

    def __init__(self) -> None:
        super().__init__()
        self.hang = Hang()

    async def acquire(self, organization_number: str) -> Callable[[], None]:
        await self.hang.forever()
        raise AssertionError


async def test_a_create_cancelled_before_it_was_sent_logs_no_warning(caplog):
    fleet = BlockingFleet()
    async with client_of(CREATED, fleet=fleet) as (client, transport):
        result = await cancelled_while(fleet.hang, client.create(job()))
        assert isinstance(result, asyncio.CancelledError)
        assert transport.sent == []
    assert "the job may exist" not in caplog.text


async def cancelled_at(server: loopback.Server, reached: asyncio.Event) -> None:
    """Cancels a create over the package's own transport when the server has set `reached`."""
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


async def test_a_create_cancelled_in_the_tls_handshake_logs_no_warning(caplog):
    reached = asyncio.Event()

    async def connected(reader, writer):
        assert await reader.read(1)
        reached.set()
        await asyncio.Event().wait()

    async with loopback.serving(connected) as server:
        await cancelled_at(server, reached)
    assert "the job may exist" not in caplog.text


async def test_a_create_cancelled_after_the_tls_handshake_logs_a_warning(caplog):
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
