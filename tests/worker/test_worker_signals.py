"""How the worker handles signals: in virtual time, and in a separate process."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import anyio
import pytest
import virtual_time
from model_faults import Fault, Kind
from model_service import ModelService, now
from model_transport import process_of
from model_worker import Handler, confirmed, working

from posten_signering.errors import ConfigurationError
from posten_signering.worker import StatusChangeWorker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@contextmanager
def installed(number: signal.Signals, handler) -> Iterator[None]:
    """Installs a signal handler, as other code of the process would."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_the_worker(number, caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    options = {"handle_signals": True, "concurrency": 1}
    before = signal.getsignal(number)
    async with working(changes=2, handler=Handler(seconds=20), **options) as work:
        await anyio.sleep(5)
        assert signal.getsignal(number) != before
        os.kill(os.getpid(), number)
        await work.ended()
        assert confirmed(work.service) == [1]
        assert f"Received {number.name}, stopping." in caplog.text
    assert signal.getsignal(number) == before


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


async def test_signals_are_handled_while_a_shielded_handler_still_runs():
    """Otherwise a signal would kill the process in the meantime."""
    before = signal.getsignal(signal.SIGTERM)

    async def shielded(change):
        with anyio.CancelScope(shield=True):
            await anyio.sleep(100)

    async with working(changes=1, handler=shielded, handle_signals=True) as work:
        await anyio.sleep(5)
        for _ in range(2):
            work.task.cancel()
            await anyio.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)
        await anyio.sleep(1)
        assert not work.task.done()
        await asyncio.wait([work.task])
    assert signal.getsignal(signal.SIGTERM) == before


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
            with pytest.raises(ConfigurationError, match="signal handler of SIGTERM, which"):
                await work.ended()
            assert work.service.polls == []
        async with working() as work:
            await anyio.sleep(5)
            os.kill(os.getpid(), signal.SIGTERM)
            await anyio.sleep(5)
            assert received == ["SIGTERM"]
    finally:
        loop.remove_signal_handler(signal.SIGTERM)


class Server:
    """A server that handles signals as uvicorn does."""

    def handle_exit(self, number, frame):
        pass


