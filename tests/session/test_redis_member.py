"""The rate budget of a `RedisFleet` in virtual time, while Redis is away, comes back, and loses its data."""

import logging
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest
import virtual_time
from budget import most_in_a_second
from hypothesis import given, settings
from hypothesis import strategies as st
from redis_model import ModelConnection, RedisModel
from virtual_time import VirtualTime, run

from posten_signering import (
    FleetAvailable,
    FleetContext,
    FleetUnavailable,
    InMemoryFleet,
    RedisFleet,
    Sender,
)
from posten_signering._session.redis_member import RedisMember
from posten_signering._session.timing import Time

pytestmark = pytest.mark.anyio

OURS = "123456789"


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


def now() -> float:
    return VirtualTime.monotonic()


@asynccontextmanager
async def member_of(redis: RedisModel, events: list | None = None, *, seed=0, **options):
    time = VirtualTime(seed=seed)
    context = FleetContext(
        service_root="https://service.example/api",
        organization_number=OURS,
        time=Time(**time.fields),
        notify=lambda event, *, error=None: None if events is None else events.append(event),
    )
    async with InMemoryFleet(share=None).join(context) as local:
        member = RedisMember(
            RedisFleet("redis://unused", **options), context, ModelConnection(redis), local
        )
        await member.open()
        try:
            yield member
        finally:
            await member.aclose()


class Arrivals:
    """Members that make as many calls as they may. The moments at which their calls arrive are recorded."""

    def __init__(self, redis: RedisModel, latency: float = 0.05, **options) -> None:
        self.redis, self.latency, self.options = redis, latency, options
        self.moments: list[float] = []

    async def one_process(self, seed: int, tasks: int = 2) -> None:
        async with (
            member_of(self.redis, seed=seed, **self.options) as member,
            anyio.create_task_group() as group,
        ):
            for _ in range(tasks):
                group.start_soon(self._calls, member)

    async def _calls(self, member: RedisMember) -> None:
        while True:
            end_in_flight = await member.acquire(OURS)
            await anyio.sleep(self.latency / 2)
            self.moments.append(now())
            await anyio.sleep(self.latency / 2)
            end_in_flight()

    def between(self, start: float, end: float) -> int:
        return sum(start <= moment < end for moment in self.moments)

    def most(self) -> int:
        return most_in_a_second([moment - 1e-6 * n for n, moment in enumerate(self.moments)])


async def happen(redis: RedisModel, what: str, seconds: float) -> None:
    """Something happens to Redis, and then some seconds pass."""
    if what in {"restart", "flush"}:
        redis.lose_data()
    redis.is_away = what in {"kill", "pause"}
    if what == "kill":
        redis.lose_data()
    await anyio.sleep(seconds)
    redis.is_away = False


@settings(max_examples=10, deadline=None)
@given(
    history=st.lists(
        st.tuples(
            st.sampled_from(["kill", "pause", "restart", "flush", "nothing"]), st.floats(0.1, 7)
        ),
        max_size=6,
    ),
    latency=st.sampled_from([0.05, 0.5]),
    away_at_start=st.booleans(),
)
def test_no_second_has_too_many_calls_whatever_happens_to_redis(history, latency, away_at_start):
    async def main() -> None:
        redis = RedisModel()
        arrivals = Arrivals(redis, latency, members_at_least=8 if away_at_start else None)
        redis.is_away = away_at_start
        async with anyio.create_task_group() as group:
            for seed in range(8):
                group.start_soon(arrivals.one_process, seed)
            await anyio.sleep(9)
            for what, seconds in history:
                await happen(redis, what, seconds)
            await anyio.sleep(6)
            group.cancel_scope.cancel()
        assert arrivals.most() <= 10

    run(main)


@pytest.mark.parametrize("what", ["flush", "restart"])
@pytest.mark.parametrize("knows_freshness", [True, False])
async def test_clients_that_know_the_state_is_fresh_do_not_exceed_the_limit(what, knows_freshness):
    """The twin shows that the test above can fail."""
    redis = RedisModel()
    arrivals = Arrivals(redis)
    async with anyio.create_task_group() as group:
        for seed in range(8):
            group.start_soon(arrivals.one_process, seed)
        await anyio.sleep(8)
        redis.knows_freshness = knows_freshness
        await happen(redis, what, 8)
        group.cancel_scope.cancel()
    assert (arrivals.most() <= 10) is knows_freshness


@pytest.mark.parametrize(("latency", "rate"), [(0.05, 8), (0.5, 5.5)])
async def test_the_fleet_makes_most_of_the_calls_that_the_service_allows(latency, rate):
    arrivals = Arrivals(RedisModel(), latency)
    async with anyio.create_task_group() as group:
        for seed in range(8):
            group.start_soon(arrivals.one_process, seed, 4)
        await anyio.sleep(18)
        group.cancel_scope.cancel()
    assert 4 <= arrivals.moments[0] <= 5
    assert arrivals.between(6, 18) / 12 >= rate


