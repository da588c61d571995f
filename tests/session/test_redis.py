"""A `RedisFleet` with real Redis servers: its scripts, its turns, and wrong configurations."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.lowlevel
import doubles
import pki
import pytest
import redis_process
from redis import Redis
from virtual_time import cancel_natively

from posten_signering import (
    FleetAvailable,
    FleetContext,
    FleetUnavailable,
    QueueState,
    RedisFleet,
    Sender,
)
from posten_signering._session import redis_connection, redis_member, redis_scripts
from posten_signering._session.redis_member import RedisMember
from posten_signering._session.timing import Time
from posten_signering.errors import ArgumentTypeError, ConfigurationError, RateLimitedError

pytestmark = pytest.mark.anyio

OURS, THEIRS = "123456789", "987654321"
QUEUE = Sender(organization_number=OURS, polling_queue="shop")
KNOWN = QueueState(
    permitted_in=600.0,
    permitted_time=datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC),
    next_in=900.0,
    early_answers=2,
    leads=True,
)


@pytest.fixture(scope="module")
def server(redis_server, tmp_path_factory):
    with redis_process.running(redis_server, tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(server):
    """A client of an empty Redis whose state is not fresh, as after the first seconds of a fleet."""
    with Redis(port=server.port, decode_responses=True) as client:
        client.flushall()
        yield client


class Waits:
    """A sleep that only lets other tasks run. It records the durations."""

    def __init__(self) -> None:
        self.slept: list[float] = []
        self.meanwhile = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.meanwhile()
        await anyio.lowlevel.checkpoint()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await anyio.lowlevel.checkpoint()


def context_of(waits: Waits | None = None, *, root="https://one.example/api", events=None):
    return FleetContext(
        service_root=root,
        organization_number=OURS,
        time=Time(
            clock=lambda: datetime.now(UTC),
            monotonic=time.monotonic,
            sleep=(waits or Waits()).sleep,
            random=random.random,
        ),
        notify=lambda event, *, error=None: None if events is None else events.append(event),
    )


@asynccontextmanager
async def joined(
    redis: Redis, waits: Waits | None = None, *, root="https://one.example/api", **options
):
    """A member of a fleet whose state is not fresh."""
    redis.set(redis_member._Keys(root).fleet[0], 1)
    fleet = RedisFleet(url_of(redis), **options)
    async with fleet.join(context_of(waits, root=root)) as member:
        assert isinstance(member, RedisMember)
        yield member


def url_of(redis: Redis) -> str:
    return f"redis://127.0.0.1:{redis.connection_pool.connection_kwargs['port']}/0"


def keys_of(redis: Redis, name: str) -> list[str]:
    return [key for key in redis.scan_iter() if key.endswith(name)]


def places(redis: Redis, organization: str = OURS) -> dict[str, float]:
    """The seconds from now until each place ends."""
    seconds, microseconds = redis.time()
    [key] = keys_of(redis, f"{organization}:places") or [""]
    return {
        call: until / 1000 - seconds - microseconds / 1e6
        for call, until in redis.zrange(key, 0, -1, withscores=True)
    }


# --- The rate budget


async def test_nine_calls_of_all_members_are_in_flight(redis):
    waits = Waits()
    async with joined(redis) as one, joined(redis, waits) as other:
        ends = [await member.acquire(OURS) for member in (one, other) * 4]
        ends.append(await one.acquire(OURS))
        assert all(5.9 < seconds <= 6 for seconds in places(redis).values())

        def end_a_call() -> None:
            if len(waits.slept) == 2:
                [key] = keys_of(redis, "places")
                redis.zremrangebyrank(key, 0, 0)

        waits.meanwhile = end_a_call
        await other.acquire(OURS)
        assert len(waits.slept) == 2
        assert all(0 < seconds <= 0.25 for seconds in waits.slept)
        assert len(places(redis)) == 9

        for end_in_flight in ends:
            end_in_flight()
    # One call was not ended: its place lasts until it is assumed to have arrived. One ended before.
    left = sorted(places(redis).values())
    assert len(left) == 9
    assert all(0.5 < seconds <= 1 for seconds in left[:8])
    assert 5.5 < left[8] <= 6


async def test_calls_get_places_in_the_order_of_their_first_question(redis):
    order = []
    async with joined(redis) as one, joined(redis) as other:
        for _ in range(9):
            await one.acquire(OURS)

        async def call(number: int) -> None:
            await (one, other)[number % 2].acquire(OURS)
            order.append(number)

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(call, number)
                await until(lambda n=number: sum(map(redis.zcard, keys_of(redis, "queue"))) > n)
            for number in range(6):
                [key] = keys_of(redis, "places")
                redis.zremrangebyrank(key, 0, 0)
                await until(lambda n=number: len(order) > n)
    assert order == list(range(6))


@pytest.mark.parametrize(
    ("share", "most", "longest"), [(1.0, 9, 6), (0.5, 4, 6), (0.1, 1, 6), (0.05, 1, 7)]
)
async def test_the_share_limits_the_places(redis, share, most, longest):
    waits = Waits()
    async with joined(redis, waits, share=share) as member:
        for _ in range(most):
            await member.acquire(OURS)
        assert waits.slept == []
        assert all(longest - 0.5 < seconds <= longest for seconds in places(redis).values())
        waits.meanwhile = redis.flushdb
        redis.set(redis_member._Keys("https://one.example/api").fleet[0], 1)
        with anyio.move_on_after(0.05):
            await member.acquire(OURS)
        assert len(waits.slept) > 0


@pytest.mark.parametrize("per_certificate", [False, True])
async def test_each_sender_has_a_budget_or_all_have_that_of_the_certificate(redis, per_certificate):
    async with joined(redis, per_certificate=per_certificate) as member:
        await member.acquire(OURS)
        await member.acquire(THEIRS)
        await member.block(THEIRS, 30)
    assert len(places(redis)) == (2 if per_certificate else 1)
    assert len(places(redis, THEIRS)) == (0 if per_certificate else 1)
    assert len(keys_of(redis, f"{OURS if per_certificate else THEIRS}:block")) == 1


async def test_a_sender_with_too_many_calls_does_not_slow_the_others(redis):
    waits = Waits()
    async with joined(redis, waits) as member:
        for _ in range(9):
            await member.acquire(OURS)
        waiting = [asyncio.ensure_future(member.acquire(OURS)) for _ in range(20)]
        await until(lambda: len(waits.slept) > 20)
        async with joined(redis, others := Waits()) as other:
            for number in range(200):
                await other.acquire(str(number))
        assert others.slept == []
        for task in waiting:
            await cancel_natively(task)


async def test_services_share_nothing(redis):
    waits = Waits()
    async with joined(redis) as one, joined(redis, waits, root="https://two.example/api") as other:
        for _ in range(9):
            await one.acquire(OURS)
        await one.block(OURS, 30)
        await one.begin_delivery("key")
        async with one.turn(QUEUE) as turn:
            turn.learned(KNOWN)
            async with other.turn(QUEUE) as other_turn:
                assert other_turn.state.permitted_time is None
        await other.acquire(OURS)
        assert await other.begin_delivery("key") == 1
    assert waits.slept == []


async def test_cancelled_calls_give_their_places_back(redis):
    """Calls are cancelled at random moments, by `Task.cancel` and by cancel scopes."""
    chance = random.Random(3)

    async def call(seconds: float) -> bool:
        with anyio.move_on_after(seconds) as scope:
            await member.acquire(OURS)
        return not scope.cancelled_caught

    async with joined(redis) as member:
        cancelled = 0
        for _ in range(20):
            limits = [*(chance.random() * 4e-3 for _ in range(8)), 20]
            calls = [asyncio.ensure_future(call(seconds)) for seconds in limits]
            for task in calls[:8:3]:
                for _ in range(chance.randrange(30)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait(calls)
            got_through = sum(not task.cancelled() and task.result() for task in calls)
            cancelled += len(calls) - got_through
            await member.end_delivery("the requests before this one have ended")
            assert calls[8].result()
            assert len(places(redis)) == got_through
            assert keys_of(redis, "queue") == keys_of(redis, "queue-until") == []
            redis.delete(*keys_of(redis, "places"))
        assert cancelled > 0

        for _ in range(9):
            await member.acquire(OURS)
        task = asyncio.ensure_future(member.acquire(OURS))
        await until(lambda: keys_of(redis, "queue") != [])
        await cancel_natively(task)
        await until(lambda: keys_of(redis, "queue") == [])
        assert len(places(redis)) == 9


async def test_a_block_holds_for_other_members_and_a_shorter_one_does_not_end_it(redis):
    waits = Waits()
    async with joined(redis) as one, joined(redis, waits) as other:
        for seconds in (30, 5):
            await one.block(OURS, seconds)
        [block] = keys_of(redis, "block")
        assert 29_000 < redis.pttl(block) <= 30_000
        await one.block(OURS, 60)
        assert 59_000 < redis.pttl(block) <= 60_000
        await other.acquire(THEIRS)
        assert waits.slept == []

        waiting = asyncio.ensure_future(other.acquire(OURS))
        await until(lambda: len(waits.slept) >= 3)
        # It knows the block now, and asks Redis no more.
        assert 59 < other._blocked_until[OURS] - time.monotonic() <= 60
        assert waits.slept[1:] == [1] * (len(waits.slept) - 1)
        await cancel_natively(waiting)


async def test_a_block_of_a_client_is_stored_in_redis(redis):
    answer = doubles.Answer(429, headers={"dosfilter": "delayed"})
    redis.set(redis_member._Keys(doubles.ROOT).fleet[0], 1)
    async with doubles.client_of(answer, fleet=RedisFleet(url_of(redis))) as (client, _):
        with pytest.raises(RateLimitedError):
            await client.check_access()
    [block] = keys_of(redis, "block")
    assert redis.pttl(block) > 29_000


# --- Membership


async def test_members_have_ranks_by_their_ids_and_are_counted_for_a_minute(redis):
    waits = Waits()
    async with AsyncExitStack() as exits:
        members = [await exits.enter_async_context(joined(redis, waits)) for _ in range(3)]
        for member in members:
            await member._heartbeat()
        by_rank = sorted(members, key=lambda member: member._slots.rank)
        assert [member._slots.rank for member in by_rank] == [0, 1, 2]
        assert [member._id for member in by_rank] == sorted(member._id for member in members)
        assert {member._slots.members for member in members} == {3}
        (until,) = keys_of(redis, "members-until")
        # One has sent no request for a minute.
        redis.zadd(until, {by_rank[0]._id: 1})
        await by_rank[2]._heartbeat()
        assert (by_rank[2]._slots.rank, by_rank[2]._slots.members) == (1, 2)


async def test_the_first_members_wait_while_the_state_is_fresh(redis, monkeypatch):
    monkeypatch.setattr(redis_member, "ONE_SECOND", 0.0)
    waits = Waits()
    fleet = RedisFleet(url_of(redis))
    async with fleet.join(context_of(waits)) as member:
        [fresh] = keys_of(redis, "fresh")
        assert 3_500 < redis.pttl(fresh) <= 4_000

        def pass_time() -> None:
            if len(waits.slept) == 20:
                redis.delete(fresh)
                member._fresh_until = 0.0

        waits.meanwhile = pass_time
        await member.acquire(OURS)
        assert len(waits.slept) == 20
        redis.flushall()
        await member.acquire(OURS)  # by a slot, because it is known
        assert len(places(redis)) == 1
        assert len(keys_of(redis, "fresh")) == 1


async def test_a_client_opens_one_connection_and_closes_it_in_another_task(redis):
    def connections() -> int:
        return len(redis.client_list(_type="normal")) - 1

    exits = AsyncExitStack()
    member = await exits.enter_async_context(joined(redis))
    await asyncio.gather(*(member.acquire(str(number)) for number in range(20)))
    assert connections() == 1
    await asyncio.create_task(exits.aclose())
    # A call that ends now sends nothing.
    assert connections() == 0
    assert await member._request("return {1}", [], []) is None
    assert connections() == 0


async def test_heartbeats_keep_the_state_and_the_turns(redis, monkeypatch):
    monkeypatch.setattr(redis_member, "_HEARTBEAT_EVERY", 0.001)
    async with joined(redis) as member, member.turn(QUEUE):
        keys = [*keys_of(redis, "alive"), *keys_of(redis, "turn")]
        assert len(keys) == 2
        for key in keys:
            redis.pexpire(key, 1)
        redis.set(keys[1], member._id, px=1000)
        await until(lambda: all(redis.pttl(key) > 1000 for key in keys))


# --- Turns


async def test_one_member_has_the_turn_and_the_next_one_knows_what_it_learned(redis):
    waits, had = Waits(), []
    async with joined(redis) as one, joined(redis, waits) as other:

        async def wait_for_turn() -> None:
            async with other.turn(QUEUE) as turn:
                had.append(turn.state)

        async with anyio.create_task_group() as tasks, one.turn(QUEUE) as turn:
            assert turn.state.permitted_in <= 0
            tasks.start_soon(wait_for_turn)
            while len(waits.slept) < 3:
                await anyio.lowlevel.checkpoint()
            assert had == []
            async with other.turn(Sender(organization_number=OURS)):
                pass  # a different queue
            turn.learned(KNOWN)
    [state] = had
    assert state.permitted_in == pytest.approx(600, abs=5)
    assert state.next_in == pytest.approx(900, abs=5)
    assert (state.permitted_time, state.early_answers, state.leads) == (
        KNOWN.permitted_time,
        2,
        True,
    )
    assert all(0.05 <= seconds <= 0.15 for seconds in waits.slept)


async def test_a_turn_in_which_nothing_was_learned_changes_nothing(redis):
    async with joined(redis) as one, joined(redis) as other:
        async with one.turn(QUEUE) as turn:
            turn.learned(KNOWN)
        async with other.turn(QUEUE):
            pass
        redis.flushdb()
        # It knows what the other one learned, and tells it to a Redis that has lost its data.
        async with other.turn(QUEUE) as turn:
            assert turn.state.permitted_in == pytest.approx(600, abs=5)
    [state] = keys_of(redis, "poll-state")
    assert redis.hget(state, "early_answers") == "2"
    assert redis.ttl(state) > 24 * 3600


async def test_a_member_that_lost_its_turn_does_not_replace_what_is_known(redis):
    async with joined(redis) as one, joined(redis) as other:
        async with one.turn(QUEUE) as lost:
            redis.delete(*keys_of(redis, "turn"))  # its lease ended
            async with other.turn(QUEUE) as turn:
                turn.learned(KNOWN)
                lost.learned(QueueState(permitted_in=5))
        for member in (one, other):
            async with member.turn(QUEUE) as turn:
                assert turn.state.permitted_in == pytest.approx(600, abs=5)


@pytest.mark.parametrize("natively", [True, False], ids=["Task.cancel", "scope"])
async def test_a_cancelled_poll_ends_its_turn(redis, natively):
    began = anyio.Event()

    async def poll() -> None:
        async with member.turn(QUEUE):
            began.set()
            await anyio.sleep_forever()

    async with joined(redis) as member:
        if natively:
            task = asyncio.ensure_future(poll())
            await began.wait()
            await cancel_natively(task)
        else:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(poll)
                await began.wait()
                tasks.cancel_scope.cancel()
        async with asyncio.timeout(10), member.turn(QUEUE):
            pass
    assert keys_of(redis, "turn") == []


async def test_a_task_that_is_cancelled_while_it_waits_for_a_turn_gives_it_back(redis):
    async with joined(redis) as member:
        task = asyncio.ensure_future(member.turn(QUEUE).__aenter__())
        await until(member._requesting.locked)
        await cancel_natively(task)
        await member.end_delivery("the requests before this one have ended")
        assert keys_of(redis, "turn") == []


HOLDER = """
import asyncio, sys, time
from datetime import UTC, datetime
from posten_signering import FleetContext, RedisFleet, Sender
from posten_signering._session import redis_member
from posten_signering._session.timing import Time

