"""Knows when each queue of a client may be polled: the rule after each poll, and the backoff after failures."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import anyio

from posten_signering._session.fleet import FleetMember, PollTurn, QueueState
from posten_signering._session.observers import Notify
from posten_signering._session.retry import is_transient
from posten_signering._session.session import Prepare
from posten_signering._session.timing import Time
from posten_signering._values.events import PollResult, QueuePolled
from posten_signering._values.job import Sender
from posten_signering._values.status import StatusPoll
from posten_signering._wire.exchange import Request
from posten_signering.errors import (
    ApiError,
    RateLimitedError,
    SigningError,
    TooEagerPollingError,
    TransportError,
    UnexpectedResponseError,
)

logger = logging.getLogger("posten_signering")

Send = Callable[[Sender, Prepare], Awaitable[StatusPoll]]
"""Polls a sender's queue once. Its last argument is a function to call just before the request leaves."""

# The largest jitter, in seconds. Processes that wait for the same moment then poll at different times.
# It is small because a wait is already up to a second too long: `Date` has whole seconds only.
_JITTER = 0.8
# A shorter wait is a rounding error. It might be too short to move the clock, and would never end.
_ROUNDING_ERROR = 1e-6
# The documented wait is 10 minutes. A longer one may be right, or be a mistake that somebody should see.
_LONGEST_USUAL_WAIT = timedelta(hours=1)
# A wrong header must not stop the polling of a queue forever.
_LONGEST_WAIT = timedelta(hours=24)

# For this many early answers in a row a process keeps to the permitted time: one that leads, and one that
# has just started. The polls before a restart may be the reason for the first early answer after it.
_EARLY_ANSWERS_OF_A_LEADER = 6
_EARLY_ANSWERS_AFTER_START = 1
# The longest additional wait of a process that does not lead, in default waits: 6 hours in production.
_LONGEST_ADDITIONAL_WAIT = 36.0

_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 300.0
# With these statuses a gateway says that it can't reach the service, which concerns every queue.
_SERVICE_UNREACHABLE = frozenset({502, 503, 504})


def after_poll(
    state: QueueState,
    outcome: StatusPoll | BaseException,
    *,
    sent: bool,
    random: float,
    default_wait: timedelta,
) -> QueueState:
    """What is known about a queue after a poll. Pure.

    Every poll obeys the service's time. If the service moves it at each early poll, processes that know
    nothing of each other would move it forever, and none would get a change. So one of them leads: after a
    poll that was not too early, a process keeps to the service's time for up to 6 early answers in a row.
    Every other process leaves the queue to it: its iterators wait longer, from the second early answer in a
    row on. The additional wait after the n-th is 3ⁿ times the wait that the service asks for (at least the
    default wait), times 0.5 to 1. It is at most 36 default waits. A service that moves its time asks for
    longer waits, and is then polled less by these processes.

    Args:
        state: What was known before the poll.
        outcome: The response, or the error of the poll.
        sent: Whether the request may have left.
        random: From 0 to 1, for the additional wait.
        default_wait: The wait if the service sends no time, or a time that makes no sense.
    """
    match outcome:
        case StatusPoll(change=None):
            return _succeeded(_without_change(outcome, default_wait))
        case StatusPoll() | UnexpectedResponseError(wait=timedelta()):
            # After a change that can't be read, poll soon too: while its lease lasts, polls get the
            # changes behind it. The default wait is as long as the lease, so every poll after it would
            # get the unreadable change again.
            return _succeeded(_after_change(outcome))
        case TooEagerPollingError():
            return _too_early(state, _without_change(outcome, default_wait), random, default_wait)
        case ApiError(poll_wait=timedelta() as wait):
            return _delayed(state, _permitted(wait, outcome.next_permitted_poll_time))
        case _ if sent and _response_is_lost(outcome):
            # The lost response may have reported an empty queue and a next permitted poll time.
            # A cancellation loses the response too.
            return _delayed(state, _permitted(default_wait, None))
        case _:
            # Nothing was sent, or a refusal without a next permitted poll time.
            return state


_WithTime = StatusPoll | TooEagerPollingError | UnexpectedResponseError


def _without_change(answer: _WithTime, default_wait: timedelta) -> QueueState:
    # An empty queue with a next poll time that is not in the future makes no sense. Obeying it
    # would poll in a tight loop, so the default wait is used.
    if answer.wait:
        return _permitted(answer.wait, answer.next_permitted_poll_time)
    return _permitted(default_wait, None)