async def test_while_redis_is_away_the_processes_keep_to_their_slots():
    redis = RedisModel()
    arrivals = Arrivals(redis)
    async with anyio.create_task_group() as group:
        for seed in range(20):
            group.start_soon(arrivals.one_process, seed)
        await anyio.sleep(8)
        await happen(redis, "kill", 30)
        group.cancel_scope.cancel()
    assert arrivals.between(8.1, 9.9) == 0  # the first slot comes 2 seconds after the last answer
    assert 5 * 27 <= arrivals.between(11, 38) <= 6.1 * 27
    assert most_in_a_second([moment for moment in arrivals.moments if moment > 11]) <= 7


@pytest.mark.parametrize(
    ("members_at_least", "processes", "calls"),
    [(None, 1, 6), (None, 20, 120), (2, 2, 120), (20, 20, 120)],
)
async def test_a_process_that_starts_while_redis_is_away_makes_few_calls(
    members_at_least, processes, calls
):
    redis = RedisModel()
    redis.is_away = True
    arrivals = Arrivals(redis, members_at_least=members_at_least)
    async with anyio.create_task_group() as group:
        for seed in range(processes):
            group.start_soon(arrivals.one_process, seed)
        await anyio.sleep(62)
        group.cancel_scope.cancel()
    assert 0.9 * calls <= arrivals.between(2, 62) <= 1.15 * calls
    assert arrivals.most() <= 10


async def test_a_process_that_starts_after_redis_lost_its_data_waits_until_all_are_known():
    redis = RedisModel()
    events = []
    async with member_of(redis) as known:
        await anyio.sleep(6)
        redis.lose_data()
        await anyio.sleep(1)
        async with member_of(redis, events) as newcomer:
            began = now()
            (await known.acquire(OURS))()
            assert now() - began < 1
            (await newcomer.acquire(OURS))()
            assert 3 <= now() - began <= 4
    assert events == []


async def test_an_outage_is_reported_once_and_so_is_its_end():
    redis, events = RedisModel(), []
    async with member_of(redis, events, members_at_least=4) as member:
        await anyio.sleep(6)
        for _ in range(2):
            redis.is_away = True
            await anyio.sleep(10)
            (await member.acquire(OURS))()
            redis.is_away = False
            await anyio.sleep(10)
    away = FleetUnavailable(error_type="ConnectionError", calls_per_second=1.5)
    assert events == [away, FleetAvailable()] * 2


async def test_a_wrong_password_that_shows_only_after_an_outage_is_an_error_in_the_log(caplog):
    redis = RedisModel()
    redis.is_away = True
    async with member_of(redis):
        await anyio.sleep(10)
        assert caplog.records == []
        redis.is_away, redis.refuses = False, "Correct the password."
        await anyio.sleep(10)
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert "Correct the password." in record.getMessage()


async def test_a_block_holds_while_redis_is_away():
    redis = RedisModel()
    redis.is_away = True
    async with member_of(redis) as member:
        await member.block(OURS, 30)
        await member.block(OURS, 5)
        await member.acquire(OURS)
        assert 30 <= now() <= 41


async def test_nothing_waits_for_a_redis_that_is_known_to_be_away():
    redis = RedisModel()
    redis.is_away = True
    # The lock is that of a heartbeat to which Redis does not respond.
    async with member_of(redis) as member, member._requesting:
        began = now()
        assert await member.begin_delivery("key") == 1
        async with member.turn(Sender(organization_number=OURS)):
            pass
        assert now() == began


async def test_a_call_is_made_if_redis_fails_after_the_call_took_a_slot():
    redis = RedisModel()
    async with member_of(redis) as member:
        await anyio.sleep(6)
        redis.lose_data()
        await anyio.sleep(2)  # the state is fresh
        redis.is_away = True
        began = now()
        await member.acquire(OURS)
        assert now() - began < 0.3


async def test_a_call_without_a_slot_waits_for_one_if_redis_fails():
    redis = RedisModel()
    async with member_of(redis) as member:
        await anyio.sleep(6)
        redis.is_away = True
        began = now()
        await member.acquire(OURS)
        assert 2 <= now() - began <= 2.3


async def test_the_end_of_a_client_waits_for_its_last_requests_but_not_for_ever():
    redis = RedisModel()
    async with member_of(redis) as member:
        await anyio.sleep(6)
        end_in_flight = await member.acquire(OURS)
        end_in_flight()
        end_in_flight()
    [until] = next(iter(redis.places.values())).values()
    assert until == pytest.approx(redis.now + 1000, abs=10)

    async with AsyncExitStack() as exits:
        member = await exits.enter_async_context(member_of(redis))
        await anyio.sleep(6)
        end_in_flight = await member.acquire(OURS)
        async with member._requesting:  # a request that does not end
            end_in_flight()
            began = now()
            await exits.aclose()
        assert now() - began == pytest.approx(2, abs=0.01)
        await anyio.sleep(0.1)


async def test_a_call_that_waits_when_its_client_is_closed_does_not_wait_for_ever():
    async with anyio.create_task_group() as group:
        async with member_of(RedisModel()) as member:
            await anyio.sleep(6)
            for _ in range(9):
                await member.acquire(OURS)
            group.start_soon(member.acquire, OURS)
            await anyio.sleep(0.1)
        group.cancel_scope.deadline = anyio.current_time() + 1
    assert not group.cancel_scope.cancelled_caught
