"""What the iterator and a single poll do after lost answers, blocks, refusals and changes that can't be read."""

import asyncio
import logging
from datetime import timedelta

import anyio
import pytest
import virtual_time
from doubles import error_xml
from model_faults import LOSES_ANSWER, Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, Outcome, now, number_of
from model_transport import ON_THE_WAY, process_of
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


async def later(service: ModelService, seconds: float) -> None:
    await anyio.sleep(seconds)
    service.put(SENDER)


# --- Lost answers


@pytest.mark.parametrize(
    "wrong", [{"max_failures": 0}, {"max_failures": -1}, {"max_outage": timedelta(seconds=-1)}]
)
def test_a_persistence_that_can_not_be_is_refused(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        FailurePolicy(**wrong)


@pytest.mark.parametrize("kind", sorted(LOSES_ANSWER, key=lambda kind: kind.name))
async def test_after_a_lost_answer_it_waits_as_documented_and_asks_nothing_again(service, kind):
    """The queue may have been empty, and the time that the answer told is lost."""
    service.put(SENDER)
    service.put(SENDER)
    service.script += [Fault(kind=kind)]
    told = []
    async with process_of(service, default_wait=900) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(on_failure=lambda error, wait: told.append((error, wait)))
        )
        task = asyncio.ensure_future(anext(changes))
        await anyio.sleep(100)
        # The wait is the queue's, not the iterator's.
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert not caught.value.polled
        assert caught.value.next_permitted_poll_time is None
        await task
    first, second = service.polls
    assert first.lost_at is None
    assert second.lost_at is not None
    assert 900 <= second.sent_at - second.lost_at <= 901
    [(error, wait)] = told
    assert isinstance(error, TransportError | UnexpectedResponseError)
    assert wait.total_seconds() == pytest.approx(second.sent_at - second.lost_at, abs=1e-3)
    assert changes.counts.failures == 1


async def test_a_poll_cancelled_on_its_way_has_lost_its_answer_too(service):
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


async def test_a_poll_cancelled_before_it_was_sent_has_lost_nothing(service):
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


async def test_a_request_that_never_left_is_tried_again_soon(service):
    service.put(SENDER)
    service.script += [Fault(kind=Kind.REFUSED)]
    async with process_of(service) as client:
        changes = client.status_changes()
        await anext(changes)
    assert now() < 3
    assert len(service.polls) == 2


async def test_a_wait_after_a_lost_answer_survives_a_cancellation(service):
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


async def test_a_block_is_waited_out(service):
    service.put(SENDER)
    service.block_now(SENDER.organization_number)
    told = []
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(on_failure=lambda error, wait: told.append((error, wait)))
        )
        await anext(changes)
    assert [poll.outcome for poll in service.polls] == [Outcome.BLOCKED, Outcome.CHANGE]
    assert 30 <= now() <= 31.2
    [(error, wait)] = told
    assert isinstance(error, RateLimitedError)
    assert timedelta(seconds=30) <= wait <= timedelta(seconds=31)
    assert changes.counts.failures == 1


async def test_a_block_holds_the_other_iterators_of_the_organisation(service):
    for sender in (SENDER, OTHER_QUEUE, OTHER_SENDER):
        service.put(sender)
    service.block_now(SENDER.organization_number)
    at = {}

    async def consume(sender: Sender) -> None:
        await anext(client.status_changes(sender=sender))
        at[sender] = now()

    async with process_of(service) as client, anyio.create_task_group() as tasks:
        tasks.start_soon(consume, SENDER)
        await anyio.sleep(1)
        for sender in (OTHER_QUEUE, OTHER_SENDER):
            tasks.start_soon(consume, sender)
    assert at[OTHER_SENDER] < 2
    assert 30 <= at[SENDER] <= 31.2
    assert 30 <= at[OTHER_QUEUE] <= 31.2
    assert [poll.outcome for poll in service.polls].count(Outcome.BLOCKED) == 1


# --- A single poll raises instead


async def test_a_single_poll_tells_what_the_iterator_would_wait_out(service):
    async with process_of(service, "two") as another, process_of(service) as client:
        await another.get_status_change()
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert caught.value.polled
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert not caught.value.polled
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
async def test_a_single_poll_is_never_repeated(service, fault, error):
    service.script += [fault]
    async with process_of(service) as client:
        with pytest.raises(error):
            await client.get_status_change()
    assert len(service.polls) == 1


# --- Failures in passing

SORRY = Fault(kind=Kind.GATEWAY, status=500)


@pytest.mark.parametrize(
    "fault", [SORRY, Fault(kind=Kind.GATEWAY, status=408), Fault(kind=Kind.REFUSED)], ids=str
)
async def test_failures_back_off_further_each_time_up_to_five_minutes(service, fault, caplog):
    caplog.set_level(logging.WARNING, "posten_signering")
    service.outages["one"] = fault
    told = []
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(on_failure=lambda error, wait: told.append((error, wait)))
        )
        with anyio.move_on_after(3600 * 2):
            await anext(changes)
    waits = [wait.total_seconds() for _, wait in told]
    for number, wait in enumerate(waits, 1):
        most = min(300.0, 2.0**number)
        assert most / 2 <= wait <= most
    assert len(set(waits)) == len(waits)  # jitter
    assert changes.counts.failures == len(waits) == len(service.polls)
    for wait, before, after in zip(waits, service.polls, service.polls[1:], strict=False):
        assert after.sent_at - before.sent_at == pytest.approx(wait, abs=ON_THE_WAY)
    assert len([each for each in caplog.records if "Polling" in each.message]) == len(waits)