def _after_change(answer: _WithTime) -> QueueState:
    # After a change, the next poll is permitted immediately unless the service says otherwise.
    # `Date` has whole seconds only, so "now" looks like a wait of up to a second.
    if answer.wait is None or answer.wait < timedelta(seconds=1):
        return _permitted(timedelta(0), answer.next_permitted_poll_time)
    return _permitted(answer.wait, answer.next_permitted_poll_time)


def _permitted(wait: timedelta, permitted_time: datetime | None) -> QueueState:
    seconds = min(wait, _LONGEST_WAIT).total_seconds()
    return QueueState(permitted_in=seconds, permitted_time=permitted_time, next_in=seconds)


def _succeeded(permitted: QueueState) -> QueueState:
    return replace(permitted, leads=True)


def _delayed(state: QueueState, permitted: QueueState) -> QueueState:
    return replace(
        permitted,
        next_in=max(permitted.next_in, state.next_in),
        early_answers=state.early_answers,
        leads=state.leads,
    )


def _too_early(
    state: QueueState, permitted: QueueState, random: float, default_wait: timedelta
) -> QueueState:
    early_answers = state.early_answers + 1
    leads = state.leads and early_answers <= _EARLY_ANSWERS_OF_A_LEADER
    additional = 0.0
    if not leads and early_answers > _EARLY_ANSWERS_AFTER_START:
        unit = max(permitted.permitted_in, default_wait.total_seconds())
        longest = _LONGEST_ADDITIONAL_WAIT * default_wait.total_seconds()
        # The exponent is limited, because a large power is not a float.
        additional = min(longest, unit * 3.0 ** min(early_answers, 20)) * (0.5 + 0.5 * random)
    return replace(
        permitted,
        next_in=permitted.permitted_in + additional,
        early_answers=early_answers,
        leads=leads,
    )


def _response_is_lost(error: BaseException) -> bool:
    match error:
        case TransportError():
            return error.request_may_have_left
        case UnexpectedResponseError():
            return True
        case _:
            return not isinstance(error, SigningError)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PollFailure:
    """A poll that failed with a transient failure, and the backoff after it.

    Attributes:
        error: The failure.
        number: How many polls in a row have failed like this.
        failed_at: When it failed, on the monotonic clock.
        resume_at: When iterators may poll again, on the monotonic clock.
    """

    error: SigningError
    number: int
    failed_at: float
    resume_at: float


def backoff(error: SigningError, number: int, random: float) -> float:
    """Seconds between a failure and the next poll. Pure.

    Args:
        error: The failure.
        number: How many polls in a row have failed, including this one.
        random: From 0 to 1, for jitter.
    """
    if isinstance(error, RateLimitedError) and error.wait is not None:
        return min(error.wait.total_seconds(), _LONGEST_BACKOFF) + _JITTER * random
    if isinstance(error, UnexpectedResponseError) and error.wait is not None:
        # A change that can't be read. The delay does not grow, because the changes behind it must
        # be delivered before its lease ends, even when many can't be read.
        return _FIRST_BACKOFF + _JITTER * random
    exponential = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(number, 20))
    seconds = exponential * (0.5 + 0.5 * random)
    if isinstance(error, ApiError) and error.retry_after is not None:
        return max(seconds, min(error.retry_after.total_seconds(), _LONGEST_BACKOFF))
    return seconds


def _concerns_whole_service(error: SigningError) -> bool:
    if isinstance(error, ApiError):
        return error.status in _SERVICE_UNREACHABLE
    return isinstance(error, TransportError)


@dataclass(slots=True)
class _Queue:
    """What this client knows about polling one queue. Times are on the monotonic clock.

    Attributes:
        sender: The sender that it belongs to.
        permitted_at: The next permitted poll time.
        permitted_time: The next permitted poll time that the service sent; None if the default wait is used.
        due_at: The next poll of an iterator, with jitter. Failures may delay it further.
        reported_time: The last next permitted poll time that was logged as unusually late.
        failure: The last failure of its polls, until one is answered.
        unsent: The scope of an iterator's poll that waits for the rate budget, so that an outage cancels it.
        lock: Held while a poll is in flight, so that the next poll knows its result.
    """

    sender: Sender
    permitted_at: float = float("-inf")
    permitted_time: datetime | None = None
    due_at: float = float("-inf")
    reported_time: datetime | None = None
    failure: PollFailure | None = None
    unsent: anyio.CancelScope | None = None
    # Not anyio.Lock: a client may have thousands of queues, and this one is small while nobody waits for it.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


