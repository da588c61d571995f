"""The worker against a model of the service, in virtual time: what it confirms, and what it leaves.

`finished` is what a handler itself wrote down, `Change.confirmed` what the service did: no test asks
the worker whether it did well, but those of its counts.
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


# --- Handle, then confirm


async def test_each_change_is_confirmed_and_only_after_its_handler_returned():
    async with working(changes=20, handler=Handler(seconds=7)) as work:
        await anyio.sleep(100)
        assert sorted(work.handler.finished) == confirmed(work.service) == list(range(1, 21))
        assert nothing_was_confirmed_too_soon(work.service, work.handler)
        assert len(confirmations_sent(work.service)) == 20
        assert work.worker.counts.handled == work.worker.counts.confirmed == 20


async def test_that_check_sees_a_confirmation_before_its_handler_returned():
    async with working(changes=1, handler=Handler(seconds=7)) as work:
        await anyio.sleep(3)
        url = f"{work.service.changes[0].queue.sender.organization_number}/direct/signature-jobs"
        root = work.client.configuration.environment.service_root
        await work.client.confirm(f"{root}/{url}/1001/changes/1/complete")
        await anyio.sleep(60)
        assert not nothing_was_confirmed_too_soon(work.service, work.handler)


async def test_a_handler_that_raises_leaves_its_change_to_come_back_and_the_worker_goes_on(caplog):
    handler = Handler(fails=[2])
    async with working(changes=3, handler=handler) as work:
        await anyio.sleep(60)
        assert confirmed(work.service) == [1, 3]
        [logged] = caplog.records
        assert logged.levelname == "ERROR"
        assert "job 1002" in logged.getMessage()
        assert logged.exc_info is not None
        assert logged.exc_info[0] is LookupError
        # Its lease ends, and the second handler has better luck. The queue is asked every 10 minutes.
        await anyio.sleep(1300)
        assert confirmed(work.service) == [1, 2, 3]
        assert [number for number, _ in handler.begun].count(2) == 2
        assert len(caplog.records) == 1
        assert (work.worker.counts.handled, work.worker.counts.failed) == (3, 1)


async def test_a_cancellation_from_within_the_handler_is_a_failure_as_any_other(caplog):
    """Something that it awaits was cancelled; nobody asked the worker to stop."""
    cancelled = asyncio.get_running_loop().create_future()
    cancelled.cancel()

    class Unlucky(Handler):
        async def __call__(self, change):
            if number_of(change) == 1 and not self.begun:
                self.begun.append((1, now()))
                await cancelled
            await super().__call__(change)

    async with working(changes=2, handler=Unlucky()) as work:
        await anyio.sleep(60)
        assert not work.task.done()
        assert confirmed(work.service) == [2]
        assert work.worker.counts.failed == 1
        assert [each.levelname for each in caplog.records] == ["ERROR"]
        await anyio.sleep(1300)
        assert confirmed(work.service) == [1, 2]


async def test_a_handler_whose_task_is_cancelled_by_somebody_else_fails_alone():
    """As a framework does that cancels every task of its loop."""
    tasks = []

    class Told(Handler):
        async def __call__(self, change):
            tasks.append(asyncio.current_task())
            await super().__call__(change)

    async with working(changes=2, handler=Told(seconds=20)) as work:
        await anyio.sleep(10)
        tasks[0].cancel()
        await anyio.sleep(30)
        assert confirmed(work.service) == [2]
        assert not work.task.done()


async def test_a_change_that_could_not_be_confirmed_comes_back_and_is_told(caplog):
    service = ModelService()
    # The poll passes; the confirmation and its two repetitions do not.
    service.script.extend([None, *[Fault(kind=Kind.GATEWAY)] * 3])
    async with working(changes=1, service=service, concurrency=1) as work:
        await anyio.sleep(60)
        assert confirmed(service) == []
        counts = work.worker.counts
        assert (counts.handled, counts.confirmed, counts.unconfirmed) == (1, 0, 1)
        [warning] = [each for each in caplog.records if each.levelname == "WARNING"]
        assert "job 1001 was handled, but not confirmed" in warning.getMessage()
        await anyio.sleep(1300)
        assert confirmed(service) == [1]
        assert work.worker.counts.handled == 2


async def test_a_change_without_a_confirmation_url_is_done_when_it_is_handled():
    class Bare(ModelTransport):
        @asynccontextmanager
        async def exchange(self, request):
            async with super().exchange(request) as answer:
                head, found, rest = answer.body.partition(b"<confirmation-url>")
                if found:
                    answer.body = head + rest.partition(b"</confirmation-url>")[2]
                yield answer

    handled = []

    async def handler(change: DirectJobStatusResponse) -> None:
        handled.append(change.job_id)

    service = ModelService()
    options = {"handler": handler, "transport": Bare(service, "one")}
    async with working(changes=1, service=service, **options) as work:
        await anyio.sleep(5)
        assert handled == [1001]
        assert work.worker.counts.confirmed == 1
        assert confirmations_sent(service) == []


async def test_another_senders_queue_is_worked_on():
    async with working(changes=1, sender=OTHER_QUEUE) as work:
        work.service.put(OTHER_SENDER)
        work.service.put(OTHER_QUEUE)
        await anyio.sleep(5)
        assert confirmed(work.service) == [3]


async def test_the_counts_tell_what_was_done():
    async with working(changes=5, handler=Handler(fails=[3])) as work:
        before = work.worker.counts
        await anyio.sleep(60)
        assert before == WorkCounts()
        assert work.worker.counts == WorkCounts(
            handled=4, confirmed=4, failed=1, polls=PollCounts(changes=5, empty=1)
        )


# --- Hands


async def test_no_change_is_fetched_without_a_free_hand():
    async with working(changes=9, handler=Handler(seconds=50), concurrency=3) as work:
        await anyio.sleep(40)
        assert len(work.handler.begun) == 3
        assert len(work.service.polls) == 3
        await anyio.sleep(20)
        assert len(work.handler.begun) == 6
        await anyio.sleep(200)
        assert work.handler.max_concurrent == 3
        assert len(work.handler.finished) == 9


async def test_as_many_are_handled_at_once_as_there_are_hands():
    async with working(changes=9, handler=Handler(seconds=50), concurrency=9) as work:
        await anyio.sleep(40)
        assert work.handler.max_concurrent == 9


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_a_worker_without_hands_is_refused(concurrency):
    async with process_of(ModelService()) as client:
        with pytest.raises(ConfigurationError, match="concurrency of 1"):
            StatusChangeWorker(client, Handler(), concurrency=concurrency)


@pytest.mark.parametrize(("seconds", "late"), [(479, 0), (481, 1)])
async def test_a_handler_is_reported_when_most_of_the_lease_is_gone(caplog, seconds, late):
    async with working(changes=1, handler=Handler(seconds=seconds)) as work:
        await anyio.sleep(490)
        assert work.worker.counts.late == late
        warnings = [each.getMessage() for each in caplog.records if each.levelname == "WARNING"]
        assert len(warnings) == late
        assert all("job 1001 has run for 480 s" in each for each in warnings)
        # Late or not, it is confirmed.
        assert confirmed(work.service) == [1]


async def test_a_shorter_lease_is_reported_sooner():
    options = {"lease": timedelta(seconds=100)}
    async with working(changes=1, handler=Handler(seconds=90), **options) as work:
        await anyio.sleep(85)
        assert work.worker.counts.late == 1


async def test_a_change_that_comes_back_while_it_is_in_hand_is_let_go(caplog):
    handler = Handler(seconds=1900)
    async with working(changes=1, handler=handler) as work:
        await anyio.sleep(1800)
        assert len(work.service.changes[0].leases) > 1
        assert handler.begun == [(1, pytest.approx(0.2, abs=0.2))]
        assert work.worker.counts.skipped == len(work.service.changes[0].leases) - 1
        told = [each for each in caplog.records if "let go" in each.getMessage()]
        assert len(told) == work.worker.counts.skipped
        await anyio.sleep(1000)
        assert handler.overlaps == 0
        assert confirmed(work.service) == [1]
        assert work.worker.counts.handled == work.worker.counts.confirmed == 1


async def test_two_workers_on_one_client_do_not_handle_the_same_change_at_once():
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
        # What was in the one's hands may be in the other's later.
        service.put(SENDER)
        await anyio.sleep(3000)
        assert confirmed(service) == [1, 2]
        other.stop()
        await task


async def test_two_changes_of_one_job_are_two_changes():
    async with working(handler=Handler(seconds=50)) as work:
        for _ in range(2):
            work.service.put(SENDER, job_id=7)
        await anyio.sleep(40)
        assert work.handler.max_concurrent == 2
        await anyio.sleep(40)
        assert confirmed(work.service) == [1, 2]
