"""When the iterator polls: against a model of the service on a virtual clock, and against scripted responses."""

import asyncio
import itertools
import math
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import anyio
import anyio.lowlevel
import pki
import pytest
import virtual_time
from doubles import JOBS, ROOT, Answer, Clock, Sleep, client_of, poll_headers, status_xml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_faults import DATE, POLL_TIME, Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, Outcome, now, number_of
from model_transport import MAX_ROUND_TRIP, ModelTransport, process_of
from virtual_time import VirtualTime, cancel_natively, run

from posten_signering._wire import operations
from posten_signering.errors import (
    ApiError,
    SigningError,
    TooEagerPollingError,
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


async def poll_status(transport: ModelTransport) -> int:
    """Polls without waiting for the permitted time, and returns the HTTP status."""
    async with transport.exchange(operations.poll(ROOT, SENDER).request) as response:
        async for _ in response.chunks():
            pass
        return response.status


async def test_the_model_notices_a_poll_before_the_permitted_time_that_its_process_knows(service):
    """Shows that the assertions on `poll.knowingly_too_early` can fail."""
    one, two = ModelTransport(service, "one"), ModelTransport(service, "two")
    statuses = [await poll_status(transport) for transport in (one, two, two, one)]
    assert statuses == [204, 429, 429, 429]
    assert [poll.knowingly_too_early for poll in service.polls] == [False, False, True, True]
    await anyio.sleep(600)
    assert await poll_status(one) == 204
    assert not service.polls[-1].knowingly_too_early


@pytest.mark.parametrize("penalty", [0, 30])
async def test_in_the_model_each_early_poll_moves_the_permitted_time_by_the_penalty(penalty):
    service = ModelService(early_poll_penalty=penalty)
    transport = ModelTransport(service, "one")
    assert await poll_status(transport) == 204
    permitted_at = service.queue(SENDER).permitted_at
    assert [await poll_status(transport) for _ in range(2)] == [429, 429]
    assert service.queue(SENDER).permitted_at == permitted_at + 2 * penalty


# --- When it polls


@pytest.mark.parametrize("jitter", [0.0, 0.999999])
@settings(max_examples=30)
@given(
    minutes=st.sampled_from([-10, 0, 10]),
    start=st.floats(0, 1.5),
    wait=st.floats(5, 900),
    polled_by_other=st.booleans(),
)
@example(minutes=10, start=0.7499, wait=600.0, polled_by_other=False)
def test_with_a_wrong_local_clock_no_poll_is_early_or_more_than_two_seconds_late(
    jitter, minutes, start, wait, polled_by_other
):
    async def main() -> None:
        service = ModelService(empty_wait=wait)
        time = VirtualTime(offset=timedelta(minutes=minutes))
        time.random = lambda: jitter
        async with process_of(service, time=time) as client:
            await anyio.sleep(start)
            if polled_by_other:
                # Then the first response is "too early", with the next permitted poll time.
                async with process_of(service, "two") as other_client:
                    await other_client.get_status_change()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(put_later, service, 3 * wait)
                await anext(client.status_changes())
        polls = service.polls_of("one")
        assert len(polls) >= 3
        for before, after in itertools.pairwise(polls):
            assert before.outcome in {Outcome.EMPTY, Outcome.TOO_EARLY}
            assert after.known_permitted_at is not None
            # Part of the wait passes while the response is in flight.
            assert 0 <= after.sent_at - after.known_permitted_at <= 2.0 + MAX_ROUND_TRIP / 2

    run(main)


def by_name(kinds: set[Kind]) -> list[Kind]:
    return sorted(kinds, key=lambda kind: kind.name)


@pytest.mark.parametrize("kind", by_name(POLL_TIME))
@pytest.mark.parametrize("eager", [False, True], ids=["empty", "too-early"])
async def test_without_a_readable_poll_time_the_default_wait_is_used(service, kind, eager):
    if eager:
        async with process_of(service, "two") as other_client:
            await other_client.get_status_change()
    service.script += [Fault(kind=kind)]
    async with process_of(service, default_wait=700) as client:
        service.put(SENDER)
        service.queue(SENDER).changes[0].leases.append((now() + 650, "nobody"))
        await anext(client.status_changes())
    first, second = service.polls_of("one")
    assert 700 <= second.sent_at - first.sent_at <= 702 + MAX_ROUND_TRIP


@pytest.mark.parametrize("kind", by_name(DATE))
@pytest.mark.parametrize("eager", [False, True], ids=["empty", "too-early"])
@pytest.mark.parametrize(
    ("local_clock", "wait"),
    [(0, 30), (-10, 40), (10, 20), (40, 10)],
    ids=["right", "slow", "fast", "fast-beyond-the-permitted-time"],
)
async def test_without_a_readable_date_the_local_clock_measures_the_wait(
    kind, eager, local_clock, wait
):
    """The numbers are minutes. The last case is a time that seems to be past, so the default wait is used."""
    service = ModelService(empty_wait=1800)
    if eager:
        async with process_of(service, "two") as other_client:
            await other_client.get_status_change()
    service.script += [Fault(kind=kind)]
    time = VirtualTime(offset=timedelta(minutes=local_clock))
    async with process_of(service, time=time) as client:
        with anyio.move_on_after(2500):
            await anext(client.status_changes())
    first, second, *_ = service.polls_of("one")
    assert 60 * wait - MAX_ROUND_TRIP <= second.sent_at - first.sent_at <= 60 * wait + 2


@pytest.mark.parametrize("kind", by_name(DATE | POLL_TIME))
async def test_after_a_change_without_a_readable_poll_time_the_next_poll_is_immediate(
    service, kind
):
    service.put(SENDER)
    service.put(SENDER)
    service.script += [Fault(kind=kind)]
    async with process_of(service) as client:
        changes = client.status_changes()
        assert [number_of(await anext(changes)) for _ in range(2)] == [1, 2]
    assert now() < 1


@pytest.mark.parametrize(
    ("from_now", "wait"),
    [
        (timedelta(days=365 * 100), timedelta(hours=24)),
        (timedelta(hours=25), timedelta(hours=24)),
        (timedelta(hours=23), timedelta(hours=23)),
        (timedelta(0), timedelta(minutes=10)),
        (timedelta(minutes=-10), timedelta(minutes=10)),
    ],
    ids=["a-century", "25-hours", "23-hours", "now", "the-past"],
)
@pytest.mark.parametrize("status", [204, 429])
async def test_absurd_poll_times_cause_neither_an_endless_wait_nor_a_tight_loop(
    service, from_now, wait, status
):
    at = VirtualTime.service_clock()
    headers = {
        "date": f"{at:%a, %d %b %Y %H:%M:%S} GMT",
        "x-next-permitted-poll-time": (at.replace(microsecond=0) + from_now).isoformat(),
    }
    service.script += [Fault(kind=Kind.GATEWAY, status=status, headers=headers)]
    service.put(SENDER)
    async with process_of(service) as client:
        await anext(client.status_changes())
    first, second = service.polls
    waited = second.sent_at - first.sent_at
    assert wait.total_seconds() <= waited <= wait.total_seconds() + 2 + MAX_ROUND_TRIP


async def test_a_time_more_than_an_hour_away_is_logged_once(caplog):
    clock = Clock()
    start = clock.now

    def answer(status: int, wait: timedelta) -> Answer:
        return Answer(status, b"", poll_headers(clock.now, wait))

    async with client_of(clock=clock) as (client, transport):

        async def warnings_after_poll(answer: Answer) -> list[str]:
            caplog.clear()
            transport.script.append(answer)
            with suppress(ApiError):
                await client.get_status_change()
            with pytest.raises(TooEagerPollingError):
                await client.get_status_change()
            return [message for message in caplog.messages if "unusually late" in message]

        assert await warnings_after_poll(answer(204, timedelta(hours=1))) == []
        clock.wait(hours=1)
        [warning] = await warnings_after_poll(answer(204, timedelta(hours=27)))
        assert (start + timedelta(hours=28)).isoformat() in warning
        assert f"organization_number='{pki.SENDER}'" in warning
        assert "again in 1440 minutes" in warning
        assert "contact Posten signering" in warning
        assert "A restart does not help" in warning
        clock.wait(hours=24)
        assert await warnings_after_poll(answer(429, timedelta(hours=3))) == []
        clock.wait(hours=3)
        [warning] = await warnings_after_poll(answer(503, timedelta(minutes=61)))
        assert "again in 61 minutes" in warning


async def test_a_long_default_wait_is_not_logged(service, caplog):
    async with process_of(service, default_wait=7200) as client:
        service.script += [Fault(kind=Kind.NO_POLL_TIME)]
        await client.get_status_change()
        with pytest.raises(TooEagerPollingError):
            await client.get_status_change()
    assert caplog.messages == []


async def test_after_a_change_the_next_poll_is_immediate(service):
    for _ in range(20):
        service.put(SENDER)
    time = VirtualTime()
    async with process_of(service, time=time) as client:
        changes = client.status_changes()
        numbers = [number_of(await anext(changes)) for _ in range(20)]
    assert numbers == list(range(1, 21))
    assert [poll.outcome for poll in service.polls] == [Outcome.CHANGE] * 20
    # The only waits are those for the rate budget.
    assert max(time.slept, default=0) < 1
    assert service.blocks[SENDER.organization_number] == 0


async def test_no_change_is_fetched_ahead(service):
    """One poll per item, however long the loop takes: a change fetched ahead would use up its lease."""
    for _ in range(3):
        service.put(SENDER)
    async with process_of(service) as client:
        changes = client.status_changes()
        assert service.polls == []
        for fetched in range(1, 4):
            await anext(changes)
            await anyio.sleep(300)
            assert len(service.polls) == fetched
            assert sum(len(change.leases) for change in service.changes) == fetched


async def test_a_change_that_is_not_confirmed_is_redelivered_after_its_lease(service):
    service.put(SENDER)
    async with process_of(service, default_wait=30) as client:
        changes = client.status_changes()
        first = await anext(changes)
        second = await anext(changes)
        assert second.deduplication_key == first.deduplication_key
        assert 600 <= now() <= 1202
        await client.confirm(second)
        with anyio.move_on_after(3600):
            await anext(changes)
    assert len(service.changes[0].leases) == 2


# --- What is shared


async def test_iterators_and_single_polls_share_the_next_permitted_poll_time(service):
    async with process_of(service) as client:
        changes = client.status_changes()
        task = asyncio.ensure_future(anext(changes))
        await anyio.sleep(10)
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert (caught.value.polled, len(service.polls)) == (False, 1)
        assert caught.value.wait is not None
        assert 589 < caught.value.wait.total_seconds() < 592
        assert caught.value.next_permitted_poll_time is not None
        await anyio.sleep(600)
        assert len(service.polls) == 2
        await cancel_natively(task)

        # The iterator obeys the poll time that a single poll got.
        await anyio.sleep(600)
        assert (await client.get_status_change()).change is None
        service.put(SENDER)
        assert number_of(await anext(changes)) == 1
        assert [poll.outcome for poll in service.polls[2:]] == [Outcome.EMPTY, Outcome.CHANGE]
    assert not any(poll.knowingly_too_early for poll in service.polls)


async def test_ten_iterators_on_an_empty_queue_poll_as_often_as_one(service):
    async def consume() -> None:
        async for _ in client.status_changes():
            pytest.fail("there is no change")

    async with process_of(service) as client:
        with anyio.move_on_after(3600):
            async with anyio.create_task_group() as tasks:
                for _ in range(10):
                    tasks.start_soon(consume)
    assert [poll.outcome for poll in service.polls] == [Outcome.EMPTY] * 6


@pytest.mark.parametrize("sender", [OTHER_QUEUE, OTHER_SENDER], ids=["queue", "sender"])
async def test_each_queue_and_each_sender_has_its_own_poll_time(service, sender):
    service.put(sender)
    async with process_of(service) as client:
        assert (await client.get_status_change()).change is None
        poll = await client.get_status_change(sender=sender)
        assert number_of(poll.change) == 1
        service.put(sender)
        assert number_of(await anext(client.status_changes(sender=sender))) == 2
    assert now() < 1


# --- Other processes on the queue


async def test_polls_that_are_too_early_because_of_another_process_are_counted_separately(service):
    async with process_of(service, "two") as other_client, process_of(service) as client:
        await other_client.get_status_change()
        await anyio.sleep(400)
        changes = client.status_changes()
        service.put(SENDER)
        await anext(changes)
    assert [poll.outcome for poll in service.polls_of("one")] == [
        Outcome.TOO_EARLY,
        Outcome.CHANGE,
    ]
    assert 600 <= now() <= 602 + MAX_ROUND_TRIP
    assert (changes.counts.too_early, changes.counts.failures) == (1, 0)
    assert (changes.counts.changes, changes.counts.empty) == (1, 0)


async def test_processes_that_wait_for_the_same_time_poll_at_different_times(service):
    """The jitter only makes a wait longer."""

    async with AsyncExitStack() as opened:
        clients = [
            await opened.enter_async_context(
                process_of(service, f"process {seed}", time=VirtualTime(seed=seed))
            )
            for seed in range(5)
        ]
        with anyio.move_on_after(700):
            async with anyio.create_task_group() as tasks:
                for client in clients:
                    tasks.start_soon(anext, client.status_changes(), None)
    second = sorted(poll.sent_at for poll in service.polls if poll.sent_at > 100)
    assert second[0] >= 600
    assert second[4] <= 602 + MAX_ROUND_TRIP
    assert second[4] - second[0] > 0.2
    assert not any(poll.knowingly_too_early for poll in service.polls)


async def test_after_a_429_without_headers_the_default_wait_is_used(service):
    service.script += [Fault(kind=Kind.GATEWAY, status=429)]
    service.put(SENDER)
    async with process_of(service) as client:
        changes = client.status_changes()
        await anext(changes)
    assert 600 <= now() <= 602
    assert changes.counts.too_early == 1


# --- Over a long time


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    faults=st.lists(
        st.one_of(
            st.none(),
            st.builds(
                Fault,
                kind=st.sampled_from([kind for kind in Kind if kind is not Kind.RAISES]),
                status=st.sampled_from([500, 502, 503]),
            ),
        ),
        max_size=40,
    ),
)
def test_a_day_of_faults_loses_no_change_and_causes_no_early_poll(seed, faults):
    async def main() -> None:
        service = ModelService(seed=seed)
        time = VirtualTime(seed=seed, offset=timedelta(minutes=-10))
        delivered = []

        async def consume() -> None:
            async for change in client.status_changes():
                delivered.append(number_of(change))
                with suppress(SigningError):
                    await client.confirm(change)

        service.script += faults
        async with process_of(service, time=time) as client:
            for _ in range(10):
                service.put(SENDER)
            with anyio.move_on_after(86_400):
                await consume()
        # A confirmation may get lost, so a change may be delivered more than once.
        assert set(delivered) == set(range(1, 11))
        assert not any(poll.knowingly_too_early for poll in service.polls)
        for poll in service.polls:
            if (
                poll.lost_at is not None
                and poll.known_permitted_at is not None
                and poll.known_permitted_at < poll.lost_at
            ):
                assert poll.sent_at - poll.lost_at >= 600 - 1e-6
        assert service.blocks[SENDER.organization_number] == 0
        assert len(service.polls) <= math.ceil(86_400 / 600) + 10 + 3 * len(faults)

    run(main)


