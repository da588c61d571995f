"""A client belongs to the event loop that entered it. A call from elsewhere is refused before anything is sent."""

import asyncio
import gc
import logging
import os
import threading
from collections.abc import Callable, Coroutine
from typing import TypeVar

import doubles
import loopback
import pki
import pytest
from client_calls import OPERATIONS, URL, all_calls
from doubles import CUSTOMER, Answer, ScriptedTransport, created_xml, job
from transport_client import server_context

from posten_signering import DirectClient, Environment, TrustAnchors
from posten_signering._session.loop import OwnLoop
from posten_signering.errors import ClientStateError
from posten_signering.worker import StatusChangeWorker

T = TypeVar("T")


def in_a_thread(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Runs a coroutine in an event loop in a thread, and returns or raises its result."""
    results: list[asyncio.Future[T]] = []

    def run() -> None:
        async def keep_result() -> None:
            results.append(asyncio.ensure_future(main()))
            await asyncio.wait(results)

        asyncio.run(keep_result())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return results[0].result()


async def entered(**fields) -> tuple[DirectClient, ScriptedTransport]:
    transport = ScriptedTransport(Answer(200, created_xml()))
    client = DirectClient(doubles.configuration(transport, **fields))
    return await client.__aenter__(), transport


# --- Calls from elsewhere


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_call_in_a_second_event_loop_is_refused_and_sends_nothing(name, tmp_path):
    client, transport = asyncio.run(entered())

    async def call() -> None:
        await all_calls(tmp_path / "signed")[name](client)

    with pytest.raises(
        ClientStateError, match="belongs to an event loop that is closed, so nothing was sent"
    ):
        asyncio.run(call())
    assert transport.sent == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_call_from_a_second_thread_is_refused_and_sends_nothing(name, tmp_path):
    async def main() -> None:
        client, transport = await entered()

        async def call() -> None:
            await all_calls(tmp_path / "signed")[name](client)

        with pytest.raises(ClientStateError, match="belongs to a different event loop") as caught:
            in_a_thread(call)
        for remedy in ("asyncio.run", "start_blocking_portal", "loop_scope"):
            assert remedy in str(caught.value)
        assert transport.sent == []
        # In its own loop the client still works.
        assert (await client.create(job())).signer(CUSTOMER)

    asyncio.run(main())


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_call_in_a_forked_process_is_refused_and_sends_nothing(name, tmp_path, monkeypatch):
    """Forking pytest is not safe, so only the process id changes here. The tests of the examples fork."""

    async def main() -> None:
        client, transport = await entered()
        monkeypatch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(
            ClientStateError, match=r"before this process was forked.*in each process"
        ):
            await all_calls(tmp_path / "signed")[name](client)
        assert transport.sent == []

    asyncio.run(main())


def test_an_iterator_that_was_made_outside_the_loop_works_inside_it():
    """A program without a loop makes an iterator, and passes `anext` to the loop of a portal."""
    transport = ScriptedTransport(Answer(200, doubles.status_xml()))
    loop = asyncio.new_event_loop()
    client = DirectClient(doubles.configuration(transport))
    loop.run_until_complete(client.__aenter__())
    changes = client.status_changes()
    change = loop.run_until_complete(anext(changes))
    assert change.job_id == 7
    loop.run_until_complete(client.aclose())
    loop.close()


def test_a_stream_that_was_opened_in_another_loop_is_not_read():
    async def main() -> None:
        answer = Answer(200, doubles.PADES)
        async with doubles.client_of(answer) as (client, _), client.open_pades(URL) as stream:

            async def read() -> list[bytes]:
                return [chunk async for chunk in stream]

            with pytest.raises(ClientStateError, match="different event loop"):
                in_a_thread(read)
            assert b"".join(await read()) == doubles.PADES

    asyncio.run(main())


def test_a_client_can_be_entered_only_in_an_event_loop_of_asyncio():
    client = DirectClient(doubles.configuration(ScriptedTransport()))
    with pytest.raises(ClientStateError, match="needs a running asyncio event loop"):
        client.__aenter__().send(None)
    # The failure leaves the client as it was.
    asyncio.run(client.__aenter__())


# --- Closing from elsewhere


def test_closing_in_another_loop_is_refused_while_the_first_one_is_open():
    async def main() -> None:
        client, transport = await entered()
        with pytest.raises(ClientStateError, match="Close it there: nothing was closed"):
            in_a_thread(client.aclose)
        await client.create(job())
        await client.aclose()
        assert transport.closed == 1

    asyncio.run(main())


def test_closing_after_the_loop_was_closed_logs_one_warning(caplog):
    client, transport = asyncio.run(entered())
    asyncio.run(client.aclose())
    asyncio.run(client.aclose())
    [warning] = caplog.records
    assert warning.levelno == logging.WARNING
    assert (
        "was not closed in time: it belongs to an event loop that is closed" in warning.getMessage()
    )
    assert transport.closed == 0
    with pytest.raises(ClientStateError, match="is closed: create a new one"):
        asyncio.run(client.check_access())


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_closing_after_the_loop_was_closed_frees_the_sockets(caplog):
    handler = loopback.always(loopback.answer(body=b"The organisation is known."))

    async def main() -> None:
        async with loopback.http_server(handler, server_context()) as server:
            environment = Environment(name="Test", service_root=server.url("/api"))
            trusting = TrustAnchors().trusting(pki.root().pem)
            client = DirectClient(
                doubles.configuration(None, environment=environment, trust_anchors=trusting)
            )

            async def enter_and_call() -> None:
                await client.__aenter__()
                await client.check_access()

            await asyncio.to_thread(in_a_thread, enter_and_call)
            [connection] = server.writers
            await asyncio.to_thread(in_a_thread, client.aclose)
            gc.collect()
            await connection.wait_closed()

    asyncio.run(main())
    assert len(caplog.records) == 1


# --- Stopping from elsewhere


async def consume(changes) -> list[object]:
    return [change async for change in changes]


def iterator(client):
    changes = client.status_changes()
    return changes.stop, consume(changes)


def worker(client):
    created = StatusChangeWorker(client, consume)
    return created.stop, created.run()


@pytest.mark.parametrize(("start", "result"), [(iterator, []), (worker, None)])
def test_what_sleeps_can_be_stopped_from_another_thread(start, result):
    async def main() -> None:
        asleep = asyncio.Event()

        async def sleep(seconds: float) -> None:
            asleep.set()
            await asyncio.get_running_loop().create_future()

        transport = ScriptedTransport(Answer(204))
        async with DirectClient(doubles.configuration(transport, sleep=sleep)) as client:
            stop, polling = start(client)
            running = asyncio.ensure_future(polling)
            await asleep.wait()
            assert not running.done()
            await asyncio.to_thread(stop)
            assert await running == result
        assert len(transport.sent) == 1

    asyncio.run(main())


def test_a_worker_of_a_client_of_another_loop_fails_before_it_polls():
    async def main() -> None:
        client, transport = await entered()
        with pytest.raises(ClientStateError, match="different event loop"):
            in_a_thread(StatusChangeWorker(client, consume).run)
        assert transport.sent == []

    asyncio.run(main())


@pytest.mark.parametrize("forked", [False, True])
def test_stopping_after_the_loop_has_ended_does_nothing(forked, monkeypatch):
    async def own_loop() -> OwnLoop:
        return OwnLoop("DirectClient")

    loop, called = asyncio.run(own_loop()), []
    if forked:
        monkeypatch.setattr(os, "getpid", lambda: -1)
    loop.call_soon(lambda: called.append(1))
    assert called == []
