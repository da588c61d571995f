"""Requests that a delay holds back: nobody waits for them in vain, and none disturbs the next test."""

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from contextlib import AsyncExitStack, closing

import aiohttp
import pytest
from aiohttp.test_utils import make_mocked_request
from callers import caller_of

from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox
from posten_signering.sandbox._api import connection

pytestmark = pytest.mark.anyio

GONE = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)


class Sleep:
    """Sleeps until it is told to wake up; says when it sleeps, and when no longer."""

    def __init__(self):
        self.began = asyncio.Event()
        self.ended = asyncio.Event()
        self.over = asyncio.Event()

    async def __call__(self, seconds):
        self.began.set()
        try:
            await self.over.wait()
        finally:
            self.ended.set()


@pytest.fixture
def sleep():
    return Sleep()


@pytest.fixture
async def sandbox(clock, sleep, monkeypatch):
    # Whatever ends a request within the tests' time limit, it is not the shutdown's patience.
    monkeypatch.setattr(connection, "_STOP_WITHIN", 3600.0)
    async with asyncio.timeout(60), Sandbox(clock=clock, rate_limit=None, sleep=sleep) as opened:
        yield opened


async def held_back(sandbox, sender, sleep, *, after):
    """A create that a delay holds back."""
    sandbox.faults.add(
        Fault(kind=FaultKind.DELAY, seconds=99, operation=Operation.CREATE, after=after)
    )
    asking = asyncio.ensure_future(sender.send(sender.body()))
    await sleep.began.wait()
    return asking


async def cut_off(asking):
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking


AFTER = pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])


@AFTER
async def test_a_delay_ends_when_its_time_is_over(sandbox, sender, sleep, after, created):
    asking = await held_back(sandbox, sender, sleep, after=after)
    assert len(sandbox.overview().jobs) == created
    sleep.over.set()
    assert (await asking).status == 200
    assert len(sandbox.overview().jobs) == 1


@AFTER
async def test_a_sandbox_that_stops_ends_a_delay(
    clock, sleep, tmp_path, monkeypatch, after, created
):
    monkeypatch.setattr(connection, "_STOP_WITHIN", 3600.0)
    async with asyncio.timeout(60), AsyncExitStack() as clients:
        async with Sandbox(clock=clock, rate_limit=None, sleep=sleep) as sandbox:
            sender = await clients.enter_async_context(caller_of(sandbox, clock, tmp_path))
            asking = await held_back(sandbox, sender, sleep, after=after)
            assert len(sandbox.received) == created
        # The client waits still: it is not its leaving that ended the delay.
        with pytest.raises(GONE):
            await asking
    assert sleep.ended.is_set()


@AFTER
async def test_a_client_that_leaves_ends_the_delay(sandbox, sender, sleep, after, created):
    asking = await held_back(sandbox, sender, sleep, after=after)
    sandbox.faults.clear()
    await cut_off(asking)
    await sleep.ended.wait()
    assert (await sender.get(sender.root)).status == 200
    assert len(sandbox.overview().jobs) == created
    left = sandbox.overview().requests[1]
    assert (left.operation, left.status, left.faults) == (Operation.CREATE, None, ("delay",))


@AFTER
async def test_what_was_held_back_is_forgotten_by_a_reset(sandbox, sender, sleep, after, created):
    asking = await held_back(sandbox, sender, sleep, after=after)
    assert len(sandbox.received) == created
    await sandbox.reset()
    with pytest.raises(GONE):
        await asking
    assert sleep.ended.is_set()
    assert (await sender.get(sender.root)).status == 200
    assert [each.operation for each in sandbox.overview().requests] == [Operation.CHECK_ACCESS]
    assert sandbox.overview().jobs == ()


async def test_a_client_that_leaves_right_before_a_reset_is_forgotten_too(sandbox, sender, sleep):
    asking = await held_back(sandbox, sender, sleep, after=False)
    asking.cancel()
    await sandbox.reset()
    await sleep.ended.wait()
    assert (await sender.get(sender.root)).status == 200
    assert [each.operation for each in sandbox.overview().requests] == [Operation.CHECK_ACCESS]


async def test_a_client_that_left_before_the_delay_is_not_waited_for(
    sandbox, sender, sleep, monkeypatch
):
    """It leaves while its bundle is judged: that goes on, the delay after it does not begin."""
    judging, judged = asyncio.Event(), asyncio.Event()
    run = sandbox._now_running.control.workers.run

    async def held(*args, **kwargs):
        judging.set()
        await judged.wait()
        return await run(*args, **kwargs)

    monkeypatch.setattr(sandbox._now_running.control.workers, "run", held)
    sandbox.faults.add(
        Fault(kind=FaultKind.DELAY, seconds=99, operation=Operation.CREATE, after=True)
    )
    asking = asyncio.ensure_future(sender.send(sender.body()))
    await judging.wait()
    await cut_off(asking)
    assert (await sender.get(sender.root)).status == 200
    judged.set()
    feed = sandbox._now_running.control.feed
    while len(sandbox.overview().requests) < 2:
        await feed.wait(feed.version)
    assert len(sandbox.received) == 1
    assert not sleep.began.is_set()


async def test_a_sleep_that_fails_is_told(clock, tmp_path, caplog):
    async def sleep(seconds):
        raise ArithmeticError(seconds)

    async with (
        Sandbox(clock=clock, rate_limit=None, sleep=sleep) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=1, times=1))
        assert (await sender.get(sender.root)).status == 500
    assert "ArithmeticError" in caplog.text


def test_a_connection_that_is_lost_already_is_not_reset():
    """A TLS transport has no socket from the loss until aiohttp is told of it."""
    context = ssl.create_default_context()
    with closing(asyncio.new_event_loop()) as loop:
        lost = SSLProtocol(loop, asyncio.Protocol(), context, None, call_connection_made=False)
        request = make_mocked_request("GET", "/", transport=lost._get_app_transport(), loop=loop)
        lost.connection_lost(None)
        assert connection.reset(request).status == 200
