"""Calls on their way: what a stall of the network holds up arrives together, and must not be too much."""

import asyncio
from collections import defaultdict

import anyio
import pytest
import virtual_time
from budget import limiter, most_in_a_second
from doubles import PADES, ROOT, Answer, Hang, Unpaced, client_of
from hypothesis import given, settings
from hypothesis import strategies as st
from model_faults import Fault, Kind
from model_service import SENDER, ModelService, now
from model_transport import ModelTransport, process_of
from virtual_time import cancel_natively, run

from posten_signering.errors import RateLimitedError, TransportError

pytestmark = pytest.mark.anyio

OURS = SENDER.organization_number
LONGEST_WAY = 5.0


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


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
    fields = {} if paced else {"rate_limiter": Unpaced()}
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


# --- Through the client


async def test_an_answer_that_begins_has_arrived():
    unpaced = Unpaced()
    async with client_of(Answer(200, PADES), rate_limiter=unpaced) as (client, _):
        async with client.open_pades(f"{ROOT}/{OURS}/pades"):
            assert unpaced.paid == [OURS]
            assert unpaced.on_its_way[OURS] == 0
        assert unpaced.on_its_way[OURS] == 0


@pytest.mark.parametrize("end", ["answered", "refused", "failed", "cancelled"])
async def test_every_call_is_told_to_have_arrived_once(end):
    unpaced, hang = Unpaced(), Hang()
    lost = TransportError("The connection was lost.", request_may_have_left=True)
    script = {"answered": Answer(204), "refused": Answer(403), "failed": lost, "cancelled": hang}
    async with client_of(script[end], rate_limiter=unpaced) as (client, _):
        task = asyncio.ensure_future(client.confirm(f"{ROOT}/{OURS}/confirm"))
        if end == "cancelled":
            await hang.reached.wait()
            assert unpaced.on_its_way[OURS] == 1
            await cancel_natively(task)
        await asyncio.gather(task, return_exceptions=True)
    assert unpaced.paid == [OURS]
    assert unpaced.on_its_way == {OURS: 0}


async def test_a_shorter_block_that_is_met_later_does_not_end_a_longer_one():
    """Whatever the limiter makes of it: this one lets everybody through."""
    service = ModelService()
    for asked in ({"retry-after": "50"}, {}):
        headers = {"dosfilter": "delayed", **asked}
        service.script.append(Fault(kind=Kind.GATEWAY, status=429, headers=headers))
    async with process_of(service, rate_limiter=Unpaced()) as client:
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
