"""Errors while a change is handled: the worker logs them, keeps all slots, and continues. In virtual time."""

import asyncio
import logging
import re

import anyio
import pytest
import virtual_time
from model_service import SENDER, ModelService, now, number_of
from model_transport import process_of
from model_worker import Handler, confirmed, working
from virtual_time import run

from posten_signering import DirectClient, DirectJobStatusResponse
from posten_signering._values.events import ChangeReleased, ReleaseReason
from posten_signering.worker import StatusChangeWorker
from posten_signering.worker._delivery import Delivery

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
    """A change whose handler was cancelled is released. After any other error, the handler is retried."""

    async def handle(change):
        raising(change)

    raising = once(error, lambda change: None)
    async with working(changes=3, handler=handle, concurrency=1) as work:
        if isinstance(error, asyncio.CancelledError):
            await all_are_confirmed_in_the_end(work, caplog, failed=1)
        else:
            await anyio.sleep(60)
            assert confirmed(work.service) == [1, 2, 3]
            assert work.worker.counts.retried == 1
            assert errors_in(caplog) == []


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
        async with working(changes=3, handler=Handler(fails=[1])) as work:
            await anyio.sleep(60)
            assert confirmed(work.service) == [1, 2, 3]
    finally:
        logger.removeHandler(handler)


@pytest.mark.parametrize("method", ["begin_delivery", "end_delivery"])
async def test_a_fleet_that_can_not_count_deliveries_does_not_stop_the_worker(
    method, caplog, monkeypatch
):
    async def fail(self, key):
        raise OSError

    monkeypatch.setattr("posten_signering._session.fleet._InMemoryMember." + method, fail)
    async with working(changes=3) as work:
        await anyio.sleep(60)
        assert not work.task.done()
        assert len(errors_in(caplog)) == 3
        assert confirmed(work.service) == ([] if method == "begin_delivery" else [1, 2, 3])


async def test_a_handler_that_is_cancelled_before_it_begins_frees_its_slot(caplog, monkeypatch):
    """Some frameworks cancel all tasks of their event loop."""
    create_task, cancelled = asyncio.create_task, []

    def create_cancelled_task(coroutine):
        task = create_task(coroutine)
        if not cancelled and coroutine.__qualname__ == "Delivery.work":
            cancelled.append(task.cancel())
        return task

    monkeypatch.setattr(asyncio, "create_task", create_cancelled_task)
    async with working(changes=3, concurrency=1) as work:
        await all_are_confirmed_in_the_end(work, caplog, failed=1)
        assert cancelled == [True]


async def test_a_delivery_that_is_cancelled_before_it_begins_calls_no_handler():
    """The worker may cancel its deliveries between the response to a poll and the next step of the loop."""
    async with working() as work:
        work.service.put(SENDER)
        poll = await work.client.get_status_change()
        context = work.worker._running._context
        delivery = Delivery(poll.change, sender=SENDER, polled_at=now(), context=context)
        delivery.cancel()
        assert await delivery.work() is None
        assert work.handler.begun == []
        assert [event.reason for event in work.events_of(ChangeReleased)] == [
            ReleaseReason.CANCELLED
        ]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=["exit", "interrupt"])
def test_an_exception_that_ends_the_program_leaves_run_after_the_other_handlers_finished(error):
    service, workers, left = ModelService(), [], []
    finishes = Handler(seconds=5)
    for _ in range(2):
        service.put(SENDER)

    async def handler(change) -> None:
        if number_of(change) == 2:
            raise error
        await finishes(change)

    async def main() -> None:
        async with process_of(service) as client:
            workers.append(StatusChangeWorker(client, handler))
            try:
                await workers[0].run()
            except BaseException as raised:
                left.append(raised)
                raise

    with pytest.raises(type(error)):
        run(main)
    assert left == [error]
    assert workers[0].counts.failed == 1
    assert confirmed(service) == list(finishes.finished) == [1]


def test_a_keyboard_interrupt_while_the_worker_stops_cancels_the_other_handlers():
    """Python raises the second Ctrl-C in the code that runs, which may be that of a handler."""
    service = ModelService()
    for _ in range(2):
        service.put(SENDER)

    async def handler(change) -> None:
        if number_of(change) == 2:
            workers[0].stop()
            await anyio.sleep(5)
            raise KeyboardInterrupt
        await anyio.sleep(100)

    async def main() -> None:
        async with process_of(service) as client:
            workers.append(StatusChangeWorker(client, handler))
            try:
                await workers[0].run()
            finally:
                ended_at.append(now())

    workers, ended_at = [], []
    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert ended_at == [pytest.approx(5.5, abs=0.5)]
    assert workers[0].counts.failed == 2


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
        (StopAsyncIteration(), StopAsyncIteration),
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
    assert record.getMessage() == "The worker stopped with CancelledError: polling failed."


@pytest.mark.parametrize(
    ("how", "reason"),
    [("stop", "stop() was called"), ("cancel", "its task was cancelled")],
)
async def test_the_log_says_what_the_worker_polls_and_handles_and_why_it_stopped(
    how, reason, caplog
):
    caplog.set_level(logging.INFO, "posten_signering")
    async with working(changes=1) as work:
        await anyio.sleep(5)
        work.worker.stop() if how == "stop" else work.task.cancel()
        await asyncio.wait([work.task])
    duration = r"\d\.\d s"
    expected = [
        rf"The worker started. It polls {SENDER.organization_number}, .*",
        rf"Handled a status change of job 1001 in {duration}.",
        rf"Confirmed a status change of job 1001, {duration} after its delivery.",
        rf"The worker stopped: {re.escape(reason)}.",
    ]
    lines = [record.getMessage() for record in caplog.records if "signering.worker" in record.name]
    assert len(lines) == len(expected)
    assert all(re.fullmatch(*pair) for pair in zip(expected, lines, strict=True))
