"""How the worker ends: by `stop`, by cancellation, or because polling failed. In virtual time."""

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

import anyio
import doubles
import pytest
import virtual_time
from model_faults import Fault, Kind
from model_service import SENDER, ModelService, now
from model_transport import ModelTransport, process_of
from model_worker import Handler, confirmations_sent, confirmed, working
from virtual_time import cancel_natively, settle

from posten_signering import DirectClient, FailurePolicy
from posten_signering._values.events import ChangeReleased, ReleaseReason
from posten_signering.errors import (
    ClientStateError,
    SenderNotSpecifiedError,
    TlsError,
    TransportError,
)
from posten_signering.worker import StatusChangeWorker, WorkCounts

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


# --- Stopping


async def test_a_worker_that_is_stopped_before_it_runs_sends_nothing():
    service = ModelService()
    async with process_of(service) as client:
        worker = StatusChangeWorker(client, Handler())
        worker.stop()
        await worker.run()
    assert service.calls == []
    assert worker.counts == WorkCounts()


async def test_stop_ends_a_sleeping_worker_immediately():
    async with working() as work:
        await anyio.sleep(60)
        stopped_at = now()
        work.worker.stop()
        await work.ended()
        assert now() - stopped_at < 1e-3
        assert len(work.service.polls) == 1


async def test_stop_ends_a_worker_in_backoff_immediately():
    service = ModelService()
    service.script.append(Fault(kind=Kind.LOST_ANSWER))
    async with working(service=service) as work:
        await anyio.sleep(60)
        stopped_at = now()
        work.worker.stop()
        await work.ended()
        assert now() - stopped_at < 1e-3


async def test_stop_while_all_handlers_are_busy_lets_them_finish():
    async with working(changes=5, handler=Handler(seconds=20), concurrency=2) as work:
        await anyio.sleep(10)
        work.worker.stop()
        await work.ended()
        assert sorted(work.handler.finished) == confirmed(work.service) == [1, 2]
        assert len(work.service.polls) == 2


async def test_stop_during_a_poll_handles_the_change_of_that_poll():
    service = ModelService(slow=2.0)
    async with working(changes=1, service=service) as work:
        await anyio.sleep(0.05)
        assert len(service.polls) == 1
        work.worker.stop()
        await work.ended()
        assert confirmed(service) == [1]
        assert len(service.polls) == 1


async def test_stop_during_a_poll_without_a_response_ends_after_stop_within():
    service = ModelService(slow=500.0)
    async with working(changes=1, service=service, stop_within=timedelta(seconds=5)) as work:
        await anyio.sleep(1)
        assert len(service.polls) == 1
        stopped_at = now()
        work.worker.stop()
        await work.ended()
        assert now() - stopped_at == pytest.approx(5, abs=0.01)
        assert confirmed(service) == []


async def test_stop_during_a_confirmation_completes_the_confirmation():
    service = ModelService(slow=2.0)
    async with working(changes=1, service=service, handler=Handler(seconds=5)) as work:
        for _ in range(1000):
            if not confirmations_sent(service):
                await anyio.sleep(0.01)
        assert confirmed(service) == []
        work.worker.stop()
        work.worker.stop()
        await work.ended()
        assert confirmed(service) == [1]
        assert work.worker.counts.confirmed == 1


async def test_handlers_that_take_too_long_are_cancelled_and_their_changes_redelivered():
    options = {"stop_within": timedelta(seconds=30), "concurrency": 2}
    async with working(changes=2, handler=Handler(seconds=100), **options) as work:
        await anyio.sleep(5)
        stopped_at = now()
        work.worker.stop()
        await work.ended()
        assert now() - stopped_at == pytest.approx(30, abs=0.01)
        assert sorted(work.handler.cancelled) == [1, 2]
        assert confirmed(work.service) == []
        assert work.worker.counts.failed == 2
        released = [event.reason for event in work.events_of(ChangeReleased)]
        assert released == [ReleaseReason.CANCELLED] * 2
        later = StatusChangeWorker(work.client, after := Handler())
        task = asyncio.ensure_future(later.run())
        await anyio.sleep(1300)
        later.stop()
        await task
        assert sorted(after.finished) == confirmed(work.service) == [1, 2]


async def test_a_confirmation_that_takes_too_long_is_cancelled():
    service = ModelService()
    service.script.extend([None, Fault(kind=Kind.SILENCE)])
    options = {"stop_within": timedelta(seconds=5), "concurrency": 1}
    async with working(changes=1, service=service, **options) as work:
        await anyio.sleep(3)
        work.worker.stop()
        await work.ended()
        assert work.worker.counts.unconfirmed == 1