@pytest.mark.parametrize(
    "handler", [lambda *_: None, Server().handle_exit, partial(Server.handle_exit, Server())]
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_handler_of_other_code_is_not_replaced(number, handler):
    """The worker would otherwise keep the signal from a web server, which would never end."""
    message = (
        rf"handler of {number.name}, .* Set handle_signals=False, and call the worker's stop\(\)"
    )
    with installed(number, handler):
        async with working(handle_signals=True) as work:
            with pytest.raises(ConfigurationError, match=message):
                await work.ended()
            assert work.service.polls == []
        assert signal.getsignal(number) == handler


async def test_a_signal_handler_that_python_did_not_install_is_not_replaced(monkeypatch):
    """Python can't restore it."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    async with working(handle_signals=True) as work:
        with pytest.raises(ConfigurationError, match="handler of SIGTERM and SIGINT, which"):
            await work.ended()


async def test_an_ignored_signal_stays_ignored_and_the_other_one_is_handled():
    with installed(signal.SIGINT, signal.SIG_IGN):
        async with working(handle_signals=True) as work:
            await anyio.sleep(5)
            os.kill(os.getpid(), signal.SIGINT)
            await anyio.sleep(5)
            assert not work.task.done()
            os.kill(os.getpid(), signal.SIGTERM)
            await work.ended()
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN


async def test_a_signal_handler_that_is_installed_while_the_worker_runs_stays_installed():
    async with working(handle_signals=True) as work:
        await anyio.sleep(5)
        handler = Server().handle_exit
        with installed(signal.SIGTERM, handler):
            work.worker.stop()
            await work.ended()
            assert signal.getsignal(signal.SIGTERM) == handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


async def test_signals_can_be_handled_in_the_main_thread_only():
    def run() -> None:
        async def work() -> None:
            async with process_of(ModelService()) as client:
                await StatusChangeWorker(client, Handler(), handle_signals=True).run()

        with pytest.raises(ConfigurationError, match="in the main thread only"):
            virtual_time.run(work)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


async def test_only_one_worker_of_a_process_can_handle_signals():
    """A second worker would replace the signal handlers of the first, and no signal could stop it."""
    async with working(handle_signals=True) as first, working(handle_signals=True) as second:
        with pytest.raises(ConfigurationError, match="another worker or your program"):
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
import asyncio, datetime, logging, signal, sys
import anyio
import doubles
from posten_signering.worker import StatusChangeWorker

log = logging.StreamHandler(sys.stdout)
log.addFilter(lambda record: "Received" in record.getMessage())
logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[log])

async def handler(change):
    print("handling", flush=True)
    try:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        print("handled", flush=True)
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise

def handlers():
    return [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

async def main():
    before = handlers()
    times = doubles.poll_headers(doubles.pki.NOW, datetime.timedelta(0))
    script = [doubles.Answer(200, doubles.status_xml(), times), doubles.Answer(204)]
    async with doubles.client_of(*script, sleep=asyncio.sleep) as (client, transport):
        worker = StatusChangeWorker(client, handler, concurrency=1, handle_signals=True)
        await worker.run()
    posts = [request for request in transport.sent if request.method == "POST"]
    print("restored", handlers() == before, "confirmed", len(posts) == 1, flush=True)

"""

RUNS = {
    "asyncio": "asyncio.run(main())",
    "anyio": "anyio.run(main)",
    "uvloop": "import uvloop; uvloop.run(main())",
    "anyio on uvloop": "anyio.run(main, backend_options={'use_uvloop': True})",
}


@contextmanager
def program(run: str = "asyncio", prefix: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """A separate process with a real event loop."""
    with subprocess.Popen(
        [*prefix, sys.executable, "-c", PROGRAM + RUNS[run]],
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


def end_handler(process: subprocess.Popen[str]) -> None:
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.mark.parametrize("run", RUNS)
def test_a_signal_ends_a_process_gracefully(run):
    with program(run) as process:
        lines_until(process, "handling")
        process.send_signal(signal.SIGTERM)
        lines_until(process, "Received SIGTERM, stopping.")
        end_handler(process)
        lines = lines_until(process, "confirmed")
        assert lines[-2:] == ["handled", "restored True confirmed True"]
        assert process.wait(20) == 0


@pytest.mark.parametrize("run", ["asyncio", "uvloop"])
def test_a_second_signal_ends_a_process_immediately(run):
    with program(run) as process:
        lines_until(process, "handling")
        process.send_signal(signal.SIGINT)
        lines_until(process, "Received SIGINT, stopping.")
        process.send_signal(signal.SIGINT)
        lines = lines_until(process, "confirmed")
        assert lines[-2:] == ["cancelled", "restored True confirmed False"]
        end_handler(process)  # lets the thread end, because a thread can't be cancelled
        assert process.wait(20) == 0


def test_a_background_job_of_a_shell_ignores_sigint_and_stops_at_sigterm():
    """A shell without job control starts its background jobs with SIGINT ignored."""
    script = 'exec 3<&0; "$@" <&3 & echo "job $!"; wait $!'
    with program(prefix=["sh", "-c", script, "sh"]) as shell:
        job = int(lines_until(shell, "job")[-1].split()[1])
        try:
            lines_until(shell, "handling")
            os.kill(job, signal.SIGINT)
            os.kill(job, signal.SIGTERM)
            assert lines_until(shell, "Received") == ["Received SIGTERM, stopping."]
            end_handler(shell)
            lines = lines_until(shell, "confirmed")
            assert lines == ["handled", "restored True confirmed True"]
            assert shell.wait(20) == 0
        finally:
            with suppress(ProcessLookupError):
                os.kill(job, signal.SIGKILL)
