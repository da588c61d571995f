"""The worker: polls a queue, hands each status change to a handler, and confirms what was handled."""

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
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse
from posten_signering.errors import ClientStateError, ConfigurationError, SigningError
from posten_signering.worker._signals import SIGNALS, handlers_restored, signals_taken

logger = logging.getLogger("posten_signering")

Handler = Callable[[DirectJobStatusResponse], Awaitable[None]]

_LEASE = timedelta(minutes=10)
# Which changes the workers of each client have in hand: two on one queue may get the same one.
_IN_HAND = WeakKeyDictionary[DirectClient, set[str]]()
# When so much of the lease is gone, a handler is reported: there is still time to act.
_NEARLY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkCounts:
    """What a worker has done so far.

    Attributes:
        handled: Changes whose handler returned.
        confirmed: Changes that were confirmed.
        failed: Changes whose handler raised; they come back.
        unconfirmed: Changes that were handled but could not be confirmed; they come back.
        skipped: Deliveries of a change that was still being handled here; they were let go.
        late: Handlers that came near the end of the lease.
        polls: What the polls came to.
    """

    handled: int = 0
    confirmed: int = 0
    failed: int = 0
    unconfirmed: int = 0
    skipped: int = 0
    late: int = 0
    polls: PollCounts = field(default_factory=PollCounts)