async def test_a_change_that_waits_for_a_retry_is_released_at_once():
    async with working(changes=1, handler=Handler(always_fails=[1])) as work:
        await anyio.sleep(20)
        assert work.worker.health.waiting_for_retry == 1
        stopped_at, begun = now(), len(work.handler.begun)
        work.worker.stop()
        await work.ended()
        assert now() - stopped_at < 1e-3
        assert len(work.handler.begun) == begun
        assert work.worker.counts.failed == 1


async def test_the_worker_ends_although_a_handler_ignores_its_cancellation(caplog):
    """It also uses no CPU: in a tight loop of cancellations, the virtual time would stand still."""
    end = asyncio.Event()

    async def ignores_cancellation(change):
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()

    options = {"handler": ignores_cancellation, "stop_within": timedelta(seconds=10)}
    async with working(changes=1, **options) as work:
        await anyio.sleep(5)
        stopped_at = now()
        work.worker.stop()
        await work.ended()
        assert now() - stopped_at == pytest.approx(40, abs=0.01)
        assert "1 handler(s) ignore their cancellation" in caplog.text
        health = work.worker.health
        assert (health.running, health.handling, health.ignoring_cancellation) == (False, 1, 1)
        # Nobody knows what the handler has done, so its change is not confirmed when it returns.
        end.set()
        await anyio.sleep(5)
        assert work.worker.health.handling == 0
        assert confirmed(work.service) == []
        assert work.worker.counts.failed == 1


# --- Cancellation at any moment


@pytest.mark.parametrize("how", ["stop", "native", "scope", "timeout"])
async def test_no_change_is_lost_whenever_the_worker_is_ended(how):
    """Ends the worker after 0, 20, 40 … 1980 ms: during polls, handlers and confirmations."""
    service = ModelService(slow=0.3, lease=60.0, empty_wait=1.0)
    begun = handled = 0
    async with process_of(service, default_wait=1.0) as client:
        for moment in range(100):
            handler = Handler(seconds=0.5)
            for _ in range(3):
                service.put(SENDER)
            worker = StatusChangeWorker(client, handler, concurrency=2)
            seconds = moment * 0.02
            if how == "scope":
                with anyio.move_on_after(seconds) as scope:
                    await worker.run()
                assert scope.cancelled_caught
            elif how == "timeout":
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await worker.run()
            else:
                task = asyncio.ensure_future(worker.run())
                await anyio.sleep(seconds)
                worker.stop() if how == "stop" else task.cancel()
                await asyncio.wait([task])
                assert task.cancelled() == (how == "native")
            assert handler.cancelled == []
            assert len(handler.finished) == len(handler.begun)
            counts = worker.counts
            assert counts.handled == counts.confirmed == len(handler.begun)
            assert counts.unconfirmed == counts.failed == 0
            begun, handled = begun + len(handler.begun), handled + len(handler.finished)
            assert set(handler.finished) <= set(confirmed(service))
        # The service redelivers the changes of polls whose responses were lost.
        await anyio.sleep(70)
        last = StatusChangeWorker(client, last_handler := Handler(seconds=0.1))
        task = asyncio.ensure_future(last.run())
        await anyio.sleep(600)
        last.stop()
        await task
    assert len(confirmed(service)) == 300
    assert handled + len(last_handler.finished) == 300
    assert begun > 50


@pytest.mark.parametrize("moment", ["sleeping", "polling", "all handlers busy", "handling"])
async def test_a_worker_whose_task_is_cancelled_lets_its_handlers_finish(moment):
    changes = {"sleeping": 0, "polling": 0, "all handlers busy": 3, "handling": 1}[moment]
    service = ModelService(slow=4.0 if moment == "polling" else 0.1)
    handler = Handler(seconds=20)
    options = {"service": service, "handler": handler, "concurrency": 2}
    async with working(changes=changes, **options) as work:
        await anyio.sleep(0.2 if moment == "polling" else 10)
        await cancel_natively(work.task)
        assert work.task.cancelled()
        assert handler.cancelled == []
        assert len(handler.finished) == len(confirmed(service)) == min(changes, 2)


