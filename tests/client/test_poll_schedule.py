"""The rule for the next poll, and what the clients and processes of one queue share."""

import asyncio
import random
import statistics
from contextlib import AsyncExitStack, suppress
from datetime import timedelta

import anyio
import pytest
import virtual_time
from doubles import error_xml
from model_faults import Fault, Kind
from model_service import OTHER_QUEUE, SENDER, ModelService, Outcome, now, number_of
from model_transport import process_of
from virtual_time import VirtualTime, cancel_natively, run, settle

from posten_signering import FailurePolicy, InMemoryFleet, Sender, StatusPoll
from posten_signering._client.poll_schedule import after_poll
from posten_signering._session.fleet import QueueState
from posten_signering._values.events import Event, PollResult, QueuePolled
from posten_signering.errors import (
    ApiError,
    SigningError,
    TooEagerPollingError,
    TransportError,
    UnexpectedResponseError,
)

pytestmark = pytest.mark.anyio

HOUR = 3600.0
INTERVAL = 600.0
DEFAULT_WAIT = timedelta(seconds=INTERVAL)


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@pytest.fixture
def service():
    return ModelService()


# --- The rule


def too_early(seconds: float | None) -> TooEagerPollingError:
    wait = None if seconds is None else timedelta(seconds=seconds)
    return TooEagerPollingError(operation="poll", next_permitted_poll_time=None, wait=wait)


def next_in_after(*early_waits: float | None, leads: bool, randomly: float = 0.0) -> list[float]:
    """The additional wait after each of several early answers in a row."""
    state, additional = QueueState(leads=leads), []
    for seconds in early_waits:
        outcome = too_early(seconds)
        state = after_poll(state, outcome, sent=True, random=randomly, default_wait=DEFAULT_WAIT)
        additional.append(state.next_in - state.permitted_in)
    return additional


@pytest.mark.parametrize(
    ("leads", "waits", "randomly", "additional"),
    [
        (False, [600] * 5, 0.0, [0, 2700, 8100, 10800, 10800]),
        (False, [600] * 4, 1.0, [0, 5400, 16200, 21600]),
        (False, [5, None, 5], 0.0, [0, 2700, 8100]),
        (False, [600, 1200, 600], 0.0, [0, 5400, 8100]),
        (True, [600] * 8, 0.0, [0] * 6 + [10800] * 2),
        (True, [600] * 1000, 0.0, [0] * 6 + [10800] * 994),
    ],
)
def test_early_answers_in_a_row_cause_an_additional_wait(leads, waits, randomly, additional):
    assert next_in_after(*waits, leads=leads, randomly=randomly) == additional


LOST = TransportError("Lost.", request_may_have_left=True)
BEHIND = QueueState(next_in=50.0, early_answers=3, leads=False)


@pytest.mark.parametrize(
    ("outcome", "permitted_in", "next_in", "leads"),
    [
        (StatusPoll(wait=timedelta(seconds=20)), 20, 20, True),
        (StatusPoll(wait=timedelta(days=2)), 86_400, 86_400, True),
        (StatusPoll(), 600, 600, True),
        (UnexpectedResponseError("x", wait=timedelta(seconds=0.5)), 0, 0, True),
        (LOST, 600, 600, False),
        (asyncio.CancelledError(), 600, 600, False),
        (UnexpectedResponseError("x"), 600, 600, False),
    ],
    ids=str,
)
def test_an_answer_makes_a_process_lead_and_a_lost_response_changes_nothing_about_that(
    outcome, permitted_in, next_in, leads
):
    state = after_poll(BEHIND, outcome, sent=True, random=0.5, default_wait=DEFAULT_WAIT)
    assert (state.permitted_in, state.next_in, state.leads) == (permitted_in, next_in, leads)
    assert state.early_answers == (0 if leads else 3)


def test_a_refusal_with_a_poll_time_does_not_shorten_the_additional_wait():
    refusal = ApiError(operation="poll", status=503)
    refusal.poll_wait = timedelta(seconds=20)
    state = after_poll(BEHIND, refusal, sent=True, random=0.5, default_wait=DEFAULT_WAIT)
    assert (state.permitted_in, state.next_in) == (20, 50)


