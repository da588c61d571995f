"""Delayed requests: a delay ends when the client disconnects and when the sandbox stops or is reset."""

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
    """Sleeps until `over` is set. `began` and `ended` are set when a sleep begins and ends."""

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
    # A long shutdown timeout, so that it can't be what ends a request in these tests.
    monkeypatch.setattr(connection, "_STOP_WITHIN", 3600.0)
    async with asyncio.timeout(60), Sandbox(clock=clock, rate_limit=None, sleep=sleep) as opened:
        yield opened


async def delayed_create(sandbox, sender, sleep, *, after):
    """A create request that waits in a delay."""
    sandbox.faults.add(
        Fault(kind=FaultKind.DELAY, seconds=99, operation=Operation.CREATE, after=after)
    )
    request = asyncio.ensure_future(sender.send(sender.body()))
    await sleep.began.wait()
    return request


async def disconnect(request):
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


AFTER = pytest.mark.parametrize(("after", "created"), [(False, 0), (True, 1)])


@AFTER
async def test_a_delay_ends_after_its_time(sandbox, sender, sleep, after, created):
    request = await delayed_create(sandbox, sender, sleep, after=after)
    assert len(sandbox.overview().jobs) == created
    sleep.over.set()
    assert (await request).status == 200
    assert len(sandbox.overview().jobs) == 1


@AFTER
async def test_a_delay_ends_when_the_sandbox_stops(
    clock, sleep, tmp_path, monkeypatch, after, created
):
    monkeypatch.setattr(connection, "_STOP_WITHIN", 3600.0)
    async with asyncio.timeout(60), AsyncExitStack() as clients:
        async with Sandbox(clock=clock, rate_limit=None, sleep=sleep) as sandbox:
            sender = await clients.enter_async_context(caller_of(sandbox, clock, tmp_path))
            request = await delayed_create(sandbox, sender, sleep, after=after)
            assert len(sandbox.received) == created
        # The client is still connected, so the stop has ended the delay.
        with pytest.raises(GONE):
            await request
    assert sleep.ended.is_set()


@AFTER
async def test_a_delay_ends_when_the_client_disconnects(sandbox, sender, sleep, after, created):
    request = await delayed_create(sandbox, sender, sleep, after=after)
    sandbox.faults.clear()
    await disconnect(request)
    await sleep.ended.wait()
    assert (await sender.get(sender.root)).status == 200
    assert len(sandbox.overview().jobs) == created
    cut_off = sandbox.overview().requests[1]
    assert (cut_off.operation, cut_off.status, cut_off.faults) == (
        Operation.CREATE,
        None,
        ("delay",),
    )


@AFTER
async def test_a_reset_discards_a_delayed_request(sandbox, sender, sleep, after, created):
    request = await delayed_create(sandbox, sender, sleep, after=after)
    assert len(sandbox.received) == created
    await sandbox.reset()
    with pytest.raises(GONE):
        await request
    assert sleep.ended.is_set()
    assert (await sender.get(sender.root)).status == 200
    assert [request.operation for request in sandbox.overview().requests] == [
        Operation.CHECK_ACCESS
    ]
    assert sandbox.overview().jobs == ()


async def test_a_reset_discards_the_request_of_a_client_that_has_just_left(sandbox, sender, sleep):
    request = await delayed_create(sandbox, sender, sleep, after=False)
    request.cancel()
    await sandbox.reset()
    await sleep.ended.wait()
    assert (await sender.get(sender.root)).status == 200
    assert [request.operation for request in sandbox.overview().requests] == [
        Operation.CHECK_ACCESS
    ]


async def test_a_request_is_not_delayed_after_its_client_has_left(
    sandbox, sender, sleep, monkeypatch
):
    """The client leaves during the validation, which continues. The delay after it does not begin."""
    validating, may_finish = asyncio.Event(), asyncio.Event()
    run = sandbox._now_running.control.workers.run

    async def paused_run(*args, **kwargs):
        validating.set()
        await may_finish.wait()
        return await run(*args, **kwargs)

    monkeypatch.setattr(sandbox._now_running.control.workers, "run", paused_run)
    sandbox.faults.add(
        Fault(kind=FaultKind.DELAY, seconds=99, operation=Operation.CREATE, after=True)
    )
    request = asyncio.ensure_future(sender.send(sender.body()))
    await validating.wait()
    await disconnect(request)
    assert (await sender.get(sender.root)).status == 200
    may_finish.set()
    feed = sandbox._now_running.control.feed
    while len(sandbox.overview().requests) < 2:
        await feed.wait(feed.version)
    assert len(sandbox.received) == 1
    assert not sleep.began.is_set()


async def test_an_error_in_sleep_is_logged(clock, tmp_path, caplog):
    async def sleep(seconds):
        raise ArithmeticError(seconds)

    async with (
        Sandbox(clock=clock, rate_limit=None, sleep=sleep) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=1, times=1))
        assert (await sender.get(sender.root)).status == 500
    assert "ArithmeticError" in caplog.text


def test_a_lost_connection_is_not_reset():
    """A TLS transport can lose its socket before aiohttp knows of the loss."""
    context = ssl.create_default_context()
    with closing(asyncio.new_event_loop()) as loop:
        lost = SSLProtocol(loop, asyncio.Protocol(), context, None, call_connection_made=False)
        request = make_mocked_request("GET", "/", transport=lost._get_app_transport(), loop=loop)
        lost.connection_lost(None)
        assert connection.reset(request).status == 200
