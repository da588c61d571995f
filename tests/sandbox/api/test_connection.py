"""Connections are accepted; a delay ends when its client disconnects and when the sandbox stops or is reset."""

import asyncio
import errno
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from contextlib import AsyncExitStack, ExitStack, closing
from urllib.parse import urlsplit

import aiohttp
import bundles
import pytest
from aiohttp.test_utils import make_mocked_request
from callers import caller_of, client_context, holder_in

from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox
from posten_signering.sandbox._api import connection
from posten_signering.sandbox._signed.documents import JobDocuments

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


@pytest.mark.parametrize("stops", [False, True])
async def test_a_reset_and_a_stop_discard_a_request_whose_documents_are_being_checked(
    clock, tmp_path, monkeypatch, stops
):
    checking, ended = asyncio.Event(), asyncio.Event()

    async def check(documents, bundle):
        checking.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    monkeypatch.setattr(JobDocuments, "check", check)
    monkeypatch.setattr(connection, "_STOP_WITHIN", 3600.0)
    async with asyncio.timeout(60), AsyncExitStack() as clients:
        async with Sandbox(clock=clock, rate_limit=None) as sandbox:
            sender = await clients.enter_async_context(caller_of(sandbox, clock, tmp_path))
            request = asyncio.ensure_future(sender.send(sender.body()))
            await checking.wait()
            if not stops:
                await sandbox.reset()
                await ended.wait()
                assert sandbox.overview().requests == ()
        with pytest.raises(GONE):
            await request
    assert ended.is_set()


async def test_a_reset_discards_a_request_whose_delay_has_just_ended(sleep):
    delays = connection.Delays(sleep)

    async def work():
        asyncio.get_running_loop().call_soon(delays.discard_all)

    with pytest.raises(connection.CutOffError):
        await delays.run(connection.Caller(), work)


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


async def test_a_request_whose_body_is_incomplete_does_not_outlive_a_reset_or_a_stop(
    clock, tmp_path, monkeypatch
):
    monkeypatch.setattr(connection, "_STOP_WITHIN", 3600.0)
    async with asyncio.timeout(60), AsyncExitStack() as clients:
        async with Sandbox(clock=clock, rate_limit=None) as sandbox:
            sender = await clients.enter_async_context(caller_of(sandbox, clock, tmp_path))
            for end in ("reset", "stop"):
                body = sender.body()
                begun, rest = asyncio.Event(), asyncio.Event()

                async def slowly(body=body, begun=begun, rest=rest):
                    yield body[:100]
                    begun.set()
                    await rest.wait()
                    yield body[100:]

                request = asyncio.ensure_future(sender.send(slowly()))
                await begun.wait()
                assert (await sender.get(sender.root)).status == 200
                if end == "reset":
                    await sandbox.reset()
                    rest.set()
                    with pytest.raises(GONE):
                        await request
                    assert sandbox.overview().jobs == ()
        with pytest.raises(GONE):
            await request


async def test_a_stop_ends_handshakes_that_have_not_finished():
    with ExitStack() as clients:

        def connect(url, sent):
            client = socket.create_connection((url.hostname, url.port), timeout=10)
            clients.enter_context(client).sendall(sent)
            return client

        async with Sandbox() as sandbox:
            url = urlsplit(sandbox.service_root)
            unfinished = [connect(url, b""), connect(url, b"\x16")]
            # A later connection is refused, so the sandbox has accepted these too.
            later = connect(url, b"GET / HTTP/1.1\r\n\r\n")
            assert await asyncio.to_thread(later.recv, 1) == b""
        for client in unfinished:
            assert await asyncio.to_thread(client.recv, 1) == b""


async def test_a_stop_closes_a_connection_whose_client_does_not_close_it(clock, tmp_path):
    async with Sandbox(clock=clock, rate_limit=None) as sandbox:
        holder = holder_in(*sandbox.enterprise_pkcs12(bundles.SENDER))
        context = client_context(sandbox.ca_pem, tmp_path, holder)
        url = urlsplit(sandbox.service_root)

        def connect():
            plain = socket.create_connection((url.hostname, url.port), timeout=10)
            connection = context.wrap_socket(plain)
            connection.sendall(b"GET /api HTTP/1.1\r\nHost: sandbox\r\n\r\n")
            assert connection.recv(12) == b"HTTP/1.1 404"
            return connection

        connection = await asyncio.to_thread(connect)

    def read_to_the_end():
        while socket.socket.recv(connection, 65536):
            pass

    with connection:
        await asyncio.to_thread(read_to_the_end)


async def test_after_a_failed_accept_the_sandbox_accepts_the_next_connection(
    clock, tmp_path, monkeypatch, caplog
):
    loop = asyncio.get_running_loop()
    failures = [
        ConnectionAbortedError(errno.ECONNABORTED, "Software caused connection abort"),
        OSError(errno.EMFILE, "Too many open files"),
        ArithmeticError(),
    ]
    accept, connect = loop.sock_accept, loop.connect_accepted_socket

    async def failing_accept(listening):
        if len(failures) > 1:
            raise failures.pop(0)
        return await accept(listening)

    async def failing_connect(protocol, accepted, **options):
        if failures:
            accepted.close()
            raise failures.pop()
        return await connect(protocol, accepted, **options)

    monkeypatch.setattr(connection, "_ACCEPT_AGAIN_AFTER", 0)
    monkeypatch.setattr(loop, "sock_accept", failing_accept)
    monkeypatch.setattr(loop, "connect_accepted_socket", failing_connect)
    async with (
        Sandbox(clock=clock, rate_limit=None) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        with pytest.raises(GONE):
            await sender.get(sender.root)
        assert (await sender.get(sender.root)).status == 200
    # A client that left before it was accepted is no failure: the next one need not wait.
    assert caplog.text.count("can't accept a connection") == 1
    assert "can't accept a connection: Too many open files" in caplog.text
    assert "ArithmeticError" in caplog.text


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
