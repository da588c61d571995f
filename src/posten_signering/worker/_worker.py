"""The worker: polls a queue, passes each status change to a handler, and then confirms it."""

import asyncio
import logging
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import anyio

from posten_signering._client.client import DirectClient
from posten_signering._client.polling import FailurePolicy, PollCounts, StatusChanges
from posten_signering._session.loop import OwnLoop
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse
from posten_signering.errors import ClientStateError, ConfigurationError, SigningError
from posten_signering.worker._signals import receive_signals

logger = logging.getLogger("posten_signering")

Handler = Callable[[DirectJobStatusResponse], Awaitable[None]]

_LEASE = timedelta(minutes=10)
# For each client, the keys of the changes that its workers are handling. The workers share the keys,
# because the service may redeliver a change of one worker to another.
_BEING_HANDLED = WeakKeyDictionary[DirectClient, set[str]]()
# When a handler has used this part of the lease, the worker logs a warning.
_LATE_AFTER = 0.8

_CANCELLED = (
    "Handling a status change of job %s was cancelled, but not by the worker. The service will redeliver "
    "the change, unless it is confirmed already."
)
_UNCONFIRMED = (
    "A status change of job %s was handled, but could not be confirmed. The service will redeliver it, "
    "unless it is confirmed already"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounts:
    """Counts of what a worker has done so far.

    Attributes:
        handled: Changes whose handler returned.
        confirmed: Changes that were confirmed.
        failed: Changes whose handler raised or was cancelled, or that could not be handled because of
            a different error. The service redelivers them.
        unconfirmed: Changes that were handled but could not be confirmed. The service redelivers them.
        skipped: Redeliveries of changes that a worker of this client was still handling.
        late: Handlers that ran for 80 % of the lease or longer.
        polls: Counts of the results of polls.
    """

    handled: int = 0
    confirmed: int = 0
    failed: int = 0
    unconfirmed: int = 0
    skipped: int = 0
    late: int = 0
    polls: PollCounts = field(default_factory=PollCounts)


class StatusChangeWorker:
    """Polls a queue, passes each status change to a handler, and confirms it when the handler returns.

    Args:
        client: The client. It must be open while `run` runs. The worker does not close it.
        handler: An async function that handles one change. Several run concurrently, in no guaranteed
            order. If one raises, the worker logs the error, does not confirm the change, and continues.
            SystemExit and KeyboardInterrupt are logged too, and end the program.
        sender: The sender whose queue the worker polls. None means the client's default sender.
        concurrency: The maximum number of changes that are handled at the same time. No more are
            fetched.
        lease: How long the service waits for a confirmation before it redelivers a change. The worker
            logs a warning when a handler has used 80 % of it.
        stop_within: How long running handlers and a poll in flight may continue after the worker was
            asked to stop. Then the worker cancels them, and the service redelivers their changes. The
            worker still waits for code that is shielded from cancellation, such as a call of
            `anyio.to_thread.run_sync`.
        failure_policy: When to give up after transient failures of polls. None means never.
        handle_signals: Whether SIGTERM and SIGINT stop the worker (only in the main thread). A second
            signal cancels handlers and a poll in flight immediately. An ignored signal stays ignored.
            If other code has a handler for one of the signals, such as a web server or another worker,
            use False, and call `stop` at the end of the app's lifespan or in your own signal handler.

    Raises:
        ConfigurationError: `concurrency` is less than 1.
    """

    def __init__(
        self,
        client: DirectClient,
        handler: Handler,
        *,
        sender: Sender | None = None,
        concurrency: int = 4,
        lease: timedelta = _LEASE,
        stop_within: timedelta = timedelta(seconds=30),
        failure_policy: FailurePolicy | None = None,
        handle_signals: bool = False,
    ) -> None:
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be 1 or more, not {concurrency}.")
        self._client = client
        self._handler = handler
        self._sender = sender
        self._free_slots = anyio.Semaphore(concurrency)
        self._lease = lease
        self._stop_within = stop_within
        self._failure_policy = failure_policy
        self._handle_signals = handle_signals
        self._changes: StatusChanges | None = None
        self._running = set[asyncio.Task[None]]()
        self._handler_scopes = set[anyio.CancelScope]()
        self._being_handled = set[str]()
        self._counts = Counter[str]()
        self._stopping = False
        # Makes a running worker notice that it must stop. Works from any thread.
        self._wake: Callable[[], None] = lambda: None
        self._cancelling = False

    @property
    def counts(self) -> WorkCounts:
        """What the worker has done so far."""
        counts: dict[str, Any] = dict(self._counts)
        if self._changes is not None:
            counts["polls"] = self._changes.counts
        return WorkCounts(**counts)

    def stop(self) -> None:
        """Asks the worker to stop gracefully: `run` returns when the running handlers have finished.

        The worker sends no new poll. It waits for a poll in flight and handles its change, because the
        service would otherwise hide that change until its lease ends. Both waits end after `stop_within`.
        You may call this from any thread, and from a signal handler.
        """
        self._stopping = True
        self._wake()

    async def run(self) -> None:
        """Polls and handles changes until the worker is stopped. A worker can run only once.

        It stops after a call of `stop`, a signal (with `handle_signals`), a cancellation, or a failure of
        polling. In each case the running handlers get up to `stop_within` to finish.

        Raises:
            SigningError: Polling failed permanently, or for longer than `failure_policy` allows.
            ClientStateError: The worker has run before.
            ConfigurationError: `handle_signals` is set, but other code has a handler for one of the
                signals, or this is not the main thread.
            Exception: An error of your own rate limiter or transport ended the polling.
        """
        if self._changes is not None:
            raise ClientStateError("This StatusChangeWorker was already run. Create a new one.")
        poll_scope = anyio.CancelScope()
        on_signal = partial(self._on_signal, poll_scope)
        with receive_signals(on_signal) if self._handle_signals else nullcontext():
            await self._poll_and_handle(poll_scope)

    async def _poll_and_handle(self, poll_scope: anyio.CancelScope) -> None:
        self._being_handled = _BEING_HANDLED.setdefault(self._client, set())
        self._changes = changes = self._client.status_changes(
            sender=self._sender, failure_policy=self._failure_policy
        )
        loop = OwnLoop("StatusChangeWorker")
        self._wake = partial(loop.call_soon, partial(self._stop, changes, poll_scope))
        try:
            with poll_scope:
                await self._fetch(changes)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                _log(logging.INFO, "The worker was cancelled, stopping.")
            else:
                # A task group would ignore the cancellation, and the worker would be missing silently.
                _log(
                    logging.ERROR,
                    "The worker stops, because something that polling awaits was cancelled. The worker's "
                    "task was not cancelled.",
                    error=error,
                )
            raise
        finally:
            self._start_stopping(poll_scope)
            await self._wait_for_handlers(poll_scope.deadline)

    async def _fetch(self, changes: StatusChanges) -> None:
        """Fetches changes, and starts a handler for each. Waits for a free slot before each fetch."""
        while True:
            await self._free_slots.acquire()
            if self._stopping:
                return
            change = await anext(changes, None)
            if change is None:
                return
            # Not a task group: one task that is cancelled from outside would cancel the whole group.
            task = asyncio.create_task(self._handle_and_confirm(change))
            self._running.add(task)
            task.add_done_callback(partial(self._free_slot, change))

    def _free_slot(self, change: DirectJobStatusResponse, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._free_slots.release()
        if task.cancelled():
            # The coroutine lets no cancellation through, so it never began: other code cancelled the task.
            self._counts["failed"] += 1
            _log(logging.ERROR, _CANCELLED, change.job_id)
        else:
            # Tells asyncio that an exception that ends the program is known.
            task.exception()

    async def _handle_and_confirm(self, change: DirectJobStatusResponse) -> None:
        """Handles and confirms a change, and counts it in every case.

        Raises:
            KeyboardInterrupt, SystemExit: The handler ended the program. Nothing else is raised.
        """
        outcome = "failed"
        try:
            key = change.deduplication_key
            if key in self._being_handled:
                outcome = "skipped"
                _log(
                    logging.WARNING,
                    "A status change of job %s was redelivered while this process was still handling it. "
                    "The redelivery is skipped.",
                    change.job_id,
                )
                return
            scope = anyio.CancelScope()
            self._being_handled.add(key)
            self._handler_scopes.add(scope)
            try:
                with scope:
                    if self._cancelling:
                        scope.cancel()
                    await self._handle(change)
                    self._counts["handled"] += 1
                    outcome = "unconfirmed"
                    await self._client.confirm(change)
                    outcome = "confirmed"
            finally:
                self._being_handled.discard(key)
                self._handler_scopes.discard(scope)
        except (KeyboardInterrupt, SystemExit) as error:
            # These end the program, as in any other task of asyncio.
            _log_failure(change, outcome, error)
            raise
        except BaseException as error:  # noqa: BLE001 - any error would end the worker's use of a slot
            _log_failure(change, outcome, error)
        finally:
            self._counts[outcome] += 1

    async def _handle(self, change: DirectJobStatusResponse) -> None:
        """Runs the handler, and logs a warning when it has used most of the lease."""
        lease_watch = asyncio.create_task(self._watch_lease(change))
        try:
            await self._handler(change)
        finally:
            lease_watch.cancel()

    async def _watch_lease(self, change: DirectJobStatusResponse) -> None:
        lease = self._lease.total_seconds()
        try:
            await self._client.configuration.sleep(_LATE_AFTER * lease)
        except Exception as error:  # noqa: BLE001 - an error of the watch does not concern the handler
            _log(
                logging.ERROR,
                "The worker can't watch the lease of a status change of job %s, because the "
                "configuration's sleep failed. Its handler continues.",
                change.job_id,
                error=error,
            )
            return
        self._counts["late"] += 1
        _log(
            logging.WARNING,
            "The handler of a status change of job %s has run for %.0f s. After %.0f s the service "
            "redelivers the change, possibly to a different process.",
            change.job_id,
            _LATE_AFTER * lease,
            lease,
        )

    def _stop(self, changes: StatusChanges, poll_scope: anyio.CancelScope) -> None:
        self._start_stopping(poll_scope)
        # Wakes `_fetch` if it waits for a slot.
        self._free_slots.release()
        changes.stop()

    def _start_stopping(self, poll_scope: anyio.CancelScope) -> None:
        self._stopping = True
        if poll_scope.deadline == float("inf"):
            # A poll in flight gets as much time as the handlers.
            poll_scope.deadline = anyio.current_time() + self._stop_within.total_seconds()

    async def _wait_for_handlers(self, deadline: float) -> None:
        """Waits for the running handlers. Cancels those that still run at the deadline."""
        cancellation: asyncio.CancelledError | None = None
        while self._running:
            try:
                with anyio.CancelScope(shield=True, deadline=deadline):
                    await asyncio.wait(self._running)
            except asyncio.CancelledError as error:
                # The worker was cancelled a second time: cancel the handlers now.
                cancellation = error
            if self._running:
                self._cancel_handlers()
                deadline = float("inf")
        if cancellation is not None:
            raise cancellation

    def _cancel_handlers(self) -> None:
        self._cancelling = True
        if self._handler_scopes:
            _log(
                logging.WARNING,
                "%d handler(s) are still running and are cancelled. The service will redeliver their "
                "changes.",
                len(self._handler_scopes),
            )
        for scope in self._handler_scopes:
            scope.cancel()

    def _on_signal(self, poll_scope: anyio.CancelScope, received: signal.Signals) -> None:
        if self._stopping:
            self._cancel_handlers()
            poll_scope.cancel()
        else:
            _log(logging.INFO, "Received %s, stopping.", received.name)
            self.stop()


def _log_failure(change: DirectJobStatusResponse, outcome: str, error: BaseException) -> None:
    if isinstance(error, asyncio.CancelledError):
        # The worker did not cancel the handler. Other code cancelled its task, or something that the
        # handler awaits.
        _log(logging.ERROR, _CANCELLED, change.job_id, error=error)
    elif outcome == "failed":
        _log(
            logging.ERROR,
            "Handling a status change of job %s failed. The change is not confirmed, and the service "
            "will redeliver it.",
            change.job_id,
            error=error,
        )
    elif isinstance(error, SigningError):
        _log(logging.WARNING, f"{_UNCONFIRMED}: %s", change.job_id, error)
    else:
        _log(logging.ERROR, f"{_UNCONFIRMED}.", change.job_id, error=error)


def _log(level: int, message: str, *args: object, error: BaseException | None = None) -> None:
    """Logs a message. An error of the application's logging must not stop the worker."""
    with suppress(Exception):
        logger.log(level, message, *args, exc_info=error, stacklevel=2)
