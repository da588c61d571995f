"""The worker against a model of the service, in virtual time: handling, confirmation, concurrency.

The tests compare what the handler recorded (`finished`) with what the service recorded
(`Change.confirmed`). Only the tests of the counts rely on the worker's own report.
"""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest
import virtual_time
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, now, number_of
from model_transport import ModelTransport
from model_worker import (
    Handler,
    confirmations_sent,
    confirmed,
    nothing_was_confirmed_too_soon,
    working,
)

from posten_signering import DirectJobStatusResponse, PollCounts
from posten_signering._values.events import ChangeReleased, LeaseRunningOut, ReleaseReason
from posten_signering.worker import StatusChangeWorker, WorkCounts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


# --- Handling and confirming


async def test_each_change_is_confirmed_after_its_handler_returned():
    async with working(changes=20, handler=Handler(seconds=7)) as work:
        await anyio.sleep(100)
        assert sorted(work.handler.finished) == confirmed(work.service) == list(range(1, 21))
        assert nothing_was_confirmed_too_soon(work.service, work.handler)
        assert len(confirmations_sent(work.service)) == 20
        assert work.worker.counts.handled == work.worker.counts.confirmed == 20


async def test_the_check_detects_a_confirmation_before_the_handler_returned():
    async with working(changes=1, handler=Handler(seconds=7)) as work:
        await anyio.sleep(3)
        url = f"{work.service.changes[0].queue.sender.organization_number}/direct/signature-jobs"
        root = work.client.configuration.environment.service_root
        await work.client.confirm(f"{root}/{url}/1001/changes/1/complete")
        await anyio.sleep(60)
        assert not nothing_was_confirmed_too_soon(work.service, work.handler)


async def test_a_cancellation_inside_the_handler_counts_as_a_failure(caplog):
    """Something that the handler awaits was cancelled. The worker was not asked to stop."""
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    class AwaitsCancelledFuture(Handler):
        async def __call__(self, change):
            if number_of(change) == 1 and not self.begun:
                self.begun.append((1, now()))
                await cancelled
            await super().__call__(change)

    async with working(changes=2, handler=AwaitsCancelledFuture()) as work:
        await anyio.sleep(60)
        assert not work.task.done()
        assert confirmed(work.service) == [2]
        assert work.worker.counts.failed == 1
        assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR"]
        await anyio.sleep(1300)
        assert confirmed(work.service) == [1, 2]


async def test_cancelling_one_handlers_task_from_outside_stops_no_other_handler():
    """Some frameworks cancel all tasks of their event loop."""
    tasks = []

    class RecordsItsTask(Handler):
        async def __call__(self, change):
            tasks.append(asyncio.current_task())
            await super().__call__(change)

    async with working(changes=2, handler=RecordsItsTask(seconds=20)) as work:
        await anyio.sleep(10)
        tasks[0].cancel()
        await anyio.sleep(30)
        assert confirmed(work.service) == [2]
        assert not work.task.done()


async def test_a_change_without_a_confirmation_url_is_handled_without_a_request():
    class WithoutConfirmationUrl(ModelTransport):
        @asynccontextmanager
        async def exchange(self, request):
            async with super().exchange(request) as response:
                before, tag, after = response.body.partition(b"<confirmation-url>")
                if tag:
                    response.body = before + after.partition(b"</confirmation-url>")[2]
                yield response

    handled = []

    async def handler(change: DirectJobStatusResponse) -> None:
        handled.append(change.job_id)

    service = ModelService()
    options = {"handler": handler, "transport": WithoutConfirmationUrl(service, "one")}
    async with working(changes=1, service=service, **options) as work:
        await anyio.sleep(5)
        assert handled == [1001]
        assert work.worker.counts.confirmed == 1
        assert confirmations_sent(service) == []


async def test_the_worker_polls_the_queue_of_its_sender():
    async with working(changes=1, senders=[OTHER_QUEUE]) as work:
        work.service.put(OTHER_SENDER)
        work.service.put(OTHER_QUEUE)
        await anyio.sleep(5)
        assert confirmed(work.service) == [3]


