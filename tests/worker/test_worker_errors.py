"""Errors while a change is handled: the worker logs them, keeps all slots, and continues. In virtual time."""

import asyncio
import logging
from dataclasses import replace
from types import SimpleNamespace

import anyio
import pytest
import virtual_time
from model_service import SENDER, ModelService
from model_transport import process_of
from model_worker import Handler, confirmed, working
from virtual_time import run

from posten_signering import DirectClient, DirectJobStatusResponse
from posten_signering.worker import StatusChangeWorker

pytestmark = pytest.mark.anyio

ERRORS = [
    LookupError("A"),
    ExceptionGroup("B", [ValueError("C")]),
    BaseExceptionGroup("D", [asyncio.CancelledError()]),
    GeneratorExit(),
    StopAsyncIteration(),
    asyncio.CancelledError(),
]
EACH_ERROR = pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


def once(error: BaseException, then):
    """A function that raises the error when it is called for the first time."""
    errors = [error]

    def function(*args):
        if errors:
            raise errors.pop()
        return then(*args)

    return function


def errors_in(caplog) -> list[logging.LogRecord]:
    return [record for record in caplog.records if record.levelname == "ERROR"]


async def all_are_confirmed_in_the_end(work, caplog, *, failed=0, unconfirmed=0) -> None:
    """One change fails, is logged, and is confirmed after its lease. The others are confirmed at once."""
    await anyio.sleep(60)
    assert not work.task.done()
    assert len(confirmed(work.service)) == 2
    assert len(errors_in(caplog)) == 1
    assert (work.worker.counts.failed, work.worker.counts.unconfirmed) == (failed, unconfirmed)
    await anyio.sleep(1300)
    assert confirmed(work.service) == [1, 2, 3]
    assert len(errors_in(caplog)) == 1


@EACH_ERROR
async def test_whatever_a_handler_raises_the_worker_continues(error, caplog):
    async def handle(change):
        raising(change)

    raising = once(error, lambda change: None)
    async with working(changes=3, handler=handle, concurrency=1) as work:
        await all_are_confirmed_in_the_end(work, caplog, failed=1)


@EACH_ERROR
async def test_whatever_calling_the_handler_raises_the_worker_continues(error, caplog):
    """For example, a sync function raises before there is anything to await."""
    handler = once(error, Handler())
    async with working(changes=3, handler=handler, concurrency=1) as work:
        await all_are_confirmed_in_the_end(work, caplog, failed=1)


async def test_a_sync_handler_is_reported_as_a_failure(caplog):
    async with working(changes=3, handler=lambda change: None, concurrency=1) as work:
        await anyio.sleep(60)
        assert work.worker.counts.failed == len(errors_in(caplog)) == 3
        assert confirmed(work.service) == []
        assert errors_in(caplog)[0].exc_info[0] is TypeError


@EACH_ERROR
async def test_whatever_the_key_raises_the_worker_continues(error, caplog, monkeypatch):
    key = DirectJobStatusResponse.deduplication_key.fget
    monkeypatch.setattr(DirectJobStatusResponse, "deduplication_key", property(once(error, key)))
    async with working(changes=3, concurrency=1) as work:
        await all_are_confirmed_in_the_end(work, caplog, failed=1)


@EACH_ERROR
async def test_whatever_a_confirmation_raises_the_worker_continues(error, caplog, monkeypatch):
    monkeypatch.setattr(DirectClient, "confirm", once(error, DirectClient.confirm))
    async with working(changes=3, concurrency=1) as work:
        await all_are_confirmed_in_the_end(work, caplog, unconfirmed=1)


async def test_logging_that_raises_does_not_stop_the_worker(monkeypatch):
    class Raising(logging.Handler):
        def emit(self, record):
            raise OSError("The disk is full.")

    logger = logging.getLogger("posten_signering")
    handler = Raising()
    logger.addHandler(handler)
    try:
        async with working(changes=3, handler=Handler(fails=[1]), concurrency=1) as work:
            await anyio.sleep(60)
            assert confirmed(work.service) == [2, 3]
            await anyio.sleep(1300)
            assert confirmed(work.service) == [1, 2, 3]
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("error", [OSError("A"), asyncio.CancelledError()])
async def test_a_failure_of_the_lease_watch_does_not_concern_the_handler(error, caplog):
    """Only the lease watch sleeps for 480 s."""

    async with working(concurrency=1) as work:
        configuration = work.client.configuration
        await anyio.sleep(1)

        async def sleep(seconds):
            if seconds == 480:
                raise error
            await configuration.sleep(seconds)

        work.worker._client = SimpleNamespace(
            configuration=replace(configuration, sleep=sleep), confirm=work.client.confirm
        )
        for _ in range(3):
            work.service.put(SENDER)
        await anyio.sleep(700)
        assert confirmed(work.service) == [1, 2, 3]
        assert len(errors_in(caplog)) == (3 if isinstance(error, OSError) else 0)


async def test_a_handler_that_is_cancelled_before_it_begins_frees_its_slot(caplog, monkeypatch):
    """Some frameworks cancel all tasks of their event loop."""
    create_task, cancelled = asyncio.create_task, []

    def create_cancelled_task(coroutine):
        task = create_task(coroutine)
        if not cancelled and coroutine.__name__ == "_handle_and_confirm":
            cancelled.append(task.cancel())
        return task

    monkeypatch.setattr(asyncio, "create_task", create_cancelled_task)
    async with working(changes=3, concurrency=1) as work:
        await all_are_confirmed_in_the_end(work, caplog, failed=1)
        assert cancelled == [True]


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_a_handler_that_ends_the_program_ends_it(error, caplog):
    service, workers = ModelService(), []
    service.put(SENDER)

    async def handler(change) -> None:
        raise error

    async def main() -> None:
        async with process_of(service) as client:
            workers.append(StatusChangeWorker(client, handler))
            await workers[0].run()

    with pytest.raises(type(error)):
        run(main)
    assert workers[0].counts.failed == 1
    assert confirmed(service) == []
    assert len(errors_in(caplog)) == 1


# --- The end of polling is never silent


async def run_with_poll_that_raises(error: BaseException, monkeypatch) -> None:
    async def get(self):
        raise error

    monkeypatch.setattr("posten_signering._client.polling.StatusChanges._poll", get)
    async with working() as work:
        await work.ended()


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (LookupError("A"), LookupError),
        (ExceptionGroup("B", [ValueError("C")]), ExceptionGroup),
        (StopAsyncIteration(), RuntimeError),
        (asyncio.CancelledError(), asyncio.CancelledError),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
async def test_an_error_of_a_poll_leaves_the_worker(error, raised, monkeypatch):
    with pytest.raises(raised):
        await run_with_poll_that_raises(error, monkeypatch)


async def test_a_cancellation_of_what_a_poll_awaits_is_logged_as_an_error(caplog, monkeypatch):
    with pytest.raises(asyncio.CancelledError):
        await run_with_poll_that_raises(asyncio.CancelledError(), monkeypatch)
    [record] = errors_in(caplog)
    assert "The worker's task was not cancelled" in record.getMessage()


@pytest.mark.parametrize("how", ["stop", "cancel"])
async def test_only_a_cancellation_of_the_worker_is_logged_when_it_ends(how, caplog):
    caplog.set_level(logging.INFO, "posten_signering")
    async with working() as work:
        await anyio.sleep(5)
        work.worker.stop() if how == "stop" else work.task.cancel()
        await asyncio.wait([work.task])
    messages = [
        record.getMessage() for record in caplog.records if record.name == "posten_signering"
    ]
    assert messages == (["The worker was cancelled, stopping."] if how == "cancel" else [])