async def test_one_success_ends_the_backing_off(service):
    told = []
    service.put(SENDER)
    service.script += [SORRY] * 6 + [None, SORRY]
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda _, wait: told.append(wait.total_seconds())
            )
        )
        await anext(changes)
        service.put(SENDER)
        await anext(changes)
    assert told[5] >= 32
    assert told[6] <= 2


@pytest.mark.parametrize("outcome", ["empty", "too-early"])
async def test_an_answer_without_a_change_ends_it_too(service, outcome):
    told = []
    if outcome == "too-early":
        async with process_of(service, "two") as another:
            await another.get_status_change()
    service.script += [SORRY] * 4 + [None, SORRY]
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(
                on_failure=lambda _, wait: told.append(wait.total_seconds())
            )
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(later, service, 500)
            await anext(changes)
    assert told[3] >= 8
    assert told[4] <= 2


@pytest.mark.parametrize(("asked", "least"), [("120", 120), ("9000", 300), ("0", 1), ("soon", 1)])
async def test_a_failure_that_names_a_time_is_waited_out_up_to_a_bound(service, asked, least):
    service.put(SENDER)
    service.script += [Fault(kind=Kind.GATEWAY, headers={"retry-after": asked})]
    async with process_of(service) as client:
        await anext(client.status_changes())
    assert least <= now() <= least + 2


async def test_failures_in_a_row_can_be_bounded(service):
    service.put(SENDER)
    service.script += [SORRY, SORRY, None, *[SORRY] * 3]
    async with process_of(service) as client:
        changes = client.status_changes(failure_policy=FailurePolicy(max_failures=3))
        await anext(changes)
        with pytest.raises(ApiError):
            await anext(changes)
        assert len(service.polls) == 6
        # Raising ends nothing: whoever asks again goes on.
        service.put(SENDER)
        assert number_of(await anext(changes)) == 2


async def test_an_outage_can_be_bounded(service):
    service.outages["one"] = SORRY
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(max_outage=timedelta(minutes=5))
        )
        with pytest.raises(ApiError):
            await anext(changes)
        assert 60 <= now() <= 300


async def test_a_bounded_outage_counts_from_its_first_failure(service):
    service.put(SENDER)
    service.script += [SORRY] * 6 + [None, None] + [SORRY] * 6
    async with process_of(service) as client:
        changes = client.status_changes(
            failure_policy=FailurePolicy(max_outage=timedelta(minutes=5))
        )
        await client.confirm(await anext(changes))
        await anyio.sleep(1000)
        service.put(SENDER)
        assert number_of(await anext(changes)) == 2


async def test_by_default_it_goes_on_for_ever(service):
    service.put(SENDER)
    service.script += [SORRY] * 1000
    async with process_of(service) as client:
        changes = client.status_changes()
        await anext(changes)
    assert changes.counts.failures == 1000
    assert now() < 1000 * 300


# --- What can't heal


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, error_xml("NOT_AUTHORIZED"), NotAuthorizedError),
        (400, error_xml("BROKER_NOT_AUTHORIZED"), BrokerNotAuthorizedError),
        (429, error_xml("BROKER_NOT_AUTHORIZED"), BrokerNotAuthorizedError),
        (400, error_xml("SCHEMA_VALIDATION_ERROR"), ApiError),
        (401, b"", ApiError),
        (404, b"<html>", ApiError),
        (301, b"", ApiError),
    ],
)
async def test_what_can_not_heal_is_raised_at_once(service, status, body, error):
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
        TlsError("untrusted", request_may_have_left=False),
        TlsError("refused", request_may_have_left=True),
        ConfigurationError("a wrong proxy"),
        UntrustedUrlError("elsewhere"),
        ClientStateError("closed"),
    ],
    ids=str,
)
async def test_a_certificate_that_is_refused_or_a_wrong_set_up_is_raised_at_once(service, error):
    service.script += [Fault(kind=Kind.RAISES, error=error)]
    async with process_of(service) as client:
        with pytest.raises(type(error)):
            await anext(client.status_changes())
    assert len(service.polls) == 1


# --- A change that can't be read holds up nothing but itself


async def test_those_behind_it_are_delivered_and_it_is_when_it_can_be_read(service, caplog):
    """As long as a lease: the next poll after the documented wait would get the same one for ever."""
    bad, *good = (service.put(SENDER) for _ in range(5))
    bad.readable = False
    got = {}

    async def consume() -> None:
        async for change in changes:
            got[number_of(change)] = now()
            await client.confirm(change)

    async with process_of(service) as client:
        changes = client.status_changes()
        with anyio.move_on_after(3 * 3600):
            await consume()
        assert got.keys() == {each.number for each in good}
        assert max(got.values()) < 30
        # It is logged once in each lease, not in a loop.
        warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert 10 <= changes.counts.failures == len(warnings) <= 3 * 3600 / service.lease + 1
        assert "can't be read" in warnings[0].getMessage() or "not a whole" in caplog.text
        bad.readable = True
        with anyio.move_on_after(2 * service.lease):
            await consume()
    assert got.keys() == {each.number for each in service.changes}
    assert not any(poll.too_early_as_told for poll in service.polls)


async def test_those_behind_it_are_delivered_however_many_there_are(service):
    """As when all jobs of one kind can't be read: the first comes back before the last was fetched."""
    for _ in range(30):
        service.put(SENDER).readable = False
    good = service.put(SENDER)
    async with process_of(service) as client:
        with anyio.fail_after(300):
            assert number_of(await anext(client.status_changes())) == good.number


async def test_what_its_answer_told_of_the_next_poll_holds(service):
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


@pytest.mark.parametrize("kind", [Kind.NO_DATE, Kind.BROKEN_POLL_TIME, Kind.PAGE])
async def test_where_its_answer_tells_nothing_the_documented_wait_does(service, kind):
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
