"""The iterator and single polls after lost responses, blocks, refusals and changes that can't be read."""

import asyncio
import logging
from dataclasses import replace
from datetime import timedelta

import anyio
import pki
import pytest
import virtual_time
from doubles import Answer, Clock, UnlimitedFleet, client_of, error_xml, poll_headers, status_xml
from model_faults import LOSES_ANSWER, Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, Outcome, now, number_of
from model_transport import MAX_ROUND_TRIP, process_of
from virtual_time import cancel_natively, settle

from posten_signering import FailurePolicy, Sender
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    ClientStateError,
    ConfigurationError,
    NotAuthorizedError,
    RateLimitedError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    UnexpectedResponseError,
    UntrustedUrlError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@pytest.fixture
def service():
    return ModelService()


async def put_later(service: ModelService, seconds: float) -> None:
    await anyio.sleep(seconds)
    service.put(SENDER)


# --- Lost responses


@pytest.mark.parametrize(
    "invalid", [{"max_failures": 0}, {"max_failures": -1}, {"max_outage": timedelta(seconds=-1)}]
)
def test_an_invalid_failure_policy_is_refused(invalid):
    with pytest.raises(ConfigurationError, match=next(iter(invalid))):
        FailurePolicy(**invalid)


@pytest.mark.parametrize("kind", sorted(LOSES_ANSWER, key=lambda kind: kind.name))
async def test_after_a_lost_response_the_default_wait_is_used(service, kind):
    """The queue may have been empty, and the lost response contained the next permitted poll time."""
    service.put(SENDER)
    service.put(SENDER)
    service.script += [Fault(kind=kind)]
    failures = []
    async with process_of(service, default_wait=900) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda error, wait: failures.append((error, wait))
            )
        )
        task = asyncio.ensure_future(anext(changes))
        await anyio.sleep(100)
        # The wait applies to the queue, not only to the iterator.
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert not caught.value.polled
        assert caught.value.next_permitted_poll_time is None
        await task
    first, second = service.polls
    assert first.lost_at is None
    assert second.lost_at is not None
    assert 900 <= second.sent_at - second.lost_at <= 901
    [(error, wait)] = failures
    assert isinstance(error, TransportError | UnexpectedResponseError)
    assert wait.total_seconds() == pytest.approx(second.sent_at - second.lost_at, abs=1e-3)
    assert changes.counts.failures == 1


async def test_after_a_poll_cancelled_in_flight_the_default_wait_is_used(service):
    async with process_of(service) as client:
        task = asyncio.ensure_future(client.get_status_change())
        await settle()
        assert len(service.polls) == 1
        await cancel_natively(task)
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert not caught.value.polled
        service.put(SENDER)
        await anext(client.status_changes())
        assert 600 <= service.polls[1].sent_at <= 602


async def test_after_a_poll_cancelled_before_it_was_sent_there_is_no_wait(service):
    async with process_of(service) as client:
        service.block_now(SENDER.organization_number)
        with pytest.raises(RateLimitedError):
            await client.get_status_change()
        task = asyncio.ensure_future(client.get_status_change())
        await anyio.sleep(10)
        await cancel_natively(task)
        assert len(service.polls) == 1
        service.put(SENDER)
        assert (await client.get_status_change()).change is not None
        assert now() < 32


async def test_a_poll_that_was_not_sent_is_retried_soon(service):
    service.put(SENDER)
    service.script += [Fault(kind=Kind.REFUSED)]
    async with process_of(service) as client:
        changes = client.status_changes()
        await anext(changes)
    assert now() < 3
    assert len(service.polls) == 2


async def test_the_wait_after_a_lost_response_survives_a_cancellation(service):
    service.script += [Fault(kind=Kind.LOST_ANSWER)]
    async with process_of(service) as client:
        changes = client.status_changes()
        while True:
            with anyio.move_on_after(30):
                await anext(changes)
            service.put(SENDER)
            if changes.counts.changes:
                break
    assert [round(poll.sent_at, -1) for poll in service.polls][:2] == [0, 600]


# --- The rate limit


