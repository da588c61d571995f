"""The rate budget of one process, the calls in flight, and what clients do when the service blocks."""

import asyncio
import threading
from collections import defaultdict, deque
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from random import Random

import anyio
import pytest
import virtual_time
from budget import budget, most_in_a_second
from doubles import PADES, ROOT, Answer, Clock, Hang, ScriptedTransport, UnlimitedFleet, client_of
from hypothesis import given, settings
from hypothesis import strategies as st
from model_faults import Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, Outcome, now
from model_transport import ModelTransport, process_of
from virtual_time import cancel_natively, run, settle

from posten_signering import InMemoryFleet, Sender
from posten_signering._session.rate import RateBudget
from posten_signering.errors import ConfigurationError, RateLimitedError, TransportError

pytestmark = pytest.mark.anyio

OURS, THEIRS = SENDER.organization_number, OTHER_SENDER.organization_number


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


# --- Several event loops


def test_threads_can_share_a_budget_and_stay_within_its_limit():
    """With state that belongs to one event loop, both threads waited forever."""
    clock, moving, moments = Clock(), threading.Lock(), []

    async def sleep(seconds: float) -> None:
        with moving:
            clock.wait(seconds=seconds)

    bucket = RateBudget(monotonic=clock.monotonic, sleep=sleep)
    threads = [
        threading.Thread(target=lambda: asyncio.run(make_calls()), daemon=True) for _ in range(2)
    ]

    async def make_calls() -> None:
        async def call() -> None:
            await make_call(bucket, OURS)
            moments.append(clock.monotonic())

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(call)

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(moments) == 40
    assert most_in_a_second(sorted(moments)) <= 10


def test_a_block_that_one_event_loop_met_holds_for_the_others():
    clock = Clock()
    slept = []

    async def sleep(seconds):
        slept.append(seconds)
        clock.wait(seconds=seconds)

    bucket = RateBudget(monotonic=clock.monotonic, sleep=sleep)
    bucket.block(OURS, 30)
    asyncio.run(make_call(bucket, THEIRS))
    assert slept == []
    asyncio.run(make_call(bucket, OURS))
    assert slept == [30]


def test_a_call_may_end_while_its_thread_uses_the_budget():
    """The garbage collector may end an abandoned call at any moment."""
    ends = []

    def monotonic() -> float:
        if ends:
            ends.pop()()
        return 0.0

    bucket = RateBudget(monotonic=monotonic)

    async def calls() -> None:
        ends.append(await bucket.acquire(OURS))
        await bucket.acquire(OURS)

    thread = threading.Thread(target=lambda: asyncio.run(calls()), daemon=True)
    thread.start()
    thread.join(30)
    assert (thread.is_alive(), ends) == (False, [])


async def make_call(bucket: RateBudget, organization: str) -> None:
    """A call that gets its response immediately."""
    arrived = await bucket.acquire(organization)
    arrived()


# --- The bucket


@settings(max_examples=60)
@given(
    delays=st.lists(st.one_of(st.just(0.0), st.floats(0, 3)), min_size=1, max_size=60),
    share=st.sampled_from([1.0, 0.5, 0.25, 0.1]),
)
def test_no_second_has_more_calls_than_the_share_allows(delays, share):
    async def main() -> None:
        bucket, moments = budget(share), []

        async def call() -> None:
            await make_call(bucket, OURS)
            moments.append(now())

        async with anyio.create_task_group() as tasks:
            for delay in delays:
                await anyio.sleep(delay)
                tasks.start_soon(call)
        assert len(moments) == len(delays)
        assert most_in_a_second(moments) <= 10 * share

    run(main)


def test_most_in_a_second_counts_one_call_too_many():
    assert most_in_a_second([0.0, *[0.1 * n for n in range(1, 11)]]) == 11