# --- Against scripted responses

TEN_MINUTES = timedelta(minutes=10)


async def test_a_single_poll_returns_the_change_and_the_wait():
    clock = Clock()
    headers = poll_headers(clock.now, TEN_MINUTES)
    script = [Answer(200, status_xml(), headers), Answer(204, b"", headers)]
    async with client_of(*script, clock=clock) as (client, transport):
        poll = await client.get_status_change()
        clock.wait(minutes=10)
        empty = await client.get_status_change()
    assert poll.change.job_id == 7
    assert empty.change is None
    for result in (poll, empty):
        assert result.wait == TEN_MINUTES
        assert result.next_permitted_poll_time == pki.NOW + TEN_MINUTES
    assert [request.url for request in transport.sent] == [JOBS, JOBS]


async def test_the_iterator_sleeps_as_long_as_the_service_asks():
    """It polls immediately after a change, and otherwise at the time that the service sent."""
    clock = Clock()
    sleep = Sleep(clock)
    start = clock.now

    def headers(**wait: float) -> dict[str, str]:
        return poll_headers(clock.now, timedelta(**wait))

    script = [
        Answer(200, status_xml(job_id=1), headers(seconds=0)),
        Answer(204, b"", headers(minutes=10)),
        Answer(429, b"", headers(seconds=7)),
        Answer(204),
        Answer(429),
        Answer(200, status_xml(job_id=2), headers(seconds=0)),
    ]
    async with client_of(*script, clock=clock, sleep=sleep) as (client, transport):
        changes = client.status_changes()
        assert (await anext(changes)).job_id == 1
        assert (sleep.slept, len(transport.sent)) == ([], 1)
        assert (await anext(changes)).job_id == 2
    # The last two responses have no poll time, so the default wait of the environment is used.
    assert sleep.slept == [600, 7, 30, 30]
    assert clock.now - start == timedelta(seconds=667)


@pytest.mark.parametrize(("seconds", "wait"), [(0.9, 0.0), (1, 1.0)])
async def test_after_a_change_a_wait_of_less_than_a_second_counts_as_none(seconds, wait):
    """`Date` has whole seconds only, so "now" looks like a wait of up to a second."""
    headers = poll_headers(pki.NOW, timedelta(seconds=seconds))
    clock = Clock()
    async with client_of(
        Answer(200, status_xml(), headers),
        Answer(200, status_xml(), headers),
        monotonic=clock.monotonic,
    ) as (client, transport):
        assert (await client.get_status_change()).change is not None
        if wait:
            with pytest.raises(TooEagerPollingError) as caught:
                await client.get_status_change()
            assert caught.value.wait == timedelta(seconds=wait)
            clock.seconds += wait
        assert (await client.get_status_change()).change is not None
    assert len(transport.sent) == 2