redis_member._TURN_LEASE = 1.0
context = FleetContext(
    service_root="https://one.example/api",
    organization_number="123456789",
    time=Time(clock=lambda: datetime.now(UTC), monotonic=time.monotonic, sleep=asyncio.sleep, random=lambda: 0.5),
    notify=lambda event, error=None: None,
)

async def main():
    queue = Sender(organization_number="123456789", polling_queue="shop")
    async with RedisFleet(sys.argv[1]).join(context) as member, member.turn(queue):
        print("has the turn", flush=True)
        await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_the_turn_of_a_killed_process_ends_with_its_lease(redis):
    waits = Waits()
    async with joined(redis, waits) as member:
        command = [sys.executable, "-c", HOLDER, url_of(redis)]
        async with await anyio.open_process(command) as holder:
            try:
                assert await holder.stdout.receive()
                [turn] = keys_of(redis, "turn")
                assert 0 < redis.pttl(turn) <= 1000
            finally:
                holder.kill()
        assert redis.exists(turn) == 1
        redis.pexpire(turn, 20)
        async with asyncio.timeout(10), member.turn(QUEUE):
            assert redis.get(turn) == member._id
    assert len(waits.slept) > 0


# --- Deliveries


async def test_members_count_the_deliveries_of_a_change_together(redis):
    async with joined(redis) as one, joined(redis) as other:
        assert [await member.begin_delivery("key") for member in (one, other, other)] == [1, 2, 3]
        assert await one.begin_delivery("other key") == 1
        [key] = keys_of(redis, ":key")
        assert redis.ttl(key) == pytest.approx(7 * 24 * 3600, abs=60)
        await other.end_delivery("key")
        assert keys_of(redis, ":key") == []


