"""The worker: polls a queue, passes each status change to a handler, and then confirms it."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from weakref import WeakKeyDictionary

import anyio
import anyio.abc

from posten_signering._client.client import DirectClient
from posten_signering._client.polling import FailurePolicy, PollCounts, StatusChanges
from posten_signering._session.loop import OwnLoop
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse
from posten_signering.errors import ClientStateError, ConfigurationError, SigningError
from posten_signering.worker._signals import SIGNALS, reserve_signals, restore_handlers

logger = logging.getLogger("posten_signering")

Handler = Callable[[DirectJobStatusResponse], Awaitable[None]]

_LEASE = timedelta(minutes=10)
# For each client, the keys of the changes that its workers are handling. The workers share the keys,
# because the service may redeliver a change of one worker to another.
_BEING_HANDLED = WeakKeyDictionary[DirectClient, set[str]]()
# When a handler has used this part of the lease, the worker logs a warning.
_LATE_AFTER = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounts:
    """Counts of what a worker has done so far.

    Attributes:
        handled: Changes whose handler returned.
        confirmed: Changes that were confirmed.
        failed: Changes whose handler raised or was cancelled. The service redelivers them.
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
            order. If one raises, the worker logs the error and does not confirm the change.
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
            signal cancels handlers and a poll in flight immediately. If the event loop has a handler for
            one of the signals, or the process runs several workers, call `stop` from your own signal
            handler instead.

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
        self._concurrency = concurrency
        self._lease = lease
        self._stop_within = stop_within
        self._failure_policy = failure_policy
        self._handle_signals = handle_signals
        self._changes: StatusChanges | None = None
        self._slot_wait: anyio.CancelScope | None = None
        self._handler_scopes = dict[str, anyio.CancelScope]()
        self._being_handled = set[str]()
        self._poll_scope: anyio.CancelScope | None = None
        self._cancel_at = float("inf")
        self._counts = Counter[str]()
        self._loop: OwnLoop | None = None
        self._stop_requested = False
        self._stopping = False
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
        self._stop_requested = True
        if self._loop is not None:
            self._loop.call_soon(self._stop)

    def _stop(self) -> None:
        self._start_stopping()
        if self._slot_wait is not None:
            self._slot_wait.cancel()
        if self._changes is not None:
            self._changes.stop()

    async def run(self) -> None:
        """Polls and handles changes until the worker is stopped. A worker can run only once.

        It stops after a call of `stop`, a signal (with `handle_signals`), a cancellation, or a failure of
        polling. In each case the running handlers get up to `stop_within` to finish.

        Raises:
            SigningError: Polling failed permanently, or for longer than `failure_policy` allows.
            ClientStateError: The worker has run before.
            ConfigurationError: `handle_signals` is set, but the event loop has a handler for one of the
                signals, or another worker handles them.
        """
        if self._changes is not None:
            raise ClientStateError("This StatusChangeWorker was already run. Create a new one.")
        self._loop = OwnLoop("StatusChangeWorker")
        with reserve_signals() if self._handle_signals else nullcontext():
            await self._poll_and_handle()

    async def _poll_and_handle(self) -> None:
        self._being_handled = _BEING_HANDLED.setdefault(self._client, set())
        self._changes = self._client.status_changes(
            sender=self._sender, failure_policy=self._failure_policy
        )
        failure: SigningError | None = None
        self._poll_scope = poll_scope = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            if self._handle_signals:
                await tasks.start(self._listen_for_signals, poll_scope)
            try:
                with poll_scope:
                    await self._fetch(self._changes, tasks)
            except SigningError as error:
                failure = error
            finally:
                self._start_stopping()
                await self._wait_for_handlers()
                tasks.cancel_scope.cancel()
        if failure is not None:
            raise failure

    async def _fetch(self, changes: StatusChanges, tasks: anyio.abc.TaskGroup) -> None:
        """Fetches changes, and starts a handler for each. Waits for a free slot before each fetch."""
        while not self._stop_requested:
            with anyio.CancelScope() as self._slot_wait:
                await self._free_slots.acquire()
            if self._slot_wait.cancelled_caught:
                return
            try:
                change = await anext(changes)
            except BaseException as error:
                self._free_slots.release()
                if isinstance(error, StopAsyncIteration):
                    return
                raise
            tasks.start_soon(self._handle_and_confirm, change)

    async def _handle_and_confirm(self, change: DirectJobStatusResponse) -> None:
        key = change.deduplication_key
        try:
            if key in self._being_handled:
                self._counts["skipped"] += 1
                logger.warning(
                    "A status change of job %s was redelivered while this process was still handling it. "
                    "The redelivery is skipped.",
                    change.job_id,
                )
                return
            # The shield gives the handler time to finish when the worker is cancelled.
            with anyio.CancelScope(shield=True) as scope:
                self._handler_scopes[key] = scope
                self._being_handled.add(key)
                if self._cancelling:
                    scope.cancel()
                try:
                    if await self._handle(change):
                        await self._confirm(change)
                finally:
                    del self._handler_scopes[key]
                    self._being_handled.discard(key)
        except anyio.get_cancelled_exc_class():
            # This worker did not cancel the handler. Other code cancelled its task, or something that the
            # handler awaits. If the cancellation left this task, it would silently end the whole worker.
            logger.exception(
                "Handling a status change of job %s was cancelled, but not by the worker. The service "
                "will redeliver the change, unless it is confirmed already.",
                change.job_id,
            )
        finally:
            self._free_slots.release()

    async def _handle(self, change: DirectJobStatusResponse) -> bool:
        """Runs the handler. Returns whether it returned without an error."""
        returned = False
        try:
            async with anyio.create_task_group() as lease_watch:
                lease_watch.start_soon(self._watch_lease, change)
                try:
                    await self._handler(change)
                    returned = True
                except Exception:
                    logger.exception(
                        "The handler of a status change of job %s failed. The change is not confirmed, "
                        "and the service will redeliver it.",
                        change.job_id,
                    )
                finally:
                    lease_watch.cancel_scope.cancel()
        finally:
            self._counts["handled" if returned else "failed"] += 1
        return returned

    async def _confirm(self, change: DirectJobStatusResponse) -> None:
        confirmed = False
        try:
            await self._client.confirm(change)
            confirmed = True
        except SigningError as error:
            logger.warning(
                "A status change of job %s was handled, but could not be confirmed. The service will "
                "redeliver it, unless it is confirmed already: %s",
                change.job_id,
                error,
            )
        finally:
            self._counts["confirmed" if confirmed else "unconfirmed"] += 1

    async def _watch_lease(self, change: DirectJobStatusResponse) -> None:
        lease = self._lease.total_seconds()
        await self._client.configuration.sleep(_LATE_AFTER * lease)
        self._counts["late"] += 1
        logger.warning(
            "The handler of a status change of job %s has run for %.0f s. After %.0f s the service "
            "redelivers the change, possibly to a different process.",
            change.job_id,
            _LATE_AFTER * lease,
            lease,
        )

    def _start_stopping(self) -> None:
        if not self._stopping:
            self._stopping = True
            now = self._client.configuration.monotonic()
            self._cancel_at = now + self._stop_within.total_seconds()
            if self._poll_scope is not None:
                # A poll in flight gets as much time as the handlers.
                self._poll_scope.deadline = anyio.current_time() + self._stop_within.total_seconds()

    async def _wait_for_handlers(self) -> None:
        """Waits for the running handlers, and cancels those that take too long."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as time_limit:
                time_limit.start_soon(self._cancel_handlers_after_time_limit)
                try:
                    for _ in range(self._concurrency):
                        await self._free_slots.acquire()
                except BaseException:
                    # The worker was cancelled a second time: do not wait any longer.
                    self._cancel_handlers()
                    raise
                finally:
                    time_limit.cancel_scope.cancel()

    async def _cancel_handlers_after_time_limit(self) -> None:
        left = self._cancel_at - self._client.configuration.monotonic()
        await self._client.configuration.sleep(max(0.0, left))
        self._cancel_handlers()

    def _cancel_handlers(self) -> None:
        self._cancelling = True
        if self._handler_scopes:
            logger.warning(
                "%d handler(s) are still running and are cancelled. The service will redeliver their "
                "changes.",
                len(self._handler_scopes),
            )
        for scope in list(self._handler_scopes.values()):
            scope.cancel()

    async def _listen_for_signals(
        self, poll_scope: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        with restore_handlers(), anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for received in signals:
                if self._stopping:
                    self._cancel_handlers()
                    poll_scope.cancel()
                else:
                    logger.info("Received %s, stopping.", received.name)
                    self._stop_requested = True
                    self._stop()
