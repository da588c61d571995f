"""The worker and signals: in virtual time, and in a process of its own."""

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
async def test_a_signal_stops_it(number, caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    options = {"handle_signals": True, "concurrency": 1}
    before = signal.getsignal(number)

    def own(number, frame):
        raise AssertionError("The signal is the worker's while it runs.")

    signal.signal(number, own)
    async with working(changes=2, handler=Handler(seconds=20), **options) as work:
        await anyio.sleep(5)
        os.kill(os.getpid(), number)
        await work.ended()
        assert confirmed(work.service) == [1]
        assert f"Stopping at {number.name}." in caplog.text
    try:
        assert signal.getsignal(number) is own
    finally:
        signal.signal(number, before)


async def test_a_second_signal_cancels_what_is_in_hand_and_the_poll_on_its_way():
    service = ModelService()
    service.script.extend([None, Fault(kind=Kind.SILENCE)])
    options = {"handle_signals": True, "handler": Handler(seconds=100), "service": service}
    async with working(changes=1, **options) as work:
        await anyio.sleep(1)
        assert len(service.polls) == 2
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(1)
        assert not work.task.done()
        began = now()
        os.kill(os.getpid(), signal.SIGTERM)
        await work.ended()
        assert now() - began < 1e-3
        assert work.handler.cancelled == [1]
        assert confirmed(service) == []


async def test_a_former_handler_is_back_while_what_can_not_be_cancelled_still_runs():
    """Or a signal would kill the process in the meantime."""
    before, heard = signal.getsignal(signal.SIGTERM), []
    signal.signal(signal.SIGTERM, lambda *_: heard.append("SIGTERM"))

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
        assert heard == ["SIGTERM"]
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_without_being_asked_it_leaves_signals_alone():
    before = signal.getsignal(signal.SIGTERM)
    async with working() as work:
        await anyio.sleep(5)
        assert signal.getsignal(signal.SIGTERM) == before
        assert not work.task.done()


async def test_what_the_event_loop_does_at_a_signal_is_not_replaced():
    """It could not be given back: Python shows a handler of the loop's that does nothing."""
    loop, heard = asyncio.get_running_loop(), []
    loop.add_signal_handler(signal.SIGTERM, heard.append, "SIGTERM")
    try:
        async with working(handle_signals=True) as work:
            with pytest.raises(ConfigurationError, match="has a handler for SIGTERM"):
                await work.ended()
            assert work.service.polls == []
        async with working() as work:
            await anyio.sleep(5)
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(5)
            assert heard == ["SIGTERM"]
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


async def test_one_worker_of_a_process_handles_signals():
    """A second one's handlers would replace the first's, who could not be stopped any more."""
    async with working(handle_signals=True) as one, working(handle_signals=True) as other:
        with pytest.raises(ConfigurationError, match="Another StatusChangeWorker"):
            await other.ended()
        os.kill(os.getpid(), signal.SIGTERM)
        await one.ended()
    # Once it has ended, the next one may.
    async with working(handle_signals=True) as third:
        await anyio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        await third.ended()


async def test_stop_may_be_the_event_loops_own_handler():
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
    print("confirmed", [each.method for each in transport.sent].count("POST") == 1, flush=True)

asyncio.run(main())
"""


@contextmanager
def program() -> Iterator[subprocess.Popen[str]]:
    """A process of its own, with the loop that asyncio has by default."""
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
def test_a_process_ends_well_at_a_signal(number):
    with program() as process:
        lines_until(process, "handling")
        process.send_signal(number)
        lines_until(process, f"Stopping at {number.name}.")
        process.stdin.write("\n")
        process.stdin.flush()
        assert lines_until(process, "confirmed")[-2:] == ["handled", "confirmed True"]
        assert process.wait(20) == 0


def test_a_process_ends_at_once_at_a_second_signal():
    with program() as process:
        lines_until(process, "handling")
        process.send_signal(signal.SIGINT)
        lines_until(process, "Stopping at SIGINT.")
        process.send_signal(signal.SIGINT)
        assert lines_until(process, "confirmed")[-2:] == ["cancelled", "confirmed False"]
        process.stdin.write("\n")  # a thread can't be cancelled: let it end
        process.stdin.flush()
        assert process.wait(20) == 0
