"""Polling as a caller of the client meets it: one poll, and the iterator."""

from datetime import timedelta

import anyio
import anyio.lowlevel
import pki
import pytest
from doubles import (
    JOBS,
    Answer,
    Clock,
    Sleep,
    client_of,
    error_xml,
    poll_headers,
    status_xml,
)

from posten_signering import (
    Persistence,
)
from posten_signering.errors import (
    BrokerNotAuthorizedError,
    NotAuthorizedError,
    TlsError,
    TooEagerPollingError,
    TransportError,
)

pytestmark = pytest.mark.anyio

TEN_MINUTES = timedelta(minutes=10)


async def test_one_poll_gives_a_change_and_the_time_to_wait():
    clock = Clock()
    headers = poll_headers(clock.now, TEN_MINUTES)
    script = [Answer(200, status_xml(), headers), Answer(204, b"", headers)]
    async with client_of(*script, clock=clock) as (client, transport):
        poll = await client.get_status_change()
        clock.wait(minutes=10)
        empty = await client.get_status_change()
    assert poll.change.job_id == 7
    assert empty.change is None
    for each in (poll, empty):
        assert each.wait == TEN_MINUTES
        assert each.next_permitted_poll_time == pki.NOW + TEN_MINUTES
    assert [each.url for each in transport.sent] == [JOBS, JOBS]


async def test_changes_come_as_the_service_permits():
    """Each change at once, and otherwise nothing asked before the time that the service named."""
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
    # Without a word of the service: the documented default of the environment.
    assert sleep.slept == [600, 7, 30, 30]
    assert clock.now - start == timedelta(seconds=667)


async def test_the_wait_holds_when_this_machines_clock_is_wrong():
    clock = Clock()
    sleep = Sleep(clock)
    theirs = clock.now - timedelta(minutes=10)
    script = [Answer(204, b"", poll_headers(theirs, TEN_MINUTES)), Answer(200, status_xml())]
    async with client_of(*script, clock=clock, sleep=sleep) as (client, _):
        await anext(client.status_changes())
    assert sleep.slept == [600]


async def test_the_iterator_is_left_by_break_and_taken_up_again():
    async with client_of(*[Answer(200, status_xml(job_id=n)) for n in (1, 2)]) as (
        client,
        transport,
    ):
        changes = client.status_changes()
        async for change in changes:
            assert change.job_id == 1
            break
        assert len(transport.sent) == 1
        async for change in changes:
            assert change.job_id == 2
            break


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Answer(403, error_xml("NOT_AUTHORIZED")), NotAuthorizedError),
        (Answer(403, error_xml("BROKER_NOT_AUTHORIZED")), BrokerNotAuthorizedError),
        (TlsError("x", request_may_have_left=False), TlsError),
    ],
)
async def test_what_can_not_heal_ends_a_step_and_not_the_iterator(answer, error):
    async with client_of(answer, Answer(200, status_xml())) as (client, _):
        changes = client.status_changes()
        with pytest.raises(error):
            await anext(changes)
        assert (await anext(changes)).job_id == 7


async def test_the_callers_patience_ends_a_step():
    told = []
    patience = Persistence(failures=2, on_failure=lambda *failure: told.append(failure))
    lost = TransportError("lost", request_may_have_left=False)
    async with client_of(lost, lost) as (client, transport):
        with pytest.raises(TransportError, match="lost"):
            await anext(client.status_changes(persistence=patience))
        assert len(transport.sent) == 2
    assert [error for error, _ in told] == [lost]


async def test_a_poll_that_came_too_early_is_told_and_the_next_is_not_sent():
    clock = Clock()
    headers = poll_headers(clock.now, TEN_MINUTES)
    script = [Answer(429, b"", headers), Answer(204)]
    async with client_of(*script, clock=clock) as (client, transport):
        for polled in (True, False):
            with pytest.raises(TooEagerPollingError) as caught:
                await client.get_status_change()
            assert caught.value.wait == TEN_MINUTES
            assert caught.value.next_permitted_poll_time == clock.now + TEN_MINUTES
            assert caught.value.polled is polled
        clock.wait(minutes=10)
        assert (await client.get_status_change()).change is None
        assert len(transport.sent) == 2


async def test_a_cancelled_sleep_leaves_the_iterator_usable():
    asleep = anyio.Event()

    async def sleep(seconds: float) -> None:
        asleep.set()
        await anyio.sleep_forever()

    clock = Clock()
    script = [Answer(204), Answer(200, status_xml())]
    async with client_of(*script, clock=clock, sleep=sleep) as (client, _):
        changes = client.status_changes()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, changes)
            await asleep.wait()
            tasks.cancel_scope.cancel()
        clock.wait(seconds=30)
        assert (await anext(changes)).job_id == 7


@pytest.mark.parametrize(("seconds", "wait"), [(0.9, 0.0), (1, 1.0)])
async def test_after_a_change_less_than_a_second_is_now_and_a_second_is_a_second(seconds, wait):
    """`Date` is cut off to whole seconds, so that "now" looks like up to a second from now."""
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
