"""What a worker reports about itself: counts of its work, and its health for probes. Frozen values."""

from dataclasses import dataclass, field
from datetime import timedelta

from posten_signering._client.polling import PollCounts
from posten_signering._values.job import Sender


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounts:
    """Counts of what a worker has done so far.

    Each delivery that has ended is counted once: as confirmed, failed, timed_out, unconfirmed or skipped.
    All except the confirmed ones are redelivered.

    Attributes:
        handled: Changes whose handler, or `dead_letter`, returned.
        confirmed: Changes that were confirmed.
        failed: Changes whose handler raised or was cancelled, with no time or no room for a retry.
        timed_out: Changes whose handler did not return before the deadline.
        unconfirmed: Changes that were handled but could not be confirmed.
        skipped: Redeliveries of changes that a worker of this client was still handling.
        retried: Retries of handlers.
        dead_lettered: Deliveries that went to `dead_letter`.
        late: Deliveries that were still being handled after 90 % of the lease.
        polls: Counts of the results of polls.
    """

    handled: int = 0
    confirmed: int = 0
    failed: int = 0
    timed_out: int = 0
    unconfirmed: int = 0
    skipped: int = 0
    retried: int = 0
    dead_lettered: int = 0
    late: int = 0
    polls: PollCounts = field(default_factory=PollCounts)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueHealth:
    """The state of one polling queue of a worker.

    Attributes:
        sender: The sender whose queue it is.
        answered_ago: The time since the service answered a poll of this queue. None: it never has.
        next_poll_in: The time until the next poll is due. Zero if it is due now.
        overdue_for: For how long the next poll has been due and was not answered. It waits for a free
            slot, for the rate limit, or for the service.
        error_type: The name of the class of the failure, while the sender is unavailable.
    """

    sender: Sender
    answered_ago: timedelta | None
    next_poll_in: timedelta
    overdue_for: timedelta
    error_type: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerHealth:
    """The state of a worker at one moment, for liveness probes and metrics.

        def is_alive(worker: StatusChangeWorker) -> bool:
            health = worker.health
            return health.running and health.overdue_for < timedelta(minutes=15)

    An outage of the service does not make a poll overdue, because the next poll is due only after the
    backoff. A poll is overdue while handlers occupy every slot, for example because they ignore their
    cancellation. So allow more time than `handler_timeout`.

    Attributes:
        running: Whether `run` polls. False before it begins, and from the moment it stops.
        answered_ago: The time since the service last answered a poll, of any queue. None: it never has.
        next_poll_in: The time until the next poll of any queue is due. Zero if it is due now, None if
            there is no queue.
        overdue_for: The longest `QueueHealth.overdue_for`; zero if no poll is due.
        handling: The number of changes that are being handled, including those that wait for a retry.
        handling_for: The time since the poll of the oldest of them was sent. None if there is none.
        waiting_for_retry: How many of them wait for the next attempt of their handler.
        ignoring_cancellation: How many of them were cancelled, and their handler continues.
        queues: The state of each queue.
    """

    running: bool = False
    answered_ago: timedelta | None = None
    next_poll_in: timedelta | None = None
    overdue_for: timedelta = timedelta(0)
    handling: int = 0
    handling_for: timedelta | None = None
    waiting_for_retry: int = 0
    ignoring_cancellation: int = 0
    queues: tuple[QueueHealth, ...] = ()
