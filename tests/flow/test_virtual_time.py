"""The virtual clock that other tests stand on: it must order what happens as real time does."""

import asyncio
import time
from datetime import timedelta

import anyio
import anyio.to_thread
import pytest
import virtual_time
from virtual_time import NOW, StuckError, VirtualLoop, VirtualTime, cancel_natively, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


async def test_a_long_sleep_takes_no_time_and_moves_every_clock():
    virtual = VirtualTime(offset=timedelta(minutes=10))
    began, started = time.monotonic(), virtual.monotonic()
    before = virtual.clock()
    await virtual.sleep(86_400 * 30)
    assert virtual.monotonic() - started == pytest.approx(86_400 * 30)
    assert virtual.clock() - before == timedelta(days=30)
    assert virtual.clock() - virtual.service_clock() == timedelta(minutes=10)
    assert virtual.slept == [86_400 * 30]
    assert time.monotonic() - began < 60  # a hang, not a speed, is what this would show


async def test_sleepers_wake_in_the_order_of_their_times():
    woken = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, round(VirtualTime.monotonic() - began, 6)))

    began = VirtualTime.monotonic()
    async with anyio.create_task_group() as tasks:
        for seconds in (30, 0.1, 600, 5, 5):
            tasks.start_soon(sleeper, seconds)
    assert woken == [(0.1, 0.1), (5, 5), (5, 5), (30, 30), (600, 600)]


async def test_time_stands_still_while_anybody_can_run():
    """A task that works, without ever waiting for time, is finished before the next timer."""
    seen = []

    async def worker() -> None:
        for _ in range(1000):
            await asyncio.sleep(0)
        seen.append("worked")

    async def sleeper() -> None:
        await anyio.sleep(1e-3)
        seen.append("woke")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleeper)
        tasks.start_soon(worker)
    assert seen == ["worked", "woke"]


async def test_whoever_waits_for_a_lock_gets_it_when_its_holder_wakes():
    lock = anyio.Lock()
    got = []

    async def hold(seconds: float) -> None:
        async with lock:
            got.append(round(VirtualTime.monotonic() - began, 6))
            await anyio.sleep(seconds)

    began = VirtualTime.monotonic()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(hold, 7.0)
    assert got == [0, 7, 14]


async def test_a_cancelled_sleeper_does_not_hold_time_up():
    began = VirtualTime.monotonic()
    task = asyncio.ensure_future(anyio.sleep(1000))
    await settle()
    await cancel_natively(task)
    assert task.cancelled()
    with anyio.move_on_after(5) as scope:
        await anyio.sleep(1000)
    assert scope.cancelled_caught
    assert VirtualTime.monotonic() - began == pytest.approx(5, abs=1e-3)


async def test_work_in_a_thread_is_waited_for():
    assert await anyio.to_thread.run_sync(lambda: 42) == 42


def test_a_deadlock_is_told_instead_of_waited_out(monkeypatch):
    monkeypatch.setattr(virtual_time, "_PATIENCE", 0.05)
    with pytest.raises(StuckError), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(anyio.Event().wait())


def test_the_same_seed_gives_the_same_numbers():
    assert [VirtualTime(seed=3).random() for _ in range(2)] == [VirtualTime(seed=3).random()] * 2
    assert VirtualTime(seed=3).random() != VirtualTime(seed=4).random()


def test_each_loop_begins_at_the_same_moment():
    async def now():
        return VirtualTime.service_clock()

    for _ in range(2):
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            assert abs(runner.run(now()) - NOW) < timedelta(seconds=1)
