"""One budget for a fleet, against a real Redis server, which is also the judge: its MONITOR tells each
command with its own time."""

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
from posten_signering.errors import ConfigurationError, RateLimitedError

pytestmark = pytest.mark.anyio

ORGANIZATION = pki.SENDER
ANOTHER = "987654321"
BLOCK = f"LIMITS:posten-signering/{ORGANIZATION}/block"

# The service's limit, and what this package makes of it.
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
    """When a slot was taken, by Redis's clock: a slot gets its second to live when it is taken."""
    told = [
        re.match(r'\+(\d+\.\d+) \[\d+ lua\] "expire" "[^"]*/\d+/slot\d+/[^"]*" "1"$', each)
        for each in lines
    ]
    return [float(each[1]) for each in told if each]


def most_in_a_second(times: list[float]) -> int:
    # Redis reckons in whole milliseconds.
    times = sorted(times)
    return max(sum(start <= each < start + 0.998 for each in times) for start in times)


class FakeTime:
    """Moves only when somebody sleeps."""

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


async def let_through(limiter: SharedRateLimiter, organization: str) -> None:
    """A call that is answered at once."""
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


async def test_processes_together_stay_below_the_limit_of_a_second(redis):
    command = [sys.executable, "-c", PROCESS, redis.uri, ORGANIZATION, "6"]
    with redis.monitored() as lines:
        async with SharedRateLimiter(redis.uri) as here, anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(anyio.run_process, command)
            for _ in range(6):
                await let_through(here, ORGANIZATION)
    times = grants(lines)
    assert len(times) == 18
    assert most_in_a_second(times) <= SLOTS
    # All of them had a part: nobody waited for the others to finish.
    who = {each.split()[2] for each in lines if '"EVALSHA"' in each}
    assert len(who) == 3


def test_limiters_that_know_nothing_of_each_other_go_above_it():
    """The negative twin: what the counting above would see without a shared budget."""
    times = []

    async def calls() -> None:
        limiter = InMemoryRateLimiter(monotonic=VirtualTime.monotonic)
        for _ in range(8):
            await let_through(limiter, ORGANIZATION)
            times.append(VirtualTime.monotonic())

    async def fleet() -> None:
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(calls)

    with asyncio.Runner(loop_factory=virtual_time.VirtualLoop) as runner:
        runner.run(fleet())
    assert most_in_a_second(times) > LIMIT


async def test_calls_of_one_process_are_let_through_in_the_order_of_asking(redis):
    order = []

    async def call(number: int) -> None:
        await let_through(limiter, ORGANIZATION)
        order.append(number)

    async with FakeTime().limiter(redis.uri) as limiter, anyio.create_task_group() as tasks:
        for number in range(6):
            tasks.start_soon(call, number)
    assert order == list(range(6))


async def test_organizations_have_budgets_of_their_own(redis):
    time = FakeTime()
    async with time.limiter(redis.uri) as limiter:
        for _ in range(SLOTS):
            await let_through(limiter, ORGANIZATION)
        slept = len(time.slept)
        await let_through(limiter, ANOTHER)
        assert len(time.slept) == slept
        # The first one's slots are all taken, as long as Redis does not remove one.
        await let_through(limiter, ORGANIZATION)
        assert len(time.slept) > slept


@pytest.mark.parametrize(("share", "slots"), [(0.5, 3), (0.01, 1)])
async def test_a_share_is_a_part_of_the_slots(redis, share, slots):
    time = FakeTime()
    with redis.monitored() as lines:
        async with time.limiter(redis.uri, share=share) as limiter:
            for _ in range(slots + 1):
                await let_through(limiter, ORGANIZATION)
    assert len(set(re.findall(r"slot\d+", "\n".join(lines)))) == slots
    assert most_in_a_second(grants(lines)) == slots


async def test_a_block_holds_other_processes_until_redis_removes_it(redis):
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
            await let_through(other, ORGANIZATION)
        assert len(there.slept) == 5
        assert all(0.5 <= each <= 1 for each in there.slept)
        assert len(grants(lines)) == 1
        # Whoever met the block needs no Redis to know of it.
        await let_through(one, ORGANIZATION)
        assert sum(here.slept) == pytest.approx(30)


async def test_a_block_does_not_hold_other_organizations(redis):
    time = FakeTime()
    async with time.limiter(redis.uri) as limiter:
        await limiter.block(ORGANIZATION, 30)
        await let_through(limiter, ANOTHER)
    assert time.slept == []


async def test_a_shorter_block_does_not_end_a_longer_one(redis):
    async with FakeTime().limiter(redis.uri) as limiter:
        await limiter.block(ORGANIZATION, 30)
        await limiter.block(ORGANIZATION, 5)
        assert redis.number("PTTL", BLOCK) > 29_000
        await limiter.block(ORGANIZATION, 60)
        assert redis.number("PTTL", BLOCK) > 59_000


async def test_a_block_that_a_client_meets_crosses(redis):
    async with FakeTime().limiter(redis.uri) as limiter:
        answer = doubles.Answer(429, headers={"dosfilter": "delayed"})
        async with doubles.client_of(answer, rate_limiter=limiter) as (client, _):
            with pytest.raises(RateLimitedError):
                await client.check_access()
    assert redis.number("PTTL", BLOCK) > 29_000


