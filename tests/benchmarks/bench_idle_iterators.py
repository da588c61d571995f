"""What idle iterators cost: 1,000 on one client, each on an empty queue of its own, for an hour.

The hour is virtual and the service a model in memory, so that what is left is the SDK's own work. The
baseline is as many tasks that do nothing but sleep as often. `python -m benchmarks.bench_idle_iterators`,
in the folder tests, shows these figures alone.
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
# Until everybody has polled once: the rate budget lets seven calls a second through.
BEGIN = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an hour cost, for each iterator.

    Attributes:
        kib: Memory that it holds while it sleeps.
        milliseconds: CPU.
        sleeps: How often it went to sleep.
        polls: How often it asked the service.
    """

    kib: float
    milliseconds: float
    sleeps: float
    polls: float


def measure(*, turns: int) -> list[Row]:
    """The table's rows."""
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
            [each.milliseconds for each in ours],
            [each.milliseconds for each in bare],
            limit=None,
            unit="ms",
        ),
        Row(
            bar="idle iterator, in an hour",
            measured=f"{ours[0].sleeps:.1f} sleeps",
            baseline=f"{bare[0].sleeps:.1f} sleeps",
        ),
        Row(bar="", measured=f"{ours[0].polls:.1f} polls"),
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

            await _warm(client)
            return await _cost(consume, sleeps, service.polls, memory=memory, aside=service.calls)

    return run(main)


async def _warm(client: DirectClient) -> None:
    """What the first call builds once is nobody's."""
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
    """Sleeps, and counts how often it was asked to."""

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
    aside: list[Call] | None = None,
) -> Cost:
    if memory:
        gc.collect()
        tracemalloc.start()
    try:
        tasks = [asyncio.ensure_future(consume(number)) for number in range(ITERATORS)]
        await anyio.sleep(BEGIN)
        held = 0
        # What the model wrote down is the service's.
        polls.clear()
        if aside is not None:
            aside.clear()
        if memory:
            gc.collect()
            held = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    slept, spent, began = sleeps.count, time.process_time(), VirtualTime.monotonic()
    await anyio.sleep(HOUR)
    spent = time.process_time() - spent
    assert VirtualTime.monotonic() - began >= HOUR - 1
    cost = Cost(
        kib=held / 1024 / ITERATORS,
        milliseconds=spent * 1000 / ITERATORS,
        sleeps=(sleeps.count - slept) / ITERATORS,
        polls=len(polls) / ITERATORS,
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return cost


if __name__ == "__main__":
    sys.stdout.write(rendered(measure(turns=3)) + "\n")