async def test_the_iterator_waits_until_a_block_ends(service):
    service.put(SENDER)
    service.block_now(SENDER.organization_number)
    failures = []
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda error, wait: failures.append((error, wait))
            )
        )
        await anext(changes)
    assert [poll.outcome for poll in service.polls] == [Outcome.BLOCKED, Outcome.CHANGE]
    assert 30 <= now() <= 31.2
    [(error, wait)] = failures
    assert isinstance(error, RateLimitedError)
    assert timedelta(seconds=30) <= wait <= timedelta(seconds=31)
    assert changes.counts.failures == 1


async def test_a_block_delays_the_other_iterators_of_the_organisation(service):
    for sender in (SENDER, OTHER_QUEUE, OTHER_SENDER):
        service.put(sender)
    service.block_now(SENDER.organization_number)
    delivered_at = {}

    async def consume(sender: Sender) -> None:
        await anext(client.status_changes(sender=sender))
        delivered_at[sender] = now()

    async with process_of(service) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(consume, SENDER)
        await anyio.sleep(1)
        for sender in (OTHER_QUEUE, OTHER_SENDER):
            tasks.start_soon(consume, sender)
    assert delivered_at[OTHER_SENDER] < 2
    assert 30 <= delivered_at[SENDER] <= 31.2
    assert 30 <= delivered_at[OTHER_QUEUE] <= 31.2
    assert [poll.outcome for poll in service.polls].count(Outcome.BLOCKED) == 1


# --- Refusals with a next permitted poll time

REFUSALS = [
    Answer(403, error_xml("NOT_AUTHORIZED")),
    Answer(408),
    Answer(429),
    Answer(429, headers={"dosfilter": "delayed"}),
    Answer(429, error_xml("BROKER_NOT_AUTHORIZED")),
    Answer(500, error_xml("INTERNAL_ERROR")),
    Answer(503, b"<html>"),
    Answer(503, b"<", broken_by=UnexpectedResponseError("Can't be decoded.")),
    Answer(503, b"<", broken_by=TransportError("It was cut off.", request_may_have_left=True)),
    Answer(429, b"<", broken_by=TransportError("It was cut off.", request_may_have_left=True)),
]


def with_poll_time(answer: Answer, seconds: float) -> Answer:
    headers = {**answer.headers, **poll_headers(pki.NOW, timedelta(seconds=seconds))}
    return replace(answer, headers=headers)


@pytest.mark.parametrize("answer", REFUSALS, ids=lambda answer: str(answer.status))
async def test_the_poll_time_in_a_refusal_is_obeyed(answer):
    clock = Clock()
    script = [with_poll_time(answer, 1800), Answer(204)]
    async with client_of(*script, clock=clock) as (client, transport):
        with pytest.raises(ApiError) as refused:
            await client.get_status_change()
        assert refused.value.status == answer.status
        assert refused.value.next_permitted_poll_time == pki.NOW + timedelta(minutes=30)
        assert refused.value.poll_wait == timedelta(minutes=30)
        clock.wait(seconds=1799)
        with pytest.raises(TooEagerPollingError) as early:
            await client.get_status_change()
        assert early.value.next_permitted_poll_time == pki.NOW + timedelta(minutes=30)
        assert len(transport.sent) == 1
        clock.wait(seconds=1)
        await client.get_status_change()


@pytest.mark.parametrize(
    "refusal",
    [Answer(503), with_poll_time(Answer(503), 0), with_poll_time(Answer(503), -60)],
    ids=["no-time", "now", "past"],
)
async def test_a_refusal_without_a_poll_time_in_the_future_permits_the_next_poll(refusal):
    async with client_of(refusal, Answer(204)) as (client, transport):
        with pytest.raises(ApiError):
            await client.get_status_change()
        await client.get_status_change()
    assert len(transport.sent) == 2


@pytest.mark.parametrize(
    ("refusal", "seconds"),
    [
        (with_poll_time(Answer(503), 1800), 1800),
        (with_poll_time(Answer(503, headers={"retry-after": "120"}), 60), 120),
        (with_poll_time(Answer(429, headers={"dosfilter": "delayed"}), 1800), 1800),
        (with_poll_time(Answer(429, headers={"dosfilter": "delayed"}), 5), 30),
    ],
)
async def test_the_iterator_waits_for_the_poll_time_in_a_refusal(refusal, seconds):
    clock = Clock()
    waits = []
    policy = FailurePolicy(on_failure=lambda _, wait: waits.append(wait.total_seconds()))
    script = [refusal, Answer(200, status_xml())]
    async with client_of(*script, clock=clock) as (client, _):
        await anext(client.status_changes(failure_policy=policy))
    assert waits == [seconds]
    assert clock.now == pki.NOW + timedelta(seconds=seconds)