async def test_cancelled_callers_harm_nobody(redis):
    """At random moments, natively and by scope: whoever is not cancelled gets through."""
    chance = random.Random(3)
    time = FakeTime()

    async def call(organization: str, seconds: float) -> bool:
        with anyio.move_on_after(seconds) as scope:
            await let_through(limiter, organization)
        return not scope.cancelled_caught

    async with time.limiter(redis.uri) as limiter:
        cancelled = 0
        for organization in map(str, range(40)):
            # No more callers than there are slots, so that nobody has to wait for one.
            calls = [
                asyncio.ensure_future(call(organization, each))
                for each in (10, chance.random() * 2e-3, 10, chance.random() * 4e-3, 10)
            ]
            for native in (calls[0], calls[2]):
                for _ in range(chance.randrange(20)):
                    await asyncio.sleep(0)
                native.cancel()
            await asyncio.wait(calls)
            assert calls[4].result()
            cancelled += sum(each.cancelled() or not each.result() for each in calls)
        assert cancelled > 0
    clients = redis.ask("CLIENT", "LIST", "TYPE", "normal").decode().count(" addr=")
    assert clients == 1  # the one that asks


async def test_without_redis_a_process_paces_itself_and_says_so_once(
    redis_server, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "posten_signering")
    time = FakeTime()
    with redis_process.running(redis_server, tmp_path) as redis:
        async with time.limiter(redis.uri, share_alone=0.25) as limiter:
            await let_through(limiter, ORGANIZATION)
            assert redis.ask("KEYS", "*slot*").startswith(b"*1\r\n")
            redis.stop()

            began = time.now
            for _ in range(8):
                await let_through(limiter, ORGANIZATION)
            # After a pause one at once, and then a quarter of 7 in a second.
            assert time.now - began == pytest.approx(1 + 7 / (7 * 0.25), rel=0.1)
            [warning] = caplog.records
            assert warning.levelname == "WARNING"
            assert "takes 25 %" in warning.getMessage()
            assert str(redis.port) in warning.getMessage()

            await limiter.block(ORGANIZATION, 30)
            began = time.now
            await let_through(limiter, ORGANIZATION)
            assert time.now - began >= 30
            await limiter.block(ANOTHER, 2)  # not asked: Redis is left alone for a while
            assert len(caplog.records) == 1

            with redis_process.running(redis_server, tmp_path, redis.port) as again:
                time.now += 5
                await let_through(limiter, ORGANIZATION)
                assert again.ask("KEYS", "*slot*").startswith(b"*1\r\n")
            assert [each.levelname for each in caplog.records] == ["WARNING", "INFO"]
            assert "shared again" in caplog.records[1].getMessage()

            await limiter.block(ORGANIZATION, 30)
            assert [each.levelname for each in caplog.records] == ["WARNING", "INFO", "WARNING"]


async def test_when_redis_dies_and_when_it_is_back_no_second_holds_too_many(redis_server, tmp_path):
    """Four processes, which learn of both at different moments: those on their own are not in Redis."""
    time, moments = FakeTime(), []
    with redis_process.running(redis_server, tmp_path) as redis:
        fleet = [time.limiter(redis.uri, share_alone=0.25) for _ in range(4)]

        async def call_in_turn(calls: int) -> None:
            # One after the other, each as soon as the one before got through.
            for number in range(calls):
                await let_through(fleet[number % 4], ORGANIZATION)
                moments.append(time.now)

        await call_in_turn(SLOTS)
        redis.stop()
        died = time.now
        await call_in_turn(16)
        with redis_process.running(redis_server, tmp_path, redis.port):
            time.now += 5
            back = time.now
            # Redis does not see the time that passes here: its slots are taken, and given back, in its
            # own seconds. What is looked at is that each process also keeps to its own part.
            alone = fleet[0]._alone._buckets[ORGANIZATION]
            for seconds in (0, 2, 4, 5.9):
                time.now = back + seconds
                await let_through(fleet[0], ORGANIZATION)
                assert alone.wait(time.now) > 0
            time.now = back + 7.5
            assert alone.wait(time.now) == 0
            await let_through(fleet[0], ORGANIZATION)
            assert alone.wait(time.now) == 0
        for each in fleet:
            await each.aclose()
    assert min(each for each in moments if each > died) >= died + 1
    assert most_in_a_second(moments) <= LIMIT


async def test_whoever_is_cancelled_or_fails_after_the_pace_gives_its_place_back(
    redis, monkeypatch
):
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


async def test_a_redis_that_does_not_answer_holds_nobody_up(monkeypatch, caplog):
    monkeypatch.setattr(redis_slots, "_PATIENCE_SECONDS", 0.05)

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    uri = f"async+redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}"
    async with silent, FakeTime().limiter(uri) as limiter:
        with anyio.fail_after(10):
            await let_through(limiter, ORGANIZATION)
    assert [each.levelname for each in caplog.records] == ["WARNING"]


async def test_a_refusal_by_redis_does_not_show_the_password(redis, caplog):
    uri = f"redis://user:canary-password@127.0.0.1:{redis.port}"
    async with FakeTime().limiter(uri) as limiter:
        await let_through(limiter, ORGANIZATION)
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
def test_another_uri_is_refused_without_showing_it(uri):
    with pytest.raises(ConfigurationError, match="must be one of Redis") as refused:
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
async def test_every_uri_of_redis_is_taken(uri):
    async with SharedRateLimiter(uri):
        pass


@pytest.mark.parametrize("shares", [{"share": 0}, {"share": 1.5}, {"share_alone": 0}])
def test_a_share_out_of_range_is_refused(shares):
    with pytest.raises(ConfigurationError, match="share"):
        SharedRateLimiter("redis://host", **shares)


@pytest.mark.parametrize("missing", ["limits", "redis"])
def test_without_the_extra_it_says_what_to_install(missing):
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