# --- Without Redis


async def test_without_redis_a_member_uses_what_it_knows(redis_server, tmp_path):
    events: list[object] = []
    with redis_process.running(redis_server, tmp_path) as server:
        async with RedisFleet(server.uri).join(context_of(events=events)) as member:
            async with member.turn(QUEUE) as turn:
                turn.learned(KNOWN)
            assert await member.begin_delivery("key") == 1
            server.stop()
            async with member.turn(QUEUE) as turn:
                assert turn.state.permitted_in == pytest.approx(600, abs=5)
                turn.learned(QueueState(permitted_in=700))
            assert await member.begin_delivery("key") == 2
            await member.block(OURS, 1)
            assert [type(event) for event in events] == [FleetUnavailable]
            with redis_process.running(redis_server, tmp_path, server.port):
                await member._heartbeat()
                assert events[1:] == [FleetAvailable()]
                async with member.turn(QUEUE) as turn:
                    assert turn.state.permitted_in == pytest.approx(700, abs=5)
                assert await member.begin_delivery("key") == 3
                await member.end_delivery("key")
                assert await member.begin_delivery("key") == 1


async def test_a_paused_redis_holds_up_a_call_only_for_the_timeout(
    redis_server, tmp_path, monkeypatch
):
    """When Redis continues, it gives no place to a call that no longer waits for the answer."""
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 10)
    monkeypatch.setattr(redis_member, "_ANSWER_WITHIN", 0.05)
    monkeypatch.setattr(redis_scripts, "STATE_EXPIRES_AFTER", 0)
    events: list[object] = []
    with (
        redis_process.running(redis_server, tmp_path) as server,
        Redis(port=server.port, decode_responses=True) as redis,
    ):
        redis.set(redis_member._Keys("https://one.example/api").fleet[0], 1)
        async with RedisFleet(server.uri).join(context_of(events=events)) as member:
            os.kill(server.process.pid, signal.SIGSTOP)
            monkeypatch.setattr(redis_connection, "_TIMEOUT", 0.05)
            try:
                async with asyncio.timeout(10):
                    await member.acquire(OURS)
            finally:
                os.kill(server.process.pid, signal.SIGCONT)
                monkeypatch.setattr(redis_connection, "_TIMEOUT", 10)
            assert [event.error_type for event in events] == ["TimeoutError"]
            await member._heartbeat()
        redis.config_set("appendonly", "no")  # answered after everything before it
        assert keys_of(redis, "places") == []


