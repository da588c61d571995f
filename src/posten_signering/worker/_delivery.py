"""One delivery of a status change: its handler, retries, dead letter and confirmation, until one deadline."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta

import anyio

from posten_signering._session.fleet import FleetMember
from posten_signering._session.observers import Notify
from posten_signering._session.retry import is_transient, may_have_reached
from posten_signering._session.timing import Time
from posten_signering._values.events import (
    CallRetried,
    ChangeConfirmed,
    ChangeDeadLettered,
    ChangeDelivered,
    ChangeReleased,
    HandlerEnded,
    HandlerResult,
    LeaseRunningOut,
    ReleaseReason,
)
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse
from posten_signering.errors import ApiError, SigningError
from posten_signering.worker._retrying import RetryRoom, backoff

logger = logging.getLogger("posten_signering.worker")

Handler = Callable[[DirectJobStatusResponse], Awaitable[None]]
"""Handles one status change: an async function, or an object with an async `__call__`.

When it returns, the worker confirms the change. When it raises an exception, the worker calls it again later.
It may get the same change several times: `DirectJobStatusResponse.deduplication_key` tells them apart."""

# When a change has used this part of its lease, the worker notifies its observers.
_LATE_AFTER = 0.9
# A handler that ignores its cancellation is cancelled again after this many seconds.
_CANCEL_AGAIN_AFTER = 5.0

_STILL_COUNTED = (
    "A status change of job %s is confirmed, but the fleet could not forget its deliveries. This count is "
    "no longer used."
)
_COUNTED_AS = {
    ReleaseReason.HANDLER_FAILED: "failed",
    ReleaseReason.CANCELLED: "failed",
    ReleaseReason.TIMED_OUT: "timed_out",
    ReleaseReason.NOT_CONFIRMED: "unconfirmed",
    ReleaseReason.STILL_HANDLED: "skipped",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRules:
    """How a worker handles each change.

    Attributes:
        handler: Handles a change.
        dead_letter: Handles a change in place of `handler` after `max_deliveries` deliveries.
        max_deliveries: After how many deliveries. None: there is no maximum.
        handler_timeout: The time for the handler and the confirmation, counted from sending the poll.
        lease: How long the service hides a delivered change.
    """

    handler: Handler
    dead_letter: Handler | None
    max_deliveries: int | None
    handler_timeout: timedelta
    lease: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryContext:
    """What all deliveries of a running worker share.

    Attributes:
        rules: How the worker handles each change.
        confirm: Confirms a change.
        fleet: Counts deliveries.
        notify: Receives the events.
        time: The clocks, the sleep and the randomness of the client.
        room: Limits how many changes wait for a retry.
        counts: Counts what was done. The keys are the fields of `WorkCounts`.
        being_handled: The changes that workers of the client are handling, by their deduplication key,
            with the number of their deliveries.
    """

    rules: DeliveryRules
    confirm: Callable[[DirectJobStatusResponse], Awaitable[None]]
    fleet: FleetMember
    notify: Notify
    time: Time
    room: RetryRoom
    counts: Counter[str]
    being_handled: dict[str, int]


class Delivery:
    """One delivery of a status change.

    Args:
        change: The change.
        sender: The sender whose queue delivered it.
        polled_at: When the poll was sent, on the monotonic clock. The service's lease begins later.
        context: What all deliveries of the worker share.
    """

    def __init__(
        self,
        change: DirectJobStatusResponse,
        *,
        sender: Sender,
        polled_at: float,
        context: DeliveryContext,
    ) -> None:
        self.polled_at = polled_at
        self._change = change
        self._sender = sender
        self._rules = context.rules
        self._context = context
        self._time = context.time
        self._notify = context.notify
        self._scope = _Scope()
        self._deliveries = 0
        self._is_handled = False
        self._is_confirmed = False
        self._timed_out = False

    @property
    def is_cancelled(self) -> bool:
        """Whether the handler or the confirmation was cancelled. It may still be running."""
        return self._scope.cancel_called

    def cancel(self) -> None:
        """Cancels the handler or the confirmation, because the worker stops."""
        self._scope.cancel()

    async def work(self) -> BaseException | None:
        """Handles and confirms the change, or releases it.

        Returns:
            The SystemExit or KeyboardInterrupt that the handler raised. Any other exception is logged.
        """
        failure: BaseException | None = None
        try:
            key = self._change.deduplication_key
            being_handled = self._context.being_handled
            if key in being_handled:
                self._deliveries = being_handled[key]
                self._release(ReleaseReason.STILL_HANDLED, None)
                return None
            being_handled[key] = 0
            try:
                with self._limited():
                    await self._handle(key)
                    await self._confirm()
                    await self._context.fleet.end_delivery(key)
            finally:
                del being_handled[key]
        except BaseException as error:  # noqa: BLE001 - any error would end the worker's use of a slot
            failure = error
        if not self._is_confirmed:
            self._release_after(failure)
        elif failure is not None:
            with suppress(Exception):
                logger.error(_STILL_COUNTED, self._change.job_id, exc_info=failure)
        return failure if isinstance(failure, KeyboardInterrupt | SystemExit) else None

    def release_unhandled(self) -> None:
        """Reports a delivery whose task other code cancelled before it began."""
        self._release(ReleaseReason.CANCELLED, asyncio.CancelledError.__name__)

    # The steps

    async def _handle(self, key: str) -> None:
        """Calls the handler until it returns. Raises its last error."""
        self._deliveries = await self._context.fleet.begin_delivery(key)
        self._context.being_handled[key] = self._deliveries
        self._notify(
            ChangeDelivered(
                organization_number=self._sender.organization_number,
                polling_queue=self._sender.polling_queue,
                job_id=self._change.job_id,
                job_status=self._change.status,
                deliveries=self._deliveries,
            )
        )
        handler, room = self._choose_handler(), self._context.room
        attempt = 0
        while True:
            attempt += 1
            started_at = self._time.monotonic()
            try:
                await self._call(handler)
            except BaseException as error:
                wait = self._wait_before_retry(error, attempt)
                self._handler_ended(attempt, started_at, error, wait)
                if wait is None or not await room.wait(wait):
                    raise
                self._context.counts["retried"] += 1
            else:
                self._handler_ended(attempt, started_at)
                return

    async def _call(self, handler: Handler) -> None:
        await handler(self._change)
        if self._scope.cancel_called:
            # It suppressed its cancellation, so nobody knows whether it has done all of its work.
            raise asyncio.CancelledError

    def _choose_handler(self) -> Handler:
        rules = self._rules
        if (
            rules.dead_letter is None
            or rules.max_deliveries is None
            or self._deliveries <= rules.max_deliveries
        ):
            return rules.handler
        self._context.counts["dead_lettered"] += 1
        self._notify(ChangeDeadLettered(job_id=self._change.job_id, deliveries=self._deliveries))
        return rules.dead_letter

    def _wait_before_retry(self, error: BaseException, attempt: int) -> float | None:
        """Seconds before the next attempt of the handler. None if there is none in this delivery."""
        ends = isinstance(error, KeyboardInterrupt | SystemExit | asyncio.CancelledError)
        if ends or self._scope.cancel_called or not self._context.room.has_room:
            return None
        wait = backoff(attempt, self._time.random())
        return wait if wait < self._time_left() else None

    async def _confirm(self) -> None:
        """Confirms the change, until it succeeds. Raises the last error."""
        attempt, reached = 0, False
        while True:
            attempt += 1
            try:
                await self._context.confirm(self._change)
                break
            except SigningError as error:
                gone = isinstance(error, ApiError) and error.status in (404, 410)
                if gone and reached:
                    break  # An earlier attempt confirmed the change, and its response was lost.
                wait = backoff(attempt, self._time.random())
                if isinstance(error, ApiError) and error.retry_after is not None:
                    wait = max(wait, error.retry_after.total_seconds())
                if not is_transient(error) or wait >= self._time_left():
                    raise
                reached = reached or (not gone and may_have_reached(error))
                self._notify(
                    CallRetried(
                        operation="confirm the status change",
                        organization_number=self._sender.organization_number,
                        attempt=attempt,
                        delay=timedelta(seconds=wait),
                        error_type=type(error).__name__,
                    ),
                    error=error,
                )
            await self._time.sleep(wait)
        self._is_confirmed = True
        self._context.counts["confirmed"] += 1
        self._notify(ChangeConfirmed(job_id=self._change.job_id, duration=self._age()))

    # Its limits

    @contextmanager
    def _limited(self) -> Generator[None]:
        """Cancels what runs within, at the deadline. Notifies the observers when the lease runs out."""
        loop, lease = asyncio.get_running_loop(), self._rules.lease.total_seconds()
        age = self._age().total_seconds()
        timers = [
            loop.call_later(self._time_left(), self._time_out),
            loop.call_later(_LATE_AFTER * lease - age, self._notify_of_lease),
        ]
        try:
            with self._scope.entered():
                yield
        finally:
            for timer in timers:
                timer.cancel()

    def _time_out(self) -> None:
        self._timed_out = not self._scope.cancel_called
        self._scope.cancel()

    def _notify_of_lease(self) -> None:
        self._context.counts["late"] += 1
        self._notify(
            LeaseRunningOut(job_id=self._change.job_id, used=self._age(), lease=self._rules.lease)
        )

    def _age(self) -> timedelta:
        return timedelta(seconds=self._time.monotonic() - self.polled_at)

    def _time_left(self) -> float:
        return (self._rules.handler_timeout - self._age()).total_seconds()

    # Reports

    def _handler_ended(
        self,
        attempt: int,
        started_at: float,
        error: BaseException | None = None,
        retry_in: float | None = None,
    ) -> None:
        if error is None:
            self._is_handled = True
            self._context.counts["handled"] += 1
            self._context.room.succeeded()
        else:
            self._context.room.failed()
        self._notify(
            HandlerEnded(
                job_id=self._change.job_id,
                attempt=attempt,
                duration=timedelta(seconds=self._time.monotonic() - started_at),
                result=self._result(error),
                error_type=None if error is None else type(error).__name__,
                retry_in=None if retry_in is None else timedelta(seconds=retry_in),
            ),
            # The traceback of a cancellation shows where the handler hung. The error of the last attempt
            # is logged when the change is released.
            error=error if self._timed_out or (attempt == 1 and retry_in is not None) else None,
        )

    def _result(self, error: BaseException | None) -> HandlerResult:
        if error is None:
            return HandlerResult.RETURNED
        if self._timed_out:
            return HandlerResult.TIMED_OUT
        if self._scope.cancel_called or isinstance(error, asyncio.CancelledError):
            return HandlerResult.CANCELLED
        return HandlerResult.FAILED

    def _release_after(self, failure: BaseException | None) -> None:
        error_type = None if failure is None else type(failure).__name__
        reason = ReleaseReason.HANDLER_FAILED
        if self._timed_out:
            reason, failure, error_type = ReleaseReason.TIMED_OUT, None, TimeoutError.__name__
        elif self._scope.cancel_called:
            reason, failure, error_type = ReleaseReason.CANCELLED, None, None
        elif isinstance(failure, asyncio.CancelledError):
            reason = ReleaseReason.CANCELLED
        self._release(
            ReleaseReason.NOT_CONFIRMED if self._is_handled else reason, error_type, failure
        )

    def _release(
        self, reason: ReleaseReason, error_type: str | None, error: BaseException | None = None
    ) -> None:
        self._context.counts[_COUNTED_AS[reason]] += 1
        self._notify(
            ChangeReleased(
                job_id=self._change.job_id,
                reason=reason,
                deliveries=self._deliveries,
                error_type=error_type,
            ),
            error=error,
        )


class _Scope:
    """Cancels what runs in it, and again every few seconds while it continues.

    A cancelled scope of anyio cancels at every `await`. In it a handler could await nothing to clean up,
    and one that ignores its cancellation would keep the event loop busy. So there is a shield inside the
    scope, which is down only while the cancellation is sent. Shields of the handler itself work as usual.
    """

    def __init__(self) -> None:
        self._scope = anyio.CancelScope()
        self._shield = anyio.CancelScope()
        self._timer: asyncio.TimerHandle | None = None
        self._active = False

    @property
    def cancel_called(self) -> bool:
        """Whether it was cancelled."""
        return self._scope.cancel_called

    @contextmanager
    def entered(self) -> Generator[None]:
        """The context that `cancel` cancels. It ends the cancellation, as a scope of anyio does.

        Raises:
            CancelledError: It was cancelled before it was entered.
        """
        if self.cancel_called:
            raise asyncio.CancelledError
        with self._scope, self._shield:
            self._active = True
            try:
                yield
            finally:
                self._active = False
                if self._timer is not None:
                    self._timer.cancel()

    def cancel(self) -> None:
        """Cancels what runs in the context, or will run in it."""
        if self._timer is not None:
            self._timer.cancel()
        self._scope.cancel()
        if self._active:
            self._shield.shield = False
            self._shield.shield = True
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_CANCEL_AGAIN_AFTER, self.cancel)