@pytest.mark.parametrize(
    ("outcome", "sent"),
    [
        (LOST, False),
        (TransportError("Refused.", request_may_have_left=False), True),
        (ApiError(operation="poll", status=503), True),
        (asyncio.CancelledError(), False),
    ],
    ids=str,
)
def test_a_poll_that_did_not_reach_the_queue_changes_nothing(outcome, sent):
    state = after_poll(BEHIND, outcome, sent=sent, random=0.5, default_wait=DEFAULT_WAIT)
    assert state is BEHIND


# --- Several processes


async def consume(client, delivered_at: dict[int, float]) -> None:
    async for change in client.status_changes():
        delivered_at.setdefault(number_of(change), now())
        with suppress(SigningError):
            await client.confirm(change)


async def processes(
    stack: AsyncExitStack, service: ModelService, count: int, seed: int, fleet=None
):
    """Clients of several processes, or of one process if they share a fleet."""
    return [
        await stack.enter_async_context(
            process_of(
                service,
                f"process {number}",
                time=VirtualTime(seed=1000 * seed + number),
                fleet=fleet or InMemoryFleet(share=1 / count),
            )
        )
        for number in range(count)
    ]


def delays(service: ModelService, count: int, seed: int, *, shared: bool = False) -> list[float]:
    """The delays of 21 changes in 12 hours, in intervals. Infinite for a change that is not delivered."""

    async def main() -> list[float]:
        put_at, delivered_at = dict[int, float](), dict[int, float]()
        moments = random.Random(seed)
        async with AsyncExitStack() as stack:
            fleet = InMemoryFleet() if shared else None
            clients = await processes(stack, service, count, seed, fleet)
            with anyio.move_on_after(15 * HOUR):
                async with anyio.create_task_group() as tasks:
                    for client in clients:
                        tasks.start_soon(consume, client, delivered_at)
                    for _ in range(21):
                        await anyio.sleep(moments.uniform(0.5, 1.5) * 12 * HOUR / 21)
                        put_at[service.put(SENDER).number] = now()
        return [
            (delivered_at.get(number, float("inf")) - at) / INTERVAL
            for number, at in put_at.items()
        ]

    return run(main)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    ("count", "penalty", "longest"), [(2, 30, 1), (2, 600, 1), (8, 0, 1), (8, 30, 1), (8, 600, 3)]
)
def test_processes_that_share_nothing_do_not_starve_each_other(count, penalty, longest, seed):
    service = ModelService(seed=seed, early_poll_penalty=penalty)
    waited = delays(service, count, seed)
    assert len(waited) == 21
    assert max(waited) < float("inf")
    assert statistics.median(waited) <= longest


@pytest.mark.parametrize("penalty", [30, 600])
def test_in_a_fleet_no_poll_is_refused_because_of_a_neighbour(penalty):
    service = ModelService(early_poll_penalty=penalty)
    assert max(delays(service, 8, 0, shared=True)) <= 1.1
    outcomes = [poll.outcome for poll in service.polls]
    assert outcomes.count(Outcome.TOO_EARLY) == 0
    assert {poll.process for poll in service.polls} == {f"process {number}" for number in range(8)}


async def test_a_restarted_process_of_a_fleet_knows_the_poll_time(service):
    fleet = InMemoryFleet()
    async with process_of(service, "one", fleet=fleet) as client:
        assert (await client.get_status_change()).change is None
    async with process_of(service, "one again", fleet=fleet) as client:
        with pytest.raises(TooEagerPollingError) as caught:
            await client.get_status_change()
        assert not caught.value.polled
        assert caught.value.next_permitted_poll_time is not None
        service.put(SENDER)
        await anext(client.status_changes())
    assert [poll.outcome for poll in service.polls] == [Outcome.EMPTY, Outcome.CHANGE]
    assert 600 <= now() <= 602


async def test_a_restarted_process_without_a_fleet_keeps_to_the_poll_time_after_one_early_answer(
    service,
):
    """The early answer may be due to its own last poll before the restart."""
    async with process_of(service, "one") as client:
        assert (await client.get_status_change()).change is None
    service.put(SENDER)
    async with process_of(service, "one again") as client:
        await anext(client.status_changes())
    assert [poll.outcome for poll in service.polls] == [
        Outcome.EMPTY,
        Outcome.TOO_EARLY,
        Outcome.CHANGE,
    ]
    assert 600 <= now() <= 602


