"""A worker on the model of the service, and a handler that writes down what it did."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace

import anyio
from model_service import SENDER, ModelService, now, number_of
from model_transport import ModelTransport, process_of
from virtual_time import cancel_natively

from posten_signering import DirectClient, DirectJobStatusResponse
from posten_signering.worker import StatusChangeWorker


@dataclass
class Handler:
    """Takes its time with a change, and writes down what it did.

    Attributes:
        seconds: How long it takes.
        fails: The numbers of the changes that it fails at, each time it is listed once.
        in_hand: How many are handled at the moment; `most` at once, and of one change.
    """

    seconds: float = 1.0
    fails: list[int] = field(default_factory=list)
    begun: list[tuple[int, float]] = field(default_factory=list)
    finished: dict[int, float] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    in_hand: Counter[int] = field(default_factory=Counter)
    most: int = 0
    twice: int = 0

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        number = number_of(change)
        self.begun.append((number, now()))
        self.in_hand[number] += 1
        self.most = max(self.most, self.in_hand.total())
        self.twice += self.in_hand[number] > 1
        try:
            await anyio.sleep(self.seconds)
            if number in self.fails:
                self.fails.remove(number)
                message = f"No luck with change {number}"
                raise LookupError(message)
            self.finished[number] = now()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.in_hand[number] -= 1


@dataclass
class Work:
    """A worker that runs, with all around it."""

    service: ModelService
    client: DirectClient
    handler: Handler
    worker: StatusChangeWorker
    task: "asyncio.Task[None]"

    async def ended(self) -> None:
        """Waits for the worker's end; raises as it does."""
        await self.task


@asynccontextmanager
async def working(
    *,
    changes: int = 0,
    handler: Handler | None = None,
    service: ModelService | None = None,
    transport: ModelTransport | None = None,
    **options,
) -> AsyncIterator[Work]:
    """A worker on a queue with some changes; over another transport of the same model, if one is given."""
    service = service or ModelService()
    for _ in range(changes):
        service.put(SENDER)
    handler = handler or Handler()
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(process_of(service))
        if transport is not None:
            configuration = replace(opened.configuration, transport=transport)
            opened = await stack.enter_async_context(DirectClient(configuration))
        worker = StatusChangeWorker(opened, handler, **options)
        task = asyncio.ensure_future(worker.run())
        try:
            yield Work(service, opened, handler, worker, task)
        finally:
            if not task.done():
                worker.stop()
                await cancel_natively(task)


def confirmed(service: ModelService) -> list[int]:
    """Which changes the service has off its queues."""
    return [each.number for each in service.changes if each.confirmed is not None]


def confirmations_sent(service: ModelService) -> list[tuple[int, float]]:
    """Which change's confirmation was sent, and when."""
    return [
        (int(each.url.split("/changes/")[1].split("/")[0]), each.sent_at)
        for each in service.calls
        if each.method == "POST"
    ]


def nothing_was_confirmed_too_soon(service: ModelService, handler: Handler) -> bool:
    return all(
        handler.finished.get(number, float("inf")) <= sent_at
        for number, sent_at in confirmations_sent(service)
    )
