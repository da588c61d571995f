"""One rate budget for several processes, with a real Redis server.

The tests read Redis's MONITOR output, which lists each command with the server's time.
"""

import asyncio
import logging
import random
import re
import subprocess
import sys

import anyio
import doubles
import pki
import pytest
import redis_process
import virtual_time
from virtual_time import VirtualTime

from posten_signering import (
    InMemoryRateLimiter,
    SharedRateLimiter,
)
from posten_signering._session import redis_slots
from posten_signering.errors import ClientStateError, ConfigurationError, RateLimitedError

pytestmark = pytest.mark.anyio

ORGANIZATION = pki.SENDER
OTHER_ORGANIZATION = "987654321"
BLOCK = f"LIMITS:posten-signering/{ORGANIZATION}/block"

# The service's limit of calls per second, and the slots per second of this package.
LIMIT = 10
SLOTS = 7


@pytest.fixture(scope="module")
def server(redis_server, tmp_path_factory):
    with redis_process.running(redis_server, tmp_path_factory.mktemp("redis")) as running:
        yield running


@pytest.fixture
def redis(server):
    server.ask("FLUSHALL")
    return server


def grants(lines: list[str]) -> list[float]:
    """When each slot was taken, by Redis's clock: taking a slot sets its expiry to one second."""
    matches = [
        re.match(r'\+(\d+\.\d+) \[\d+ lua\] "expire" "[^"]*/\d+/slot\d+/[^"]*" "1"$', line)
        for line in lines
    ]
    return [float(match[1]) for match in matches if match]


def most_in_a_second(times: list[float]) -> int:
    # Redis counts in whole milliseconds.
    times = sorted(times)
    return max(sum(start <= time < start + 0.998 for time in times) for start in times)


class FakeTime:
    """A clock that moves only when its `sleep` is called."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await anyio.lowlevel.checkpoint()
        self.slept.append(seconds)
        self.now += seconds

    def limiter(self, uri: str, **options) -> SharedRateLimiter:
        return SharedRateLimiter(uri, monotonic=self.monotonic, sleep=self.sleep, **options)


async def make_call(limiter: SharedRateLimiter, organization: str) -> None:
    """A call that gets its response immediately."""
    arrived = await limiter.acquire(organization)
    arrived()


PROCESS = """
import anyio, sys
from posten_signering import SharedRateLimiter

async def main(uri, organization, calls):
    async with SharedRateLimiter(uri) as limiter:
        for _ in range(calls):
            (await limiter.acquire(organization))()