async def test_a_lost_response_delays_the_whole_fleet(service):
    fleet = InMemoryFleet()
    service.script += [Fault(kind=Kind.LOST_ANSWER)]
    async with (
        process_of(service, "one", fleet=fleet) as one,
        process_of(service, "two", fleet=fleet) as two,
    ):
        with pytest.raises(TransportError):
            await one.get_status_change()
        with pytest.raises(TooEagerPollingError) as caught:
            await two.get_status_change()
        assert not caught.value.polled
        assert 599 <= caught.value.wait.total_seconds() <= 600


async def test_while_a_queue_delivers_all_clients_of_a_fleet_poll(service):
    changes = [service.put(SENDER) for _ in range(12)]
    delivered_at: dict[int, float] = {}
    async with AsyncExitStack() as stack:
        clients = await processes(stack, service, 4, 0, InMemoryFleet())
        with anyio.move_on_after(30):
            async with anyio.create_task_group() as tasks:
                for client in clients:
                    tasks.start_soon(consume, client, delivered_at)
    assert delivered_at.keys() == {change.number for change in changes}
    assert len({poll.process for poll in service.polls if poll.outcome is Outcome.CHANGE}) > 1
    assert [poll.outcome for poll in service.polls].count(Outcome.TOO_EARLY) == 0


async def test_iterators_leave_a_queue_to_a_neighbour_but_a_single_poll_is_sent(service):
    """Only the iterator waits longer than the service asks for."""
    async with process_of(service, "neighbour") as neighbour, process_of(service) as client:
        changes = client.status_changes()
        for _ in range(2):
            await neighbour.get_status_change()
            assert await changes.wait_until_due()
            assert await changes.poll_once() is None
            await anyio.sleep(changes.next_poll_in() if changes.counts.too_early == 1 else 601)
        assert changes.counts.too_early == 2
        assert changes.next_poll_in() > 2000
        assert await changes.poll_once() is None
        assert (await client.get_status_change()).change is None
        # Now this process leads, so its iterator polls at the next permitted time.
        assert changes.next_poll_in() <= 602
    assert len(service.polls_of("one")) == 3


@pytest.mark.parametrize("waits_for", ["turn", "probe"])
async def test_an_iterator_that_waits_for_another_poll_can_be_stopped(waits_for):
    """It waits for the turn that another client has, or until another poll has shown that the service is back."""
    service = ModelService(busy=9.0)
    fleet = InMemoryFleet()
    other = SENDER if waits_for == "turn" else OTHER_QUEUE
    async with (
        process_of(service, fleet=fleet) as client,
        process_of(service, "two", fleet=fleet) as two,
    ):
        if waits_for == "probe":
            service.script += [Fault(kind=Kind.REFUSED)]
            with pytest.raises(TransportError):
                await client.get_status_change()
        polling = client if waits_for == "probe" else two
        first = asyncio.ensure_future(anext(polling.status_changes(sender=other), None))
        await anyio.sleep(3)
        changes = client.status_changes()
        second = asyncio.ensure_future(anext(changes, None))
        await anyio.sleep(1)
        polls = len(service.polls)
        changes.stop()
        assert await second is None
        assert await changes.poll_once() is None
        assert now() < 4.1
        assert len(service.polls) == polls
        await cancel_natively(first)


# --- The interface for workers


async def test_waiting_and_polling_are_separate_for_a_worker(service):
    async with process_of(service) as client:
        changes = client.status_changes()
        assert (changes.polled_at, changes.answered_at) == (None, None)
        assert await changes.wait_until_due()
        assert (now(), changes.next_poll_in()) == (0, 0)
        assert await changes.poll_once() is None
        assert changes.polled_at == 0
        assert 0 < changes.answered_at < 0.3
        service.put(SENDER)
        assert 599 < changes.next_poll_in() < 602
        # A poll that is not due is not sent.
        assert await changes.poll_once() is None
        assert len(service.polls) == 1
        assert await changes.wait_until_due()
        sent_at = now()
        assert sent_at >= 600
        assert number_of(await changes.poll_once()) == 1
        assert changes.polled_at == sent_at
        changes.stop()
        assert not await changes.wait_until_due()
        assert await changes.poll_once() is None
    assert len(service.polls) == 2


async def test_a_failed_poll_is_sent_but_not_answered(service):
    service.script += [Fault(kind=Kind.REFUSED)]
    async with process_of(service) as client:
        changes = client.status_changes()
        assert await changes.poll_once() is None
        assert (changes.polled_at, changes.answered_at) == (0, None)


# --- Failures that iterators share


def queue(number: int) -> Sender:
    return Sender(organization_number=SENDER.organization_number, polling_queue=str(number))