async def test_after_a_cancellation_handlers_that_take_too_long_are_cancelled():
    options = {"stop_within": timedelta(seconds=30)}
    async with working(changes=1, handler=Handler(seconds=100), **options) as work:
        await anyio.sleep(5)
        cancelled_at = now()
        await cancel_natively(work.task)
        assert now() - cancelled_at == pytest.approx(30, abs=0.01)
        assert work.handler.cancelled == [1]
        assert confirmed(work.service) == []


async def test_a_cancelled_scope_waits_up_to_stop_within():
    service, handler = ModelService(), Handler(seconds=100)
    service.put(SENDER)
    async with process_of(service) as client:
        worker = StatusChangeWorker(client, handler, stop_within=timedelta(seconds=30))
        started_at = now()
        with anyio.move_on_after(5):
            await worker.run()
        assert now() - started_at == pytest.approx(35, abs=0.01)
        assert handler.cancelled == [1]


async def test_a_second_cancellation_ends_the_worker_immediately():
    async with working(changes=2, handler=Handler(seconds=100)) as work:
        await anyio.sleep(5)
        work.task.cancel()
        await anyio.sleep(3)
        assert not work.task.done()
        cancelled_at = now()
        await cancel_natively(work.task)
        assert now() - cancelled_at < 1e-3
        assert work.task.cancelled()
        assert sorted(work.handler.cancelled) == [1, 2]
        # The client is still usable.
        await work.client.check_access()


# --- Failures of polling


async def test_too_many_failed_polls_end_the_worker_with_the_error():
    service = ModelService()
    service.put(SENDER)
    service.script.extend([None, *[Fault(kind=Kind.REFUSED)] * 3])
    handler = Handler(seconds=20)
    options = {
        "failure_policy": FailurePolicy(max_failures=3),
        "handler": handler,
        "concurrency": 3,
    }
    async with working(service=service, **options) as work:
        with pytest.raises(TransportError) as ended:
            await work.ended()
        assert type(ended.value) is TransportError
        # The running handler finished first.
        assert confirmed(service) == [1]
        assert work.worker.counts.polls.failures == 3


async def test_a_permanent_failure_ends_the_worker_immediately():
    class RefusingTransport(ModelTransport):
        @asynccontextmanager
        async def exchange(self, request):
            message = "The client certificate is revoked."
            raise TlsError(message, request_may_have_left=False, certificate_refused=True)
            yield

    async with working(transport=RefusingTransport(ModelService(), "one")) as work:
        with pytest.raises(TlsError):
            await work.ended()
        assert now() < 1


async def test_transient_failures_do_not_end_the_worker():
    service = ModelService()
    service.script.extend([Fault(kind=Kind.REFUSED)] * 5)
    async with working(changes=1, service=service) as work:
        await anyio.sleep(600)
        assert confirmed(service) == [1]
        assert work.worker.counts.polls.failures == 5


async def test_a_worker_that_is_cancelled_after_polling_failed_ends_as_cancelled():
    service = ModelService()
    service.put(SENDER)
    service.script.extend([None, Fault(kind=Kind.REFUSED)])
    options = {"failure_policy": FailurePolicy(max_failures=1), "handler": Handler(seconds=100)}
    async with working(service=service, **options) as work:
        await anyio.sleep(5)
        assert not work.task.done()
        await cancel_natively(work.task)
        assert work.task.cancelled()


async def test_a_worker_can_run_only_once():
    async with working() as work:
        await anyio.sleep(5)
        with pytest.raises(ClientStateError, match="Create a new one"):
            await work.worker.run()
        work.worker.stop()
        await work.ended()
        with pytest.raises(ClientStateError, match="Create a new one"):
            await work.worker.run()


async def test_a_worker_without_a_sender_raises():
    async with (
        process_of(ModelService()) as with_sender,
        DirectClient(replace(with_sender.configuration, sender=None)) as client,
    ):
        with pytest.raises(SenderNotSpecifiedError):
            await StatusChangeWorker(client, Handler()).run()


def test_a_worker_can_be_created_before_the_event_loop():
    async def work() -> None:
        async with process_of(ModelService()) as client:
            worker._client = client
            task = asyncio.ensure_future(worker.run())
            await settle()
            worker.stop()
            await task

    not_entered = DirectClient(doubles.configuration(doubles.ScriptedTransport()))
    worker = StatusChangeWorker(not_entered, Handler())
    with asyncio.Runner(loop_factory=virtual_time.VirtualLoop) as runner:
        runner.run(work())
    assert worker.counts.polls.empty == 1
