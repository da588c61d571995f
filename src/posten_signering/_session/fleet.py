"""What processes share: the rate budget of each organisation, blocks, poll times, and the turn to poll.

The `Fleet` of one process, in memory, is here. The fleet in Redis is in `redis`.
"""

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from datetime import datetime
from types import NoneType
from typing import Protocol

from posten_signering._session.observers import Notify
from posten_signering._session.rate import RateBudget
from posten_signering._session.timing import Time
from posten_signering._values.arguments import require
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering.errors import ConfigurationError

EndInFlight = Callable[[], None]
"""Ends the time in flight of a call. May be called more than once."""

# While another client polls a queue, the time between two checks whether it has finished.
_RECHECK_TURN_AFTER = 0.05
# The most changes whose deliveries are counted.
_MOST_DELIVERIES = 10_000
# A turn ends by itself after this many seconds, because an event loop may end in the middle of a poll.
_LONGEST_TURN = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueState:
    """What is known about polling one queue. Times are in seconds from now, because clocks differ.

    Attributes:
        permitted_in: Until the next permitted poll time that the service sent. 0 or less: now.
        permitted_time: That time as the service sent it; None if a default wait is used instead.
        next_in: Until the next poll of an iterator, at least `permitted_in`. It is longer when the queue
            is left to another process.
        early_answers: How many polls in a row were refused as too early.
        leads: Whether one of the last polls succeeded, so that others leave the queue to these clients.
    """

    permitted_in: float = 0.0
    permitted_time: datetime | None = None
    next_in: float = 0.0
    early_answers: int = 0
    leads: bool = False


class PollTurn(Protocol):
    """The turn to poll one queue. Nobody else in the fleet polls the queue until it ends.

    Attributes:
        state: What was known about the queue when the turn began.
    """

    state: QueueState

    def learned(self, state: QueueState) -> None:
        """Sets what the poll has shown. The rest of the fleet learns it when the turn ends."""
        ...


class FleetMember(Protocol):
    """A client's part in a fleet, while the client is open. Used only in the client's event loop."""

    async def acquire(self, organization_number: str) -> EndInFlight:
        """Waits until a call on behalf of the organisation may be made.

        A cancelled `acquire` uses nothing of the budget.

        Returns:
            A function that ends the call's time in flight. The client calls it when the response
            begins or the call has failed.
        """
        ...

    async def block(self, organization_number: str, seconds: float) -> None:
        """Lets no call of the organisation through for some seconds, because the service blocks it."""
        ...

    def turn(self, sender: Sender) -> AbstractAsyncContextManager[PollTurn]:
        """Waits for the turn to poll the sender's queue, and holds it for the `async with` block."""
        ...

    async def begin_delivery(self, deduplication_key: str) -> int:
        """Counts a delivery that begins.

        Returns:
            How many deliveries of the change have begun and were not confirmed, including this one.
        """
        ...

    async def end_delivery(self, deduplication_key: str) -> None:
        """Forgets the deliveries of a change, because it was confirmed."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetContext:
    """The client that joins a fleet.

    Attributes:
        service_root: The root URL of the service. Clients of different services share nothing.
        organization_number: The organisation in the client's certificate.
        time: The clocks of the client.
        notify: Passes an event to the client's observers.
    """

    service_root: str
    organization_number: str
    time: Time
    notify: Notify


class Fleet(Protocol):
    """What processes share, so that together they stay within the service's limits.

    A fleet shares the rate budget of each organisation, the blocks by the service, and for each polling
    queue the next permitted poll time and whose turn it is to poll. `InMemoryFleet` is for the clients
    of one process, `RedisFleet` for several processes. Set it as `ClientConfiguration(fleet=...)`.
    """

    def join(self, context: FleetContext, /) -> AbstractAsyncContextManager[FleetMember]:
        """Opens a client's part in the fleet. The client enters it when it opens, and exits it at the end.

        Raises:
            ConfigurationError: The fleet can't be used as it is configured.
        """
        ...


class InMemoryFleet:
    """What the clients of one process share. A client without a `fleet` has one of its own.

    Clients in several threads and event loops may share an `InMemoryFleet`, if their configurations have
    the same `monotonic` and `sleep`. It knows nothing of other processes: give each of a few processes a
    share, or let them share a `RedisFleet`.

    Args:
        share: The part of the service's rate limit that this process may use, above 0 and at most 1:
            0.25 for each of four processes. More than ten processes need a `RedisFleet`, because one
            call of each in the same second exceeds the limit. None means no limit, for a sandbox that
            has none.
        per_certificate: Whether all senders share the budget of the certificate's organisation. By
            default each sender has its own budget.

    Raises:
        ConfigurationError: The share is out of range.
        ArgumentTypeError: The share is not a number.
    """

    def __init__(self, *, share: float | None = 1.0, per_certificate: bool = False) -> None:
        require("share", Secret(share), "a number or None", int, float, NoneType)
        if share is not None and not 0 < share <= 1:
            raise ConfigurationError(
                f"InMemoryFleet.share must be above 0 and at most 1, but it is {share}."
            )
        self._per_certificate = per_certificate
        self._share = share
        self._shared: _Shared | None = None
        self._joining = threading.Lock()

    def join(self, context: FleetContext, /) -> AbstractAsyncContextManager[FleetMember]:
        """Opens a client's part in the fleet. The client calls this."""
        with self._joining:
            self._shared = self._shared or _Shared(self._share, context.time)
        return nullcontext(
            _InMemoryMember(self._shared, context, per_certificate=self._per_certificate)
        )