@pytest.mark.parametrize("fault", [Fault(kind=Kind.REFUSED), Fault(kind=Kind.GATEWAY, status=500)])
async def test_the_iterators_of_a_queue_share_their_backoff(service, fault):
    service.outages["one"] = fault
    reported: list[list[float]] = [[] for _ in range(4)]

    def policy(waits: list[float]) -> FailurePolicy:
        return FailurePolicy(on_failure=lambda _, wait: waits.append(wait.total_seconds()))

    async with process_of(service) as client:
        iterators = [client.status_changes(failure_policy=policy(waits)) for waits in reported]
        with anyio.move_on_after(60):
            async with anyio.create_task_group() as tasks:
                for changes in iterators:
                    tasks.start_soon(anext, changes)
    # As many polls as one iterator makes in a minute.
    assert 5 <= len(service.polls) <= 7
    assert sum(changes.counts.failures for changes in iterators) == len(service.polls)
    # Each failure delays all of them, and all are informed of it.
    assert {len(waits) for waits in reported} == {len(service.polls)}


@pytest.mark.parametrize(
    "fault",
    [Fault(kind=Kind.REFUSED), *(Fault(kind=Kind.GATEWAY, status=s) for s in (502, 503, 504))],
)
async def test_while_the_service_is_unreachable_one_poll_at_a_time_checks_it(fault):
    service = ModelService(rate=1000)
    service.outages["one"] = fault
    delivered_at = {}

    async def wait_for_change(client, number: int) -> None:
        await anext(client.status_changes(sender=queue(number)))
        delivered_at[number] = now()

    async with (
        process_of(service, fleet=InMemoryFleet(share=None)) as client,
        anyio.create_task_group() as tasks,
    ):
        for number in range(100):
            service.put(queue(number))
            tasks.start_soon(wait_for_change, client, number)
        await anyio.sleep(HOUR)
        during_outage = len(service.polls)
        service.outages.clear()
        service.busy = 5.0
    # At most as many as there are connections when the outage begins, and then one for each backoff.
    assert during_outage <= 10 + 8 + 3600 / 150
    assert delivered_at.keys() == set(range(100))
    # Then all connections are used again. One after the other, 100 polls would take 500 seconds.
    assert max(delivered_at.values()) <= HOUR + 300 + 100


async def test_polls_that_fail_together_count_as_one_failure(service):
    service.outages["one"] = Fault(kind=Kind.REFUSED)
    waits = []
    policy = FailurePolicy(on_failure=lambda _, wait: waits.append(wait.total_seconds()))
    async with process_of(service, fleet=InMemoryFleet(share=None)) as client:
        iterators = [
            client.status_changes(sender=queue(number), failure_policy=policy)
            for number in range(8)
        ]
        for changes in iterators:
            assert await changes.wait_until_due()
        async with anyio.create_task_group() as tasks:
            for changes in iterators:
                tasks.start_soon(changes.poll_once)
    assert len(waits) == len(service.polls) == 8
    assert max(waits) <= 2


@pytest.mark.parametrize("status", [500, 503])
async def test_a_queue_whose_own_polls_fail_does_not_slow_the_others(status):
    """Not even with a status that usually means that the whole service is unavailable."""

    class OneQueueFails(ModelService):
        def answer(self, request, process, poll):
            answer = super().answer(request, process, poll)
            if poll is not None and poll.queue.sender == OTHER_QUEUE:
                answer.status, answer.body = status, error_xml("INTERNAL_ERROR")
                answer.headers.clear()
            return answer

    service = OneQueueFails()
    for _ in range(500):
        service.put(SENDER)
    async with process_of(service) as client:
        failing = asyncio.ensure_future(anext(client.status_changes(sender=OTHER_QUEUE)))
        changes = client.status_changes()
        for _ in range(500):
            await anext(changes)
        await cancel_natively(failing)
    # The rate budget permits about 7 calls per second.
    assert 500 / 7 < now() < 500 / 7 + 12
    assert len([poll for poll in service.polls if poll.queue.sender == OTHER_QUEUE]) <= 8


