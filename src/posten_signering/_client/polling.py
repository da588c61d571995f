"""Status changes as they come: an async iterator that sleeps until the next permitted poll, and its schedule."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

import anyio

from posten_signering._session.session import Prepare, Time
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse, StatusPoll
from posten_signering._wire.exchange import Request
from posten_signering.errors import (
    ApiError,
    ConfigurationError,
    RateLimitedError,
    SigningError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    UnexpectedResponseError,
)

logger = logging.getLogger("posten_signering")

Send = Callable[[Prepare], Awaitable[StatusPoll]]
OnFailure = Callable[[SigningError, timedelta], None]

# Added to a wait at random, so that processes that wait for the same moment come apart. `Date` is cut
# off to whole seconds, which makes the wait up to a second too long already.
_JITTER = 0.8
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 300.0
# A broken header must not put a queue to sleep for good. The documented wait is 10 minutes.
_LONGEST_WAIT = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """How long an iterator goes on when polls fail in passing.

    Passing are lost connections, timeouts, HTTP 5xx, blocks by the rate limit, and answers that can't
    be read. What can't heal is raised at once: a certificate that is refused or not trusted, an
    organisation without access, a wrong configuration.

    Attributes:
        max_failures: Raise at the failure that makes so many in a row; None goes on for ever.
        max_outage: Raise when failures have lasted, or with the next wait would last, longer than this;
            None goes on for ever. After a lost answer that wait is 10 minutes in production.
        on_failure: Told of every failure that is borne, with the time until the next poll. It must
            not block.

    Raises:
        ConfigurationError: `max_failures` is less than 1, or `max_outage` is negative.
    """

    max_failures: int | None = None
    max_outage: timedelta | None = None
    on_failure: OnFailure | None = None

    def __post_init__(self) -> None:
        if self.max_failures is not None and self.max_failures < 1:
            raise ConfigurationError("FailurePolicy.max_failures must be 1 or more.")
        if self.max_outage is not None and self.max_outage < timedelta(0):
            raise ConfigurationError("FailurePolicy.max_outage must not be negative.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """What an iterator's polls have come to.

    Attributes:
        changes: Status changes that were delivered.
        empty: Answers that the queue was empty.
        too_early: Polls that the service refused as too early: another process polls this queue.
        failures: Polls that failed in passing.
    """

    changes: int = 0
    empty: int = 0
    too_early: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Queue:
    """What is known of one queue.

    Attributes:
        permitted_at: When the service permits the next poll.
        told: The same by the service's clock, in its own words.
        turn: Held while a poll is on its way, so that the next one knows its answer.
    """

    permitted_at: float = float("-inf")
    told: datetime | None = None
    turn: anyio.Lock = field(default_factory=anyio.Lock)


class PollSchedule:
    """The schedules of a client's queues: nothing is polled before a time that the service told.

    Args:
        monotonic: Seconds on a clock that is never set.
        default_wait: The documented time between polls of an empty queue, for when the service does
            not say.
    """

    def __init__(self, monotonic: Callable[[], float], default_wait: timedelta) -> None:
        self._monotonic = monotonic
        self._default_wait = default_wait
        self._queues = dict[Sender, _Queue]()

    def wait(self, sender: Sender) -> float:
        """Seconds until the sender's queue may be polled; 0 when it may be polled now."""
        return max(0.0, self._queue(sender).permitted_at - self._monotonic())

    async def poll(self, sender: Sender, send: Send) -> StatusPoll:
        """Polls the sender's queue, one poll at a time.

        Args:
            sender: Whose queue.
            send: Asks the service; takes what is called when the request is about to leave.

        Raises:
            TooEagerPollingError: The service said so; or it is known beforehand, and nothing was
                sent.
            SigningError: What `send` raises.
        """
        queue = self._queue(sender)
        async with queue.turn:
            wait = self.wait(sender)
            if wait > 0:
                raise TooEagerPollingError(
                    operation="tell a status change",
                    next_permitted_poll_time=queue.told,
                    wait=timedelta(seconds=wait),
                    polled=False,
                )
            has_left = False

            async def note_leaving(request: Request) -> Request:
                nonlocal has_left
                has_left = True
                return request

            try:
                answer = await send(note_leaving)
            except TooEagerPollingError as error:
                self._note(queue, error.wait, error.next_permitted_poll_time)
                raise
            except UnexpectedResponseError as error:
                # A change that can't be read, when the service says when to poll next. As long as its
                # lease lasts the next poll gets another one: to wait for the default, which is as
                # long as a lease, would get this one again and again, and those behind it never.
                if error.wait is None:
                    self._note(queue, None, None)
                else:
                    self._permit(queue, _after_change(error.wait), error.next_permitted_poll_time)
                raise
            except BaseException as error:
                # The queue may have been empty, and the answer that said so, with the next permitted
                # time, is lost. A cancellation loses it too.
                if has_left and _answer_is_lost(error):
                    self._note(queue, None, None)
                raise
            if answer.change is None:
                self._note(queue, answer.wait, answer.next_permitted_poll_time)
            else:
                self._permit(queue, _after_change(answer.wait), answer.next_permitted_poll_time)
            return answer

    def _queue(self, sender: Sender) -> _Queue:
        return self._queues.setdefault(sender, _Queue())

    def _note(self, queue: _Queue, wait: timedelta | None, told: datetime | None) -> None:
        # Where there was no change, a time that is not to come contradicts itself: it would have the
        # queue polled without a pause.
        self._permit(queue, wait or self._default_wait, told)

    def _permit(self, queue: _Queue, wait: timedelta, told: datetime | None) -> None:
        queue.permitted_at = self._monotonic() + min(wait, _LONGEST_WAIT).total_seconds()
        queue.told = told