@pytest.mark.parametrize("processes", range(1, 11))
async def test_processes_with_equal_shares_stay_within_the_limit_together(processes):
    """Even when the busiest second of each process is the same second."""
    bucket, moments = budget(1 / processes), []
    for _ in range(200):
        await make_call(bucket, OURS)
        moments.append(now())
    assert processes * most_in_a_second(moments) <= 10
    # At least half of the limit is used.
    assert processes * len(moments) / moments[-1] >= 5


async def test_after_a_quiet_hour_a_process_gets_its_burst_and_no_more():
    bucket, moments = budget(), []
    await anyio.sleep(3600)
    for _ in range(30):
        await make_call(bucket, OURS)
        moments.append(now())
    assert most_in_a_second(moments) <= 10
    assert moments[1] == moments[0]


async def test_calls_are_let_through_first_come_first_served():
    bucket, order = budget(), []

    async def call(number: int) -> None:
        await make_call(bucket, OURS)
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(call, number)
    assert order == list(range(50))


async def got_through_in_scope(bucket: RateBudget, seconds: float) -> bool:
    """Whether the call got through before its cancel scope ended it."""
    with anyio.move_on_after(seconds) as scope:
        await make_call(bucket, OURS)
    return not scope.cancelled_caught


async def got_through_in_task(bucket: RateBudget, seconds: float) -> bool:
    """Whether the call got through before `Task.cancel` ended it."""
    task = asyncio.ensure_future(make_call(bucket, OURS))
    await asyncio.wait([task], timeout=seconds)
    await cancel_natively(task)
    return not task.cancelled()


async def moments_of(callers, got_through=None) -> dict[int, float]:
    """When each caller got through, by its number; -1 for a caller with a time limit.

    A caller is its number, the delay before it calls, and its time limit in seconds or None.
    """
    bucket, moments = budget(), {}

    async def call(number: int, time_limit: float | None) -> None:
        if time_limit is None:
            await make_call(bucket, OURS)
            moments[number] = now()
        elif await got_through(bucket, time_limit):
            moments[number] = -1.0

    async with anyio.create_task_group() as tasks:
        for number, (delay, time_limit) in callers:
            await anyio.sleep(delay)
            tasks.start_soon(call, number, time_limit)
    return moments


@pytest.mark.parametrize("got_through", [got_through_in_scope, got_through_in_task])
@settings(max_examples=60)
@given(
    callers=st.lists(
        st.tuples(st.floats(0, 0.1), st.one_of(st.none(), st.floats(0, 2))), max_size=25
    )
)
def test_a_call_that_is_cancelled_while_it_waits_uses_no_budget(got_through, callers):
    """The other calls get through at the same moments as without the cancelled calls."""
    numbered = list(enumerate(callers))
    with_cancelled = run(lambda: moments_of(numbered, got_through))

    # The same calls without those that were cancelled, and without time limits.
    not_cancelled, delay = [], 0.0
    for number, (before, _) in numbered:
        delay += before
        if number in with_cancelled:
            not_cancelled.append((number, (delay, None)))
            delay = 0.0
    without_cancelled = run(lambda: moments_of(not_cancelled))
    assert without_cancelled.keys() == with_cancelled.keys()
    for number, moment in with_cancelled.items():
        if moment >= 0:
            assert moment == pytest.approx(without_cancelled[number], abs=1e-5)


async def test_a_block_delays_all_calls_of_that_organisation_only():
    bucket, moments = budget(), defaultdict(list)

    async def call(organization: str) -> None:
        await make_call(bucket, organization)
        moments[organization].append(now())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(call, OURS)
        await anyio.sleep(0.05)  # two calls got through, and three wait
        bucket.block(OURS, 30)
        for organization in (OURS, THEIRS):
            tasks.start_soon(call, organization)
    assert [moment < 0.05 for moment in moments[OURS]] == [True] * 2 + [False] * 4
    assert min(moments[OURS][2:]) == pytest.approx(30.05, abs=1e-3)
    assert most_in_a_second(moments[OURS]) <= 10
    assert moments[THEIRS] == [pytest.approx(0.05, abs=1e-3)]