# --- A single poll


async def test_a_single_poll_raises_where_the_iterator_would_wait(service):
    async with process_of(service, "two") as other_client, process_of(service) as client:
        await other_client.get_status_change()
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert caught.value.polled
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert (caught.value.polled, caught.value.status) == (False, 0)
        assert len(service.polls_of("one")) == 1
        service.block_now(SENDER.organization_number)
        with pytest.raises(RateLimitedError) as limited:
            await client.get_status_change(sender=OTHER_QUEUE)
        assert limited.value.wait == timedelta(seconds=30)
        assert limited.value.blocked_until is not None
    assert len(service.polls_of("one")) == 2


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (Fault(kind=Kind.REFUSED), TransportError),
        (Fault(kind=Kind.SILENCE), TransportError),
        (Fault(kind=Kind.GATEWAY, status=503), ApiError),
        (Fault(kind=Kind.PAGE), UnexpectedResponseError),
    ],
)
async def test_a_single_poll_is_never_retried(service, fault, error):
    service.script += [fault]
    async with process_of(service) as client:
        with pytest.raises(error):
            await client.get_status_change()
    assert len(service.polls) == 1


# --- Transient failures

HTTP_500 = Fault(kind=Kind.GATEWAY, status=500)


@pytest.mark.parametrize(
    "fault", [HTTP_500, Fault(kind=Kind.GATEWAY, status=408), Fault(kind=Kind.REFUSED)], ids=str
)
async def test_the_backoff_grows_up_to_five_minutes(service, fault, caplog):
    caplog.set_level(logging.WARNING, "posten_signering")
    service.outages["one"] = fault
    failures = []
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda error, wait: failures.append((error, wait))
            )
        )
        with anyio.move_on_after(3600 * 2):
            await anext(changes)
    waits = [wait.total_seconds() for _, wait in failures]
    for number, wait in enumerate(waits, 1):
        longest = min(300.0, 2.0**number)
        assert longest / 2 <= wait <= longest
    assert len(set(waits)) == len(waits)  # jitter
    assert changes.counts.failures == len(waits) == len(service.polls)
    for wait, before, after in zip(waits, service.polls, service.polls[1:], strict=False):
        assert after.sent_at - before.sent_at == pytest.approx(wait, abs=MAX_ROUND_TRIP)
    assert len([line for line in caplog.messages if "Polling" in line]) == len(waits)


async def test_an_error_of_on_failure_is_logged_and_polling_continues(service, caplog):
    service.put(SENDER)
    service.script += [HTTP_500] * 2

    def on_failure(error, wait):
        raise LookupError(wait)

    async with process_of(service) as client:
        changes = client.status_changes(failure_policy=FailurePolicy(on_failure=on_failure))
        assert (await anext(changes)).job_id == 1001
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [record.exc_info[0] for record in errors] == [LookupError] * 2
    assert all("on_failure raised" in record.getMessage() for record in errors)


async def test_stop_async_iteration_inside_a_poll_does_not_end_the_loop_silently(service):
    class StoppingFleet(UnlimitedFleet):
        async def acquire(self, organization_number):
            raise StopAsyncIteration

    async with process_of(service, fleet=StoppingFleet()) as client:
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            await anext(client.status_changes())


async def test_a_change_resets_the_backoff(service):
    waits = []
    service.put(SENDER)
    service.script += [HTTP_500] * 6 + [None, HTTP_500]
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda _, wait: waits.append(wait.total_seconds())
            )
        )
        await anext(changes)
        service.put(SENDER)
        await anext(changes)
    assert waits[5] >= 32
    assert waits[6] <= 2


