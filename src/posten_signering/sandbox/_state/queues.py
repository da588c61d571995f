"""Polling queues: status changes that wait for their sender. Performs no I/O and reads no clock.

A change that was fetched is hidden for the length of a lease and then comes back, unless it is
confirmed; two pollers never hold the same change. A queue is a frozen value, every transition a
function from a queue to a queue.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import Enum

from posten_signering.sandbox._state.job import Job, JobStatus, SignerState
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueName:
    """Which queue: each sender has a default one, and named ones.

    Attributes:
        sender: The organisation number of the sender.
        name: None is the default queue.
    """

    sender: str
    name: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What had become of a job when one of its signers did something.

    A later change of the same job is a change of its own, so that a change that comes back says the
    same as the first time.

    Attributes:
        number: Its number in the queue.
        job_id: The job.
        status: The job's status then.
        signers: The signers' states then, in the manifest's order.
        hidden_until: While it is leased to a poller; None when it was never fetched.
    """

    number: int
    job_id: int
    status: JobStatus
    signers: tuple[SignerState, ...]
    hidden_until: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Queue:
    """The changes that wait, oldest first.

    Attributes:
        changes: Those not confirmed.
        last_number: The number of the newest change there has been.
        next_permitted: When the sender may poll; None before the first poll.
    """

    changes: tuple[Change, ...] = ()
    last_number: int = 0
    next_permitted: datetime | None = None


class Outcome(Enum):
    """How a poll ends."""

    CHANGE = "change"
    EMPTY = "empty"
    TOO_EARLY = "too early"


@dataclass(frozen=True, kw_only=True, slots=True)
class Poll:
    """The answer to a poll.

    Attributes:
        outcome: How it ended.
        next_permitted: When the sender may poll this queue next.
        change: The change, now leased to the poller; only with `Outcome.CHANGE`.
    """

    outcome: Outcome
    next_permitted: datetime
    change: Change | None = None


def put(queue: Queue, job: Job) -> Queue:
    """Adds the job's present state as a new change."""
    number = queue.last_number + 1
    change = Change(
        number=number,
        job_id=job.id,
        status=job.status,
        signers=tuple(signer.state for signer in job.signers),
    )
    return replace(queue, changes=(*queue.changes, change), last_number=number)


def poll(queue: Queue, *, now: datetime, settings: Settings) -> tuple[Queue, Poll]:
    """Leases the oldest change that is not hidden, if the time of the next poll has come.

    After a change the next poll is permitted at once, after an empty queue in
    `settings.empty_queue_wait`. A poll that comes too early is told the time that stands: if it
    moved that time, two pollers of one queue could hold each other off for ever.
    """
    standing = queue.next_permitted
    if standing is not None and now < standing:
        permitted = standing + settings.early_poll_penalty
        return (
            replace(queue, next_permitted=permitted),
            Poll(outcome=Outcome.TOO_EARLY, next_permitted=permitted),
        )
    for index, change in enumerate(queue.changes):
        if not is_leased(change, now=now):
            leased = replace(change, hidden_until=now + settings.lease)
            changes = (*queue.changes[:index], leased, *queue.changes[index + 1 :])
            return (
                replace(queue, changes=changes, next_permitted=now),
                Poll(outcome=Outcome.CHANGE, next_permitted=now, change=leased),
            )
    permitted = now + settings.empty_queue_wait
    return (
        replace(queue, next_permitted=permitted),
        Poll(outcome=Outcome.EMPTY, next_permitted=permitted),
    )


def confirm(queue: Queue, job_id: int, number: int) -> Queue:
    """Takes a change off the queue for good.

    A change can be confirmed as long as it is in the queue, also when its lease has run out.

    Raises:
        Refusal: The queue has no such change; it was confirmed before, or never fetched.
    """
    left = tuple(
        change
        for change in queue.changes
        if not (
            change.number == number and change.job_id == job_id and change.hidden_until is not None
        )
    )
    if len(left) == len(queue.changes):
        raise Refusal(
            404, "NOT_FOUND", f"Job {job_id} has no such status change that awaits a confirmation."
        )
    return replace(queue, changes=left)


def end_lease(queue: Queue, job_id: int, number: int, *, now: datetime) -> Queue:
    """Lets a leased change come back at once.

    Raises:
        Refusal: Nobody has such a change.
    """
    changes = tuple(
        replace(change, hidden_until=now)
        if (change.job_id, change.number) == (job_id, number) and is_leased(change, now=now)
        else change
        for change in queue.changes
    )
    if changes == queue.changes:
        raise Refusal(404, "NOT_FOUND", f"Job {job_id} has no leased change {number}.")
    return replace(queue, changes=changes)


def is_leased(change: Change, *, now: datetime) -> bool:
    """Whether a poller has the change now."""
    return change.hidden_until is not None and now < change.hidden_until
