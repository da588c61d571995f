"""A worker with many queues: fairness, senders without access, senders that come and go. In virtual time."""

import threading
from contextlib import asynccontextmanager
from datetime import timedelta

import anyio
import pytest
import virtual_time
from doubles import error_xml
from model_faults import Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, Answer, ModelService, now
from model_transport import ModelTransport
from model_worker import Handler, confirmed, working

from posten_signering import FailurePolicy, Sender
from posten_signering._values.events import SenderUnavailable, WorkerStarted, WorkerStopped
from posten_signering.errors import (
    ApiError,
    ArgumentTypeError,
    ClientStateError,
    NotAuthorizedError,
    TransportError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


class Refusing(ModelTransport):
    """A transport to a service that refuses the polls of some organisations."""

    def __init__(self, service: ModelService, *senders: Sender) -> None:
        super().__init__(service, "one")
        self.refused = {sender.organization_number for sender in senders}

    @asynccontextmanager
    async def exchange(self, request):
        organization = request.url.reveal().split("/api/")[1].split("/")[0]
        if organization in self.refused:
            await anyio.sleep(self.service.busy)
            yield Answer(403, {"content-type": "application/xml"}, error_xml("NOT_AUTHORIZED"))
            return
        async with super().exchange(request) as response:
            yield response


def polls_of(work, sender) -> int:
    return sum(poll.queue.sender == sender for poll in work.service.polls)


# --- Fairness


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_full_queue_does_not_delay_the_others(concurrency):
    """Each change takes 10 s. The full queue alone would keep the worker busy for minutes."""
    service = ModelService()
    for _ in range(100):
        service.put(SENDER)
    others = [OTHER_QUEUE, OTHER_SENDER]
    numbers = [service.put(sender).number for sender in others]
    options = {"senders": [SENDER, *others], "concurrency": concurrency}
    async with working(service=service, handler=Handler(seconds=10), **options) as work:
        await anyio.sleep(35)
        assert set(numbers) < set(confirmed(service))
        assert work.handler.max_concurrent == concurrency
        [started] = work.events_of(WorkerStarted)
        number = SENDER.organization_number
        assert started.queues == (number, f"{number}/shop", OTHER_SENDER.organization_number)


@pytest.mark.parametrize("blocked", [False, True])
async def test_an_organisation_with_many_queues_does_not_delay_the_others(blocked):
    """Polling all of its queues takes half a minute, because of the rate limit."""
    number = SENDER.organization_number
    noisy = [Sender(organization_number=number, polling_queue=f"{queue}") for queue in range(200)]
    service = ModelService()
    for _ in range(10):
        service.put(OTHER_SENDER)
    async with working(service=service, senders=[*noisy, OTHER_SENDER]) as work:
        await anyio.sleep(0.05)
        if blocked:
            service.block_now(number)
        await anyio.sleep(8)
        assert len(confirmed(service)) == 10
        assert polls_of(work, noisy[-1]) == 0
        await anyio.sleep(90)
        assert all(polls_of(work, sender) for sender in noisy)


async def test_a_sender_that_is_given_twice_is_polled_once():
    async with working(senders=[SENDER, OTHER_QUEUE, SENDER]) as work:
        await anyio.sleep(60)
        assert [polls_of(work, SENDER), polls_of(work, OTHER_QUEUE)] == [1, 1]
        assert work.worker.counts.polls.empty == 2


# --- Senders without access


async def test_a_sender_without_access_is_reported_and_polled_again_while_the_others_continue():
    service = ModelService(empty_wait=30)
    transport = Refusing(service, OTHER_SENDER)
    options = {"service": service, "transport": transport, "senders": [SENDER, OTHER_SENDER]}
    async with working(**options) as work:
        await anyio.sleep(5)
        [event] = work.events_of(SenderUnavailable)
        assert event.organization_number == OTHER_SENDER.organization_number
        assert event.error_type == "NotAuthorizedError"
        assert 150 <= event.retry_in.total_seconds() <= 300
        [_, unavailable] = work.worker.health.queues
        assert unavailable.error_type == "NotAuthorizedError"
        assert timedelta(seconds=140) < unavailable.next_poll_in < timedelta(seconds=300)
        service.put(SENDER)
        service.put(OTHER_SENDER)
        await anyio.sleep(100)
        assert confirmed(service) == [1]
        await anyio.sleep(1000)
        assert 4 <= len(work.events_of(SenderUnavailable)) <= 8
        transport.refused.clear()
        await anyio.sleep(400)
        assert confirmed(service) == [1, 2]
        assert all(queue.error_type is None for queue in work.worker.health.queues)


@pytest.mark.parametrize("senders", [[SENDER], [SENDER, OTHER_SENDER]])
async def test_if_no_sender_has_access_the_worker_raises(senders):
    service = ModelService()
    transport = Refusing(service, SENDER, OTHER_SENDER)
    async with working(service=service, transport=transport, senders=senders) as work:
        with pytest.raises(NotAuthorizedError):
            await work.ended()
        assert now() < 5
        assert len(work.events_of(SenderUnavailable)) == len(senders) - 1
        [stopped] = work.events_of(WorkerStopped)
        assert (stopped.reason, stopped.error_type) == ("polling failed", "NotAuthorizedError")


@pytest.mark.parametrize(
    ("kind", "raised"), [(Kind.REFUSED, TransportError), (Kind.GATEWAY, ApiError)]
)
async def test_a_failure_that_the_failure_policy_raises_ends_the_worker(kind, raised):
    service = ModelService()
    service.outages["one"] = Fault(kind=kind)
    options = {"failure_policy": FailurePolicy(max_failures=1), "senders": [SENDER, OTHER_SENDER]}
    async with working(service=service, **options) as work:
        with pytest.raises(raised):
            await work.ended()
        assert work.events_of(SenderUnavailable) == []
        assert work.events_of(WorkerStopped)[0].reason == "polling failed"


# --- Senders that come and go


def in_a_thread(function, argument) -> None:
    """Calls a function in a different thread. The event loop waits, so that virtual time does not pass."""
    thread = threading.Thread(target=function, args=(argument,))
    thread.start()
    thread.join()


async def test_senders_can_be_added_and_removed_from_any_thread():
    async with working(senders=[]) as work:
        service, worker = work.service, work.worker
        for sender in (SENDER, OTHER_SENDER):
            service.put(sender)
        await anyio.sleep(60)
        assert service.polls == []
        assert worker.health.next_poll_in is None
        in_a_thread(worker.add_sender, SENDER)
        await anyio.sleep(60)
        assert confirmed(service) == [1]
        in_a_thread(worker.remove_sender, SENDER)
        worker.remove_sender(OTHER_QUEUE)
        worker.add_sender(OTHER_SENDER)
        service.put(SENDER)
        await anyio.sleep(1300)
        assert confirmed(service) == [1, 2]
        assert [queue.sender for queue in worker.health.queues] == [OTHER_SENDER]
        # The counts include the polls of removed senders.
        assert worker.counts.polls.changes == 2
        with pytest.raises(ArgumentTypeError):
            worker.add_sender("123456789")


async def test_a_sender_that_is_added_just_before_the_worker_stops_is_not_polled():
    async with working(senders=[]) as work:
        work.service.put(SENDER)
        await anyio.sleep(1)
        work.worker.add_sender(SENDER)
        work.worker.stop()
        await anyio.sleep(60)
    assert work.service.polls == []


async def test_the_default_sender_can_be_removed():
    async with working() as work:
        await anyio.sleep(5)
        work.worker.remove_sender(SENDER)
        await anyio.sleep(1300)
        assert len(work.service.polls) == 1


async def test_a_removed_sender_finishes_its_poll_in_flight_and_its_handlers():
    service = ModelService(busy=5)
    handler = Handler(seconds=20)
    async with working(changes=2, service=service, handler=handler) as work:
        await anyio.sleep(7)
        # A handler runs, and the second poll is in flight.
        assert len(service.polls) == 2
        assert len(handler.begun) == 1
        work.worker.remove_sender(SENDER)
        await anyio.sleep(60)
        assert confirmed(service) == [1, 2]
        assert len(service.polls) == 2


@pytest.mark.parametrize("again", [True, False])
async def test_a_sender_that_loses_access_while_it_is_removed_does_not_end_the_worker(again):
    """Its last poll is in flight. If the sender is added again meanwhile, it is unavailable."""
    service = ModelService(busy=5)
    transport = Refusing(service, OTHER_SENDER)
    options = {"service": service, "transport": transport, "senders": [SENDER, OTHER_SENDER]}
    async with working(**options) as work:
        await anyio.sleep(2)
        work.worker.remove_sender(OTHER_SENDER)
        await anyio.sleep(1)
        if again:
            work.worker.add_sender(OTHER_SENDER)
        await anyio.sleep(30)
        assert not work.task.done()
        assert len(work.events_of(SenderUnavailable)) == again


async def test_a_sender_can_not_be_added_to_a_worker_of_a_closed_client():
    async with working() as work:
        await anyio.sleep(5)
        await work.client.aclose()
        work.worker.add_sender(OTHER_SENDER)
        with pytest.raises(ClientStateError, match="is closed"):
            await work.ended()


async def test_a_sender_that_is_added_while_the_worker_stops_is_not_polled():
    async with working(changes=1, handler=Handler(seconds=20)) as work:
        await anyio.sleep(5)
        work.worker.stop()
        await anyio.sleep(1)
        work.worker.add_sender(OTHER_SENDER)
        await work.ended()
        assert polls_of(work, OTHER_SENDER) == 0


async def test_queues_that_wait_for_a_slot_are_stopped_at_once():
    service = ModelService()
    for sender in (SENDER, OTHER_QUEUE, OTHER_SENDER):
        service.put(sender)
    options = {"senders": [SENDER, OTHER_QUEUE, OTHER_SENDER], "concurrency": 1}
    async with working(service=service, handler=Handler(seconds=20), **options) as work:
        await anyio.sleep(5)
        work.worker.stop()
        await work.ended()
        assert len(service.polls) == 1
        assert confirmed(service) == [1]