async def test_the_longest_of_several_blocks_applies():
    bucket = budget()
    for seconds in (10, 30, 5):
        bucket.block(OURS, seconds)
    await make_call(bucket, OURS)
    assert now() == pytest.approx(30, abs=1e-3)


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
async def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ConfigurationError, match="share"):
        InMemoryFleet(share=share)


# --- Through the client


def confirmation(service: ModelService, sender: Sender = SENDER) -> str:
    change = service.put(sender)
    job = f"{ROOT}/{sender.organization_number}/direct/signature-jobs/{change.job_id}"
    return f"{job}/changes/{change.number}/complete"


async def test_concurrent_calls_are_paced():
    service = ModelService()
    urls = [confirmation(service) for _ in range(60)]
    async with process_of(service) as client, anyio.create_task_group() as tasks:
        for url in urls:
            tasks.start_soon(client.confirm, url)
    assert all(change.confirmed for change in service.changes)
    assert service.blocks[OURS] == 0
    assert 5 <= service.most_in_a_second[OURS] <= 10


async def test_only_a_call_that_waits_takes_a_turn_of_the_event_loop_before_it_is_sent():
    """Each lock, semaphore and queue would take a turn, and a turn costs as much as many functions."""
    sent_at_first_turn = []
    fleet = InMemoryFleet(share=0.1)  # The second of two calls has to wait.
    async with client_of(Answer(204), Answer(204), fleet=fleet) as (client, transport):
        for _ in range(2):
            asyncio.get_running_loop().call_soon(
                lambda: sent_at_first_turn.append(len(transport.sent))
            )
            await client.confirm(f"{ROOT}/confirmation")
        assert len(transport.sent) == 2
    assert sent_at_first_turn == [1, 1]


async def test_calls_are_sent_in_their_order_even_when_new_ones_begin_while_others_wait():
    """A call that takes a free connection at once must not overtake calls that wait for one."""
    urls = [f"{ROOT}/confirmation/{number}" for number in range(200)]
    answers = [Answer(204)] * len(urls)
    async with client_of(*answers, max_connections=8) as (client, transport):
        async with anyio.create_task_group() as tasks:
            for url in urls:
                tasks.start_soon(client.confirm, url)
                if url in urls[100:]:
                    await anyio.lowlevel.checkpoint()
        assert [sent.url for sent in transport.sent] == urls


BLOCK = Answer(429, headers={"retry-after": "5"})


class SlowFleet(UnlimitedFleet):
    """A fleet whose `block` takes a while, as with a Redis that is far away."""

    async def block(self, organization_number: str, seconds: float) -> None:
        await anyio.sleep(0.5)


@pytest.mark.parametrize("fleet", [InMemoryFleet, UnlimitedFleet, SlowFleet])
@pytest.mark.parametrize("seed", range(8))
async def test_neither_blocks_nor_cancellations_change_the_order_of_calls(fleet, seed):
    """And no call is sent during a block. A connection that is not given back would end in a deadlock."""
    random, known_until = Random(seed), defaultdict[str, float](float)
    sent, sent_during_block = defaultdict(list), []

    class BlockingTransport(ScriptedTransport):
        @asynccontextmanager
        async def exchange(self, request):
            *_, organization, number = request.url.reveal().split("/")
            sent[organization, request.timeout].append(int(number))
            if now() < known_until[organization]:
                sent_during_block.append(number)
            await anyio.sleep(random.choice([0, 0.01, 0.1, 1]))
            blocks = random.random() < 0.1
            self.script = deque([BLOCK if blocks else Answer(200, PADES)])
            async with super().exchange(request) as stream:
                yield stream
            if blocks:
                known_until[organization] = now() + 5

    async def call(number: int) -> None:
        organization, seconds = random.choice([OURS, THEIRS]), random.choice([0.1, 1, 1000, 1000])
        send = random.choice([client.get_pades, client.confirm])
        with suppress(RateLimitedError), anyio.move_on_after(seconds):
            await send(f"{ROOT}/{organization}/{number}")

    transport, tasks = BlockingTransport(), []
    async with process_of(
        ModelService(), fleet=fleet(), transport=transport, max_connections=2
    ) as client:
        for number in range(100):
            tasks.append(asyncio.create_task(call(number)))
            await anyio.sleep(random.choice([0, 0, 0.01, 0.1]))
            if random.random() < 0.1:
                random.choice(tasks).cancel()
        await asyncio.wait(tasks)
    assert all(numbers == sorted(numbers) for numbers in sent.values())
    assert sent_during_block == []


