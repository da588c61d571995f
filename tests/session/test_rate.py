"""The rate budget: what one process takes of it, how many calls are in flight, and what clients do when the service blocks."""

import asyncio
from collections import defaultdict
from datetime import timedelta

import anyio
import pytest
import virtual_time
from budget import limiter, most_in_a_second
from doubles import PADES, ROOT, Answer, Hang, UnlimitedRateLimiter, client_of
from hypothesis import given, settings
from hypothesis import strategies as st
from model_faults import Fault, Kind
from model_service import OTHER_QUEUE, OTHER_SENDER, SENDER, ModelService, Outcome, now
from model_transport import ModelTransport, process_of
from virtual_time import cancel_natively, run, settle

from posten_signering import Sender
from posten_signering._session.rate import InMemoryRateLimiter
from posten_signering.errors import ConfigurationError, RateLimitedError, TransportError

pytestmark = pytest.mark.anyio

OURS, THEIRS = SENDER.organization_number, OTHER_SENDER.organization_number


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


async def let_through(bucket: InMemoryRateLimiter, organization: str) -> None:
    """A call that is answered at once."""
    arrived = await bucket.acquire(organization)
    arrived()


# --- The bucket


@settings(max_examples=60)
@given(
    delays=st.lists(st.one_of(st.just(0.0), st.floats(0, 3)), min_size=1, max_size=60),
    share=st.sampled_from([1.0, 0.5, 0.25, 0.1]),
)
def test_no_second_ever_holds_more_calls_than_the_share_allows(delays, share):
    async def main() -> None:
        bucket, moments = limiter(share), []

        async def call() -> None:
            await let_through(bucket, OURS)
            moments.append(now())

        async with anyio.create_task_group() as tasks:
            for delay in delays:
                await anyio.sleep(delay)
                tasks.start_soon(call)
        assert len(moments) == len(delays)
        assert most_in_a_second(moments) <= 10 * share

    run(main)


def test_that_check_sees_one_too_many():
    assert most_in_a_second([0.0, *[0.1 * n for n in range(1, 11)]]) == 11


@pytest.mark.parametrize("processes", range(1, 11))
async def test_so_many_processes_with_equal_shares_stay_within_the_limit_together(processes):
    """However their seconds lie: each at its worst at the same time."""
    bucket, moments = limiter(1 / processes), []
    for _ in range(200):
        await let_through(bucket, OURS)
        moments.append(now())
    assert processes * most_in_a_second(moments) <= 10
    # And little of the budget is left unused.
    assert processes * len(moments) / moments[-1] >= 5


async def test_a_process_that_was_quiet_has_its_burst_and_no_more():
    bucket, moments = limiter(), []
    await anyio.sleep(3600)
    for _ in range(30):
        await let_through(bucket, OURS)
        moments.append(now())
    assert most_in_a_second(moments) <= 10
    assert moments[1] == moments[0]


async def test_who_asks_first_is_let_through_first():
    bucket, order = limiter(), []

    async def call(number: int) -> None:
        await let_through(bucket, OURS)
        order.append(number)

    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(call, number)
    assert order == list(range(50))


async def through_in_a_scope(bucket: InMemoryRateLimiter, seconds: float) -> bool:
    """Whether a caller who gives up after some time got through."""
    with anyio.move_on_after(seconds) as scope:
        await let_through(bucket, OURS)
    return not scope.cancelled_caught


async def through_natively(bucket: InMemoryRateLimiter, seconds: float) -> bool:
    task = asyncio.ensure_future(let_through(bucket, OURS))
    await asyncio.wait([task], timeout=seconds)
    await cancel_natively(task)
    return not task.cancelled()


async def moments_of(callers, through=None) -> dict[int, float]:
    """When each of the callers got through: number, delay before it comes, patience in seconds."""
    bucket, got = limiter(), {}

    async def call(number: int, patience: float | None) -> None:
        if patience is None:
            await let_through(bucket, OURS)
            got[number] = now()
        elif await through(bucket, patience):
            got[number] = -1.0

    async with anyio.create_task_group() as tasks:
        for number, (delay, patience) in callers:
            await anyio.sleep(delay)
            tasks.start_soon(call, number, patience)
    return got