class StatusChangeWorker:
    """Hands each status change of a queue to a handler, and confirms it when the handler returned.

    Args:
        client: An open client. The worker does not close it.
        handler: Deals with one change: stores what came of the job, tells who must know. Changes are
            handled side by side, in no order. What it raises leaves the change unconfirmed.
        sender: Whose queue; the client's default sender when None.
        concurrency: How many changes are handled at once. No more are fetched.
        lease: How long the service hides a fetched change before it delivers it again.
        stop_within: How long handlers, and a poll on its way, may go on after the worker was asked to
            stop; then they are cancelled, and their changes come back. What shields itself from
            cancellation, a thread for one, is waited for all the same.
        failure_policy: How long to go on when polls fail in passing; for ever when None.
        handle_signals: Whether SIGTERM and SIGINT stop the worker while it runs (main thread only). A
            second signal cancels what is in hand at once, and a poll on its way. Where the event loop
            has a handler of its own for one of them, or there are several workers, call `stop` from
            there instead.

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
            raise ConfigurationError("A StatusChangeWorker needs a concurrency of 1 at least.")
        self._client = client
        self._handler = handler
        self._sender = sender
        self._free = anyio.Semaphore(concurrency)
        self._concurrency = concurrency
        self._lease = lease
        self._stop_within = stop_within
        self._failure_policy = failure_policy
        self._handle_signals = handle_signals
        self._changes: StatusChanges | None = None
        self._waiting: anyio.CancelScope | None = None
        self._hands = dict[str, anyio.CancelScope]()
        self._in_hand = set[str]()
        self._fetching: anyio.CancelScope | None = None
        self._give_up_at = float("inf")
        self._counts = Counter[str]()
        self._stopping = False
        self._giving_up = False

    @property
    def counts(self) -> WorkCounts:
        """What has been done so far."""
        counts: dict[str, Any] = dict(self._counts)
        if self._changes is not None:
            counts["polls"] = self._changes.counts
        return WorkCounts(**counts)

    def stop(self) -> None:
        """Asks the worker to fetch nothing more, to finish what is in hand, and to return.

        A poll on its way is finished too: its change would otherwise be hidden until its lease ends.
        """
        self._note_stop()
        if self._waiting is not None:
            self._waiting.cancel()
        if self._changes is not None:
            self._changes.stop()

    async def run(self) -> None:
        """Works until `stop`, a signal (when asked to handle them), a cancellation, or an end of polling.

        In each case what is in hand is finished first, as far as `stop_within` permits. A worker runs
        once.

        Raises:
            SigningError: Polling can't go on (see `FailurePolicy`).
            ClientStateError: The worker has run before.
            ConfigurationError: It is to handle signals that the event loop has a handler for, or that
                another worker handles.
        """
        if self._changes is not None:
            raise ClientStateError("This StatusChangeWorker has run: make a new one.")
        with signals_taken() if self._handle_signals else nullcontext():
            await self._work()

    async def _work(self) -> None:
        self._in_hand = _IN_HAND.setdefault(self._client, set())
        self._changes = self._client.status_changes(
            sender=self._sender, failure_policy=self._failure_policy
        )
        ended: SigningError | None = None
        self._fetching = fetching = anyio.CancelScope()
        async with anyio.create_task_group() as tasks:
            if self._handle_signals:
                await tasks.start(self._listen, fetching)
            try:
                with fetching:
                    await self._fetch(self._changes, tasks)
            except SigningError as error:
                ended = error
            finally:
                self._note_stop()
                await self._finish()
                tasks.cancel_scope.cancel()
        if ended is not None:
            raise ended

    async def _fetch(self, changes: StatusChanges, tasks: anyio.abc.TaskGroup) -> None:
        """Fetches changes, no more than there are free hands for."""
        while not self._stopping:
            with anyio.CancelScope() as self._waiting:
                await self._free.acquire()
            if self._waiting.cancelled_caught:
                return
            try:
                change = await anext(changes)
            except BaseException as error:
                self._free.release()
                if isinstance(error, StopAsyncIteration):
                    return
                raise
            tasks.start_soon(self._take_in_hand, change)

    async def _take_in_hand(self, change: DirectJobStatusResponse) -> None:
        key = change.deduplication_key
        try:
            if key in self._in_hand:
                self._counts["skipped"] += 1
                logger.warning(
                    "A status change of job %s came back while it is being handled here; it is let go.",
                    change.job_id,
                )
                return
            # Shielded, so that a cancellation of the worker leaves handlers the time to finish.
            with anyio.CancelScope(shield=True) as hand:
                self._hands[key] = hand
                self._in_hand.add(key)
                if self._giving_up:
                    hand.cancel()
                try:
                    if await self._handle(change):
                        await self._confirm(change)
                finally:
                    del self._hands[key]
                    self._in_hand.discard(key)
        except anyio.get_cancelled_exc_class():
            # Not by this worker: something that the handler awaits was cancelled, or somebody cancels
            # every task. Let out, it would end the whole worker, without a word.
            logger.exception(
                "Handling a status change of job %s was cancelled from elsewhere; it is not confirmed, "
                "and comes back.",
                change.job_id,
            )
        finally:
            self._free.release()

    async def _handle(self, change: DirectJobStatusResponse) -> bool:
        """Whether the handler returned."""
        done = False
        try:
            async with anyio.create_task_group() as watch:
                watch.start_soon(self._watch_lease, change)
                try:
                    await self._handler(change)
                    done = True
                except Exception:
                    logger.exception(
                        "Handling a status change of job %s failed; it is not confirmed, and comes "
                        "back.",
                        change.job_id,
                    )
                finally:
                    watch.cancel_scope.cancel()
        finally:
            self._counts["handled" if done else "failed"] += 1
        return done

    async def _confirm(self, change: DirectJobStatusResponse) -> None:
        confirmed = False
        try:
            await self._client.confirm(change)
            confirmed = True
        except SigningError as error:
            logger.warning(
                "A status change of job %s was handled, but not confirmed; unless another process has "
                "confirmed it, it comes back: %s",
                change.job_id,
                error,
            )
        finally:
            self._counts["confirmed" if confirmed else "unconfirmed"] += 1

    async def _watch_lease(self, change: DirectJobStatusResponse) -> None:
        await self._client.configuration.sleep(_NEARLY * self._lease.total_seconds())
        self._counts["late"] += 1
        logger.warning(
            "The handler of a status change of job %s has run for %.0f s. After %.0f s the service "
            "delivers the change again, to any worker.",
            change.job_id,
            _NEARLY * self._lease.total_seconds(),
            self._lease.total_seconds(),
        )

    def _note_stop(self) -> None:
        if not self._stopping:
            self._stopping = True
            now = self._client.configuration.monotonic()
            self._give_up_at = now + self._stop_within.total_seconds()
            if self._fetching is not None:
                # A poll on its way has no more time than handlers have.
                self._fetching.deadline = anyio.current_time() + self._stop_within.total_seconds()

    async def _finish(self) -> None:
        """Waits for the handlers; cancels those that take too long."""
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as waiting:
                waiting.start_soon(self._give_up_in_time)
                try:
                    for _ in range(self._concurrency):
                        await self._free.acquire()
                except BaseException:
                    # Cancelled a second time: whoever asks twice means at once.
                    self._give_up()
                    raise
                finally:
                    waiting.cancel_scope.cancel()

    async def _give_up_in_time(self) -> None:
        left = self._give_up_at - self._client.configuration.monotonic()
        await self._client.configuration.sleep(max(0.0, left))
        self._give_up()

    def _give_up(self) -> None:
        self._giving_up = True
        if self._hands:
            logger.warning(
                "%d handler(s) did not finish in time and are cancelled; their changes come back.",
                len(self._hands),
            )
        for hand in list(self._hands.values()):
            hand.cancel()

    async def _listen(
        self, fetching: anyio.CancelScope, *, task_status: anyio.abc.TaskStatus[None]
    ) -> None:
        with handlers_restored(), anyio.open_signal_receiver(*SIGNALS) as signals:
            task_status.started()
            async for received in signals:
                if self._stopping:
                    self._give_up()
                    fetching.cancel()
                else:
                    logger.info("Stopping at %s.", received.name)
                    self.stop()