async def test_without_a_rate_budget_the_same_calls_are_blocked():
    service = ModelService()
    urls = [confirmation(service) for _ in range(60)]
    async with process_of(service, fleet=UnlimitedFleet()) as client:
        results = await asyncio.gather(*map(client.confirm, urls), return_exceptions=True)
    assert service.blocks[OURS] >= 1
    assert any(isinstance(result, RateLimitedError) for result in results)


async def test_clients_that_share_a_fleet_stay_within_the_limit_together():
    service, shared = ModelService(), InMemoryFleet()
    urls = [confirmation(service) for _ in range(60)]
    async with (
        process_of(service, "one", fleet=shared) as one,
        process_of(service, "two", fleet=shared) as two,
        anyio.create_task_group() as tasks,
    ):
        for number, url in enumerate(urls):
            tasks.start_soon((one, two)[number % 2].confirm, url)
    assert (service.blocks[OURS], service.most_in_a_second[OURS] <= 10) == (0, True)


@pytest.mark.parametrize("connections", [1, 8])
async def test_after_a_block_only_calls_of_that_organisation_wait(connections):
    """Others get a connection, even when more blocked calls wait than there are connections."""
    service = ModelService()
    ours = [confirmation(service) for _ in range(40)]
    theirs = [confirmation(service, OTHER_SENDER) for _ in range(5)]
    service.block_now(OURS)
    async with process_of(service, max_connections=connections) as client:
        tasks = [asyncio.ensure_future(client.confirm(url)) for url in ours]
        await anyio.sleep(2)
        their_tasks = [asyncio.ensure_future(client.confirm(url)) for url in theirs]
        await anyio.sleep(5)
        if connections > 1:
            assert all(task.done() for task in their_tasks)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*their_tasks)
    refused = [result for result in results if isinstance(result, RateLimitedError)]
    # Only the calls that were in flight when the block began. No other call was sent during it.
    assert 1 <= len(refused) <= 3
    arrivals = [call.arrived_at for call in service.calls if f"/{OURS}/" in call.url]
    assert not any(1 < arrival < 29.9 for arrival in arrivals if arrival is not None)
    assert len(arrivals) == 40
    assert service.blocks[OURS] == 0


async def test_a_retry_after_of_an_hour_delays_calls_for_one_minute():
    service = ModelService()
    url = confirmation(service)
    service.script += [Fault(kind=Kind.GATEWAY, status=429, headers={"retry-after": "3600"})]
    async with process_of(service) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.confirm(url)
        assert caught.value.wait == timedelta(hours=1)
        await client.confirm(url)
    assert 60 <= now() <= 61


async def test_a_429_without_a_duration_blocks_no_calls():
    service = ModelService()
    url = confirmation(service)
    service.script += [Fault(kind=Kind.GATEWAY, status=429)]
    async with process_of(service) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.confirm(url)
        assert caught.value.wait is None
        await client.confirm(url)
    assert now() < 1


async def test_calls_that_waited_for_a_connection_do_not_leave_in_a_burst():
    """A call takes its rate token only after it has a connection."""
    service = ModelService(slow=0.001, busy=5.0)
    urls = [confirmation(service) for _ in range(80)]
    async with process_of(service, max_connections=20) as client:
        calls = asyncio.gather(*map(client.confirm, urls))
        await anyio.sleep(4)
        service.busy = 0.0
        await calls
    assert (service.blocks[OURS], service.most_in_a_second[OURS] <= 10) == (0, True)