@pytest.mark.parametrize("through", [through_in_a_scope, through_natively])
@settings(max_examples=60)
@given(
    callers=st.lists(
        st.tuples(st.floats(0, 0.1), st.one_of(st.none(), st.floats(0, 2))), max_size=25
    )
)
def test_who_is_cancelled_while_waiting_has_cost_nothing(through, callers):
    """The others get through at the very moments at which they would have without them."""
    numbered = list(enumerate(callers))
    with_them = run(lambda: moments_of(numbered, through))

    # Without those who gave up; who got through in time came as patiently as anybody.
    coming, delay = [], 0.0
    for number, (before, _) in numbered:
        delay += before
        if number in with_them:
            coming.append((number, (delay, None)))
            delay = 0.0
    without_them = run(lambda: moments_of(coming))
    assert without_them.keys() == with_them.keys()
    for number, moment in with_them.items():
        if moment >= 0:
            assert moment == pytest.approx(without_them[number], abs=1e-5)


async def test_a_block_holds_everybody_of_that_organisation_and_nobody_else():
    bucket, moments = limiter(), defaultdict(list)

    async def call(organization: str) -> None:
        await let_through(bucket, organization)
        moments[organization].append(now())

    async with anyio.create_task_group() as tasks:
        for _ in range(5):
            tasks.start_soon(call, OURS)
        await anyio.sleep(0.05)  # two were let through, and three wait
        await bucket.block(OURS, 30)
        for organization in (OURS, THEIRS):
            tasks.start_soon(call, organization)
    assert [each < 0.05 for each in moments[OURS]] == [True] * 2 + [False] * 4
    assert min(moments[OURS][2:]) == pytest.approx(30.05, abs=1e-3)
    assert most_in_a_second(moments[OURS]) <= 10
    assert moments[THEIRS] == [pytest.approx(0.05, abs=1e-3)]


async def test_the_longest_of_several_blocks_counts():
    bucket = limiter()
    for seconds in (10, 30, 5):
        await bucket.block(OURS, seconds)
    await let_through(bucket, OURS)
    assert now() == pytest.approx(30, abs=1e-3)


@pytest.mark.parametrize("share", [0, -1, 1.01, float("nan")])
async def test_a_share_that_can_not_be_is_refused(share):
    with pytest.raises(ConfigurationError, match="share"):
        InMemoryRateLimiter(share=share)


# --- Through the client


def confirmation(service: ModelService, sender: Sender = SENDER) -> str:
    change = service.put(sender)
    job = f"{ROOT}/{sender.organization_number}/direct/signature-jobs/{change.job_id}"
    return f"{job}/changes/{change.number}/complete"


async def test_calls_side_by_side_are_paced():
    service = ModelService()
    urls = [confirmation(service) for _ in range(60)]
    async with process_of(service) as client, anyio.create_task_group() as tasks:
        for url in urls:
            tasks.start_soon(client.confirm, url)
    assert all(change.confirmed for change in service.changes)
    assert service.blocks[OURS] == 0
    assert 5 <= service.most_in_a_second[OURS] <= 10


async def test_without_a_budget_the_same_calls_are_blocked():
    service = ModelService()
    urls = [confirmation(service) for _ in range(60)]
    async with process_of(service, rate_limiter=UnlimitedRateLimiter()) as client:
        results = await asyncio.gather(*map(client.confirm, urls), return_exceptions=True)
    assert service.blocks[OURS] >= 1
    assert any(isinstance(each, RateLimitedError) for each in results)


async def test_clients_that_share_a_budget_stay_within_it_together():
    service, shared = ModelService(), limiter()
    urls = [confirmation(service) for _ in range(60)]
    async with (
        process_of(service, "one", rate_limiter=shared) as one,
        process_of(service, "two", rate_limiter=shared) as two,
        anyio.create_task_group() as tasks,
    ):
        for number, url in enumerate(urls):
            tasks.start_soon((one, two)[number % 2].confirm, url)
    assert (service.blocks[OURS], service.most_in_a_second[OURS] <= 10) == (0, True)


