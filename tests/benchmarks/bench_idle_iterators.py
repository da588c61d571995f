"""The cost of idle iterators: 1,000 on one client for one hour, each on its own empty queue.

The hour is virtual and the service is a model in memory, so that only the SDK's own work is measured. The
baseline is the same number of tasks that only sleep. `python -m benchmarks.bench_idle_iterators`, in the
folder tests, prints only these figures.
"""

import asyncio
import gc
import sys
import time
import tracemalloc
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from model_service import SENDER, Call, ModelService, Poll
from model_transport import process_of
from virtual_time import VirtualTime, run

from posten_signering import DirectClient, Sender

from .table import Row, compared, rendered

ITERATORS = 1000
HOUR = 3600.0
# Every iterator has polled once by then: the rate budget permits about seven calls per second.
WARM_UP = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one iterator costs in one hour.

    Attributes:
        kib: Memory while it sleeps, in KiB.
        milliseconds: CPU time in milliseconds.
        sleeps: The number of its sleeps.
        polls: The number of its polls.
    """

    kib: float
    milliseconds: float
    sleeps: float
    polls: float


def measure(*, turns: int) -> list[Row]:
    ours = [_ours(memory=False) for _ in range(turns)]
    bare = [_bare(memory=False) for _ in range(turns)]
    return [
        compared(
            "idle iterator, memory",
            [_ours(memory=True).kib],
            [_bare(memory=True).kib],
            limit=None,
            unit="KiB",
        ),
        compared(
            "idle iterator, CPU in an hour",
            [cost.milliseconds for cost in ours],
            [cost.milliseconds for cost in bare],
            limit=None,
            unit="ms",
        ),
        Row(
            name="idle iterator, counts in an hour",
            measured=f"{ours[0].sleeps:.1f} sleeps",
            baseline=f"{bare[0].sleeps:.1f} sleeps",
        ),
        Row(name="", measured=f"{ours[0].polls:.1f} polls"),
    ]


def _ours(*, memory: bool) -> Cost:
    async def main() -> Cost:
        service = ModelService()
        sleeps = _Sleeps()
        async with process_of(service, sleep=sleeps) as client:

            async def consume(number: int) -> None:
                sender = Sender(
                    organization_number=SENDER.organization_number, polling_queue=f"queue {number}"
                )
                await anext(client.status_changes(sender=sender))

            await _first_call(client)
            return await _cost(consume, sleeps, service.polls, memory=memory, calls=service.calls)

    return run(main)


async def _first_call(client: DirectClient) -> None:
    """Makes a call, so that the work which a client does only once is not measured."""
    await client.check_access()


def _bare(*, memory: bool) -> Cost:
    async def main() -> Cost:
        sleeps = _Sleeps()

        async def consume(number: int) -> None:
            await sleeps(number / 7)
            while True:
                await sleeps(600)

        return await _cost(consume, sleeps, [], memory=memory)

    return run(main)


class _Sleeps:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, seconds: float) -> None:
        self.count += 1
        await anyio.sleep(seconds)


async def _cost(
    consume: Callable[[int], Awaitable[None]],
    sleeps: _Sleeps,
    polls: list[Poll],
    *,
    memory: bool,
    calls: list[Call] | None = None,
) -> Cost:
    if memory:
        gc.collect()
        tracemalloc.start()
    try:
        tasks = [asyncio.ensure_future(consume(number)) for number in range(ITERATORS)]
        await anyio.sleep(WARM_UP)
        memory_in_use = 0
        # The records of the model service are not the SDK's memory.
        polls.clear()
        if calls is not None:
            calls.clear()
        if memory:
            gc.collect()
            memory_in_use = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    sleeps_before, cpu_before, start = sleeps.count, time.process_time(), VirtualTime.monotonic()
    await anyio.sleep(HOUR)
    cpu = time.process_time() - cpu_before
    assert VirtualTime.monotonic() - start >= HOUR - 1
    cost = Cost(
        kib=memory_in_use / 1024 / ITERATORS,
        milliseconds=cpu * 1000 / ITERATORS,
        sleeps=(sleeps.count - sleeps_before) / ITERATORS,
        polls=len(polls) / ITERATORS,
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return cost


if __name__ == "__main__":
    sys.stdout.write(rendered(measure(turns=3)) + "\n")
