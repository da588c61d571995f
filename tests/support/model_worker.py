"""A worker on the model of the service, and a handler that records its work."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Container, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import anyio
from model_service import SENDER, ModelService, now, number_of
from model_transport import ModelTransport, process_of
from virtual_time import cancel_natively

from posten_signering import DirectClient, DirectJobStatusResponse
from posten_signering._values.events import Event
from posten_signering.worker import StatusChangeWorker

E = TypeVar("E", bound=Event)


@dataclass
class Handler:
    """A handler that records its work.

    Attributes:
        seconds: How long it takes.
        fails: The numbers of the changes for which it fails. It fails once for each entry.
        always_fails: The numbers of the changes for which it fails each time.
        shielded: Whether it can't be cancelled, such as one that waits for a thread.
        begun: The number and the time of each start.
        finished: The time at which it finished each change.
        cancelled: The numbers of the changes in whose handling it was cancelled.
        handling: For each change, how many calls of the handler are running now.
        max_concurrent: The largest number of calls at the same time.
        overlaps: How often it got a change that was already being handled.
    """

    seconds: float = 1.0
    fails: list[int] = field(default_factory=list)
    always_fails: Container[int] = ()
    shielded: bool = False
    begun: list[tuple[int, float]] = field(default_factory=list)
    finished: dict[int, float] = field(default_factory=dict)
    cancelled: list[int] = field(default_factory=list)
    handling: Counter[int] = field(default_factory=Counter)
    max_concurrent: int = 0
    overlaps: int = 0

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        number = number_of(change)
        self.begun.append((number, now()))
        self.handling[number] += 1
        self.max_concurrent = max(self.max_concurrent, self.handling.total())
        self.overlaps += self.handling[number] > 1
        try:
            with anyio.CancelScope(shield=self.shielded):
                await anyio.sleep(self.seconds)
            if number in self.fails or number in self.always_fails:
                if number in self.fails:
                    self.fails.remove(number)
                message = f"The handler failed for change {number}"
                raise LookupError(message)
            self.finished[number] = now()
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.handling[number] -= 1


@dataclass
class Work:
    """A running worker with its service, client, handler and task."""

    service: ModelService
    client: DirectClient
    handler: Handler
    worker: StatusChangeWorker
    task: "asyncio.Task[None]"
    events: list[Event]

    def events_of(self, kind: type[E]) -> list[E]:
        """The events of this type that the client's observers received so far."""
        return [event for event in self.events if isinstance(event, kind)]

    async def ended(self) -> None:
        """Waits until the worker ends. Raises the worker's error, if it has one."""
        await self.task


@asynccontextmanager
async def working(
    *,
    changes: int = 0,
    handler: Handler | None = None,
    service: ModelService | None = None,
    transport: ModelTransport | None = None,
    fields: Mapping[str, object] | None = None,
    **options,
) -> AsyncIterator[Work]:
    """Runs a worker on a queue with this number of changes. `fields` are fields of the configuration."""
    service = service or ModelService()
    events: list[Event] = []
    for _ in range(changes):
        service.put(SENDER)
    handler = handler or Handler()
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(
            process_of(service, transport=transport, observers=[events.append], **(fields or {}))
        )
        worker = StatusChangeWorker(opened, handler, **options)
        task = asyncio.ensure_future(worker.run())
        try:
            yield Work(service, opened, handler, worker, task, events)
        finally:
            if not task.done():
                worker.stop()
                await cancel_natively(task)


def confirmed(service: ModelService) -> list[int]:
    """The numbers of the changes that have been confirmed."""
    return [change.number for change in service.changes if change.confirmed is not None]


def confirmations_sent(service: ModelService) -> list[tuple[int, float]]:
    """The number of the change and the time, for each confirmation that was sent."""
    return [
        (int(call.url.split("/changes/")[1].split("/")[0]), call.sent_at)
        for call in service.calls
        if call.method == "POST"
    ]


def nothing_was_confirmed_too_soon(service: ModelService, handler: Handler) -> bool:
    """Whether every confirmation was sent after the handler had finished the change."""
    return all(
        handler.finished.get(number, float("inf")) <= sent_at
        for number, sent_at in confirmations_sent(service)
    )
