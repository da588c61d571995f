"""Polls a queue for status changes: an async iterator. When it may poll is in `poll_schedule`."""

import logging
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from dataclasses import dataclass, replace
from datetime import timedelta
from types import NoneType
from typing import Self

import anyio

from posten_signering._client.poll_schedule import PollFailure, PollSchedule
from posten_signering._session.loop import OwnLoop
from posten_signering._session.retry import is_transient
from posten_signering._session.timing import Time
from posten_signering._values.arguments import require
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering._values.status import DirectJobStatusResponse, StatusPoll
from posten_signering._wire.exchange import Request
from posten_signering.errors import (
    ArgumentTypeError,
    ConfigurationError,
    SigningError,
    TooEagerPollingError,
)

logger = logging.getLogger("posten_signering")

OnFailure = Callable[[SigningError, timedelta], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class FailurePolicy:
    """When a `StatusChanges` iterator raises instead of polling again after a transient failure.

    By default it never raises a transient failure: it logs the failure, waits and polls again. These
    failures are transient: lost connections, timeouts, TLS failures, HTTP 408 and 5xx, blocks by the rate
    limit, responses that can't be read, and redirects or HTTP 401, 403 and 404 without an error document of
    the service, which come from a proxy or gateway. Every other failure is permanent and is raised
    immediately, such as an error document that denies access, or a TLS alert because of the client's
    certificate (`TlsError.certificate_refused`).

    The iterators of a queue share the backoff after a failure. If the service can't be reached (no response,
    HTTP 502, 503 or 504), all iterators of the client share it, and one of them polls at a time. A failure of
    a different iterator's poll that delays this iterator counts as its own: it is passed to `on_failure`, and
    may be raised.

    Attributes:
        max_failures: Raise after this many consecutive failures. None: never.
        max_outage: Raise when the outage, including the next wait, would exceed this duration. None:
            never. The wait after a lost response is 10 minutes in production.
        on_failure: Called after each failure that is not raised, with the error and the time until the
            next poll. It runs in the event loop, so it must not block. If it raises, the iterator logs
            the error and continues.

    Raises:
        ConfigurationError: `max_failures` is less than 1, or `max_outage` is negative.
        ArgumentTypeError: `max_failures` is not a whole number, `max_outage` is not a timedelta, or
            `on_failure` can't be called.
    """

    max_failures: int | None = None
    max_outage: timedelta | None = None
    on_failure: OnFailure | None = None

    def __post_init__(self) -> None:
        failures, outage = Secret(self.max_failures), Secret(self.max_outage)
        require("FailurePolicy.max_failures", failures, "a whole number or None", int, NoneType)
        require("FailurePolicy.max_outage", outage, "a timedelta or None", timedelta, NoneType)
        if not (self.on_failure is None or callable(self.on_failure)):
            raise ArgumentTypeError(
                "FailurePolicy.on_failure",
                expected="a function or None",
                found=type(self.on_failure),
            )
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
    have several iterators, also for the same queue. They get different changes, and share the next
    permitted poll time and the backoff after failures. Clients with a common `Fleet` share the permitted
    time too, and poll a queue one after the other.

    Without a common fleet, another process may have polled the queue, and the service then refuses a poll
    as too early. A process whose polls succeed keeps to the permitted time. Every other process leaves the
    queue to it: after its second early answer in a row, and each further one, its iterators wait longer
    than the service asks for, by at most 6 hours in production.

    Attributes:
        polled_at: When the last poll of this iterator was sent, in seconds of the configuration's
            `monotonic`. None before the first poll. The lease of its change began after this time.
        answered_at: When the service last answered a poll of this iterator: with a change, an empty queue,
            or "too early". None before the first answer.
    """

    __slots__ = (
        "_cancellable",
        "_consecutive_failures",
        "_counts",
        "_failing_since",
        "_failure_policy",
        "_known_failure",
        "_loop",
        "_schedule",
        "_sender",
        "_stopped",
        "_time",
        "answered_at",
        "polled_at",
    )

    def __init__(
        self,
        *,
        sender: Sender,
        schedule: PollSchedule,
        failure_policy: FailurePolicy,
        time: Time,
        loop: OwnLoop,
    ) -> None:
        self._sender = sender
        self._schedule = schedule
        self._failure_policy = failure_policy
        self._time = time
        self._loop = loop
        self._counts = PollCounts()
        self._known_failure: PollFailure | None = None
        self._consecutive_failures = 0
        self._failing_since = 0.0
        self._stopped = False
        self._cancellable = list[anyio.CancelScope]()
        self.polled_at: float | None = None
        self.answered_at: float | None = None

    @property
    def counts(self) -> PollCounts:
        """The counts of the polls so far."""
        return self._counts

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
        """Waits for the next status change, as `async for` does.

        Raises:
            ClientStateError: The caller runs in a different event loop than the client, or the client
                was closed.
            SigningError: A permanent failure, or a transient one that the `FailurePolicy` raises.
            StopAsyncIteration: The iterator was stopped.
        """
        try:
            while await self.wait_until_due():
                change = await self.poll_once()
                if change is not None:
                    return change
        except StopAsyncIteration as error:
            # The loop would end as if the iterator had been stopped.
            raise RuntimeError("A poll for status changes raised StopAsyncIteration.") from error
        raise StopAsyncIteration

    def next_poll_in(self) -> float:
        """The seconds until the next poll is due; 0 if it is due now."""
        return self._schedule.next_poll_in(self._sender)

    async def wait_until_due(self) -> bool:
        """Sleeps until a poll is due. False if the iterator was stopped.

        Raises:
            ClientStateError: The caller runs in a different event loop than the client.
            SigningError: A transient failure that the `FailurePolicy` raises.
        """
        self._loop.check()
        while not self._stopped:
            self._share_failure()
            wait = self.next_poll_in()
            if wait <= 0:
                return True
            # The due time may change during the sleep, so check it again.
            await self._sleep(wait)
        return False

    async def poll_once(self) -> DirectJobStatusResponse | None:
        """Polls the queue, unless no poll is due any more. None if there is no change.

        Raises:
            ClientStateError: The caller runs in a different event loop than the client.
            SigningError: A permanent failure, or a transient one that the `FailurePolicy` raises.
        """
        self._loop.check()
        try:
            poll = await self._poll()
        except TooEagerPollingError:
            self._answered(too_early=self._counts.too_early + 1)
            return None
        except SigningError as error:
            if not is_transient(error):
                raise
            self._counts = replace(self._counts, failures=self._counts.failures + 1)
            self._known_failure = self._schedule.failure(self._sender)
            if self._must_raise():
                raise
            self._report_failure(error)
            return None
        if poll is None:
            return None
        if poll.change is None:
            self._answered(empty=self._counts.empty + 1)
        else:
            self._answered(changes=self._counts.changes + 1)
        return poll.change

    async def _poll(self) -> StatusPoll | None:
        """Polls the queue. None if no poll was sent: it is not due, or the iterator was stopped."""
        if self._stopped:
            return None
        with anyio.CancelScope() as scope, suppress(_StoppedError):

            async def raise_if_stopped(request: Request) -> Request:
                if self._stopped:
                    raise _StoppedError
                # From here on `stop` must not cancel the poll.
                self._cancellable.remove(scope)
                self.polled_at = self._time.monotonic()
                return request

            self._cancellable.append(scope)
            try:
                return await self._schedule.poll_if_due(self._sender, raise_if_stopped, scope)
            finally:
                if scope in self._cancellable:
                    self._cancellable.remove(scope)
        return None

    async def _sleep(self, seconds: float) -> None:
        with anyio.CancelScope() as scope:
            self._cancellable.append(scope)
            try:
                await self._time.sleep(seconds)
            finally:
                self._cancellable.remove(scope)

    def _answered(self, **counts: int) -> None:
        self._counts = replace(self._counts, **counts)
        self._consecutive_failures = 0
        self.answered_at = self._time.monotonic()

    def _share_failure(self) -> None:
        """Applies the `FailurePolicy` to a failure of another iterator's poll that delays this one too.

        Raises:
            SigningError: `FailurePolicy` says to raise it.
        """
        failure = self._schedule.failure(self._sender)
        if failure is None:
            self._known_failure, self._consecutive_failures = None, 0
        elif failure is not self._known_failure and failure.resume_at > self._time.monotonic():
            self._known_failure = failure
            # A copy, because several iterators may raise it, and each changes its traceback.
            error = copy(failure.error)
            if self._must_raise():
                raise error
            self._report_failure(error)

    def _must_raise(self) -> bool:
        """Counts a failure. True if the `FailurePolicy` says to raise it."""
        now, policy = self._time.monotonic(), self._failure_policy
        self._consecutive_failures += 1
        if self._consecutive_failures == 1:
            self._failing_since = now
        if policy.max_failures is not None and self._consecutive_failures >= policy.max_failures:
            return True
        outage = timedelta(seconds=now + self.next_poll_in() - self._failing_since)
        return policy.max_outage is not None and outage > policy.max_outage

    def _report_failure(self, error: SigningError) -> None:
        if self._failure_policy.on_failure is None:
            return
        try:
            self._failure_policy.on_failure(error, timedelta(seconds=self.next_poll_in()))
        except Exception:
            logger.exception("FailurePolicy.on_failure raised an error. Polling continues.")
