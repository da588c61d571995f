"""What the log and OpenTelemetry's instrumentation of httpx see of our exchanges, and of other exchanges.

`tests/flow/test_secrets.py` searches the log of all operations, and `tests/flow/test_opentelemetry.py` the spans.
"""

import asyncio
import contextlib
import gc
import logging
import sys
from types import ModuleType

import anyio
import httpx
import loopback
import pytest
from telemetry import Telemetry
from transport_client import Client, connected, context_for

from posten_signering._http.fetch import fetch_file
from posten_signering._http.hidden import Hidden
from posten_signering.errors import TransportError

pytestmark = pytest.mark.anyio

SECRET = "/api/job?status_query_token=canary"
ANSWER = loopback.always(loopback.answer(body=b"answer", Set_Cookie="canary"))


async def call(server: loopback.Server, path: str) -> None:
    """A call that the application makes itself with httpx."""
    async with httpx.AsyncHTTPTransport(verify=context_for()) as other:
        response = await other.handle_async_request(httpx.Request("GET", server.url(path)))
        await response.aread()


@pytest.fixture
def telemetry():
    recorded = Telemetry()
    with recorded.of_httpx():
        yield recorded


class TestLog:
    async def test_other_exchanges_are_logged_as_before(self, caplog):
        """Shows that httpcore logs headers, so it would log ours too without the filter."""
        async with connected(ANSWER) as server, Client(server) as client:
            with caplog.at_level(logging.DEBUG, logger="httpcore"):
                async with client.transport.exchange(client.request()):
                    await call(server, "/")
        assert "(b'Set-Cookie', b'canary')" in caplog.text

    async def test_the_log_filter_is_added_again_after_it_was_removed(self, caplog):
        async with connected(ANSWER) as server, Client(server) as client:
            await client.fetch()
            for name in ("httpcore.connection", "httpcore.http11", "httpcore.proxy"):
                logging.getLogger(name).filters.clear()
            with caplog.at_level(logging.DEBUG, logger="httpcore"):
                await client.fetch()
        assert "receive_response_headers.complete" in caplog.text
        assert "canary" not in caplog.text


class TestOpenTelemetry:
    async def test_only_the_applications_own_calls_are_instrumented(self, telemetry):
        """They are instrumented before, during and after an exchange of ours, in the same task."""
        async with connected(ANSWER) as server, Client(server) as client:
            await call(server, "/before?canary")
            async with client.transport.exchange(client.request(SECRET)) as response:
                await call(server, "/before-reading?canary")
                async for _ in response.chunks():
                    await call(server, "/while-reading?canary")
            await call(server, "/after?canary")
            paths = ["before", "before-reading", "while-reading", "after"]
            assert telemetry.urls == [server.url(f"/{path}?canary") for path in paths]
        assert "status_query_token" not in telemetry.text()
        instrumented = {call.target: "traceparent" in call.headers for call in server.received}
        assert instrumented.pop(SECRET) is False
        assert set(instrumented.values()) == {True}

    async def test_calls_of_other_tasks_are_instrumented_while_ours_waits(self, telemetry):
        arrived, may_answer = asyncio.Event(), asyncio.Event()

        async def handler(received):
            if received.target == SECRET:
                arrived.set()
                await may_answer.wait()
            return loopback.answer()

        async with connected(handler) as server, Client(server) as client:
            waiting = asyncio.create_task(client.fetch(SECRET))
            await arrived.wait()
            await call(server, "/other")
            may_answer.set()
            await waiting
            assert telemetry.urls == [server.url("/other")]

    async def test_an_instrumentation_that_starts_later_is_suppressed_too(self):
        """It patches a class of httpx, so it concerns transports and connections that exist already."""
        recorded = Telemetry()
        async with connected(ANSWER) as server, Client(server) as client:
            await client.fetch(SECRET)
            with recorded.of_httpx():
                await client.fetch(SECRET)
                await call(server, "/other")
            assert server.connections == 2
            assert recorded.urls == [server.url("/other")]

    @pytest.mark.parametrize("content", [None, b"nothing\r\n\r\n", loopback.answer(503)])
    async def test_an_exchange_that_fails_is_not_recorded(self, content, telemetry):
        async def handler(received):
            return content if received.target == SECRET else loopback.answer()

        async with connected(handler) as server, Client(server) as client:
            with contextlib.suppress(TransportError):
                await client.fetch(SECRET)
            await call(server, "/other")
            assert telemetry.urls == [server.url("/other")]

    async def test_an_exchange_that_is_cancelled_is_not_recorded(self, telemetry):
        arrived = asyncio.Event()

        async def handler(received):
            if received.target == SECRET:
                arrived.set()
                await anyio.sleep_forever()
            return loopback.answer()

        async with connected(handler) as server, Client(server) as client:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(client.fetch, SECRET)
                await arrived.wait()
                tasks.cancel_scope.cancel()
            await call(server, "/other")
            assert telemetry.urls == [server.url("/other")]

    def test_an_exchange_whose_event_loop_was_closed_causes_no_error(self, caplog):
        """Python then ends the task in a different context."""

        async def exchange():
            with Hidden():
                await anyio.sleep_forever()

        async def begin():
            tasks.append(asyncio.create_task(exchange()))
            await asyncio.sleep(0)

        tasks: list[asyncio.Task[None]] = []
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
        tasks.clear()
        gc.collect()
        assert [record.name for record in caplog.records] == ["asyncio"]
        assert "Task was destroyed" in caplog.text

    async def test_the_download_of_a_certificate_is_not_recorded(self, telemetry):
        async with loopback.http_server(ANSWER) as server:
            address = server.url("/ca", scheme="http")
            assert await fetch_file(address, limit=99, seconds=5, proxy=None) == b"answer"
        assert telemetry.spans == []

    @pytest.mark.parametrize("module", [None, ModuleType("opentelemetry.context")])
    async def test_without_opentelemetry_exchanges_are_as_usual(self, module, monkeypatch):
        """Also while a different thread imports it, so that the module has no names yet."""
        if module is None:
            monkeypatch.delitem(sys.modules, "opentelemetry.context")
        else:
            monkeypatch.setitem(sys.modules, "opentelemetry.context", module)
        async with connected(ANSWER) as server, Client(server) as client:
            _, body = await client.fetch(SECRET)
        assert body == b"answer"