@pytest.mark.parametrize("connections", [1, 8])
async def test_after_a_block_all_callers_of_the_organisation_hold_and_no_other(connections):
    """Not even for want of a connection, though many more wait than there are connections."""
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
    refused = [each for each in results if isinstance(each, RateLimitedError)]
    # Those that were on their way when the block came; nobody has asked since.
    assert 1 <= len(refused) <= 3
    arrivals = [each.arrived_at for each in service.calls if f"/{OURS}/" in each.url]
    assert not any(1 < each < 29.9 for each in arrivals if each is not None)
    assert len(arrivals) == 40
    assert service.blocks[OURS] == 0


async def test_a_gateway_that_asks_for_an_hour_gets_a_minute_of_silence():
    service = ModelService()
    url = confirmation(service)
    service.script += [Fault(kind=Kind.GATEWAY, status=429, headers={"retry-after": "3600"})]
    async with process_of(service) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.confirm(url)
        assert caught.value.wait == timedelta(hours=1)
        await client.confirm(url)
    assert 60 <= now() <= 61


async def test_a_429_of_unknown_length_blocks_nobody():
    service = ModelService()
    url = confirmation(service)
    service.script += [Fault(kind=Kind.GATEWAY, status=429)]
    async with process_of(service) as client:
        with pytest.raises(RateLimitedError) as caught:
            await client.confirm(url)
        assert caught.value.wait is None
        await client.confirm(url)
    assert now() < 1


async def test_calls_that_waited_for_a_connection_do_not_leave_all_at_once():
    """The budget is paid when there is a connection to use it on."""
    service = ModelService(slow=0.001, busy=5.0)
    urls = [confirmation(service) for _ in range(80)]
    async with process_of(service, max_connections=20) as client:
        calls = asyncio.gather(*map(client.confirm, urls))
        await anyio.sleep(4)
        service.busy = 0.0
        await calls
    assert (service.blocks[OURS], service.most_in_a_second[OURS] <= 10) == (0, True)


@pytest.mark.parametrize("natively", [False, True], ids=["scope", "Task.cancel"])
async def test_a_call_that_is_cancelled_while_it_holds_gives_everything_back(natively):
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
    ("call", "payer"),
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
async def test_a_call_uses_the_budget_of_the_organisation_that_its_url_names(call, payer):
    """Without one in the URL: that of the certificate."""
    service, unpaced = ModelService(), UnlimitedRateLimiter()
    service.put(OTHER_SENDER)
    async with process_of(service, rate_limiter=unpaced) as client:
        await call(client)
    assert unpaced.acquired == [payer]


async def test_every_try_is_paid_for():
    service, unpaced = ModelService(), UnlimitedRateLimiter()
    service.script += [Fault(kind=Kind.REFUSED)] * 3
    async with process_of(service, rate_limiter=unpaced) as client:
        with pytest.raises(TransportError):
            await client.check_access()
    assert unpaced.acquired == [OURS] * 3


async def test_the_block_is_the_organisations_that_was_called():
    service, unpaced = ModelService(), UnlimitedRateLimiter()
    service.block_now(THEIRS)
    async with process_of(service, rate_limiter=unpaced) as client:
        with pytest.raises(RateLimitedError):
            await client.get_status_change(sender=OTHER_SENDER)
        await client.get_status_change(sender=OTHER_QUEUE)
    assert unpaced.blocks == [(THEIRS, 30)]
    assert [poll.outcome for poll in service.polls] == [Outcome.BLOCKED, Outcome.EMPTY]


# --- Calls in flight: those that a stalled network delayed arrive together, and must not be too many

OURS = SENDER.organization_number

LONGEST_WAY = 5.0


