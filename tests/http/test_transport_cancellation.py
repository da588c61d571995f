"""Cancelled exchanges: later calls work, nothing stays open. And what httpcore logs meanwhile."""

import asyncio
import contextlib
import logging
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
    """This process's sockets: inode by inode, so that one that is replaced counts as another."""
    found = set()
    for link in FILES.iterdir():
        with contextlib.suppress(OSError):
            target = str(link.readlink())
            if target.startswith("socket:"):
                found.add(target)
    return found


async def settled(expected):
    """The open sockets, once the other side has had time to see that its end is closed."""
    for _ in range(2000):
        if open_sockets() == expected:
            break
        await asyncio.sleep(0)
    return open_sockets()


async def until(reached):
    """Lets the event loop turn until something has happened."""
    while not reached():  # noqa: ASYNC110 - the servers of the tests count, and set no events
        await asyncio.sleep(0)


needs_proc = pytest.mark.skipif(not FILES.exists(), reason="open files are counted in /proc")


async def storm(fetch):
    """Makes calls, ten at a time, and cancels each at a random moment; gives how many it hit."""
    chance = random.Random(7)

    async def cancelled():
        call = asyncio.create_task(fetch())
        for _ in range(chance.randrange(60)):
            await asyncio.sleep(0)
        call.cancel()
        [outcome] = await asyncio.gather(call, return_exceptions=True)
        return isinstance(outcome, asyncio.CancelledError)

    hits = 0
    for _ in range(CALLS // 10):
        hits += sum(await asyncio.gather(*(cancelled() for _ in range(10))))
    return hits


async def chatty(received):
    for _ in range(len(received.target) % 7):
        await asyncio.sleep(0)
    return loopback.answer(body=b"answer" * 20_000)


class TestCancellation:
    @needs_proc
    async def test_cancelled_calls_leave_nothing_behind(self):
        async with connected(chatty) as server:
            before = open_sockets()
            async with Client(server) as client:
                count = 0

                async def fetch():
                    nonlocal count
                    count += 1
                    body = Body(b"a" * 65536, b"b") if count % 2 else None
                    await client.fetch(f"/{'a' * count}", method="POST", body=body)

                assert CALLS // 3 < await storm(fetch) < CALLS
                answers = await asyncio.gather(*(client.fetch() for _ in range(20)))
                assert all(body == b"answer" * 20_000 for _, body in answers)
            assert await settled(before) == before

    async def test_the_same_calls_stop_a_pool_of_httpx(self):
        """The twin: were these cancellations harmless, the test above would prove nothing."""
        async with connected(chatty) as server:
            transport = httpx.AsyncHTTPTransport(
                verify=context_for(), limits=httpx.Limits(max_connections=5)
            )

            made = []

            async def trace(event, info):
                if event == "connection.connect_tcp.complete":
                    made.append(info["return_value"])

            async def fetch():
                extensions = {"timeout": {"pool": 0.01}, "trace": trace}
                response = await transport.handle_async_request(
                    httpx.Request("GET", server.url("/aaa"), extensions=extensions)
                )
                async for _ in response.stream:
                    pass

            await storm(fetch)
            answers = await asyncio.gather(*(fetch() for _ in range(20)), return_exceptions=True)
            assert any(isinstance(each, httpx.PoolTimeout) for each in answers)
            await transport.aclose()
            for stream in made:  # what the pool has forgotten
                await stream.aclose()

    @needs_proc
    async def test_a_handshake_that_hangs_is_closed_when_it_is_cancelled(self):
        async with loopback.silent_port() as server:
            before = open_sockets()
            async with Client(server) as client:
                call = asyncio.create_task(client.fetch())
                await until(lambda: server.received)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await settled(before) == before

    async def test_cancelling_twice_gives_the_place_back(self):
        async with loopback.silent_port() as server, Client(server) as client:
            for _ in range(2):
                call = asyncio.create_task(client.fetch())
                await until(lambda: server.received)
                server.received.clear()
                call.cancel()
                await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await until(lambda: not server.open)

    async def test_an_answer_that_is_given_up_is_broken_off(self):
        half = loopback.always(loopback.answer(body=b"a" * 10)[:-5])
        async with connected(half) as server, Client(server) as client:
            request = client.request()
            async with client.transport.exchange(request) as answer:
                chunks = answer.chunks()
                assert await anext(chunks)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(chunks), 0.01)
                with pytest.raises(TransportError, match="broken off"):
                    await anext(answer.chunks())


class TestLogging:
    """What httpcore logs of other exchanges; `tests/flow/test_secrets.py` reads what it logs of ours."""

    handler = staticmethod(loopback.always(loopback.answer(body=b"answer", Set_Cookie="kanari")))

    async def test_other_exchanges_are_logged_as_before(self, caplog):
        """The twin: httpcore shows headers of others, and would have shown ours."""
        with caplog.at_level(logging.DEBUG, logger="httpcore"):
            async with connected(self.handler) as server, Client(server) as client:
                other = httpx.AsyncHTTPTransport(verify=context_for())
                async with client.transport.exchange(client.request()), other:
                    await other.handle_async_request(httpx.Request("GET", server.url("/")))
        assert "(b'Set-Cookie', b'kanari')" in caplog.text

    async def test_a_set_up_of_logging_that_takes_filters_away(self, caplog):
        async with connected(self.handler) as server, Client(server) as client:
            await client.fetch()
            for name in ("httpcore.connection", "httpcore.http11", "httpcore.proxy"):
                logging.getLogger(name).filters.clear()
            with caplog.at_level(logging.DEBUG, logger="httpcore"):
                await client.fetch()
        assert "receive_response_headers.complete" in caplog.text
        assert "kanari" not in caplog.text


async def test_what_the_caller_was_handling_is_no_part_of_the_failure():
    async with Client(loopback.Server(port=loopback.closed_port())) as client:
        try:
            ssl.create_default_context(cadata=b"no certificate")
        except ssl.SSLError:
            with pytest.raises(TransportError, match="Connection refused") as raised:
                await client.fetch()
    assert not isinstance(raised.value, TlsError)