@pytest.mark.parametrize("natively", [False, True], ids=["scope", "Task.cancel"])
async def test_a_call_that_is_cancelled_during_a_block_keeps_no_connection(natively):
    service = ModelService()
    url = confirmation(service)
    service.block_now(OURS)
    async with process_of(service, max_connections=1) as client:
        with pytest.raises(RateLimitedError):
            await client.confirm(url)
        for _ in range(20):
            if natively:
                task = asyncio.ensure_future(client.confirm(url))
                await settle()
                await cancel_natively(task)
            else:
                with anyio.move_on_after(0.1):
                    await client.confirm(url)
        await client.confirm(confirmation(service, OTHER_SENDER))
        assert now() < 4
        await client.confirm(url)
    assert service.changes[0].confirmed is not None


@pytest.mark.parametrize(
    ("call", "organization"),
    [
        (lambda client: client.get_status_change(), OURS),
        (lambda client: client.get_status_change(sender=OTHER_SENDER), THEIRS),
        (lambda client: client.check_access(sender=OTHER_SENDER), THEIRS),
        (lambda client: anext(client.status_changes(sender=OTHER_SENDER)), THEIRS),
        (lambda client: client.get_pades(f"{ROOT}/{THEIRS}/direct/1/pades"), THEIRS),
        (lambda client: client.get_xades(f"{ROOT}/{THEIRS}/direct/1/xades/1"), THEIRS),
        (lambda client: client.delete_documents(f"{ROOT}/{THEIRS}/documents"), THEIRS),
        (lambda client: client.confirm("https://api.example/api/2/complete"), OURS),
        (lambda client: client.confirm(f"{ROOT}/1234567890/complete"), OURS),
    ],
)
async def test_a_call_uses_the_budget_of_the_organisation_in_its_url(call, organization):
    """When the URL has none, it uses the budget of the certificate's organisation."""
    service, unpaced = ModelService(), UnlimitedFleet()
    service.put(OTHER_SENDER)
    async with process_of(service, fleet=unpaced) as client:
        await call(client)
    assert unpaced.acquired == [organization]


async def test_every_attempt_uses_the_budget():
    service, unpaced = ModelService(), UnlimitedFleet()
    service.script += [Fault(kind=Kind.REFUSED)] * 3
    async with process_of(service, fleet=unpaced) as client:
        with pytest.raises(TransportError):
            await client.check_access()
    assert unpaced.acquired == [OURS] * 3


async def test_a_block_applies_to_the_organisation_of_the_call():
    service, unpaced = ModelService(), UnlimitedFleet()
    service.block_now(THEIRS)
    async with process_of(service, fleet=unpaced) as client:
        with pytest.raises(RateLimitedError):
            await client.get_status_change(sender=OTHER_SENDER)
        await client.get_status_change(sender=OTHER_QUEUE)
    assert unpaced.blocks == [(THEIRS, 30)]
    assert [poll.outcome for poll in service.polls] == [Outcome.BLOCKED, Outcome.EMPTY]


# --- Calls in flight: calls that a stalled network delayed arrive together, and must not be too many

# A call without a response is assumed to have arrived after this many seconds.
ASSUMED_ARRIVED_AFTER = 5.0


async def arrivals(stalls: list[float], share: float, *, count_in_flight=True) -> list[float]:
    """When the calls arrive, one call per stall. The network stalls for these durations in turn."""
    bucket, moments = budget(share), []
    stalled_until = 0.0

    async def call() -> None:
        arrived = await bucket.acquire(OURS)
        if not count_in_flight:
            arrived()
        await anyio.sleep(max(0.05, stalled_until - now()))
        moments.append(now())
        await anyio.sleep(0.05)
        arrived()

    async with anyio.create_task_group() as tasks:
        for stall in stalls:
            tasks.start_soon(call)
            if now() >= stalled_until:
                stalled_until = now() + stall
            await anyio.sleep(0.02)
    return moments