async def test_the_policy_of_each_iterator_ends_it_in_an_outage_that_another_one_notices(service):
    """Each gets an error of its own, because the traceback of an error belongs to one task."""
    service.outages["one"] = Fault(kind=Kind.GATEWAY, status=503)
    policies = [FailurePolicy(max_outage=timedelta(minutes=5)), FailurePolicy(max_failures=6)]
    ended = {}

    async def wait_for_change(client, sender: Sender, policy: FailurePolicy) -> None:
        with pytest.raises(ApiError) as caught:
            await anext(client.status_changes(sender=sender, failure_policy=policy))
        ended[sender] = (now(), caught.value)

    async with process_of(service) as client, anyio.create_task_group() as tasks:
        for number in range(10):
            tasks.start_soon(wait_for_change, client, queue(number), policies[number % 2])
    assert len({id(error) for _, error in ended.values()}) == 10
    assert {error.status for _, error in ended.values()} == {503}
    for at, _ in ended.values():
        assert 20 <= at <= 300


async def test_an_answer_ends_the_backoff_of_all_queues_even_if_it_is_a_failure(service):
    service.put(SENDER)
    service.script += [Fault(kind=Kind.GATEWAY, status=status) for status in (503, 500)]
    async with process_of(service) as client:
        for number in range(2):
            with pytest.raises(ApiError):
                await client.get_status_change(sender=queue(number))
        await anext(client.status_changes())
    assert now() < 1


async def test_a_failure_whose_backoff_has_ended_does_not_count_for_a_new_iterator(service):
    service.put(SENDER)
    service.script += [Fault(kind=Kind.REFUSED)]
    async with process_of(service) as client:
        with pytest.raises(TransportError):
            await client.get_status_change()
        await anyio.sleep(10)
        await anext(client.status_changes(failure_policy=FailurePolicy(max_failures=1)))


async def test_a_success_of_another_iterator_resets_the_failures_that_an_iterator_counts(service):
    async with process_of(service) as client:
        changes = client.status_changes(failure_policy=FailurePolicy(max_failures=2))
        for _ in range(3):
            service.script += [Fault(kind=Kind.REFUSED)]
            assert await changes.wait_until_due()
            assert await changes.poll_once() is None
            await anyio.sleep(5)
            service.put(SENDER)
            assert (await client.get_status_change()).change is not None
        assert changes.counts.failures == 3


# --- Events


async def test_every_poll_that_was_sent_causes_one_event(caplog):
    service = ModelService(lease=3 * HOUR)
    caplog.set_level("DEBUG", "posten_signering.polling")
    events: list[Event] = []
    service.put(SENDER)
    service.script += [None, Fault(kind=Kind.GATEWAY, status=500), None, None]
    async with (
        process_of(service, "neighbour") as neighbour,
        process_of(service, observers=[events.append]) as client,
    ):
        changes = client.status_changes()
        assert number_of(await anext(changes)) == 1
        assert await changes.poll_once() is None
        await neighbour.get_status_change()
        for _ in range(2):
            assert await changes.wait_until_due()
            assert await changes.poll_once() is None
        with pytest.raises(TooEagerPollingError):
            await client.get_status_change()
        await anyio.sleep(700)
        task = asyncio.ensure_future(client.get_status_change(sender=OTHER_QUEUE))
        await settle()
        await cancel_natively(task)
    polls = [event for event in events if isinstance(event, QueuePolled)]
    assert [(poll.polling_queue, poll.result, poll.error_type) for poll in polls] == [
        (None, PollResult.CHANGE, None),
        (None, PollResult.FAILURE, "ApiError"),
        (None, PollResult.TOO_EARLY, None),
        (None, PollResult.EMPTY, None),
        ("shop", PollResult.FAILURE, "CancelledError"),
    ]
    assert len(polls) == len(service.polls) - 1
    seconds = [poll.next_poll_in.total_seconds() for poll in polls]
    assert seconds[0] == 0
    assert 1 <= seconds[1] <= 2
    assert all(597 <= wait <= 602 for wait in seconds[2:])
    # The log has the text of the failure, without a traceback.
    [failure] = [line for line in caplog.messages if "HTTP 500" in line]
    assert failure.startswith(f"Polling {SENDER.organization_number} failed")
    assert "Traceback" not in caplog.text


async def test_a_poll_that_was_never_sent_causes_no_event(service):
    events: list[Event] = []
    service.block_now(SENDER.organization_number)
    async with process_of(service, observers=[events.append]) as client:
        with pytest.raises(SigningError):
            await client.check_access()
        changes = client.status_changes()
        task = asyncio.ensure_future(anext(changes, None))
        await anyio.sleep(5)
        changes.stop()
        assert await task is None
    assert not [event for event in events if isinstance(event, QueuePolled)]
