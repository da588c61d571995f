"""Polling queues: status changes that wait for their sender. Performs no I/O and reads no clock.

A poll leases a change: it is hidden until the lease ends, and then it is delivered again unless it was
confirmed. Each change is a separate entry, so that the size of a commit does not grow with the queue.
"""

from collections.abc import MutableMapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from posten_signering.sandbox._state.job import Job, JobStatus, SignerState
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings

_FURTHEST = timedelta(days=365)


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueName:
    """The name of a queue. A sender has a default queue, and may have named ones.

    Attributes:
        sender: The organisation number of the sender.
        name: None for the default queue.
    """

    sender: str
    name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ChangeId:
    """Identifies a status change by its queue and its number in the queue."""

    queue: QueueName
    number: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """A status change: the state of a job after one of its signers acted, or after it expired.

    A later state of the same job is a separate change. A redelivered change therefore has the same
    content as the first time.

    Attributes:
        number: Its number in the queue.
        job_id: The job.
        status: The job's status after the change.
        signers: The signers' states after the change, in the manifest's order.
        hidden_until: The end of its latest lease; None when no poll has fetched it.
    """

    number: int
    job_id: int
    status: JobStatus
    signers: tuple[SignerState, ...]
    hidden_until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """The state of a queue, without its changes.

    Attributes:
        last_number: The number of its newest change, confirmed or not; 0 before the first change.
        next_permitted: The next permitted poll time; None before the first poll.
    """

    last_number: int = 0
    next_permitted: datetime | None = None


class Outcome(Enum):
    """The outcome of a poll."""

    CHANGE = "change"
    EMPTY = "empty"
    TOO_EARLY = "too early"


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """The result of a poll.

    Attributes:
        outcome: Whether the poll got a change.
        next_permitted: The next permitted poll time of this queue.
        change: The change, which is now leased; None when the outcome is not `CHANGE`.
    """

    outcome: Outcome
    next_permitted: datetime
    change: Change | None = None


class Queues:
    """The polling queues of all senders.

    Args:
        settings: The length of a lease, and the waits between polls.
        queues: The queues that were polled or received a change.
        changes: The changes that are not confirmed.
    """

    def __init__(
        self,
        settings: Settings,
        queues: MutableMapping[QueueName, Queue],
        changes: MutableMapping[ChangeId, Change],
    ) -> None:
        self._settings = settings
        self._queues = queues
        self._changes = changes

    def changes(self, name: QueueName) -> list[Change]:
        """The changes of a queue that are not confirmed, oldest first."""
        changes = (change for key, change in self._changes.items() if key.queue == name)
        return sorted(changes, key=lambda change: change.number)

    def put(self, job: Job) -> None:
        """Adds the present state of a job to its queue, as a new change."""
        name = _queue_of(job)
        queue = self._queues.get(name, Queue())
        number = queue.last_number + 1
        self._queues[name] = replace(queue, last_number=number)
        self._changes[ChangeId(queue=name, number=number)] = Change(
            number=number,
            job_id=job.id,
            status=job.status,
            signers=job.states,
        )

    def poll(self, name: QueueName, *, now: datetime) -> Poll:
        """Leases the oldest change that is not leased, unless the poll comes too early.

        After a change the next poll is permitted immediately, after an empty queue when
        `empty_queue_wait` has passed. A poll that comes too early adds only `early_poll_penalty` (by
        default zero) to the next permitted time: otherwise two pollers of one queue could block each
        other forever. No number of early polls moves the time more than a year ahead.
        """
        queue = self._queues.get(name, Queue())
        change = None
        if queue.next_permitted is not None and now < queue.next_permitted:
            outcome = Outcome.TOO_EARLY
            moved = queue.next_permitted + self._settings.early_poll_penalty
            next_permitted = min(moved, max(queue.next_permitted, now + _FURTHEST))
        else:
            visible = (change for change in self.changes(name) if not is_leased(change, now=now))
            change = next(visible, None)
            if change is None:
                outcome, next_permitted = Outcome.EMPTY, now + self._settings.empty_queue_wait
            else:
                outcome, next_permitted = Outcome.CHANGE, now
                change = replace(change, hidden_until=now + self._settings.lease)
                self._changes[ChangeId(queue=name, number=change.number)] = change
        self._queues[name] = replace(queue, next_permitted=next_permitted)
        return Poll(outcome=outcome, next_permitted=next_permitted, change=change)

    def confirm(self, job: Job, number: int) -> None:
        """Removes a change from its queue.

        A change can be confirmed as long as it is in the queue, even after its lease has ended.

        Raises:
            Refusal: The job has no change with this number in its queue, or no poll has fetched it.
        """
        key, change = self._change_of(job, number)
        if change is None or change.hidden_until is None:
            raise Refusal(
                404,
                "NOT_FOUND",
                f"Job {job.id} has no fetched status change {number} to confirm.",
            )
        del self._changes[key]

    def end_lease(self, job: Job, number: int, *, now: datetime) -> None:
        """Ends the lease of a change, so that the next poll can get it.

        Raises:
            Refusal: The job has no change with this number, or the change is not leased.
        """
        key, change = self._change_of(job, number)
        if change is None or not is_leased(change, now=now):
            raise Refusal(404, "NOT_FOUND", f"Job {job.id} has no leased status change {number}.")
        self._changes[key] = replace(change, hidden_until=now)

    def _change_of(self, job: Job, number: int) -> tuple[ChangeId, Change | None]:
        key = ChangeId(queue=_queue_of(job), number=number)
        change = self._changes.get(key)
        return key, None if change is None or change.job_id != job.id else change


def is_leased(change: Change, *, now: datetime) -> bool:
    """Whether the change is leased to a poller now."""
    return change.hidden_until is not None and now < change.hidden_until


def _queue_of(job: Job) -> QueueName:
    return QueueName(sender=job.sender, name=job.request.polling_queue)