async def arrivals(stalls: list[float], share: float, *, forgetful: bool = False) -> list[float]:
    """When so many calls as there are numbers arrive, if the way is closed for such times in turn."""
    bucket, arrived = limiter(share), []
    opens_at = 0.0

    async def call() -> None:
        tell = await bucket.acquire(OURS)
        if forgetful:
            tell()
        await anyio.sleep(max(0.05, opens_at - now()))
        arrived.append(now())
        await anyio.sleep(0.05)
        tell()

    async with anyio.create_task_group() as tasks:
        for stall in stalls:
            tasks.start_soon(call)
            if now() >= opens_at:
                opens_at = now() + stall
            await anyio.sleep(0.02)
    return arrived


@settings(max_examples=60)
@given(
    stalls=st.lists(st.floats(0, LONGEST_WAY - 0.1), min_size=1, max_size=60),
    share=st.sampled_from([1.0, 0.5, 0.25, 0.1]),
)
def test_however_the_way_stalls_no_second_sees_too_many_arrive(stalls, share):
    moments = run(lambda: arrivals(stalls, share))
    assert len(moments) == len(stalls)
    assert most_in_a_second(moments) <= 10 * share


def test_without_knowing_of_arrivals_it_would():
    """The negative twin: one stall of 3 seconds."""
    assert most_in_a_second(run(lambda: arrivals([3.0] * 60, 1.0, forgetful=True))) > 10
    assert most_in_a_second(run(lambda: arrivals([3.0] * 60, 1.0))) <= 10


async def test_a_call_that_is_not_answered_is_taken_to_have_arrived_after_a_while():
    """The service takes its time with a PAdES: those who wait for one do not stop the others."""
    bucket, moments, calls = limiter(), [], []
    for _ in range(20):
        calls.append(await bucket.acquire(OURS))
        moments.append(now())
    assert moments[8] < 1.5
    assert moments[9] == pytest.approx(moments[0] + LONGEST_WAY + 1, abs=0.3)
    for each in calls * 2:
        each()
    await anyio.sleep(2)
    before = now()
    for _ in range(9):
        await bucket.acquire(OURS)
    assert now() - before < 1.5


async def test_the_next_call_leaves_soon_after_the_answer_of_a_slow_one():
    """All places are taken by calls that are not answered; a second after an answer its place is free."""
    bucket = limiter()
    slow = [await bucket.acquire(OURS) for _ in range(9)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bucket.acquire, OURS)
        await anyio.sleep(3 - now())
        slow[4]()
    assert 4 <= now() <= 4.3


async def test_slow_calls_do_not_slow_the_others_down_for_longer_than_that():
    """The fast ones' answers must not be taken for theirs."""
    bucket, moments = limiter(), []
    for _ in range(8):
        await bucket.acquire(OURS)
    await anyio.sleep(LONGEST_WAY + 1)
    for _ in range(140):
        tell = await bucket.acquire(OURS)
        moments.append(now())
        tell()
    assert 6.9 <= (len(moments) - 1) / (moments[-1] - moments[0]) <= 7.3


async def test_a_late_answer_frees_no_place_but_its_own():
    bucket, arrived = limiter(), []
    late = [await bucket.acquire(OURS) for _ in range(9)]
    opens_at = 9.5

    async def call() -> None:
        await bucket.acquire(OURS)
        await anyio.sleep(max(0.05, opens_at - now()))
        arrived.append(now())

    async with anyio.create_task_group() as tasks:
        await anyio.sleep(6 - now())
        for _ in range(30):
            tasks.start_soon(call)
        await anyio.sleep(8 - now())
        for each in late:
            each()
    assert most_in_a_second(arrived) <= 10


@pytest.mark.parametrize(("share", "at_once"), [(0.1, 1), (0.2, 2), (1 / 3, 3), (0.5, 4), (1, 9)])
async def test_so_many_are_on_their_way_at_once(share, at_once):
    bucket = limiter(share)
    for _ in range(at_once):
        await bucket.acquire(OURS)
    assert now() < LONGEST_WAY
    await bucket.acquire(OURS)
    assert now() > LONGEST_WAY


