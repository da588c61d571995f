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
from model_faults import Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, now, number_of
from model_transport import ModelTransport, process_of
from model_worker import (
    Handler,
    confirmations_sent,
    confirmed,
    nothing_was_confirmed_too_soon,
    working,
)

from posten_signering import DirectJobStatusResponse, PollCounts
from posten_signering.errors import ConfigurationError
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


async def test_a_change_whose_handler_raised_is_redelivered_and_the_worker_continues(caplog):
    handler = Handler(fails=[2])
    async with working(changes=3, handler=handler) as work:
        await anyio.sleep(60)
        assert confirmed(work.service) == [1, 3]
        [logged] = caplog.records
        assert logged.levelname == "ERROR"
        assert "job 1002" in logged.getMessage()
        assert logged.exc_info is not None
        assert logged.exc_info[0] is LookupError
        # The lease ends, and the second attempt succeeds. The queue is polled every 10 minutes.
        await anyio.sleep(1300)
        assert confirmed(work.service) == [1, 2, 3]
        assert [number for number, _ in handler.begun].count(2) == 2
        assert len(caplog.records) == 1
        assert (work.worker.counts.handled, work.worker.counts.failed) == (3, 1)


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
        assert [record.levelname for record in caplog.records] == ["ERROR"]
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


async def test_a_change_that_could_not_be_confirmed_is_logged_and_redelivered(caplog):
    service = ModelService()
    # The poll succeeds. The confirmation and its two retries fail.
    service.script.extend([None, *[Fault(kind=Kind.GATEWAY)] * 3])
    async with working(changes=1, service=service, concurrency=1) as work:
        await anyio.sleep(60)
        assert confirmed(service) == []
        counts = work.worker.counts
        assert (counts.handled, counts.confirmed, counts.unconfirmed) == (1, 0, 1)
        [warning] = [record for record in caplog.records if record.levelname == "WARNING"]
        assert "job 1001 was handled, but could not be confirmed" in warning.getMessage()
        await anyio.sleep(1300)
        assert confirmed(service) == [1]
        assert work.worker.counts.handled == 2


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
    async with working(changes=1, sender=OTHER_QUEUE) as work:
        work.service.put(OTHER_SENDER)
        work.service.put(OTHER_QUEUE)
        await anyio.sleep(5)
        assert confirmed(work.service) == [3]


async def test_the_counts_report_what_the_worker_did():
    async with working(changes=5, handler=Handler(fails=[3])) as work:
        before = work.worker.counts
        await anyio.sleep(60)
        assert before == WorkCounts()
        assert work.worker.counts == WorkCounts(
            handled=4, confirmed=4, failed=1, polls=PollCounts(changes=5, empty=1)
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


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_a_concurrency_below_1_is_refused(concurrency):
    async with process_of(ModelService()) as client:
        with pytest.raises(ConfigurationError, match="concurrency must be 1 or more"):
            StatusChangeWorker(client, Handler(), concurrency=concurrency)


@pytest.mark.parametrize(("seconds", "late"), [(479, 0), (481, 1)])
async def test_a_handler_is_logged_when_it_has_used_80_percent_of_the_lease(caplog, seconds, late):
    async with working(changes=1, handler=Handler(seconds=seconds)) as work:
        await anyio.sleep(490)
        assert work.worker.counts.late == late
        warnings = [
            record.getMessage() for record in caplog.records if record.levelname == "WARNING"
        ]
        assert len(warnings) == late
        assert all("job 1001 has run for 480 s" in warning for warning in warnings)
        # A late handler's change is confirmed too.
        assert confirmed(work.service) == [1]


async def test_with_a_shorter_lease_a_handler_is_logged_sooner():
    options = {"lease": timedelta(seconds=100)}
    async with working(changes=1, handler=Handler(seconds=90), **options) as work:
        await anyio.sleep(85)
        assert work.worker.counts.late == 1


async def test_a_change_that_is_redelivered_while_it_is_handled_is_skipped(caplog):
    handler = Handler(seconds=1900)
    async with working(changes=1, handler=handler) as work:
        await anyio.sleep(1800)
        assert len(work.service.changes[0].leases) > 1
        assert handler.begun == [(1, pytest.approx(0.2, abs=0.2))]
        assert work.worker.counts.skipped == len(work.service.changes[0].leases) - 1
        logged = [record for record in caplog.records if "is skipped" in record.getMessage()]
        assert len(logged) == work.worker.counts.skipped
        await anyio.sleep(1000)
        assert handler.overlaps == 0
        assert confirmed(work.service) == [1]
        assert work.worker.counts.handled == work.worker.counts.confirmed == 1


async def test_two_workers_of_one_client_do_not_handle_a_change_at_the_same_time():
    service, handler = ModelService(), Handler(seconds=1900)
    async with working(changes=1, handler=handler, service=service, concurrency=1) as work:
        await anyio.sleep(5)
        other = StatusChangeWorker(work.client, handler, concurrency=1)
        task = asyncio.ensure_future(other.run())
        await anyio.sleep(3000)
        assert len(service.changes[0].leases) > 1
        assert other.counts.skipped > 0
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
