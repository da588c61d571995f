"""Polls the queues of a worker: one task for each queue, and slots that all of them share."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from datetime import timedelta

import anyio

from posten_signering._client.polling import PollCounts, StatusChanges
from posten_signering._session.observers import Notify
from posten_signering._session.retry import is_transient
from posten_signering._session.timing import Time
from posten_signering._values.events import SenderUnavailable
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse
from posten_signering.errors import ApiError
from posten_signering.worker._health import QueueHealth
from posten_signering.worker._retrying import RetryRoom

OpenQueue = Callable[..., StatusChanges]
Deliver = Callable[[DirectJobStatusResponse, Sender, float], None]
Fail = Callable[[BaseException], None]

# An unavailable sender is polled again after this many seconds, minus up to half.
_RETRY_UNAVAILABLE_AFTER = 300.0


@dataclass(slots=True, eq=False)
class _Queue:
    """A polling queue.

    Attributes:
        sender: The sender whose queue it is.
        changes: Polls it.
        is_removed: Whether it is to be polled no more.
        waiting: Cancels the wait for the next poll; None before the first one.
        due_since: Since when the next poll is due, on the monotonic clock. None if it is not due.
        failure: Why the sender is unavailable; None if it is available.
        retry_at: When an unavailable sender is polled again.
    """

    sender: Sender
    changes: StatusChanges
    is_removed: bool = False
    waiting: anyio.CancelScope | None = None
    due_since: float | None = None
    failure: ApiError | None = None
    retry_at: float = 0.0


class Queues:
    """Polls queues while there is a free slot. Slots go to the queues in the order in which they are due.

    Polls of one organisation use at most half of the slots. Many queues of an organisation that waits
    for its rate limit would otherwise keep the slots from the queues of the others.

    Args:
        open_queue: Returns the iterator over the changes of a sender's queue.
        concurrency: The number of slots. A poll takes a slot, and a change keeps it until it is handled.
        room: Delays polls while handlers fail.
        time: The clocks, the sleep and the randomness of the client.
        notify: Receives the events.
        deliver: Receives a change, its sender, and the time at which the poll was sent. It takes over
            the slot, and calls `release_slot` when the change is handled.
        fail: Called when polling can't continue.
    """

    def __init__(
        self,
        *,
        open_queue: OpenQueue,
        concurrency: int,
        room: RetryRoom,
        time: Time,
        notify: Notify,
        deliver: Deliver,
        fail: Fail,
    ) -> None:
        self._open_queue = open_queue
        self._slots = anyio.Semaphore(concurrency)
        # For each organisation number, how many more of its polls may use a slot.
        self._polls_left = defaultdict[str, anyio.Semaphore](
            lambda: anyio.Semaphore(max(1, concurrency // 2))
        )
        self._room = room
        self._time = time
        self._notify = notify
        self._deliver = deliver
        self._fail = fail
        self._queues = dict[Sender, _Queue]()
        self._tasks = dict[asyncio.Task[None], _Queue]()
        self._ended_counts = Counter[str]()

    @property
    def counts(self) -> PollCounts:
        """The counts of the polls so far, of all queues."""
        counts = Counter(self._ended_counts)
        for queue in tuple(self._tasks.values()):
            counts.update(asdict(queue.changes.counts))
        return PollCounts(**counts)

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """The tasks that poll. The task of a removed queue ends after its poll in flight."""
        return set(self._tasks)

    @property
    def health(self) -> tuple[QueueHealth, ...]:
        """The state of each queue."""
        now = self._time.monotonic()
        return tuple(_health(queue, now) for queue in tuple(self._queues.values()))

    def poll_only(self, senders: Iterable[Sender]) -> None:
        """Begins to poll the queues of new senders, and ends polling the queues of all others.

        A poll in flight is finished first, and its change is delivered.
        """
        wanted = dict.fromkeys(senders)
        for sender in [sender for sender in self._queues if sender not in wanted]:
            self._remove(self._queues.pop(sender))
        for sender in wanted:
            if sender not in self._queues:
                self._add(_Queue(sender, self._open_queue(sender=sender)))

    def release_slot(self) -> None:
        """Gives a slot back."""
        self._slots.release()

    def cancel(self) -> None:
        """Cancels polls in flight."""
        for task in self._tasks:
            task.cancel()

    def _add(self, queue: _Queue) -> None:
        self._queues[queue.sender] = queue
        # Not a task group: one task that is cancelled from outside would cancel the whole group.
        task = asyncio.create_task(self._poll(queue))
        self._tasks[task] = queue
        task.add_done_callback(self._ended)

    def _remove(self, queue: _Queue) -> None:
        queue.is_removed = True
        queue.changes.stop()
        if queue.waiting is not None:
            queue.waiting.cancel()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._ended_counts.update(asdict(self._tasks.pop(task).changes.counts))
        if task.cancelled():
            self._fail(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self._fail(error)

    async def _poll(self, queue: _Queue) -> None:
        while await self._wait_for_slot(queue):
            change = None
            try:
                change = await queue.changes.poll_once()
                queue.failure = None
            except ApiError as error:
                self._note_unavailable(queue, error)
            finally:
                queue.due_since = None
                self._polls_left[queue.sender.organization_number].release()
                if change is None:
                    self.release_slot()
            polled_at = queue.changes.polled_at
            if change is not None and polled_at is not None:
                self._deliver(change, queue.sender, polled_at)

    async def _wait_for_slot(self, queue: _Queue) -> bool:
        """Waits until the queue is due and takes a slot. False if the queue is removed."""
        with anyio.CancelScope() as queue.waiting:
            if queue.failure is not None:
                await self._time.sleep(queue.retry_at - self._time.monotonic())
            if not queue.is_removed and await queue.changes.wait_until_due():
                queue.due_since = self._time.monotonic()
                with ExitStack() as taken:
                    for slots in (self._polls_left[queue.sender.organization_number], self._slots):
                        await slots.acquire()
                        taken.callback(slots.release)
                    await self._room.wait_to_fetch()
                    taken.pop_all()
                return True
        return False

    def _note_unavailable(self, queue: _Queue, error: ApiError) -> None:
        """Plans the next poll of a sender whose polls the service refuses permanently.

        Raises:
            ApiError: No sender is available, or a transient failure that the `FailurePolicy` raises.
        """
        if is_transient(error):
            raise error
        if queue.is_removed:
            return
        queue.failure = error
        if all(other.failure is not None for other in self._queues.values()):
            raise error
        wait = _RETRY_UNAVAILABLE_AFTER * (0.5 + 0.5 * self._time.random())
        queue.retry_at = self._time.monotonic() + wait
        self._notify(
            SenderUnavailable(
                organization_number=queue.sender.organization_number,
                polling_queue=queue.sender.polling_queue,
                error_type=type(error).__name__,
                retry_in=timedelta(seconds=wait),
            )
        )


def _health(queue: _Queue, now: float) -> QueueHealth:
    answered_at, due_since = queue.changes.answered_at, queue.due_since
    next_poll_in = queue.changes.next_poll_in()
    if queue.failure is not None:
        next_poll_in = max(next_poll_in, queue.retry_at - now, 0.0)
    return QueueHealth(
        sender=queue.sender,
        answered_ago=None if answered_at is None else timedelta(seconds=now - answered_at),
        next_poll_in=timedelta(seconds=next_poll_in),
        overdue_for=timedelta(seconds=0.0 if due_since is None else now - due_since),
        error_type=None if queue.failure is None else type(queue.failure).__name__,
    )
