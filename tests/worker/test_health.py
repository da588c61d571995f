"""The health of a worker, for probes. In virtual time."""

import asyncio
from datetime import timedelta

import anyio
import doubles
import pytest
import virtual_time
from model_faults import Fault, Kind
from model_service import OTHER_SENDER, SENDER, ModelService
from model_worker import Handler, working

from posten_signering import DirectClient
from posten_signering.worker import StatusChangeWorker, WorkerHealth

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


def seconds(duration: timedelta | None) -> float:
    assert duration is not None
    return duration.total_seconds()


async def test_before_and_after_its_run_a_worker_is_not_running():
    client = DirectClient(doubles.configuration(doubles.ScriptedTransport()))
    assert StatusChangeWorker(client, Handler()).health == WorkerHealth(running=False)
    async with working() as work:
        await anyio.sleep(5)
        assert work.worker.health.running
        work.worker.stop()
        await work.ended()
        assert not work.worker.health.running


async def test_it_shows_the_last_answer_and_the_next_poll():
    async with working() as work:
        await anyio.sleep(100)
        health = work.worker.health
        assert seconds(health.answered_ago) == pytest.approx(99.8, abs=0.2)
        assert seconds(health.next_poll_in) == pytest.approx(501, abs=1)
        assert (health.handling, health.handling_for, health.overdue_for) == (0, None, timedelta(0))


async def test_it_shows_the_changes_that_are_being_handled():
    handler = Handler(seconds=50, fails=[1, 1])
    async with working(changes=3, handler=handler) as work:
        await anyio.sleep(40)
        health = work.worker.health
        assert (health.handling, health.waiting_for_retry) == (3, 0)
        assert seconds(health.handling_for) == pytest.approx(40, abs=0.5)
        await anyio.sleep(10.7)
        assert (work.worker.health.handling, work.worker.health.waiting_for_retry) == (1, 1)


async def test_it_shows_the_worst_queue_and_each_queue():
    service = ModelService()
    service.put(SENDER)
    options = {"senders": [SENDER, OTHER_SENDER], "concurrency": 1, "service": service}
    async with working(handler=Handler(seconds=100), **options) as work:
        await anyio.sleep(90)
        health = work.worker.health
        first, second = health.queues
        assert (first.sender, second.sender) == (SENDER, OTHER_SENDER)
        assert second.answered_ago is None
        assert health.answered_ago == first.answered_ago
        # The second queue waits for the only slot since the beginning.
        assert health.overdue_for == second.overdue_for > timedelta(seconds=89)


async def test_an_outage_of_the_service_does_not_make_a_poll_overdue():
    """Otherwise a liveness probe would restart every process during an outage, which helps nobody."""
    service = ModelService()
    service.outages["one"] = Fault(kind=Kind.REFUSED)
    async with working(service=service) as work:
        for _ in range(100):
            await anyio.sleep(60)
            assert work.worker.health.overdue_for < timedelta(seconds=30)
        assert work.worker.health.answered_ago is None


async def test_a_worker_whose_handlers_all_ignore_their_cancellation_is_overdue():
    end = asyncio.Event()

    async def ignores_cancellation(change):
        with anyio.CancelScope(shield=True):
            await end.wait()

    async with working(changes=2, handler=ignores_cancellation, concurrency=2) as work:
        await anyio.sleep(1800)
        health = work.worker.health
        assert health.ignoring_cancellation == 2
        assert health.overdue_for > timedelta(minutes=15)
        end.set()
        await anyio.sleep(1)
        assert work.worker.health.overdue_for < timedelta(seconds=5)