class _Shared:
    """The state of an `InMemoryFleet`. The event loops of several threads may use it."""

    def __init__(self, share: float | None, time: Time) -> None:
        self.budget = (
            None
            if share is None
            else RateBudget(share=share, monotonic=time.monotonic, sleep=time.sleep)
        )
        self._queues = dict[tuple[str, Sender], _Queue]()
        self._deliveries = dict[str, int]()
        # Reentrant, because the garbage collector may end an abandoned turn in the thread that has the lock.
        self._lock = threading.RLock()

    def begin_turn(self, key: tuple[str, Sender], now: float) -> "_InMemoryTurn | None":
        """The turn to poll the queue; None while another client has it."""
        with self._lock:
            queue = self._queues.setdefault(key, _Queue())
            if queue.held_until > now:
                return None
            queue.held_until = now + _LONGEST_TURN
            return _InMemoryTurn(queue, now)

    def end_turn(self, turn: "_InMemoryTurn", now: float) -> None:
        with self._lock:
            turn.end(now)

    def begin_delivery(self, deduplication_key: str) -> int:
        with self._lock:
            count = self._deliveries.pop(deduplication_key, 0) + 1
            self._deliveries[deduplication_key] = count
            if len(self._deliveries) > _MOST_DELIVERIES:
                # The one that was delivered longest ago. A different process may have confirmed it.
                del self._deliveries[next(iter(self._deliveries))]
            return count

    def end_delivery(self, deduplication_key: str) -> None:
        with self._lock:
            self._deliveries.pop(deduplication_key, None)


@dataclass(slots=True)
class _Queue:
    """A polling queue.

    Attributes:
        state: What is known about it, at the time `known_at`.
        known_at: On the monotonic clock.
        held_until: When the current turn ends at the latest, on the monotonic clock.
    """

    state: QueueState = QueueState()
    known_at: float = 0.0
    held_until: float = float("-inf")


class _InMemoryTurn:
    def __init__(self, queue: _Queue, now: float) -> None:
        self._queue = queue
        self._held_until = queue.held_until
        self._learned: QueueState | None = None
        self.state = aged(queue.state, now - queue.known_at)

    def learned(self, state: QueueState) -> None:
        self._learned = state

    def end(self, now: float) -> None:
        if self._learned is not None:
            self._queue.state, self._queue.known_at = self._learned, now
        if self._queue.held_until == self._held_until:
            self._queue.held_until = float("-inf")


class _InMemoryMember:
    def __init__(self, shared: _Shared, context: FleetContext, *, per_certificate: bool) -> None:
        self._shared = shared
        self._context = context
        self._per_certificate = per_certificate

    async def acquire(self, organization_number: str) -> EndInFlight:
        if self._shared.budget is None:
            return _not_limited
        return await self._shared.budget.acquire(self._budget_of(organization_number))

    async def block(self, organization_number: str, seconds: float) -> None:
        if self._shared.budget is not None:
            self._shared.budget.block(self._budget_of(organization_number), seconds)

    @asynccontextmanager
    async def turn(self, sender: Sender) -> AsyncGenerator[PollTurn]:
        time, key = self._context.time, (self._context.service_root, sender)
        while (turn := self._shared.begin_turn(key, time.monotonic())) is None:
            await time.sleep(_RECHECK_TURN_AFTER)
        try:
            yield turn
        finally:
            self._shared.end_turn(turn, time.monotonic())

    async def begin_delivery(self, deduplication_key: str) -> int:
        return self._shared.begin_delivery(deduplication_key)

    async def end_delivery(self, deduplication_key: str) -> None:
        self._shared.end_delivery(deduplication_key)

    def _budget_of(self, organization_number: str) -> str:
        holder = self._context.organization_number if self._per_certificate else organization_number
        return f"{self._context.service_root} {holder}"


def aged(state: QueueState, seconds: float) -> QueueState:
    """What is known about a queue, as it is some seconds later."""
    return QueueState(
        permitted_in=state.permitted_in - seconds,
        permitted_time=state.permitted_time,
        next_in=state.next_in - seconds,
        early_answers=state.early_answers,
        leads=state.leads,
    )


def _not_limited() -> None:
    """Ends the time in flight of a call that no budget counts."""