anyio.run(main, sys.argv[1], sys.argv[2], int(sys.argv[3]))
"""


async def test_processes_together_stay_within_the_slots_of_a_second(redis):
    command = [sys.executable, "-c", PROCESS, redis.uri, ORGANIZATION, "6"]
    with redis.monitored() as lines:
        async with SharedRateLimiter(redis.uri) as here, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(anyio.run_process, command)
            for _ in range(6):
                await make_call(here, ORGANIZATION)
    times = grants(lines)
    assert len(times) == 18
    assert most_in_a_second(times) <= SLOTS
    # All three processes got slots.
    connections = {line.split()[2] for line in lines if '"EVALSHA"' in line}
    assert len(connections) == 3


def test_limiters_without_a_shared_budget_exceed_the_limit():
    """Shows that the test above can fail."""
    times = []

    async def calls() -> None:
        limiter = InMemoryRateLimiter(monotonic=VirtualTime.monotonic)
        for _ in range(8):
            await make_call(limiter, ORGANIZATION)
            times.append(VirtualTime.monotonic())

    async def three_limiters() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(calls)

    with asyncio.Runner(loop_factory=virtual_time.VirtualLoop) as runner:
        runner.run(three_limiters())
    assert most_in_a_second(times) > LIMIT


async def test_calls_of_one_process_are_let_through_first_come_first_served(redis):
    order = []

    async def call(number: int) -> None:
        await make_call(limiter, ORGANIZATION)
        order.append(number)

    async with FakeTime().limiter(redis.uri) as limiter, anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(call, number)
    assert order == list(range(6))


async def test_each_organization_has_its_own_budget(redis):
    time = FakeTime()
    async with time.limiter(redis.uri) as limiter:
        for _ in range(SLOTS):
            await make_call(limiter, ORGANIZATION)
        slept = len(time.slept)
        await make_call(limiter, OTHER_ORGANIZATION)
        assert len(time.slept) == slept
        # All slots of the first organisation are taken, until Redis removes one.
        await make_call(limiter, ORGANIZATION)
        assert len(time.slept) > slept


@pytest.mark.parametrize(("share", "slots"), [(0.5, 3), (0.01, 1)])
async def test_a_share_limits_the_number_of_slots(redis, share, slots):
    time = FakeTime()
    with redis.monitored() as lines:
        async with time.limiter(redis.uri, share=share) as limiter:
            for _ in range(slots + 1):
                await make_call(limiter, ORGANIZATION)
    assert len(set(re.findall(r"slot\d+", "\n".join(lines)))) == slots
    assert most_in_a_second(grants(lines)) == slots


async def test_a_block_stops_other_processes_until_redis_removes_it(redis):
    here, there = FakeTime(), FakeTime()
    async with here.limiter(redis.uri) as one, there.limiter(redis.uri) as other:
        await one.block(ORGANIZATION, 30)
        assert 29_000 < redis.number("PTTL", BLOCK) <= 30_000

        async def sleep(seconds: float) -> None:
            await there.sleep(seconds)
            if len(there.slept) == 5:
                redis.ask("DEL", BLOCK)

        other._sleep = sleep
        with redis.monitored() as lines:
            await make_call(other, ORGANIZATION)
        assert len(there.slept) == 5
        assert all(0.5 <= seconds <= 1 for seconds in there.slept)
        assert len(grants(lines)) == 1
        # The process that reported the block waits even after Redis has removed it.
        await make_call(one, ORGANIZATION)
        assert sum(here.slept) == pytest.approx(30)


async def test_a_block_does_not_stop_other_organizations(redis):
    time = FakeTime()
    async with time.limiter(redis.uri) as limiter:
        await limiter.block(ORGANIZATION, 30)
        await make_call(limiter, OTHER_ORGANIZATION)
    assert time.slept == []


async def test_a_shorter_block_does_not_end_a_longer_one(redis):
    async with FakeTime().limiter(redis.uri) as limiter:
        await limiter.block(ORGANIZATION, 30)
        await limiter.block(ORGANIZATION, 5)
        assert redis.number("PTTL", BLOCK) > 29_000
        await limiter.block(ORGANIZATION, 60)
        assert redis.number("PTTL", BLOCK) > 59_000


async def test_a_block_of_a_client_is_stored_in_redis(redis):
    async with FakeTime().limiter(redis.uri) as limiter:
        answer = doubles.Answer(429, headers={"dosfilter": "delayed"})
        async with doubles.client_of(answer, rate_limiter=limiter) as (client, _):
            with pytest.raises(RateLimitedError):
                await client.check_access()
    assert redis.number("PTTL", BLOCK) > 29_000


async def test_cancelled_calls_do_not_stop_other_calls(redis):
    """Calls are cancelled at random moments, by `Task.cancel` and by cancel scopes."""
    chance = random.Random(3)
    time = FakeTime()

    async def call(organization: str, seconds: float) -> bool:
        with anyio.move_on_after(seconds) as scope:
            await make_call(limiter, organization)
        return not scope.cancelled_caught

    async with time.limiter(redis.uri) as limiter:
        cancelled = 0
        for organization in map(str, range(40)):
            # Fewer calls than slots, so that no call has to wait for one.
            calls = [
                asyncio.ensure_future(call(organization, seconds))
                for seconds in (10, chance.random() * 2e-3, 10, chance.random() * 4e-3, 10)
            ]
            for task in (calls[0], calls[2]):
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait(calls)
            assert calls[4].result()
            cancelled += sum(task.cancelled() or not task.result() for task in calls)
        assert cancelled > 0
    clients = redis.ask("CLIENT", "LIST", "TYPE", "normal").decode().count(" addr=")
    assert clients == 1  # the connection that sends this command


async def test_without_redis_a_process_paces_itself_and_logs_one_warning(
    redis_server, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "posten_signering")
    time = FakeTime()
    with redis_process.running(redis_server, tmp_path) as redis:
        async with time.limiter(redis.uri, share_alone=0.25) as limiter:
            await make_call(limiter, ORGANIZATION)
            assert redis.ask("KEYS", "*slot*").startswith(b"*1\r\n")
            redis.stop()

            began = time.now
            for _ in range(8):
                await make_call(limiter, ORGANIZATION)
            # A pause of a second, one call, and then a quarter of 7 calls per second.
            assert time.now - began == pytest.approx(1 + 7 / (7 * 0.25), rel=0.1)
            [warning] = caplog.records
            assert warning.levelname == "WARNING"
            assert "uses 25 %" in warning.getMessage()
            assert str(redis.port) in warning.getMessage()

            await limiter.block(ORGANIZATION, 30)
            began = time.now
            await make_call(limiter, ORGANIZATION)
            assert time.now - began >= 30
            await limiter.block(OTHER_ORGANIZATION, 2)  # Redis is not called during the pause
            assert len(caplog.records) == 1

            with redis_process.running(redis_server, tmp_path, redis.port) as restarted:
                time.now += 5
                await make_call(limiter, ORGANIZATION)
                assert restarted.ask("KEYS", "*slot*").startswith(b"*1\r\n")
            assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
            assert "shared between processes again" in caplog.records[1].getMessage()

            await limiter.block(ORGANIZATION, 30)
            levels = [record.levelname for record in caplog.records]
            assert levels == ["WARNING", "INFO", "WARNING"]


async def test_when_redis_stops_and_restarts_no_second_has_too_many_calls(redis_server, tmp_path):
    """Four processes notice both at different moments. Calls paced locally are not in Redis."""
    time, moments = FakeTime(), []
    with redis_process.running(redis_server, tmp_path) as redis:
        fleet = [time.limiter(redis.uri, share_alone=0.25) for _ in range(4)]

        async def call_in_turn(calls: int) -> None:
            # Each process makes a call as soon as the call before got through.
            for number in range(calls):
                await make_call(fleet[number % 4], ORGANIZATION)
                moments.append(time.now)

        await call_in_turn(SLOTS)
        redis.stop()
        stopped_at = time.now
        await call_in_turn(16)
        with redis_process.running(redis_server, tmp_path, redis.port):
            time.now += 5
            back_at = time.now
            # Redis has its own clock, not this test's, so its slots say nothing here. The test checks
            # that a process also uses its local budget for 6 seconds, and then no longer.
            bucket = fleet[0]._local_budget._buckets[ORGANIZATION]
            for seconds in (0, 2, 4, 5.9):
                time.now = back_at + seconds
                await make_call(fleet[0], ORGANIZATION)
                assert bucket.wait(time.now) > 0
            time.now = back_at + 7.5
            assert bucket.wait(time.now) == 0
            await make_call(fleet[0], ORGANIZATION)
            assert bucket.wait(time.now) == 0
        for limiter in fleet:
            await limiter.aclose()
    assert min(moment for moment in moments if moment > stopped_at) >= stopped_at + 1
    assert most_in_a_second(moments) <= LIMIT


async def test_a_call_that_fails_after_pacing_is_no_longer_in_flight(redis, monkeypatch):
    time = FakeTime()
    async with time.limiter(redis.uri) as limiter:

        async def fail(_: str) -> float:
            raise ZeroDivisionError

        monkeypatch.setattr(limiter._redis, "take", fail)
        for _ in range(9):
            time.now += 0.2
            with pytest.raises(ZeroDivisionError):
                await limiter.acquire(ORGANIZATION)
        monkeypatch.undo()
        time.now += 1
        began = time.now
        await limiter.acquire(ORGANIZATION)
        assert time.now - began < 1


async def test_a_redis_that_does_not_respond_stops_no_calls(monkeypatch, caplog):
    monkeypatch.setattr(redis_slots, "_REDIS_TIMEOUT_SECONDS", 0.05)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    uri = f"async+redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, FakeTime().limiter(uri) as limiter:
        with anyio.fail_after(10):
            await make_call(limiter, ORGANIZATION)
    assert [record.levelname for record in caplog.records] == ["WARNING"]


async def test_a_refusal_by_redis_does_not_show_the_password(redis, caplog):
    uri = f"redis://user:canary-password@127.0.0.1:{redis.port}"
    async with FakeTime().limiter(uri) as limiter:
        await make_call(limiter, ORGANIZATION)
        assert "canary" not in f"{limiter!r} {vars(limiter)!r} {vars(limiter._redis)!r}"
    [warning] = caplog.records
    assert "AUTH" in warning.getMessage() or "password" in warning.getMessage()
    assert "canary" not in warning.getMessage()


@pytest.mark.parametrize(
    "uri",
    [
        "http://user:canary@host",
        "memcached://host:11211/canary",
        "redis+sentinel://canary@host",
        "redis://:canary@host:port",
        "canary",
        "",
    ],
)
def test_a_uri_that_is_not_redis_is_refused_without_showing_it(uri):
    with pytest.raises(ConfigurationError, match="must be a Redis URI") as refused:
        SharedRateLimiter(uri)
    assert "canary" not in doubles.frames_with_locals(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        "redis://host",
        "rediss://host:6380/2",
        "redis+unix:///run/redis.sock?db=1",
        "async+redis://user:password@host:6379",
    ],
)
async def test_every_redis_uri_is_accepted(uri):
    async with SharedRateLimiter(uri):
        pass


def test_a_limiter_is_refused_in_a_second_event_loop():
    """Its connection with Redis and its locks belong to the first one."""
    limiter = SharedRateLimiter("redis://127.0.0.1:1")
    call = asyncio.run(limiter.acquire(ORGANIZATION))
    call()
    for use in (limiter.acquire(ORGANIZATION), limiter.block(ORGANIZATION, 1), limiter.aclose()):
        with pytest.raises(ClientStateError) as caught:
            asyncio.run(use)
        assert "This SharedRateLimiter belongs to an event loop" in str(caught.value)
        assert "Use one SharedRateLimiter for each event loop" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), [("share", 0), ("share", 1.5), ("share_alone", 0)])
def test_a_share_out_of_range_is_refused(name, value):
    with pytest.raises(ConfigurationError, match=rf"{name}.* must be above 0"):
        SharedRateLimiter("redis://host", **{name: value})


@pytest.mark.parametrize("missing", ["limits", "redis"])
def test_without_the_extra_the_error_says_what_to_install(missing):
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from posten_signering import InMemoryRateLimiter, SharedRateLimiter, errors\n"
        "try:\n    SharedRateLimiter('redis://host')\n"
        "except errors.ConfigurationError as error:\n    print(error, error.__cause__)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert "pip install 'posten-signering[redis]'. None" in done.stdout
