"""A process in the state machine of polling: one client, what runs on it, and what it did with changes."""

import asyncio
from collections import defaultdict, deque
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field

import anyio
from model_service import ModelService, now, number_of
from model_transport import process_of
from virtual_time import VirtualTime, settle

from posten_signering import DirectClient, DirectJobStatusResponse, Sender, StatusChanges
from posten_signering._session.rate import InMemoryRateLimiter
from posten_signering.errors import SigningError
from posten_signering.worker import StatusChangeWorker


@dataclass(eq=False)
class Running:
    """An iterator or a worker that runs.

    Attributes:
        scope: Cancels it as anyio does.
    """

    what: StatusChanges | StatusChangeWorker
    task: "asyncio.Task[None]"
    scope: anyio.CancelScope


@dataclass(frozen=True)
class Plan:
    """What a handler does with its next change."""

    seconds: float
    fails: bool = False


@dataclass(kw_only=True)
class Process:
    """One of several processes on the same queues.

    Attributes:
        delivered: Every change that it got, by number, and when.
        done: When it was done with a change: by its handler's return, or an iterator's body.
        in_hand: Which changes its handlers have at the moment.
        twice: Changes that were given to a handler while another had them.
        plans: What the coming handlers do; afterwards each takes a second, and returns.
    """

    name: str
    service: ModelService
    client: DirectClient
    delivered: list[tuple[int, float]] = field(default_factory=list)
    done: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    in_hand: set[int] = field(default_factory=set)
    twice: list[int] = field(default_factory=list)
    plans: deque[Plan] = field(default_factory=deque)
    running: list[Running] = field(default_factory=list)
    workers: list[StatusChangeWorker] = field(default_factory=list)
    surprises: list[BaseException] = field(default_factory=list)

    @classmethod
    async def start(
        cls, service: ModelService, name: str, opened: AsyncExitStack, *, share: float, seed: int
    ) -> "Process":
        time = VirtualTime(seed=seed)
        limiter = InMemoryRateLimiter(share=share, monotonic=time.monotonic, sleep=time.sleep)
        client = await opened.enter_async_context(
            process_of(service, name, time=time, rate_limiter=limiter)
        )
        return cls(name=name, service=service, client=client)

    # Iterators

    def iterate(self, sender: Sender, *, confirms: bool) -> None:
        """Starts a loop over the queue."""
        changes = self.client.status_changes(sender=sender)
        self._run(changes, lambda: self._consume(changes, confirms=confirms))

    async def _consume(self, changes: StatusChanges, *, confirms: bool) -> None:
        async for change in changes:
            self._deliver(change)
            if confirms:
                self.done[number_of(change)].append(now())
                await self._try(self.client.confirm(change))

    async def poll_once(self, sender: Sender) -> None:
        """A single poll; what it raises is the caller's to deal with."""
        try:
            poll = await self.client.get_status_change(sender=sender)
        except SigningError:
            return
        if poll.change is not None:
            self._deliver(poll.change)

    async def call(self, sender: Sender) -> None:
        """Some other call of the organisation."""
        await self._try(self.client.check_access(sender=sender))

    # Workers

    def work(self, sender: Sender, *, concurrency: int) -> None:
        """Starts a worker on the queue."""
        worker = StatusChangeWorker(
            self.client, self._handle, sender=sender, concurrency=concurrency
        )
        self.workers.append(worker)
        self._run(worker, worker.run)

    async def _handle(self, change: DirectJobStatusResponse) -> None:
        number = number_of(change)
        self._deliver(change)
        if number in self.in_hand:
            self.twice.append(number)
        self.in_hand.add(number)
        plan = self.plans.popleft() if self.plans else Plan(1.0)
        try:
            await anyio.sleep(plan.seconds)
            if plan.fails:
                raise LookupError(number)
            self.done[number].append(now())
        finally:
            self.in_hand.discard(number)

    @property
    def let_go(self) -> int:
        """Deliveries that its workers did not give to a handler, since one had the change in hand."""
        return sum(worker.counts.skipped for worker in self.workers)

    # Both

    async def end(self, running: Running, how: str) -> None:
        """Ends an iterator or a worker."""
        if how == "close" and isinstance(running.what, StatusChanges):
            await running.what.aclose()
            await running.what.aclose()
        elif how == "close":
            running.what.stop()
        elif how == "scope":
            running.scope.cancel()
        else:
            running.task.cancel()
        await settle()

    def _deliver(self, change: DirectJobStatusResponse) -> None:
        self.delivered.append((number_of(change), now()))

    def _run(self, what: StatusChanges | StatusChangeWorker, work) -> None:
        scope = anyio.CancelScope()

        async def scoped() -> None:
            with scope:
                await work()

        running = Running(what, asyncio.ensure_future(scoped()), scope)
        self.running.append(running)
        running.task.add_done_callback(lambda task: self._ended(running, task))

    def _ended(self, running: Running, task: "asyncio.Task[None]") -> None:
        self.running.remove(running)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.surprises.append(error)

    @staticmethod
    async def _try(call) -> None:
        with suppress(SigningError):
            await call