@settings(max_examples=60)
@given(
    stalls=st.lists(st.floats(0, ASSUMED_ARRIVED_AFTER - 0.1), min_size=1, max_size=60),
    share=st.sampled_from([1.0, 0.5, 0.25, 0.1]),
)
def test_after_network_stalls_no_second_has_too_many_arrivals(stalls, share):
    moments = run(lambda: arrivals(stalls, share))
    assert len(moments) == len(stalls)
    assert most_in_a_second(moments) <= 10 * share


def test_without_counting_calls_in_flight_too_many_arrive():
    """Shows that the test above can fail, with one stall of 3 seconds."""
    assert most_in_a_second(run(lambda: arrivals([3.0] * 60, 1.0, count_in_flight=False))) > 10
    assert most_in_a_second(run(lambda: arrivals([3.0] * 60, 1.0))) <= 10


async def test_a_call_without_a_response_is_assumed_to_have_arrived_after_5_seconds():
    """The service may need long to make a PAdES. Calls that wait for one do not stop other calls."""
    bucket, moments, calls = budget(), [], []
    for _ in range(20):
        calls.append(await bucket.acquire(OURS))
        moments.append(now())
    assert moments[8] < 1.5
    assert moments[9] == pytest.approx(moments[0] + ASSUMED_ARRIVED_AFTER + 1, abs=0.3)
    for arrived in calls * 2:
        arrived()
    await anyio.sleep(2)
    before = now()
    for _ in range(9):
        await bucket.acquire(OURS)
    assert now() - before < 1.5


async def test_at_the_limit_of_calls_in_flight_the_next_leaves_a_second_after_a_response():
    bucket = budget()
    slow = [await bucket.acquire(OURS) for _ in range(9)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bucket.acquire, OURS)
        await anyio.sleep(3 - now())
        slow[4]()
    assert 4 <= now() <= 4.3


async def test_slow_calls_stop_counting_after_6_seconds():
    """The response of a fast call ends the time in flight of that call, not of a slow one."""
    bucket, moments = budget(), []
    for _ in range(8):
        await bucket.acquire(OURS)
    await anyio.sleep(ASSUMED_ARRIVED_AFTER + 1)
    for _ in range(140):
        arrived = await bucket.acquire(OURS)
        moments.append(now())
        arrived()
    assert 6.9 <= (len(moments) - 1) / (moments[-1] - moments[0]) <= 7.3


async def test_a_late_response_ends_the_time_in_flight_of_its_own_call_only():
    bucket, moments = budget(), []
    late = [await bucket.acquire(OURS) for _ in range(9)]
    stalled_until = 9.5

    async def call() -> None:
        await bucket.acquire(OURS)
        await anyio.sleep(max(0.05, stalled_until - now()))
        moments.append(now())

    async with anyio.create_task_group() as tasks:
        await anyio.sleep(6 - now())
        for _ in range(30):
            tasks.start_soon(call)
        await anyio.sleep(8 - now())
        for arrived in late:
            arrived()
    assert most_in_a_second(moments) <= 10


@pytest.mark.parametrize(("share", "most"), [(0.1, 1), (0.2, 2), (1 / 3, 3), (0.5, 4), (1, 9)])
async def test_the_share_limits_the_calls_in_flight(share, most):
    bucket = budget(share)
    for _ in range(most):
        await bucket.acquire(OURS)
    assert now() < ASSUMED_ARRIVED_AFTER
    await bucket.acquire(OURS)
    assert now() > ASSUMED_ARRIVED_AFTER


class Stalling(ModelTransport):
    """A transport whose network can be stalled."""

    stalled_until = 0.0

    async def _travel(self) -> None:
        await super()._travel()
        await anyio.sleep(max(0.0, self.stalled_until - now()))


