"""A process of the polling state machine: one client, its iterators and workers, and a record of changes."""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field

import anyio
from model_service import ModelService, now, number_of
from model_transport import ModelTransport, process_of
from virtual_time import VirtualTime, settle

from posten_signering import DirectClient, DirectJobStatusResponse, Fleet, Sender, StatusChanges
from posten_signering._session.fleet import EndInFlight, FleetContext, FleetMember, PollTurn
from posten_signering.errors import SigningError
from posten_signering.worker import StatusChangeWorker


@dataclass(eq=False)
class Running:
    """A running iterator or worker.

    Attributes:
        scope: The anyio cancel scope around it.
    """

    changes_or_worker: StatusChanges | StatusChangeWorker
    task: "asyncio.Task[None]"
    scope: anyio.CancelScope


@dataclass(frozen=True)
class Plan:
    """How a handler treats one change: how long it takes, and whether it fails."""

    seconds: float
    fails: bool = False


@dataclass(eq=False)
class MortalFleet:
    """What one process sees of a fleet. After its death, the process ends no turn and no call.

    Attributes:
        dead: Whether the process was killed.
        never_ended: The turns that the process had when it was killed. The garbage collector would end
            a turn that nothing refers to.
    """

    fleet: Fleet
    dead: bool = False
    never_ended: list[AsyncExitStack] = field(default_factory=list)

    @asynccontextmanager
    async def join(self, context: FleetContext, /) -> AsyncIterator[FleetMember]:
        async with self.fleet.join(context) as member:
            yield _MortalMember(self, member)


class _MortalMember:
    def __init__(self, fleet: MortalFleet, member: FleetMember) -> None:
        self._fleet = fleet
        self._member = member
        self.block = member.block
        self.begin_delivery = member.begin_delivery
        self.end_delivery = member.end_delivery

    async def acquire(self, organization_number: str) -> EndInFlight:
        end_in_flight = await self._member.acquire(organization_number)
        return lambda: None if self._fleet.dead else end_in_flight()

    @asynccontextmanager
    async def turn(self, sender: Sender) -> AsyncIterator[PollTurn]:
        async with AsyncExitStack() as ending:
            turn = await ending.enter_async_context(self._member.turn(sender))
            try:
                yield turn
            finally:
                if self._fleet.dead:
                    self._fleet.never_ended.append(ending.pop_all())


@dataclass(kw_only=True)
class Process:
    """One of several processes on the same queues.

    Attributes:
        name: Its name. No other process has had it.
        delivered: The number and the time of each change that an iterator or a handler received.
        done: For each change, the times at which a handler returned or an iterator's body ended.
        handling: The changes that its handlers are working on.
        overlaps: Changes that a handler received while a different handler was working on them.
        plans: The plans for the next handlers. Without a plan, a handler takes a second and succeeds.
        unexpected_errors: Errors that ended an iterator or a worker.
    """

    name: str
    service: ModelService
    client: DirectClient
    transport: ModelTransport
    fleet: MortalFleet
    delivered: list[tuple[int, float]] = field(default_factory=list)
    done: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    handling: set[int] = field(default_factory=set)
    overlaps: list[int] = field(default_factory=list)
    plans: deque[Plan] = field(default_factory=deque)
    running: list[Running] = field(default_factory=list)
    workers: list[StatusChangeWorker] = field(default_factory=list)
    unexpected_errors: list[BaseException] = field(default_factory=list)

    @classmethod
    async def start(
        cls,
        service: ModelService,
        name: str,
        opened: AsyncExitStack,
        *,
        fleet: Fleet,
        party: str,
        seed: int,
    ) -> "Process":
        """Starts a process. Processes of the same party share a fleet."""
        mortal = MortalFleet(fleet)
        transport = ModelTransport(service, name, party=party)
        client = await opened.enter_async_context(
            process_of(service, time=VirtualTime(seed=seed), fleet=mortal, transport=transport)
        )
        return cls(name=name, service=service, client=client, transport=transport, fleet=mortal)

    async def die(self) -> None:
        """Dies as after SIGKILL: nothing that it does from now on has an effect."""
        self.transport.dead = self.fleet.dead = True
        # A worker's handlers may finish after the first cancellation, but not after the second.
        for _ in range(2):
            for running in self.running:
                running.task.cancel()
            await settle()
        assert not self.running

    # Iterators

    def iterate(self, sender: Sender, *, confirms: bool) -> None:
        changes = self.client.status_changes(sender=sender)
        self._run(changes, lambda: self._consume(changes, confirms=confirms))

    async def _consume(self, changes: StatusChanges, *, confirms: bool) -> None:
        async for change in changes:
            self._deliver(change)
            if confirms:
                self.done[number_of(change)].append(now())
                await self._ignoring_errors(self.client.confirm(change))

    async def poll_once(self, sender: Sender) -> None:
        """Polls once. Ignores the SDK's errors."""
        try:
            poll = await self.client.get_status_change(sender=sender)
        except SigningError:
            return
        if poll.change is not None:
            self._deliver(poll.change)

    async def call(self, sender: Sender) -> None:
        """Makes a call that is not a poll, for the same organisation."""
        await self._ignoring_errors(self.client.check_access(sender=sender))

    # Workers

    def work(self, sender: Sender, *, concurrency: int) -> None:
        worker = StatusChangeWorker(
            self.client, self._handle, senders=[sender], concurrency=concurrency
        )
        self.workers.append(worker)
        self._run(worker, worker.run)

    async def _handle(self, change: DirectJobStatusResponse) -> None:
        number = number_of(change)
        self._deliver(change)
        if number in self.handling:
            self.overlaps.append(number)
        self.handling.add(number)
        plan = self.plans.popleft() if self.plans else Plan(1.0)
        try:
            await anyio.sleep(plan.seconds)
            if plan.fails:
                raise LookupError(number)
            self.done[number].append(now())
        finally:
            self.handling.discard(number)

    @property
    def skipped(self) -> int:
        """The number of deliveries that its workers skipped, because a handler had the same change."""
        return sum(worker.counts.skipped for worker in self.workers)

    @property
    def retried(self) -> int:
        """How often its workers retried a handler. `delivered` has an entry for each attempt."""
        return sum(worker.counts.retried for worker in self.workers)

    # Iterators and workers

    async def end(self, running: Running, how: str) -> None:
        if how == "close" and isinstance(running.changes_or_worker, StatusChanges):
            await running.changes_or_worker.aclose()
            await running.changes_or_worker.aclose()
        elif how == "close":
            running.changes_or_worker.stop()
        elif how == "scope":
            running.scope.cancel()
        else:
            running.task.cancel()
        await settle()

    def _deliver(self, change: DirectJobStatusResponse) -> None:
        self.delivered.append((number_of(change), now()))

    def _run(self, changes_or_worker: StatusChanges | StatusChangeWorker, work) -> None:
        scope = anyio.CancelScope()

        async def scoped() -> None:
            with scope:
                await work()

        running = Running(changes_or_worker, asyncio.ensure_future(scoped()), scope)
        self.running.append(running)
        running.task.add_done_callback(lambda task: self._ended(running, task))

    def _ended(self, running: Running, task: "asyncio.Task[None]") -> None:
        self.running.remove(running)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.unexpected_errors.append(error)

    @staticmethod
    async def _ignoring_errors(call) -> None:
        with suppress(SigningError):
            await call