# --- Configuration


async def refusal(url: str) -> str:
    events: list[object] = []
    with pytest.raises(ConfigurationError) as refused:
        async with RedisFleet(url).join(context_of(events=events)):
            pass
    assert events == []
    assert "canary" not in doubles.frames_with_locals(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://user:canary@host",
        "redis+sentinel://canary@host",
        "redis://:canary@host:port",
        "redis://[canary",
        "canary",
        "",
    ],
)
async def test_a_url_that_is_not_one_of_a_redis_server_is_refused(url):
    assert "must be the URL of one Redis server" in await refusal(url)


@pytest.mark.parametrize("option", ["canary=1", "socket_timeout=canary", "protocol=9"])
async def test_an_unknown_option_is_refused(option):
    assert "option" in await refusal(f"redis://:canary@127.0.0.1:1/0?{option}")


async def test_a_wrong_password_and_a_missing_permission_are_refused(redis_server, tmp_path):
    with redis_process.running(redis_server, tmp_path, requirepass="right") as server:
        host = f"127.0.0.1:{server.port}"
        async with RedisFleet(f"redis://:right@{host}").join(context_of()):
            pass
        for login in (":canary@", "user:canary@", ""):
            assert "refused the user name or the password" in await refusal(
                f"redis://{login}{host}"
            )
        with Redis(port=server.port, password="right") as redis:
            redis.acl_setuser("limited", enabled=True, passwords=["+canary"], keys=["other:*"])
            redis.execute_command("ACL SETUSER limited +@all")
            redis.execute_command("ACL SETUSER timeless on >canary ~posten-signering:* +@all -time")
        for user in ("limited", "timeless"):
            assert "lacks a permission" in await refusal(f"redis://{user}:canary@{host}")
        assert "database" in await refusal(f"redis://:right@{host}/99")