class PollSchedule:
    """Knows when each queue of a client may be polled, and prevents earlier polls.

    Polls of the same queue run one after the other, in this client and in its fleet. The iterators of a queue
    share one backoff after failures. While the service can't be reached, the iterators of all queues share
    one, and one poll at a time checks whether the service can be reached.

    Args:
        current_send: Returns the function that sends a poll. Called when a poll begins: while the poll waits
            for its turn, the client may get a new certificate, but a call keeps the one with which it began.
        fleet: Shares the poll times, and gives the turn to poll.
        time: The clock and the randomness.
        notify: Receives an event for each poll.
        default_wait: The documented time between polls of an empty queue. It is used when the service
            does not send a next permitted poll time.
    """

    def __init__(
        self,
        *,
        current_send: Callable[[], Send],
        fleet: FleetMember,
        time: Time,
        notify: Notify,
        default_wait: timedelta,
    ) -> None:
        self._current_send = current_send
        self._fleet = fleet
        self._time = time
        self._notify = notify
        self._default_wait = default_wait
        self._queues = dict[Sender, _Queue]()
        # The last failure that concerns the whole service, until the service answers.
        self._outage: PollFailure | None = None
        self._probe = anyio.Lock()

    def next_poll_in(self, sender: Sender) -> float:
        """The seconds until an iterator may poll the sender's queue; 0 if it may poll now."""
        return self._due_in(self._queue(sender))

    def failure(self, sender: Sender) -> PollFailure | None:
        """The last failure of the sender's queue or of the whole service; None after an answer."""
        failures = [
            failure
            for failure in (self._queue(sender).failure, self._outage)
            if failure is not None
        ]
        return max(failures, key=lambda failure: failure.failed_at, default=None)

    async def poll(self, sender: Sender) -> StatusPoll:
        """Polls the sender's queue, if the service permits it.

        Raises:
            TooEagerPollingError: The service refused the poll as too early, or it is known to be too
                early and nothing was sent.
        """
        queue, send = self._queue(sender), self._current_send()
        async with queue.lock:
            self._refuse_early(queue)
            async with self._fleet.turn(sender) as turn:
                self._learn(queue, turn.state)
                self._refuse_early(queue)
                return await self._poll(queue, turn, send, _unchanged)

    async def poll_if_due(
        self, sender: Sender, prepare: Prepare, scope: anyio.CancelScope
    ) -> StatusPoll | None:
        """Polls the sender's queue for an iterator. None if no poll is due, so that none was sent.

        Args:
            sender: The sender whose queue to poll.
            prepare: Called just before the request leaves.
            scope: The scope around this call. It is cancelled if an outage begins before the poll is sent.
        """
        queue, send = self._queue(sender), self._current_send()
        async with self._one_probe(), queue.lock:
            if self._due_in(queue) > 0:
                return None
            async with self._fleet.turn(sender) as turn:
                self._learn(queue, turn.state)
                if self._due_in(queue) > 0:
                    return None
                queue.unsent = scope
                return await self._poll(queue, turn, send, prepare)

    @asynccontextmanager
    async def _one_probe(self) -> AsyncGenerator[None]:
        """Lets one poll through at a time while the service can't be reached, else all."""
        async with AsyncExitStack() as probe:
            if self._is_unreachable():
                await probe.enter_async_context(self._probe)
                if not self._is_unreachable():  # The poll before this one was answered.
                    await probe.aclose()
            yield

    def _is_unreachable(self) -> bool:
        return self._outage is not None

    async def _poll(
        self, queue: _Queue, turn: PollTurn, send: Send, prepare: Prepare
    ) -> StatusPoll:
        sent_at: float | None = None

        async def note_sending(request: Request) -> Request:
            nonlocal sent_at
            request = await prepare(request)
            sent_at = self._time.monotonic()
            queue.unsent = None
            return request

        try:
            poll = await send(queue.sender, note_sending)
        except BaseException as error:
            self._end(queue, turn, error, sent_at)
            raise
        finally:
            queue.unsent = None
        self._end(queue, turn, poll, sent_at)
        return poll

    def _end(
        self,
        queue: _Queue,
        turn: PollTurn,
        outcome: StatusPoll | BaseException,
        sent_at: float | None,
    ) -> None:
        """Learns from the outcome of a poll, and notifies the observers."""
        state = after_poll(
            turn.state,
            outcome,
            sent=sent_at is not None,
            random=self._time.random(),
            default_wait=self._default_wait,
        )
        if state is not turn.state:
            turn.learned(state)
            self._learn(queue, state)
            self._report_late_time(queue, state)
        self._note_failure(queue, outcome, sent_at)
        if sent_at is not None:
            result = _result(outcome)
            failed = result is PollResult.FAILURE
            error = outcome if failed and isinstance(outcome, BaseException) else None
            self._notify(
                QueuePolled(
                    organization_number=queue.sender.organization_number,
                    polling_queue=queue.sender.polling_queue,
                    result=result,
                    next_poll_in=timedelta(seconds=self._due_in(queue)),
                    error_type=None if error is None else type(error).__name__,
                ),
                error=error,
            )

    def _note_failure(
        self, queue: _Queue, outcome: StatusPoll | BaseException, sent_at: float | None
    ) -> None:
        """Begins or ends the backoff of the queue, or of all queues."""
        if isinstance(outcome, SigningError) and is_transient(outcome):
            # Also when the whole service is concerned: this may be the only queue for which it is unavailable.
            queue.failure = self._failed(queue.failure, outcome, sent_at)
            if _concerns_whole_service(outcome):
                self._outage = self._failed(self._outage, outcome, sent_at)
                self._cancel_unsent_polls()
            else:
                self._outage = None
        elif isinstance(outcome, StatusPoll | ApiError):
            self._outage = queue.failure = None

    def _cancel_unsent_polls(self) -> None:
        for queue in self._queues.values():
            if queue.unsent is not None:
                queue.unsent.cancel()

    def _failed(
        self, before: PollFailure | None, error: SigningError, sent_at: float | None
    ) -> PollFailure:
        if before is not None and sent_at is not None and sent_at < before.failed_at:
            # Polls that were in flight together and failed together are one failure.
            return before
        now, number = self._time.monotonic(), 1 if before is None else before.number + 1
        seconds = backoff(error, number, self._time.random())
        # A copy has no traceback, which would keep the frames of the poll in memory.
        return PollFailure(error=copy(error), number=number, failed_at=now, resume_at=now + seconds)

    def _queue(self, sender: Sender) -> _Queue:
        if sender not in self._queues:
            self._queues[sender] = _Queue(sender=sender)
        return self._queues[sender]

    def _due_in(self, queue: _Queue) -> float:
        failures = (queue.failure, self._outage)
        resume_at = [failure.resume_at for failure in failures if failure is not None]
        return self._from_now(max([queue.due_at, *resume_at]))

    def _from_now(self, at: float) -> float:
        seconds = at - self._time.monotonic()
        return seconds if seconds > _ROUNDING_ERROR else 0.0

    def _refuse_early(self, queue: _Queue) -> None:
        wait = self._from_now(queue.permitted_at)
        if wait > 0:
            raise TooEagerPollingError(
                operation="get a status change",
                next_permitted_poll_time=queue.permitted_time,
                wait=timedelta(seconds=wait),
                polled=False,
            )

    def _learn(self, queue: _Queue, state: QueueState) -> None:
        now, wait = self._time.monotonic(), max(state.permitted_in, state.next_in)
        queue.permitted_at = now + state.permitted_in
        queue.permitted_time = state.permitted_time
        jitter = _JITTER * self._time.random() if wait > _ROUNDING_ERROR else 0.0
        queue.due_at = now + wait + jitter

    def _report_late_time(self, queue: _Queue, state: QueueState) -> None:
        time, wait = state.permitted_time, timedelta(seconds=state.permitted_in)
        if time is None or time == queue.reported_time or wait <= _LONGEST_USUAL_WAIT:
            return
        queue.reported_time = time
        logger.warning(
            "The service permits the next poll of %s at %s, which is unusually late. The client "
            "polls this queue again in %.0f minutes. If the time is wrong, contact Posten "
            "signering. A restart does not help, because the service refuses earlier polls.",
            queue.sender,
            time.isoformat(),
            state.permitted_in / 60,
        )


async def _unchanged(request: Request) -> Request:
    return request


def _result(outcome: StatusPoll | BaseException) -> PollResult:
    match outcome:
        case StatusPoll(change=None):
            return PollResult.EMPTY
        case StatusPoll():
            return PollResult.CHANGE
        case TooEagerPollingError():
            return PollResult.TOO_EARLY
        case _:
            return PollResult.FAILURE