def _after_change(wait: timedelta | None) -> timedelta:
    """At once, unless the service says otherwise; what `Date` cuts off makes up to a second of "now"."""
    return timedelta(0) if wait is None or wait < timedelta(seconds=1) else wait


def _answer_is_lost(error: BaseException) -> bool:
    match error:
        case TransportError():
            return error.request_may_have_left
        case _:
            return not isinstance(error, SigningError)


class _EndedError(Exception):
    """The iteration was ended; nothing has left. Never leaves this module."""


class StatusChanges:
    """The status changes of one polling queue, each a `DirectJobStatusResponse`, in `async for`.

    It polls again at once after a change, and otherwise sleeps until the time that the service
    permits, reckoned by the service's own clock. Nothing is fetched ahead: a fetched change is hidden
    from everybody for 10 minutes, and then comes back unless it was confirmed. Nothing is held
    between two changes: `break`, an exception or a cancellation needs no clean-up, and `aclose` may
    be called as often as you like.

    Made by `DirectClient.status_changes`. Several may run on one client, on the same queue too: they
    get different changes, and share what the service said of the next permitted poll.
    """

    def __init__(
        self,
        *,
        send: Send,
        sender: Sender,
        schedule: PollSchedule,
        failure_policy: FailurePolicy,
        time: Time,
    ) -> None:
        self._send = send
        self._sender = sender
        self._schedule = schedule
        self._failure_policy = failure_policy
        self._time = time
        self._counts = Counter[str]()
        self._failures_in_a_row = 0
        self._failing_since = 0.0
        self._resume_at = float("-inf")
        self._closed = False
        self._waits = set[anyio.CancelScope]()

    @property
    def counts(self) -> PollCounts:
        """What the polls have come to so far."""
        return PollCounts(**self._counts)

    def stop(self) -> None:
        """Ends the iteration. A step that sleeps ends at once.

        A poll on its way is finished first, and its change is delivered: it would otherwise be hidden
        from everybody until its lease ends. One that has not left yet, since it waits for its turn, is
        not sent any more.
        """
        self._closed = True
        for wait in self._waits:
            wait.cancel()

    async def aclose(self) -> None:
        """Does what `stop` does; nothing has to be released."""
        self.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DirectJobStatusResponse:
        """The next status change.

        Raises:
            SigningError: A permanent failure, or failures beyond what `FailurePolicy` allows.
            StopAsyncIteration: The iterator was closed.
        """
        while not self._closed:
            change = await self._next_answer()
            if change is not None:
                return change
        raise StopAsyncIteration

    async def _next_answer(self) -> DirectJobStatusResponse | None:
        """Waits for the next permitted poll, and polls. None when there was no change."""
        wait = self._schedule.wait(self._sender)
        pause = self._resume_at - self._time.monotonic()
        if max(wait, pause) > 0:
            await self._sleep(pause if pause > wait else wait + _JITTER * self._time.random())
            return None  # What was true before the sleep may have changed: look again.
        change = None
        try:
            answer = await self._poll()
            if answer is not None:
                self._failures_in_a_row = 0
                change = answer.change
                self._counts["empty" if change is None else "changes"] += 1
        except TooEagerPollingError as error:
            # Not polled: another iterator of this client was faster, and the new time is known.
            if error.polled:
                self._failures_in_a_row = 0
                self._counts["too_early"] += 1
        except SigningError as error:
            self._bear(error)
        return change

    async def _poll(self) -> StatusPoll | None:
        """Polls; None when the iteration was ended before the poll left."""
        with anyio.CancelScope() as wait, suppress(_EndedError):

            async def send(prepare: Prepare) -> StatusPoll:
                async def unless_stopped(request: Request) -> Request:
                    if wait.cancel_called:
                        raise _EndedError
                    # From here on `stop` waits for the poll.
                    self._waits.discard(wait)
                    return await prepare(request)

                return await self._send(unless_stopped)

            self._waits.add(wait)
            try:
                return await self._schedule.poll(self._sender, send)
            finally:
                self._waits.discard(wait)
        return None

    async def _sleep(self, seconds: float) -> None:
        with anyio.CancelScope() as wait:
            self._waits.add(wait)
            try:
                await self._time.sleep(seconds)
            finally:
                self._waits.discard(wait)

    def _bear(self, error: SigningError) -> None:
        """Puts off the next poll after a failure that passes; raises one that does not, or lasts."""
        if not _passes(error):
            raise error
        now = self._time.monotonic()
        self._failures_in_a_row += 1
        self._counts["failures"] += 1
        if self._failures_in_a_row == 1:
            self._failing_since = now
        delay = self._delay(error)
        policy = self._failure_policy
        if policy.max_failures is not None and self._failures_in_a_row >= policy.max_failures:
            raise error
        outage = timedelta(seconds=now + delay - self._failing_since)
        if policy.max_outage is not None and outage > policy.max_outage:
            raise error
        logger.warning("Polling for status changes failed; next try in %.0f s: %s", delay, error)
        self._resume_at = now + delay
        if policy.on_failure is not None:
            policy.on_failure(error, timedelta(seconds=delay))

    def _delay(self, error: SigningError) -> float:
        random = self._time.random()
        if isinstance(error, RateLimitedError) and error.wait is not None:
            return error.wait.total_seconds() + _JITTER * random
        if isinstance(error, UnexpectedResponseError) and error.wait is not None:
            # A change that can't be read. Those behind it must have their turn before its lease ends,
            # however many there are of its kind: this does not grow.
            return max(_FIRST_BACKOFF, self._schedule.wait(self._sender)) + _JITTER * random
        growing = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(self._failures_in_a_row, 20))
        backoff = growing * (0.5 + 0.5 * random)
        if isinstance(error, ApiError) and error.retry_after is not None:
            backoff = max(backoff, min(error.retry_after.total_seconds(), _LONGEST_BACKOFF))
        # After a lost answer the schedule has the documented wait.
        wait = self._schedule.wait(self._sender)
        return max(backoff, wait + _JITTER * random) if wait > 0 else backoff


def _passes(error: SigningError) -> bool:
    match error:
        case TlsError():
            return False
        case TransportError() | RateLimitedError() | UnexpectedResponseError():
            return True
        case ApiError():
            return error.status >= 500 or error.status == 408
        case _:
            return False