@pytest.mark.parametrize("outcome", ["empty", "too-early"])
async def test_a_response_without_a_change_resets_the_backoff_too(service, outcome):
    waits = []
    if outcome == "too-early":
        async with process_of(service, "two") as other_client:
            await other_client.get_status_change()
    service.script += [HTTP_500] * 4 + [None, HTTP_500]
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda _, wait: waits.append(wait.total_seconds())
            )
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_later, service, 500)
            await anext(changes)
    assert waits[3] >= 8
    assert waits[4] <= 2


@pytest.mark.parametrize(
    ("retry_after", "shortest"), [("120", 120), ("9000", 300), ("0", 1), ("soon", 1)]
)
async def test_retry_after_is_obeyed_up_to_five_minutes(service, retry_after, shortest):
    service.put(SENDER)
    service.script += [Fault(kind=Kind.GATEWAY, headers={"retry-after": retry_after})]
    async with process_of(service) as client:
        await anext(client.status_changes())
    assert shortest <= now() <= shortest + 2


async def test_a_block_delays_the_iterator_by_five_minutes_at_most(service):
    """A `Retry-After` of hours in a block is limited as in every other refusal."""
    service.put(SENDER)
    headers = {"dosfilter": "delayed", "retry-after": "9000"}
    service.script += [Fault(kind=Kind.GATEWAY, status=429, headers=headers)]
    async with process_of(service) as client:
        await anext(client.status_changes())
    assert 300 <= now() <= 302


async def test_max_failures_raises_after_that_many_consecutive_failures(service):
    service.put(SENDER)
    service.script += [HTTP_500, HTTP_500, None, *[HTTP_500] * 3]
    async with process_of(service) as client:
        changes = client.status_changes(failure_policy=FailurePolicy(max_failures=3))
        await anext(changes)
        with pytest.raises(ApiError):
            await anext(changes)
        assert len(service.polls) == 6
        # The iterator can be used again after it raised.
        service.put(SENDER)
        assert number_of(await anext(changes)) == 2


async def test_max_outage_raises_before_the_outage_exceeds_it(service):
    service.outages["one"] = HTTP_500
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(max_outage=timedelta(minutes=5))
        )
        with pytest.raises(ApiError):
            await anext(changes)
        assert 60 <= now() <= 300


async def test_an_outage_is_measured_from_its_first_failure(service):
    service.put(SENDER)
    service.script += [HTTP_500] * 6 + [None, None] + [HTTP_500] * 6
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(max_outage=timedelta(minutes=5))
        )
        await client.confirm(await anext(changes))
        await anyio.sleep(1000)
        service.put(SENDER)
        assert number_of(await anext(changes)) == 2


async def test_by_default_the_iterator_never_raises_a_transient_failure(service):
    service.put(SENDER)
    service.script += [HTTP_500] * 1000
    async with process_of(service) as client:
        changes = client.status_changes()
        await anext(changes)
    assert changes.counts.failures == 1000
    assert now() < 1000 * 300


@pytest.mark.parametrize("body", [b"", b"<html>"], ids=["empty", "page"])
@pytest.mark.parametrize("status", [301, 302, 401, 403, 404])
async def test_a_refusal_of_a_gateway_is_transient(service, status, body):
    """It has no error document of the service. The service may be in the middle of a deployment."""
    service.put(SENDER)
    service.script += [Fault(kind=Kind.GATEWAY, status=status, body=body)] * 3
    async with process_of(service) as client:
        changes = client.status_changes()
        assert number_of(await anext(changes)) == 1
        assert changes.counts.failures == 3
        assert 7 <= now() <= 15
        service.script += [Fault(kind=Kind.GATEWAY, status=status, body=body)]
        with pytest.raises(ApiError):
            await anext(client.status_changes(failure_policy=FailurePolicy(max_failures=1)))