class Stalling(ModelTransport):
    """A way to the service that can be closed for a while."""

    opens_at = 0.0

    async def _travel(self) -> None:
        await super()._travel()
        await anyio.sleep(max(0.0, self.opens_at - now()))


@pytest.mark.parametrize("paced", [True, False])
async def test_a_stall_does_not_get_the_organisation_blocked(paced):
    service = ModelService(slow=0.05)
    transport = Stalling(service, "one")
    fields = {} if paced else {"rate_limiter": UnlimitedRateLimiter()}
    url = f"{ROOT}/{OURS}/direct/signature-jobs/1/pades"
    async with process_of(service, transport=transport, **fields) as client:
        calls = [
            asyncio.ensure_future(client.get_pades(url) if each % 2 else client.check_access())
            for each in range(40)
        ]
        await anyio.sleep(0.5)
        transport.opens_at = now() + 3
        results = await asyncio.gather(*calls, return_exceptions=True)
    assert (service.blocks[OURS] == 0) is paced
    assert any(isinstance(each, RateLimitedError) for each in results) is not paced


# --- What the client tells its limiter


async def test_an_answer_that_begins_has_arrived():
    unpaced = UnlimitedRateLimiter()
    async with client_of(Answer(200, PADES), rate_limiter=unpaced) as (client, _):
        async with client.open_pades(f"{ROOT}/{OURS}/pades"):
            assert unpaced.acquired == [OURS]
            assert unpaced.in_flight[OURS] == 0
        assert unpaced.in_flight[OURS] == 0


@pytest.mark.parametrize("end", ["answered", "refused", "failed", "cancelled"])
async def test_every_call_is_told_to_have_arrived_once(end):
    unpaced, hang = UnlimitedRateLimiter(), Hang()
    lost = TransportError("The connection was lost.", request_may_have_left=True)
    script = {"answered": Answer(204), "refused": Answer(403), "failed": lost, "cancelled": hang}
    async with client_of(script[end], rate_limiter=unpaced) as (client, _):
        task = asyncio.ensure_future(client.confirm(f"{ROOT}/{OURS}/confirm"))
        if end == "cancelled":
            await hang.reached.wait()
            assert unpaced.in_flight[OURS] == 1
            await cancel_natively(task)
        await asyncio.gather(task, return_exceptions=True)
    assert unpaced.acquired == [OURS]
    assert unpaced.in_flight == {OURS: 0}


async def test_a_shorter_block_that_is_met_later_does_not_end_a_longer_one():
    """Whatever the limiter makes of it: this one lets everybody through."""
    service = ModelService()
    for asked in ({"retry-after": "50"}, {}):
        headers = {"dosfilter": "delayed", **asked}
        service.script.append(Fault(kind=Kind.GATEWAY, status=429, headers=headers))
    async with process_of(service, rate_limiter=UnlimitedRateLimiter()) as client:
        results = await asyncio.gather(
            *(client.check_access() for _ in range(2)), return_exceptions=True
        )
        assert [type(each) for each in results] == [RateLimitedError] * 2
        await client.check_access()
    assert 50 <= now() <= 51


@pytest.mark.parametrize("callers", [1, 10])
async def test_as_many_blocked_organisations_as_there_are_connections_stop_no_other(callers):
    """A broker's clients: who waits for one that is blocked waits outside, whenever he came."""
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
        for each in blocked:
            service.block_now(each)
            if callers == 1:
                await call(each)
        async with anyio.create_task_group() as tasks:
            for each in blocked * callers:
                tasks.start_soon(call, each)
            await anyio.sleep(5)
            began = now()
            await call(OURS)
            assert now() - began < 1
    assert set(refused) == set(blocked)
    assert all(min(done[each]) > 29 for each in blocked if done[each])
    assert sum(map(len, done.values())) + len(refused) == 1 + 9 * callers + (
        9 if callers == 1 else 0
    )
    assert service.blocks[OURS] == 0
