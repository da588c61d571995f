"""Polls queues for status changes: an async iterator, and the schedule that knows when each queue may be polled."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Self

import anyio

from posten_signering._session.loop import OwnLoop
from posten_signering._session.session import Prepare
from posten_signering._session.timing import Time
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

# The largest jitter, in seconds. Processes that wait for the same moment then poll at different times.
# It is small because a wait is already up to a second too long: `Date` has whole seconds only.
_JITTER = 0.8
_FIRST_BACKOFF = 1.0
_LONGEST_BACKOFF = 300.0
# The documented wait is 10 minutes. A longer one may be right, or be a mistake that somebody should see.
_LONGEST_USUAL_WAIT = timedelta(hours=1)
# A wrong header must not stop the polling of a queue forever.
_LONGEST_WAIT = timedelta(hours=24)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When a `StatusChanges` iterator raises instead of polling again after a transient failure.

    By default it never raises a transient failure: it logs the failure, waits and polls again. These
    failures are transient: lost connections, timeouts, HTTP 408 and 5xx, blocks by the rate limit, and
    responses that can't be read. Every other failure is permanent and is raised immediately, such as a
    certificate that is refused or not trusted, or an organisation without access.

    Attributes:
        max_failures: Raise after this many consecutive failures. None: never.
        max_outage: Raise when the outage, including the next wait, would exceed this duration. None:
            never. The wait after a lost response is 10 minutes in production.
        on_failure: Called after each failure that is not raised, with the error and the time until the
            next poll. It runs in the event loop, so it must not block. If it raises, the iterator logs
            the error and continues.

    Raises:
        ConfigurationError: `max_failures` is less than 1, or `max_outage` is negative.
    """

    max_failures: int | None = None
    max_outage: timedelta | None = None
    on_failure: OnFailure | None = None

    def __post_init__(self) -> None:
        if self.max_failures is not None and self.max_failures < 1:
            raise ConfigurationError(
                f"FailurePolicy.max_failures is {self.max_failures}: it must be 1 or more, or None."
            )
        if self.max_outage is not None and self.max_outage < timedelta(0):
            raise ConfigurationError(
                f"FailurePolicy.max_outage is {self.max_outage}: it must not be negative."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class PollCounts:
    """Counts of an iterator's polls, by their result.

    Attributes:
        changes: Polls that delivered a status change.
        empty: Polls of an empty queue.
        too_early: Polls that the service refused as too early, because another process polled the
            queue.
        failures: Polls that ended with a transient failure.
    """

    changes: int = 0
    empty: int = 0
    too_early: int = 0
    failures: int = 0


@dataclass(slots=True)
class _Queue:
    """The polling state of one queue.

    Attributes:
        sender: The sender that it belongs to.
        permitted_at: The next permitted poll time, on the monotonic clock.
        permitted_time: The next permitted poll time that the service sent; None if the default wait is used.
        reported_time: The last next permitted poll time that was logged as unusually late.
        lock: Held while a poll is in flight, so that the next poll knows its result.
    """

    sender: Sender
    permitted_at: float = float("-inf")
    permitted_time: datetime | None = None
    reported_time: datetime | None = None
    lock: anyio.Lock = field(default_factory=anyio.Lock)


class PollSchedule:
    """Knows when each queue of a client may be polled, and prevents earlier polls.

    Args:
        monotonic: Returns the seconds of a clock that never jumps.
        default_wait: The documented time between polls of an empty queue. It is used when the service
            does not send a next permitted poll time.
    """

    def __init__(self, monotonic: Callable[[], float], default_wait: timedelta) -> None:
        self._monotonic = monotonic
        self._default_wait = default_wait
        self._queues = dict[Sender, _Queue]()

    def wait(self, sender: Sender) -> float:
        """The seconds until the sender's queue may be polled; 0 if it may be polled now."""
        return max(0.0, self._queue(sender).permitted_at - self._monotonic())

    async def poll(self, sender: Sender, send: Send) -> StatusPoll:
        """Polls the sender's queue. Polls of the same queue run one after the other.

        Args:
            sender: The sender whose queue to poll.
            send: Sends the poll. Its argument is a function to call just before the request leaves.

        Raises:
            TooEagerPollingError: The service refused the poll as too early, or it is known to be too
                early and nothing was sent.
        """
        queue = self._queue(sender)
        async with queue.lock:
            wait = self.wait(sender)
            if wait > 0:
                raise TooEagerPollingError(
                    operation="get a status change",
                    next_permitted_poll_time=queue.permitted_time,
                    wait=timedelta(seconds=wait),
                    polled=False,
                )
            may_have_left = False

            async def note_leaving(request: Request) -> Request:
                nonlocal may_have_left
                may_have_left = True
                return request

            try:
                poll = await send(note_leaving)
            except BaseException as error:
                self._permit_after_failure(queue, error, may_have_left=may_have_left)
                raise
            if poll.change is None:
                self._permit_without_change(queue, poll.wait, poll.next_permitted_poll_time)
            else:
                self._permit_after_change(queue, poll.wait, poll.next_permitted_poll_time)
            return poll

    def _queue(self, sender: Sender) -> _Queue:
        return self._queues.setdefault(sender, _Queue(sender=sender))

    def _permit_after_failure(
        self, queue: _Queue, error: BaseException, *, may_have_left: bool
    ) -> None:
        match error:
            case TooEagerPollingError():
                self._permit_without_change(queue, error.wait, error.next_permitted_poll_time)
            case ApiError(poll_wait=timedelta() as wait):
                self._permit(queue, wait, error.next_permitted_poll_time)
            case UnexpectedResponseError(wait=timedelta() as wait):
                # A change that can't be read. Poll soon: while its lease lasts, polls get the changes
                # behind it. The default wait is as long as the lease, so every poll after it would get
                # the unreadable change again.
                self._permit_after_change(queue, wait, error.next_permitted_poll_time)
            case _ if may_have_left and _response_is_lost(error):
                # The lost response may have reported an empty queue and a next permitted poll time.
                # A cancellation loses the response too.
                self._permit_without_change(queue, None, None)
            case _:
                # Nothing was sent, or a refusal without a next permitted poll time.
                pass

    def _permit_without_change(
        self, queue: _Queue, wait: timedelta | None, permitted_time: datetime | None
    ) -> None:
        # An empty queue with a next poll time that is not in the future makes no sense. Obeying it
        # would poll in a tight loop, so the default wait is used.
        if wait:
            self._permit(queue, wait, permitted_time)
        else:
            self._permit(queue, self._default_wait, None)

    def _permit_after_change(
        self, queue: _Queue, wait: timedelta | None, permitted_time: datetime | None
    ) -> None:
        # After a change, the next poll is permitted immediately unless the service says otherwise.
        # `Date` has whole seconds only, so "now" looks like a wait of up to a second.
        if wait is None or wait < timedelta(seconds=1):
            wait = timedelta(0)
        self._permit(queue, wait, permitted_time)

    def _permit(self, queue: _Queue, wait: timedelta, permitted_time: datetime | None) -> None:
        seconds = min(wait, _LONGEST_WAIT).total_seconds()
        queue.permitted_at = self._monotonic() + seconds
        queue.permitted_time = permitted_time
        if (
            permitted_time is not None
            and permitted_time != queue.reported_time
            and wait > _LONGEST_USUAL_WAIT
        ):
            queue.reported_time = permitted_time
            logger.warning(
                "The service permits the next poll of %s at %s, which is unusually late. The client "
                "polls this queue again in %.0f minutes. If the time is wrong, contact Posten "
                "signering. A restart does not help, because the service refuses earlier polls.",
                queue.sender,
                permitted_time.isoformat(),
                seconds / 60,
            )


def _response_is_lost(error: BaseException) -> bool:
    match error:
        case TransportError():
            return error.request_may_have_left
        case UnexpectedResponseError():
            return True
        case _:
            return not isinstance(error, SigningError)


class _StoppedError(Exception):
    """The iterator was stopped before its poll was sent. Never leaves this module."""


class StatusChanges:
    """An async iterator over the status changes of one polling queue.

        async for change in client.status_changes():
            ...
            await client.confirm(change)

    `DirectClient.status_changes` returns one. Each item is a `DirectJobStatusResponse`. The service
    hides a delivered change from other polls for 10 minutes. Then it delivers the change again, unless
    the change was confirmed.

    The iterator polls again immediately after a change. Otherwise it sleeps until the next permitted
    poll time. It measures that wait on the service's clock, so a wrong local clock does not matter. Only
    after a response without a readable `Date` does it use the local clock.
    `FailurePolicy` describes what it does after a failure.

    It never fetches a change ahead of the loop, and it holds no resource between two changes. You may
    leave the loop with `break`, an exception or a cancellation, and iterate again later. A client may
    have several iterators, also for the same queue. They get different changes and share the next
    permitted poll time.
    """

    def __init__(
        self,
        *,
        send: Send,
        sender: Sender,
        schedule: PollSchedule,
        failure_policy: FailurePolicy,
        time: Time,
        loop: OwnLoop,
    ) -> None:
        self._send = send
        self._sender = sender
        self._schedule = schedule
        self._failure_policy = failure_policy
        self._time = time
        self._loop = loop
        self._counts = Counter[str]()
        self._consecutive_failures = 0
        self._failing_since = 0.0
        self._resume_at = float("-inf")
        self._stopped = False
        self._cancellable = set[anyio.CancelScope]()

    @property
    def counts(self) -> PollCounts:
        """The counts of the polls so far."""
        return PollCounts(**self._counts)

    def stop(self) -> None:
        """Stops the iterator. The loop ends immediately if it sleeps or waits to send a poll.

        A poll in flight is finished first, and its change is delivered. Otherwise that change would be
        hidden from every poll until its lease ends. You may call this from any thread, and from a
        signal handler.
        """
        self._stopped = True
        self._loop.call_soon(self._cancel_waits)

    def _cancel_waits(self) -> None:
        for scope in self._cancellable:
            scope.cancel()

    async def aclose(self) -> None:
        """Does the same as `stop`. You need not call it, because the iterator holds no resource."""
        self.stop()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> DirectJobStatusResponse:
        """Waits for the next status change.

        Raises:
            ClientStateError: The caller runs in a different event loop than the client.
            SigningError: A permanent failure, or a transient one that the `FailurePolicy` raises.
            StopAsyncIteration: The iterator was stopped.
        """
        self._loop.check()
        while not self._stopped:
            try:
                change = await self._sleep_or_poll()
            except StopAsyncIteration as error:
                # The loop would end as if the iterator had been stopped.
                raise RuntimeError(
                    "A poll for status changes raised StopAsyncIteration."
                ) from error
            if change is not None:
                return change
        raise StopAsyncIteration

    async def _sleep_or_poll(self) -> DirectJobStatusResponse | None:
        """Sleeps if no poll is permitted yet, else polls. None if there is no change so far."""
        wait = self._schedule.wait(self._sender)
        pause = self._resume_at - self._time.monotonic()
        if max(wait, pause) > 0:
            await self._sleep(pause if pause > wait else wait + _JITTER * self._time.random())
            return None  # The permitted time may have changed during the sleep, so check it again.
        change = None
        try:
            poll = await self._poll()
            if poll is not None:
                self._consecutive_failures = 0
                change = poll.change
                self._counts["empty" if change is None else "changes"] += 1
        except TooEagerPollingError as error:
            # If nothing was polled, another iterator of this client polled first, and the schedule
            # has the new time.
            if error.polled:
                self._consecutive_failures = 0
                self._counts["too_early"] += 1
        except SigningError as error:
            self._handle_failure(error)
        return change

    async def _poll(self) -> StatusPoll | None:
        """Polls the queue. None if the iterator was stopped before the poll was sent."""
        with anyio.CancelScope() as scope, suppress(_StoppedError):

            async def send(prepare: Prepare) -> StatusPoll:
                async def raise_if_stopped(request: Request) -> Request:
                    if self._stopped:
                        raise _StoppedError
                    # From here on `stop` must not cancel the poll.
                    self._cancellable.discard(scope)
                    return await prepare(request)

                return await self._send(raise_if_stopped)

            self._cancellable.add(scope)
            try:
                return await self._schedule.poll(self._sender, send)
            finally:
                self._cancellable.discard(scope)
        return None

    async def _sleep(self, seconds: float) -> None:
        with anyio.CancelScope() as scope:
            self._cancellable.add(scope)
            try:
                await self._time.sleep(seconds)
            finally:
                self._cancellable.discard(scope)

    def _handle_failure(self, error: SigningError) -> None:
        """Delays the next poll after a transient failure.

        Raises:
            SigningError: The failure is permanent, or `FailurePolicy` says to raise it.
        """
        if not _is_transient(error):
            raise error
        now = self._time.monotonic()
        self._consecutive_failures += 1
        self._counts["failures"] += 1
        if self._consecutive_failures == 1:
            self._failing_since = now
        delay = self._delay(error)
        policy = self._failure_policy
        if policy.max_failures is not None and self._consecutive_failures >= policy.max_failures:
            raise error
        outage = timedelta(seconds=now + delay - self._failing_since)
        if policy.max_outage is not None and outage > policy.max_outage:
            raise error
        logger.warning("Polling for status changes failed; next poll in %.0f s: %s", delay, error)
        self._resume_at = now + delay
        if policy.on_failure is not None:
            try:
                policy.on_failure(error, timedelta(seconds=delay))
            except Exception:
                logger.exception("FailurePolicy.on_failure raised an error. Polling continues.")

    def _delay(self, error: SigningError) -> float:
        random = self._time.random()
        wait = self._schedule.wait(self._sender)
        if isinstance(error, RateLimitedError) and error.wait is not None:
            block = min(error.wait.total_seconds(), _LONGEST_BACKOFF)
            return max(block, wait) + _JITTER * random
        if isinstance(error, UnexpectedResponseError) and error.wait is not None:
            # A change that can't be read. The delay does not grow, because the changes behind it must
            # be delivered before its lease ends, even when many can't be read.
            return max(_FIRST_BACKOFF, wait) + _JITTER * random
        exponential = _FIRST_BACKOFF * 2.0 ** min(self._consecutive_failures, 20)
        backoff = min(_LONGEST_BACKOFF, exponential) * (0.5 + 0.5 * random)
        if isinstance(error, ApiError) and error.retry_after is not None:
            backoff = max(backoff, min(error.retry_after.total_seconds(), _LONGEST_BACKOFF))
        # After a lost response the schedule has the default wait, and after a refusal with a next
        # permitted poll time, the wait until then.
        return max(backoff, wait + _JITTER * random) if wait > 0 else backoff


def _is_transient(error: SigningError) -> bool:
    match error:
        case TlsError():
            return False
        case TransportError() | RateLimitedError() | UnexpectedResponseError():
            return True
        case ApiError():
            return error.status >= 500 or error.status == 408
        case _:
            return False
