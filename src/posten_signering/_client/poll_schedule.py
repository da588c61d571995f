"""When this client may poll each queue next, as the service told it. Performs no I/O.

One entry for each sender and queue, shared by all iterators and single polls of a client. Times are
seconds on the monotonic clock: a wall clock that is set, or wrong, changes nothing.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial

import anyio

from posten_signering._values.job import Sender
from posten_signering._values.status import StatusPoll
from posten_signering.errors import (
    SigningError,
    TooEagerPollingError,
    TransportError,
    UnexpectedResponseError,
)

Send = Callable[[Callable[[], None]], Awaitable[StatusPoll]]

# A broken header must not put a queue to sleep for good. The documented wait is 10 minutes.
_LONGEST_WAIT = timedelta(hours=24)


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
            send: Asks the service; calls its argument when the request is about to leave.

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
            departures = list[None]()
            try:
                answer = await send(partial(departures.append, None))
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
                if departures and _answer_is_lost(error):
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
