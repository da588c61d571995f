"""The cost of idle queues: 1,000 empty queues of one client for one hour, with iterators and with a worker.

The hour is virtual and the service is a model in memory, so that only the SDK's own work is measured. The
baseline is the same number of tasks that only sleep.
"""

import asyncio
import gc
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

import anyio
from model_service import SENDER, Call, ModelService, Poll
from model_transport import process_of
from virtual_time import VirtualTime, run

from posten_signering import DirectClient, DirectJobStatusResponse, Sender
from posten_signering.worker import StatusChangeWorker

from .table import Limit, Row

QUEUES = 1000
HOUR = 3600.0
# The most memory of a queue, in tasks that only sleep. That task has 2 KiB, and a queue may have 10 KiB.
MOST_MEMORY = Limit(value=5.0)
# Every queue has been polled once by then: the rate budget permits about seven calls per second.
WARM_UP = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one queue costs in one hour.

    Attributes:
        kib: Memory while the queue is not polled, in KiB.
        milliseconds: CPU time in milliseconds.
        sleeps: The number of sleeps. A task wakes up after each of them.
        polls: The number of polls.
    """

    kib: float
    milliseconds: float
    sleeps: float
    polls: float


def measure(*, turns: int) -> list[Row]:
    bare = [_bare(memory=False) for _ in range(turns)]
    bare_memory = _bare(memory=True).kib
    return [
        row
        for name, start, limit in (
            ("idle iterator", _iterate, None),
            ("idle queue of a worker", _work, MOST_MEMORY),
        )
        for row in _rows(name, start, bare, bare_memory, limit=limit, turns=turns)
    ]


def _rows(
    name: str,
    start: "Start",
    bare: list[Cost],
    bare_memory: float,
    *,
    limit: Limit | None,
    turns: int,
) -> list[Row]:
    ours = [_ours(start, memory=False) for _ in range(turns)]
    return [
        Row(
            name=f"{name}, memory",
            measured=[_ours(start, memory=True).kib],
            baseline=[bare_memory],
            unit="KiB",
            limit=limit,
        ),
        Row(
            name=f"{name}, CPU in an hour",
            measured=[cost.milliseconds for cost in ours],
            baseline=[cost.milliseconds for cost in bare],
            unit="ms",
        ),
        Row(
            name=f"{name}, sleeps in an hour",
            measured=[cost.sleeps for cost in ours],
            baseline=[cost.sleeps for cost in bare],
        ),
        Row(name=f"{name}, polls in an hour", measured=[cost.polls for cost in ours]),
    ]


def _senders() -> list[Sender]:
    number = SENDER.organization_number
    return [
        Sender(organization_number=number, polling_queue=f"queue {queue}")
        for queue in range(QUEUES)
    ]


def _iterate(client: DirectClient) -> list[Coroutine[object, object, object]]:
    """An iterator for each queue."""

    async def consume(sender: Sender) -> None:
        await anext(client.status_changes(sender=sender))

    return [consume(sender) for sender in _senders()]


def _work(client: DirectClient) -> list[Coroutine[object, object, object]]:
    """One worker for all queues."""

    async def handle(change: DirectJobStatusResponse) -> None:
        raise AssertionError

    return [StatusChangeWorker(client, handle, senders=_senders()).run()]


Start = Callable[[DirectClient], list[Coroutine[object, object, object]]]


def _ours(start: Start, *, memory: bool) -> Cost:
    async def main() -> Cost:
        service = ModelService()
        sleeps = _Sleeps()
        async with process_of(service, sleep=sleeps) as client:
            await _first_call(client)
            return await _cost(
                lambda: start(client), sleeps, service.polls, memory=memory, calls=service.calls
            )

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

        return await _cost(
            lambda: [consume(number) for number in range(QUEUES)], sleeps, [], memory=memory
        )

    return run(main)


class _Sleeps:
    def __init__(self) -> None:
        self.count = 0

    async def __call__(self, seconds: float) -> None:
        self.count += 1
        await anyio.sleep(seconds)


async def _cost(
    start: Callable[[], list[Coroutine[object, object, object]]],
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
        tasks = [asyncio.ensure_future(coroutine) for coroutine in start()]
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
        kib=memory_in_use / 1024 / QUEUES,
        milliseconds=cpu * 1000 / QUEUES,
        sleeps=(sleeps.count - sleeps_before) / QUEUES,
        polls=len(polls) / QUEUES,
    )
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    return cost
