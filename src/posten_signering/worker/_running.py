"""A running worker: its queues, the changes that it is handling, and how it stops."""

import asyncio
import logging
import signal
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

import anyio

from posten_signering._session.loop import OwnLoop
from posten_signering._session.observers import queue_name
from posten_signering._values.events import WorkerStarted, WorkerStopped
from posten_signering._values.job import Sender
from posten_signering._values.status import DirectJobStatusResponse
from posten_signering.errors import SigningError
from posten_signering.worker._delivery import Delivery, DeliveryContext
from posten_signering.worker._health import WorkerHealth
from posten_signering.worker._queues import OpenQueue, Queues

logger = logging.getLogger("posten_signering.worker")

# After the worker has cancelled its handlers, it waits this many seconds for them to end.
_WAIT_FOR_CANCELLED = 30.0


class Running:
    """A worker that runs.

    Args:
        senders: The senders whose queues to poll. `update_senders` reads it again.
        open_queue: Returns the iterator over the changes of a sender's queue.
        context: What the deliveries of the worker share.
        concurrency: The maximum number of changes that are handled at the same time.
        stop_within: How long handlers and polls in flight may continue after `stop`.
        loop: The event loop of the client.
    """

    def __init__(
        self,
        *,
        senders: Iterable[Sender],
        open_queue: OpenQueue,
        context: DeliveryContext,
        concurrency: int,
        stop_within: timedelta,
        loop: OwnLoop,
    ) -> None:
        self.loop = loop
        self.queues = Queues(
            open_queue=open_queue,
            concurrency=concurrency,
            room=context.room,
            time=context.time,
            notify=context.notify,
            deliver=self._deliver,
            fail=self._fail,
        )
        self._senders = senders
        self._context = context
        self._concurrency = concurrency
        self._stop_within = stop_within.total_seconds()
        self._deliveries = dict["asyncio.Task[BaseException | None]", Delivery]()
        self._stop_requested = anyio.Event()
        self._reason = ""
        self._failure: BaseException | None = None
        self._cancelling = False
        # When to cancel what still runs, and after that, when to wait no longer. On the event loop's clock.
        self._deadline = float("inf")

    @property
    def health(self) -> WorkerHealth:
        """The state of the worker."""
        queues, deliveries = self.queues.health, tuple(self._deliveries.values())
        now = self._context.time.monotonic()
        oldest = min((delivery.polled_at for delivery in deliveries), default=None)
        return WorkerHealth(
            running=not self._stop_requested.is_set(),
            answered_ago=min(
                (queue.answered_ago for queue in queues if queue.answered_ago is not None),
                default=None,
            ),
            next_poll_in=min((queue.next_poll_in for queue in queues), default=None),
            overdue_for=max((queue.overdue_for for queue in queues), default=timedelta(0)),
            handling=len(deliveries),
            handling_for=None if oldest is None else timedelta(seconds=now - oldest),
            waiting_for_retry=self._context.room.waiting,
            ignoring_cancellation=sum(delivery.is_cancelled for delivery in deliveries),
            queues=queues,
        )

    async def run(self) -> None:
        """Polls and handles changes until `stop` is called, or polling fails."""
        notify = self._context.notify
        names = (
            queue_name(sender.organization_number, sender.polling_queue)
            for sender in tuple(self._senders)  # a thread may add a sender meanwhile
        )
        notify(WorkerStarted(queues=tuple(names), concurrency=self._concurrency))
        cancellation: asyncio.CancelledError | None = None
        try:
            self.update_senders()
            await self._stop_requested.wait()
        except asyncio.CancelledError as error:
            cancellation = error
            self.stop("its task was cancelled")
        cancellation = await self._wait_for_tasks() or cancellation
        failure = None if cancellation is not None else self._failure
        error_type = None if failure is None else type(failure).__name__
        notify(WorkerStopped(reason=self._reason, error_type=error_type))
        if cancellation is not None:
            raise cancellation
        if failure is not None:
            raise failure

    def update_senders(self) -> None:
        """Begins to poll the queues of added senders, and ends polling those of removed senders."""
        try:
            self.queues.poll_only(() if self._stop_requested.is_set() else tuple(self._senders))
        except SigningError as error:
            self._fail(error)

    def stop(self, reason: str) -> None:
        """Sends no more polls. Handlers and polls in flight may continue for `stop_within`."""
        if not self._stop_requested.is_set():
            self._reason = self._reason or reason
            self._stop_requested.set()
            self._deadline = asyncio.get_running_loop().time() + self._stop_within
            self.update_senders()
            self._context.room.close()

    def on_signal(self, received: signal.Signals) -> None:
        """Stops at the first signal. At the second one, cancels what still runs."""
        if self._stop_requested.is_set():
            self._cancel_tasks()
        else:
            with suppress(Exception):
                logger.info("Received %s, stopping.", received.name)
            self.stop(f"{received.name} was received")

    # Handling changes

    def _deliver(self, change: DirectJobStatusResponse, sender: Sender, polled_at: float) -> None:
        delivery = Delivery(change, sender=sender, polled_at=polled_at, context=self._context)
        task = asyncio.create_task(delivery.work())
        self._deliveries[task] = delivery
        task.add_done_callback(self._delivery_ended)

    def _delivery_ended(self, task: "asyncio.Task[BaseException | None]") -> None:
        delivery = self._deliveries.pop(task)
        self.queues.release_slot()
        if task.cancelled():
            # `work` lets no cancellation through, so it never began.
            delivery.release_unhandled()
        elif task.exception() is None and (ending := task.result()) is not None:
            self._fail(ending)

    # Stopping

    def _fail(self, error: BaseException) -> None:
        """Stops the worker because of an error, which `run` raises."""
        if isinstance(error, asyncio.CancelledError) and self._cancelling:
            return
        if isinstance(error, SystemExit | KeyboardInterrupt):
            if isinstance(error, KeyboardInterrupt) and self._stop_requested.is_set():
                # A second Ctrl-C, which Python raised in the code of a handler.
                self._cancel_tasks()
            self._failure = error
            self._reason = f"a handler raised {type(error).__name__}"
        elif self._failure is None:
            self._failure = error
            self._reason = "polling failed"
        self.stop(self._reason)

    async def _wait_for_tasks(self) -> asyncio.CancelledError | None:
        """Waits for the polls in flight and the handlers. Cancels those that run at the deadline.

        Returns:
            The cancellation of the worker's own task during the wait.
        """
        cancellation: asyncio.CancelledError | None = None
        while tasks := {*self.queues.tasks, *self._deliveries}:
            try:
                with anyio.CancelScope(shield=True, deadline=self._deadline) as scope:
                    await asyncio.wait(tasks)
            except asyncio.CancelledError as error:
                # The worker was cancelled a second time: cancel the handlers now.
                cancellation = error
                self._cancel_tasks()
            else:
                if not scope.cancelled_caught or asyncio.get_running_loop().time() < self._deadline:
                    continue
                if self._cancelling:
                    self._log_abandoned()
                    break
                self._cancel_tasks()
        return cancellation

    def _cancel_tasks(self) -> None:
        if not self._cancelling:
            self._cancelling = True
            self._deadline = asyncio.get_running_loop().time() + _WAIT_FOR_CANCELLED
        self.queues.cancel()
        for delivery in self._deliveries.values():
            delivery.cancel()

    def _log_abandoned(self) -> None:
        with suppress(Exception):
            logger.error(
                "%d handler(s) ignore their cancellation. The worker stops without waiting for them any "
                "longer.",
                len(self._deliveries),
            )
