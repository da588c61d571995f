"""Cancelled exchanges: later calls work, and no connection stays open."""

import asyncio
import contextlib
import random
import ssl
from pathlib import Path

import httpx
import loopback
import pytest
from transport_client import Body, Client, connected, context_for

from posten_signering.errors import TlsError, TransportError

pytestmark = pytest.mark.anyio

CALLS = 300
FILES = Path("/proc/self/fd")


def open_sockets():
    """The sockets of this process by inode, so that a new socket is not mistaken for an old one."""
    sockets = set()
    for link in FILES.iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:"):
                sockets.add(target)
    return sockets


async def sockets_after_close(expected):
    """The open sockets, after the other side has had time to close its end too."""
    for _ in range(2000):
        if open_sockets() == expected:
            break
        await asyncio.sleep(0)
    return open_sockets()


needs_proc = pytest.mark.skipif(not FILES.exists(), reason="open files are counted in /proc")


async def cancel_at_random(fetch):
    """Makes calls, ten at a time, and cancels each at a random moment. Returns how many were cancelled."""
    chance = random.Random(7)

    async def call_was_cancelled():
        call = asyncio.create_task(fetch())
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        call.cancel()
        [outcome] = await asyncio.gather(call, return_exceptions=True)
        return isinstance(outcome, asyncio.CancelledError)

    cancelled = 0
    for _ in range(CALLS // 10):
        cancelled += sum(await asyncio.gather(*(call_was_cancelled() for _ in range(10))))
    return cancelled


async def large_response(received):
    for _ in range(len(received.target) % 7):
        await asyncio.sleep(0)
    return loopback.answer(body=b"answer" * 20_000)


class TestCancellation:
    @needs_proc
    async def test_cancelled_calls_leave_no_open_socket(self):
        async with connected(large_response) as server:
            before = open_sockets()
            async with Client(server) as client:
                count = 0

                async def fetch():
                    nonlocal count
                    count += 1
                    body = Body(b"a" * 65536, b"b") if count % 2 else None
                    await client.fetch(f"/{'a' * count}", method="POST", body=body)

                assert CALLS // 3 < await cancel_at_random(fetch) < CALLS
                results = await asyncio.gather(*(client.fetch() for _ in range(20)))
                assert all(body == b"answer" * 20_000 for _, body in results)
            assert await sockets_after_close(before) == before

    async def test_the_same_calls_exhaust_the_connection_pool_of_httpx(self):
        """Shows that the test above can fail: without our pool, these cancellations do harm."""
        async with connected(large_response) as server:
            transport = httpx.AsyncHTTPTransport(
                verify=context_for(), limits=httpx.Limits(max_connections=5)
            )

            streams = []

            async def trace(event, info):
                if event == "connection.connect_tcp.complete":
                    streams.append(info["return_value"])

            async def fetch():
                extensions = {"timeout": {"pool": 0.01}, "trace": trace}
                response = await transport.handle_async_request(
                    httpx.Request("GET", server.url("/aaa"), extensions=extensions)
                )
                async for _ in response.stream:
                    pass

            await cancel_at_random(fetch)
            results = await asyncio.gather(*(fetch() for _ in range(20)), return_exceptions=True)
            assert any(isinstance(result, httpx.PoolTimeout) for result in results)
            await transport.aclose()
            for stream in streams:  # the pool did not close all of them
                await stream.aclose()

    @needs_proc
    async def test_a_cancelled_handshake_is_closed(self):
        async with loopback.silent_port() as server:
            before = open_sockets()
            async with Client(server) as client:
                call = asyncio.create_task(client.fetch())
                await loopback.until(lambda: server.received)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await sockets_after_close(before) == before

    async def test_a_call_that_is_cancelled_twice_closes_its_connection(self):
        async with loopback.silent_port() as server, Client(server) as client:
            for _ in range(2):
                call = asyncio.create_task(client.fetch())
                await loopback.until(lambda: server.received)
                server.received.clear()
                call.cancel()
                await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await loopback.until(lambda: not server.open)

    async def test_after_a_cancelled_read_the_response_can_not_be_read_further(self):
        half = loopback.always(loopback.answer(body=b"a" * 10)[:-5])
        async with connected(half) as server, Client(server) as client:
            request = client.request()
            async with client.transport.exchange(request) as response:
                chunks = response.chunks()
                assert await anext(chunks)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(chunks), 0.01)
                with pytest.raises(TransportError, match="interrupted"):
                    await anext(response.chunks())


async def test_an_exception_that_the_caller_was_handling_is_not_the_cause_of_the_failure():
    async with Client(loopback.Server(port=loopback.closed_port())) as client:
        try:
            ssl.create_default_context(cadata=b"no certificate")
        except ssl.SSLError:
            with pytest.raises(TransportError, match="Connection refused") as raised:
                await client.fetch()
    assert not isinstance(raised.value, TlsError)
