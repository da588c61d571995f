"""The worker: polls queues, passes each status change to a handler, and then confirms it."""

from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from types import NoneType
from typing import Any
from weakref import WeakKeyDictionary

from posten_signering._client.client import DirectClient
from posten_signering._client.lifecycle import opened_parts
from posten_signering._client.polling import FailurePolicy
from posten_signering._values.arguments import is_async, require
from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering.errors import ClientStateError, ConfigurationError, SenderNotSpecifiedError
from posten_signering.worker._delivery import DeliveryContext, DeliveryRules, Handler
from posten_signering.worker._health import WorkCounts, WorkerHealth
from posten_signering.worker._retrying import RetryRoom
from posten_signering.worker._running import Running
from posten_signering.worker._signals import receive_signals

_STOP_CALLED = "stop() was called"
# For each client, the changes that its workers are handling, as in `DeliveryContext`. The workers share them,
# because the service may redeliver a change of one worker to another.
_BEING_HANDLED = WeakKeyDictionary[DirectClient, dict[str, int]]()


class StatusChangeWorker:
    """Polls queues, passes each status change to a handler, and confirms it when the handler returns.

    The handler and the confirmation of a delivered change share one deadline, `handler_timeout` after
    the poll was sent. Until then the worker retries a handler that raises an exception, after 1, 2, 4 and
    so on up to 30 seconds, each minus a random part of up to half. It retries `confirm` in the same way,
    and waits for the end of a block by the rate limit. At the deadline it cancels the handler. A change
    that is not confirmed is released: the service redelivers it when its lease ends.

    At most half of `concurrency` (and at least one change) waits for a retry. If the handler of a
    further change fails, that change is released immediately. While that many changes wait and every
    handler fails, as when a database is away, the worker fetches one change at a time, after 1, 2, 4 and
    so on up to 30 seconds, so that few changes are released. It continues as usual when a handler
    returns. With `concurrency=1`, a change whose handler keeps failing holds up all others until its
    deadline.

    A handler that ignores its cancellation keeps its slot. The worker cancels it again every 5 seconds,
    shows it in `health`, and continues with the other slots. Cancellation can't reach a thread, nor code
    in a shield of anyio, such as a call of `anyio.to_thread.run_sync`.

    If a handler raises SystemExit or KeyboardInterrupt, the worker stops as after `stop`, and `run`
    raises that exception.

    Args:
        client: The client. It must be open while `run` runs. The worker does not close it.
        handler: An async function that handles one change. Several run concurrently, in no guaranteed
            order. A delivery may call it several times.
        senders: The senders whose queues the worker polls. It serves them in turn, so that a full queue
            does not delay the others. Polls of one organisation use at most half of `concurrency`, so
            that its rate limit does not delay the others. None means the client's default sender.
        concurrency: The maximum number of changes that are handled at the same time, over all queues. No
            more are fetched.
        handler_timeout: The time for the handler and the confirmation, counted from sending the poll.
        max_deliveries: How many deliveries of a change may begin without a confirmation. After that the
            change goes to `dead_letter`. Deliveries are counted in `ClientConfiguration.fleet`: for all
            processes that share a `RedisFleet`, otherwise for this process until it ends. A delivery
            also counts if its process was killed or stopped, or if a database was away, and there is at
            most one delivery for each lease. So 10 deliveries bridge an outage of about 100 minutes.
            None means no maximum.
        dead_letter: An async function that is called in place of the handler for that change. The
            same rules apply: when it returns, the change is confirmed. If it keeps raising, the change
            is not confirmed, and a later delivery calls `dead_letter` again.
        lease: How long the service waits for a confirmation before it redelivers a change. The worker
            logs a warning when a change that is being handled has used 90 % of it.
        stop_within: How long running handlers and a poll in flight may continue after the worker was
            asked to stop. Then the worker cancels them, and the service redelivers their changes. It
            waits for the cancelled handlers for up to 30 more seconds. Handlers that are still running
            then are left to the event loop, and `run` ends.
        failure_policy: When to give up after transient failures of polls. None means never.
        handle_signals: Whether SIGTERM and SIGINT stop the worker (only in the main thread). A second
            signal cancels handlers and a poll in flight immediately. An ignored signal stays ignored.
            If other code has a handler for one of the signals, such as a web server or another worker,
            use False, and call `stop` at the end of the app's lifespan or in your own signal handler.

    Raises:
        ConfigurationError: `concurrency` or `max_deliveries` is less than 1, `handler_timeout` is not
            between zero and `lease`, `stop_within` is negative, `handler` or `dead_letter` is not async,
            or only one of `max_deliveries` and `dead_letter` is given.
        ArgumentTypeError: An argument has a wrong type, such as a number in place of a timedelta.
    """

    def __init__(
        self,
        client: DirectClient,
        handler: Handler,
        *,
        senders: Iterable[Sender] | None = None,
        concurrency: int = 8,
        handler_timeout: timedelta = timedelta(minutes=8),
        max_deliveries: int | None = None,
        dead_letter: Handler | None = None,
        lease: timedelta = timedelta(minutes=10),
        stop_within: timedelta = timedelta(seconds=30),
        failure_policy: FailurePolicy | None = None,
        handle_signals: bool = False,
    ) -> None:
        for name, value, expected, types in (
            ("client", client, "a DirectClient", (DirectClient,)),
            ("senders", senders, "a list of senders or None", (Iterable, NoneType)),
            ("concurrency", concurrency, "a whole number", (int,)),
            ("handler_timeout", handler_timeout, "a timedelta", (timedelta,)),
            ("max_deliveries", max_deliveries, "a whole number or None", (int, NoneType)),
            ("lease", lease, "a timedelta", (timedelta,)),
            ("stop_within", stop_within, "a timedelta", (timedelta,)),
            (
                "failure_policy",
                failure_policy,
                "a FailurePolicy or None",
                (FailurePolicy, NoneType),
            ),
        ):
            require(name, Secret(value), expected, *types)
        if stop_within < timedelta(0):
            raise ConfigurationError(f"stop_within must not be negative, but it is {stop_within}.")
        if concurrency < 1:
            raise ConfigurationError(f"concurrency must be 1 or more, not {concurrency}.")
        self._rules = DeliveryRules(
            handler=handler,
            dead_letter=dead_letter,
            max_deliveries=max_deliveries,
            handler_timeout=handler_timeout,
            lease=lease,
        )
        _check(self._rules)
        self._client = client
        self._polls_default_sender = senders is None
        self._senders = dict[Sender, None]()
        self._concurrency = concurrency
        self._stop_within = stop_within
        self._failure_policy = failure_policy
        self._handle_signals = handle_signals
        self._counts = Counter[str]()
        self._running: Running | None = None
        self._stopping = False
        for sender in senders or ():
            self.add_sender(sender)

    @property
    def counts(self) -> WorkCounts:
        """What the worker has done so far."""
        counts: dict[str, Any] = dict(self._counts)
        if self._running is not None:
            counts["polls"] = self._running.queues.counts
        return WorkCounts(**counts)

    @property
    def health(self) -> WorkerHealth:
        """The state of the worker now, for liveness probes and metrics. May be read in any thread."""
        return WorkerHealth() if self._running is None else self._running.health

    def add_sender(self, sender: Sender) -> None:
        """Polls the queue of this sender too. Does nothing if the worker polls it already.

        You may call this before the worker runs and while it runs, from any thread.

        Raises:
            ArgumentTypeError: The argument is not a `Sender`.
        """
        require("sender", Secret(sender), "a Sender", Sender)
        self._senders[sender] = None
        self._update_senders()

    def remove_sender(self, sender: Sender) -> None:
        """Polls the queue of this sender no more. Does nothing if the worker does not poll it.

        A poll in flight is finished, and its change is handled. Handlers of the sender's changes continue.
        A worker without any sender waits until one is added. You may call this from any thread.
        """
        self._senders.pop(sender, None)
        self._update_senders()

    def stop(self) -> None:
        """Asks the worker to stop gracefully: `run` returns when the running handlers have finished.

        The worker sends no new poll. It waits for a poll in flight and handles its change, because the
        service would otherwise hide that change until its lease ends. Both waits end after `stop_within`.
        A change that waits for a retry is released. You may call this from any thread, and from a signal
        handler.
        """
        self._stopping = True
        if self._running is not None:
            self._running.loop.call_soon(partial(self._running.stop, _STOP_CALLED))

    async def run(self) -> None:
        """Polls and handles changes until the worker is stopped. A worker can run only once.

        It stops after a call of `stop`, a signal (with `handle_signals`), a cancellation, or a failure of
        polling. In each case the running handlers get up to `stop_within` to finish.

        If the service refuses the polls of one sender permanently, such as a sender that has not given
        access to your organisation, the worker continues with the others. It polls that sender again
        after 2.5 to 5 minutes. If no sender is available, `run` raises the last refusal.

        Raises:
            SigningError: Polling failed permanently, or for longer than `failure_policy` allows. A refusal
                of one sender's polls is raised only if no other sender is available.
            SystemExit, KeyboardInterrupt: A handler raised it.
            ClientStateError: The worker has run before, or the client is not open in this event loop.
            SenderNotSpecifiedError: Neither `senders` nor the client's configuration names a sender.
            ConfigurationError: `handle_signals` is set, but other code has a handler for one of the
                signals, or this is not the main thread.
        """
        if self._running is not None:
            raise ClientStateError("This StatusChangeWorker was already run. Create a new one.")
        running = self._prepare()
        with receive_signals(running.on_signal) if self._handle_signals else nullcontext():
            self._running = running
            if self._stopping:
                running.stop(_STOP_CALLED)
            await running.run()

    def _prepare(self) -> Running:
        opened = opened_parts(self._client)
        if self._polls_default_sender:
            if self._client.configuration.sender is None:
                raise SenderNotSpecifiedError
            self._senders = {self._client.configuration.sender: None, **self._senders}
        room = RetryRoom(max(1, self._concurrency // 2), opened.time.sleep)
        return Running(
            senders=self._senders,
            open_queue=partial(self._client.status_changes, failure_policy=self._failure_policy),
            context=DeliveryContext(
                rules=self._rules,
                confirm=self._client.confirm,
                fleet=opened.fleet,
                notify=opened.observers.notify,
                time=opened.time,
                room=room,
                counts=self._counts,
                being_handled=_BEING_HANDLED.setdefault(self._client, {}),
            ),
            concurrency=self._concurrency,
            stop_within=self._stop_within,
            loop=opened.loop,
        )

    def _update_senders(self) -> None:
        if self._running is not None:
            self._running.loop.call_soon(self._running.update_senders)


def _check(rules: DeliveryRules) -> None:
    """Checks the arguments of a worker.

    Raises:
        ConfigurationError: One of them can't be used.
    """
    if not timedelta(0) < rules.handler_timeout < rules.lease:
        raise ConfigurationError(
            f"handler_timeout must be above zero and below lease ({rules.lease}), but it is "
            f"{rules.handler_timeout}. When the lease has ended, another process may get the same change."
        )
    if (rules.max_deliveries is None) != (rules.dead_letter is None):
        raise ConfigurationError(
            "max_deliveries and dead_letter belong together, but only one of them is given. Give both, or "
            "neither."
        )
    if rules.max_deliveries is not None and rules.max_deliveries < 1:
        raise ConfigurationError(f"max_deliveries must be 1 or more, not {rules.max_deliveries}.")
    for name, function in (("handler", rules.handler), ("dead_letter", rules.dead_letter)):
        is_missing = name == "dead_letter" and function is None
        if not is_missing and not is_async(function):
            raise ConfigurationError(
                f"{name} must be async: a function defined with `async def`, or an object whose `__call__` "
                f"is async. It is {type(function).__name__}."
            )