async def test_a_node_of_a_cluster_is_refused(redis_server, tmp_path):
    with redis_process.running(redis_server, tmp_path, cluster_enabled="yes") as server:
        assert "Redis Cluster" in await refusal(server.uri)


async def test_a_redis_sentinel_is_refused(redis_server, tmp_path):
    with redis_process.sentinel(redis_server, tmp_path) as url:
        assert "Redis Sentinel" in await refusal(url)


@pytest.fixture(scope="module")
def tls_server(redis_server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("redis-tls")
    authority = pki.issue(pki.subject("Redis CA"), ca=True, key_identifiers=True)
    certificate = pki.issue(pki.subject("Redis"), authority, host="localhost", key_identifiers=True)
    for name, content in {
        "ca.pem": authority.pem,
        "server.pem": certificate.pem,
        "server.key": certificate.key_pem,
    }.items():
        Path(folder, name).write_bytes(content)
    port = redis_process.free_port()
    with redis_process.running(
        redis_server,
        folder,
        tls_port=port,
        tls_cert_file=folder / "server.pem",
        tls_key_file=folder / "server.key",
        tls_ca_cert_file=folder / "ca.pem",
        tls_auth_clients="no",
    ) as server:
        yield server, port, folder


async def test_tls_with_a_trusted_certificate(tls_server):
    server, port, folder = tls_server
    events: list[object] = []
    fleet = RedisFleet(f"rediss://localhost:{port}/0?ssl_ca_certs={folder}/ca.pem")
    async with fleet.join(context_of(events=events)) as member:
        assert await member.begin_delivery("key") == 1
    assert events == []
    assert server.ask("KEYS", "*deliveries:key").startswith(b"*1")


@pytest.mark.parametrize(
    ("host", "option", "reason"),
    [
        ("localhost", "", "CERTIFICATE_VERIFY_FAILED"),
        ("127.0.0.1", "?ssl_ca_certs={folder}/ca.pem", "CERTIFICATE_VERIFY_FAILED"),
        ("localhost", "?ssl_ca_certs={folder}/canary.pem", "does not exist"),
    ],
    ids=["not trusted", "a different host", "no file"],
)
async def test_tls_that_fails_is_refused(tls_server, host, option, reason):
    _, port, folder = tls_server
    url = f"rediss://:canary@{host}:{port}/0{option.format(folder=folder)}"
    assert reason in await refusal(url)


async def test_a_port_without_tls_is_refused(server, monkeypatch):
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 0.4)
    assert "answers without TLS" in await refusal(f"rediss://:canary@127.0.0.1:{server.port}/0")