async def test_the_counts_report_what_the_worker_did():
    async with working(changes=5, handler=Handler(fails=[3]), concurrency=2) as work:
        before = work.worker.counts
        await anyio.sleep(60)
        assert before == WorkCounts()
        assert work.worker.counts == WorkCounts(
            handled=5, confirmed=5, retried=1, polls=PollCounts(changes=5, empty=1)
        )


# --- Concurrency and redelivery


async def test_no_change_is_fetched_until_a_handler_is_free():
    async with working(changes=9, handler=Handler(seconds=50), concurrency=3) as work:
        await anyio.sleep(40)
        assert len(work.handler.begun) == 3
        assert len(work.service.polls) == 3
        await anyio.sleep(20)
        assert len(work.handler.begun) == 6
        await anyio.sleep(200)
        assert work.handler.max_concurrent == 3
        assert len(work.handler.finished) == 9


async def test_as_many_changes_are_handled_at_the_same_time_as_concurrency_allows():
    async with working(changes=9, handler=Handler(seconds=50), concurrency=9) as work:
        await anyio.sleep(40)
        assert work.handler.max_concurrent == 9


@pytest.mark.parametrize(
    ("lease", "seconds", "late"), [(600, 539, 0), (600, 541, 1), (200, 185, 1)]
)
async def test_a_change_that_has_used_90_percent_of_its_lease_is_reported(lease, seconds, late):
    timeout = timedelta(seconds=lease - 1)
    options = {"lease": timedelta(seconds=lease), "handler_timeout": timeout}
    async with working(changes=1, handler=Handler(seconds=seconds), **options) as work:
        await anyio.sleep(550)
        assert work.worker.counts.late == late
        used = [event.used.total_seconds() for event in work.events_of(LeaseRunningOut)]
        assert used == [pytest.approx(0.9 * lease)] * late
        # A late handler's change is confirmed too.
        assert confirmed(work.service) == [1]


async def test_a_change_that_is_redelivered_while_it_is_handled_is_skipped():
    handler = Handler(seconds=1900, shielded=True)
    async with working(changes=1, handler=handler) as work:
        await anyio.sleep(1800)
        redeliveries = len(work.service.changes[0].leases) - 1
        assert redeliveries > 0
        assert len(handler.begun) == 1
        assert work.worker.counts.skipped == redeliveries
        released = [event.reason for event in work.events_of(ChangeReleased)]
        assert released == [ReleaseReason.STILL_HANDLED] * redeliveries
        # The handler ends after its deadline. The next delivery is handled again.
        handler.seconds = 1.0
        await anyio.sleep(1300)
        assert handler.overlaps == 0
        assert confirmed(work.service) == [1]
        counts = work.worker.counts
        assert (counts.timed_out, counts.handled, counts.confirmed) == (1, 1, 1)


async def test_two_workers_of_one_client_do_not_handle_a_change_at_the_same_time():
    service, handler = ModelService(), Handler(seconds=1900, shielded=True)
    async with working(changes=1, handler=handler, service=service, concurrency=1) as work:
        await anyio.sleep(5)
        other = StatusChangeWorker(work.client, handler, concurrency=1)
        task = asyncio.ensure_future(other.run())
        await anyio.sleep(1800)
        handler.seconds = 1.0
        assert other.counts.skipped > 0
        await anyio.sleep(1300)
        assert handler.overlaps == 0
        assert confirmed(service) == [1]
        # Afterwards, either worker may handle the next change.
        service.put(SENDER)
        await anyio.sleep(3000)
        assert confirmed(service) == [1, 2]
        other.stop()
        await task


async def test_two_changes_of_one_job_are_handled_concurrently():
    async with working(handler=Handler(seconds=50)) as work:
        for _ in range(2):
            work.service.put(SENDER, job_id=7)
        await anyio.sleep(40)
        assert work.handler.max_concurrent == 2
        await anyio.sleep(40)
        assert confirmed(work.service) == [1, 2]
