"""How the worker handles signals: in virtual time, and in a separate process."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
import virtual_time
from model_faults import Fault, Kind
from model_service import ModelService, now
from model_worker import Handler, confirmed, working

from posten_signering.errors import ConfigurationError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_worker(number, caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    options = {"handle_signals": True, "concurrency": 1}
    before = signal.getsignal(number)

    def own_handler(number, frame):
        raise AssertionError("The worker handles the signal while it runs.")

    signal.signal(number, own_handler)
    async with working(changes=2, handler=Handler(seconds=20), **options) as work:
        await anyio.sleep(5)
        os.kill(os.getpid(), number)
        await work.ended()
        assert confirmed(work.service) == [1]
        assert f"Received {number.name}, stopping." in caplog.text
    try:
        assert signal.getsignal(number) is own_handler
    finally:
        signal.signal(number, before)


async def test_a_second_signal_cancels_the_handlers_and_the_poll_in_flight():
    service = ModelService()
    service.script.extend([None, Fault(kind=Kind.SILENCE)])
    options = {"handle_signals": True, "handler": Handler(seconds=100), "service": service}
    async with working(changes=1, **options) as work:
        await anyio.sleep(1)
        assert len(service.polls) == 2
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(1)
        assert not work.task.done()
        signalled_at = now()
        os.kill(os.getpid(), signal.SIGTERM)
        await work.ended()
        assert now() - signalled_at < 1e-3
        assert work.handler.cancelled == [1]
        assert confirmed(service) == []


async def test_the_previous_signal_handler_is_restored_while_a_shielded_handler_still_runs():
    """Otherwise a signal would kill the process in the meantime."""
    before, received = signal.getsignal(signal.SIGTERM), []
    signal.signal(signal.SIGTERM, lambda *_: received.append("SIGTERM"))

    async def shielded(change):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)

    try:
        async with working(changes=1, handler=shielded, handle_signals=True) as work:
            await anyio.sleep(5)
            work.task.cancel()
            await anyio.sleep(1)
            work.task.cancel()
            await anyio.sleep(1)
            assert not work.task.done()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait([work.task])
        assert received == ["SIGTERM"]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_without_handle_signals_the_signal_handlers_do_not_change():
    before = signal.getsignal(signal.SIGTERM)
    async with working() as work:
        await anyio.sleep(5)
        assert signal.getsignal(signal.SIGTERM) == before
        assert not work.task.done()


async def test_a_signal_handler_of_the_event_loop_is_not_replaced():
    """It could not be restored, because Python does not return the event loop's real handler."""
    loop, received = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGTERM, received.append, "SIGTERM")
    try:
        async with working(handle_signals=True) as work:
            with pytest.raises(ConfigurationError, match="has a handler for SIGTERM"):
                await work.ended()
            assert work.service.polls == []
        async with working() as work:
            await anyio.sleep(5)
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(5)
            assert received == ["SIGTERM"]
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_only_one_worker_of_a_process_can_handle_signals():
    """A second worker would replace the signal handlers of the first, and no signal could stop it."""
    async with working(handle_signals=True) as first, working(handle_signals=True) as second:
        with pytest.raises(ConfigurationError, match="Another StatusChangeWorker"):
            await second.ended()
        os.kill(os.getpid(), signal.SIGTERM)
        await first.ended()
    # After the first worker has ended, the next one can handle signals.
    async with working(handle_signals=True) as third:
        await anyio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        await third.ended()


async def test_stop_can_be_a_signal_handler_of_the_event_loop():
    loop = asyncio.get_running_loop()
    async with working() as work:
        loop.add_signal_handler(signal.SIGTERM, work.worker.stop)
        try:
            await anyio.sleep(1)
            os.kill(os.getpid(), signal.SIGTERM)
            await work.ended()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)


PROGRAM = """
import asyncio, datetime, logging, sys
import doubles
from posten_signering.worker import StatusChangeWorker

logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
logging.getLogger("posten_signering").setLevel(logging.INFO)

async def handler(change):
    print("handling", flush=True)
    try:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print("handled", flush=True)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

async def main():
    times = doubles.poll_headers(doubles.pki.NOW, datetime.timedelta(0))
    script = [doubles.Answer(200, doubles.status_xml(), times), doubles.Answer(204)]
    async with doubles.client_of(*script, sleep=asyncio.sleep) as (client, transport):
        worker = StatusChangeWorker(client, handler, concurrency=1, handle_signals=True)
        await worker.run()
    posts = [request for request in transport.sent if request.method == "POST"]
    print("confirmed", len(posts) == 1, flush=True)

asyncio.run(main())
"""


@contextmanager
def program() -> Iterator[subprocess.Popen[str]]:
    """A separate process with asyncio's default event loop."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path]),
        },
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until(process: subprocess.Popen[str], last: str) -> list[str]:
    lines = []
    while last not in (lines[-1] if lines else ""):
        line = process.stdout.readline()
        assert line, lines
        lines.append(line.strip())
    return lines


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_process_gracefully(number):
    with program() as process:
        lines_until(process, "handling")
        process.send_signal(number)
        lines_until(process, f"Received {number.name}, stopping.")
        process.stdin.write("\n")
        process.stdin.flush()
        assert lines_until(process, "confirmed")[-2:] == ["handled", "confirmed True"]
        assert process.wait(20) == 0


def test_a_second_signal_ends_a_process_immediately():
    with program() as process:
        lines_until(process, "handling")
        process.send_signal(signal.SIGINT)
        lines_until(process, "Received SIGINT, stopping.")
        process.send_signal(signal.SIGINT)
        assert lines_until(process, "confirmed")[-2:] == ["cancelled", "confirmed False"]
        process.stdin.write("\n")  # lets the thread end, because a thread can't be cancelled
        process.stdin.flush()
        assert process.wait(20) == 0