@pytest.mark.parametrize("paced", [True, False])
async def test_a_stall_gets_the_organisation_blocked_only_without_pacing(paced):
    service = ModelService(slow=0.05)
    transport = Stalling(service, "one")
    fields = {} if paced else {"fleet": UnlimitedFleet()}
    url = f"{ROOT}/{OURS}/direct/signature-jobs/1/pades"
    async with process_of(service, transport=transport, **fields) as client:
        calls = [
            asyncio.ensure_future(client.get_pades(url) if number % 2 else client.check_access())
            for number in range(40)
        ]
        await anyio.sleep(0.5)
        transport.stalled_until = now() + 3
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert (service.blocks[OURS] == 0) is paced
    assert any(isinstance(result, RateLimitedError) for result in results) is not paced


# --- What the client reports to its rate budget


async def test_a_call_is_no_longer_in_flight_when_its_response_begins():
    unpaced = UnlimitedFleet()
    async with client_of(Answer(200, PADES), fleet=unpaced) as (client, _):
        async with client.open_pades(f"{ROOT}/{OURS}/pades"):
            assert unpaced.acquired == [OURS]
            assert unpaced.in_flight[OURS] == 0
        assert unpaced.in_flight[OURS] == 0


@pytest.mark.parametrize("end", ["succeeded", "refused", "failed", "cancelled"])
async def test_every_call_ends_its_time_in_flight_once(end):
    unpaced, hang = UnlimitedFleet(), Hang()
    lost = TransportError("The connection was lost.", request_may_have_left=True)
    script = {"succeeded": Answer(204), "refused": Answer(403), "failed": lost, "cancelled": hang}
    async with client_of(script[end], fleet=unpaced) as (client, _):
        task = asyncio.ensure_future(client.confirm(f"{ROOT}/{OURS}/confirm"))
        if end == "cancelled":
            await hang.reached.wait()
            assert unpaced.in_flight[OURS] == 1
            await cancel_natively(task)
        await asyncio.gather(task, return_exceptions=True)
    assert unpaced.acquired == [OURS]
    assert unpaced.in_flight == {OURS: 0}


async def test_a_later_shorter_block_does_not_end_a_longer_one():
    """The client itself waits, because this rate budget ignores blocks."""
    service = ModelService()
    for retry_after in ({"retry-after": "50"}, {}):
        headers = {"dosfilter": "delayed", **retry_after}
        service.script.append(Fault(kind=Kind.GATEWAY, status=429, headers=headers))
    async with process_of(service, fleet=UnlimitedFleet()) as client:
        results = await asyncio.gather(
            *(client.check_access() for _ in range(2)), return_exceptions=True
        )
        assert [type(result) for result in results] == [RateLimitedError] * 2
        await client.check_access()
    assert 50 <= now() <= 51


@pytest.mark.parametrize("callers", [1, 10])
async def test_blocked_organisations_keep_no_connection_from_others(callers):
    """There are more blocked organisations than connections, as can happen to a broker."""
    service = ModelService()
    blocked = [f"{number:09}" for number in range(1, 10)]
    done, refused = defaultdict(list), []

    async def call(organization: str) -> None:
        try:
            await client.get_xades(f"{ROOT}/{organization}/xades/1")
        except RateLimitedError:
            refused.append(organization)
        else:
            done[organization].append(now())

    async with process_of(service, max_connections=8) as client:
        for organization in blocked:
            service.block_now(organization)
            if callers == 1:
                await call(organization)
        async with anyio.create_task_group() as tasks:
            for organization in blocked * callers:
                tasks.start_soon(call, organization)
            await anyio.sleep(5)
            began = now()
            await call(OURS)
            assert now() - began < 1
    assert set(refused) == set(blocked)
    assert all(min(moments) > 29 for number, moments in done.items() if number in blocked)
    assert sum(map(len, done.values())) + len(refused) == 1 + 9 * callers + (
        9 if callers == 1 else 0
    )
    assert service.blocks[OURS] == 0