# --- Permanent failures


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, error_xml("NOT_AUTHORIZED"), NotAuthorizedError),
        (400, error_xml("BROKER_NOT_AUTHORIZED"), BrokerNotAuthorizedError),
        (429, error_xml("BROKER_NOT_AUTHORIZED"), BrokerNotAuthorizedError),
        (503, error_xml("NOT_AUTHORIZED"), NotAuthorizedError),
        (400, error_xml("SCHEMA_VALIDATION_ERROR"), ApiError),
        (401, error_xml("UNKNOWN_CERTIFICATE"), ApiError),
        (403, error_xml("ACCESS_DENIED"), ApiError),
        (404, error_xml("UNKNOWN_QUEUE"), ApiError),
        (400, b"<html>", ApiError),
        (410, b"", ApiError),
    ],
)
async def test_a_permanent_refusal_is_raised_immediately(service, status, body, error):
    service.script += [Fault(kind=Kind.GATEWAY, status=status, body=body)]
    async with process_of(service) as client:
        changes = client.status_changes()
        with pytest.raises(error):
            await anext(changes)
        assert now() < 1
        service.put(SENDER)
        assert number_of(await anext(changes)) == 1
    assert changes.counts.failures == 0


@pytest.mark.parametrize(
    "error",
    [
        TlsError("refused", request_may_have_left=False, certificate_refused=True),
        ConfigurationError("a wrong proxy"),
        UntrustedUrlError("elsewhere"),
        ClientStateError("closed"),
    ],
    ids=str,
)
async def test_a_refused_certificate_or_a_wrong_configuration_is_raised_immediately(service, error):
    service.script += [Fault(kind=Kind.RAISES, error=error)]
    async with process_of(service) as client:
        with pytest.raises(type(error)):
            await anext(client.status_changes())
    assert len(service.polls) == 1


# --- A change that can't be read


async def test_an_unreadable_change_does_not_block_the_changes_behind_it(service, caplog):
    """The default wait is as long as a lease, so a poll after it would always get the unreadable change."""
    unreadable, *readable = (service.put(SENDER) for _ in range(5))
    unreadable.readable = False
    delivered_at = {}

    async def consume() -> None:
        async for change in changes:
            delivered_at[number_of(change)] = now()
            await client.confirm(change)

    async with process_of(service) as client:
        changes = client.status_changes()
        with anyio.move_on_after(3 * 3600):
            await consume()
        assert delivered_at.keys() == {change.number for change in readable}
        assert max(delivered_at.values()) < 30
        # The unreadable change is logged once per lease, not in a loop.
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert 10 <= changes.counts.failures == len(warnings) <= 3 * 3600 / service.lease + 1
        assert "can't be read" in warnings[0].getMessage() or "not a complete" in caplog.text
        unreadable.readable = True
        with anyio.move_on_after(2 * service.lease):
            await consume()
    assert delivered_at.keys() == {change.number for change in service.changes}
    assert not any(poll.knowingly_too_early for poll in service.polls)


async def test_many_unreadable_changes_do_not_block_the_change_behind_them(service):
    """The lease of the first one must not end before the last one was fetched."""
    for _ in range(30):
        service.put(SENDER).readable = False
    readable = service.put(SENDER)
    async with process_of(service) as client:
        with anyio.fail_after(300):
            assert number_of(await anext(client.status_changes())) == readable.number


async def test_the_poll_time_of_an_unreadable_change_is_obeyed(service):
    service.put(SENDER).readable = False
    service.wait_after_change = 1200
    async with process_of(service, default_wait=30) as client:
        with pytest.raises(UnexpectedResponseError) as caught:
            await client.get_status_change()
        assert 1200 <= caught.value.wait.total_seconds() <= 1201
        assert caught.value.next_permitted_poll_time is not None
        await anyio.sleep(1000)
        with pytest.raises(TooEagerPollingError) as early:
            await client.get_status_change()
        assert not early.value.polled
        assert early.value.next_permitted_poll_time == caught.value.next_permitted_poll_time


@pytest.mark.parametrize("kind", [Kind.BROKEN_POLL_TIME, Kind.PAGE])
async def test_without_a_poll_time_an_unreadable_change_causes_the_default_wait(service, kind):
    service.put(SENDER).readable = False
    service.script += [Fault(kind=kind)]
    async with process_of(service, default_wait=900) as client:
        with pytest.raises(UnexpectedResponseError) as caught:
            await client.get_status_change()
        assert caught.value.wait is None
        await anyio.sleep(890)
        with pytest.raises(TooEagerPollingError):
            await client.get_status_change()
        await anyio.sleep(11)
        with pytest.raises(UnexpectedResponseError):
            await client.get_status_change()
    assert len(service.polls) == 2