async def test_the_traceback_of_a_cancelled_check_for_tls_has_no_password(monkeypatch):
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 0.2)

    async def enter(port: int) -> None:
        async with RedisFleet(f"rediss://:canary@127.0.0.1:{port}/0").join(context_of()):
            pass

    async def answer(connection: anyio.abc.SocketStream) -> None:
        async with connection:
            if await connection.receive() == b"PING\r\n":
                entering.cancel()
            await anyio.sleep_forever()

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as group,
    ):
        group.start_soon(listener.serve, answer)
        entering = asyncio.create_task(enter(listener.extra(anyio.abc.SocketAttribute.local_port)))
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await entering
        group.cancel_scope.cancel()
    shown = doubles.frames_with_locals(cancelled.value)
    assert "_answers_without_tls" in shown
    assert "canary" not in shown


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
@pytest.mark.parametrize("silent", [False, True], ids=["refused", "silent"])
async def test_a_redis_that_is_away_at_the_start_is_no_error(scheme, silent, monkeypatch):
    monkeypatch.setattr(redis_connection, "_TIMEOUT", 0.05 if silent else 10)
    events: list[object] = []
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        if not silent:
            await listener.aclose()
        url = f"{scheme}://:canary@127.0.0.1:{port}/0"
        async with RedisFleet(url).join(context_of(events=events)) as member:
            assert "canary" not in repr(vars(member))
    [event] = events
    assert event == FleetUnavailable(
        error_type="TimeoutError" if silent else "ConnectionError", calls_per_second=0.1
    )


@pytest.mark.parametrize(("name", "value"), [("share", 0), ("share", 1.5), ("members_at_least", 0)])
def test_an_argument_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=rf"RedisFleet\.{name} must be .*{value}"):
        RedisFleet("redis://host", **{name: value})


@pytest.mark.parametrize(("name", "value"), [("share", "0.5"), ("members_at_least", "8")])
def test_an_argument_of_a_wrong_type_is_refused(name, value):
    with pytest.raises(ArgumentTypeError, match=f"^The argument {name} must be a .*number"):
        RedisFleet("redis://host", **{name: value})


def test_without_the_extra_the_error_says_what_to_install():
    program = (
        "import sys, asyncio; sys.modules['redis'] = None\n"
        "from posten_signering import RedisFleet, errors\n"
        "async def main():\n"
        "    async with RedisFleet('redis://host').join(None): pass\n"
        "try:\n    asyncio.run(main())\n"
        "except errors.ConfigurationError as error:\n    print(error, error.__cause__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "pip install 'posten-signering[redis]'. None" in done.stdout
