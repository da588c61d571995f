"""Sends an operation and decodes its answer: the client's only moving part.

Every try is paced by the rate budget; what may be repeated is, when it fails in passing.
"""

import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import anyio

from posten_signering._session import retry
from posten_signering._session.rate import RateLimiter
from posten_signering._session.retry import Retries, RetryBudget
from posten_signering._values.secret import Secret
from posten_signering._wire import poll_time
from posten_signering._wire.exchange import Patience, Request, Response, ResponseStream, Transport
from posten_signering._wire.form import WatchedStream
from posten_signering._wire.operations import Operation, succeeded
from posten_signering.errors import RateLimitedError, SigningError, UnexpectedResponseError

R = TypeVar("R")

Arrived = Callable[[], None]
T = TypeVar("T")

logger = logging.getLogger("posten_signering")

# The service's own block lasts 30 seconds. Whoever asks for much more gets errors, not silence.
_LONGEST_BLOCK = timedelta(seconds=60)

# "Dokumentpakke", the service's documentation: a signing time further off is refused.
_SIGNING_TIME_TOLERANCE = timedelta(seconds=5)


Ready = Callable[[Request], Awaitable[Request]]
"""Is given an operation's request when its turn has come, and gives the request to send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """What waiting takes.

    Attributes:
        clock: The time now, aware.
        monotonic: Seconds on a clock that is never set.
        sleep: Waits for some seconds.
        random: From 0 up to 1.
    """

    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]


class Session:
    """One transport, and what all calls through it share.

    Args:
        transport: Carries the requests; closed with the session.
        time: To wait with, and to hold the service's clock against.
        rate_limiter: Lets calls through at the pace that the service allows.
        retries: How often a call that failed in passing is made again.
        organization_number: Whose budget a call uses whose URL names no organisation.
        max_connections: How many API calls, and as many downloads, are on their way at once.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        time: Time,
        rate_limiter: RateLimiter,
        retries: Retries,
        organization_number: str,
        max_connections: int,
    ) -> None:
        self._transport = transport
        self._time = time
        self._rate_limiter = rate_limiter
        self._retries = retries
        self._budget = RetryBudget(retries.reserve)
        self._organization_number = organization_number
        self._connections = {each: anyio.Semaphore(max_connections) for each in Patience}
        self._turns = dict[tuple[str, Patience], anyio.Lock]()
        self._blocked_until = dict[str, float]()
        self._waiting = defaultdict[str, set[anyio.CancelScope]](set)
        self._clock_is_wrong = False

    async def send(self, operation: Operation[T], ready: Ready | None = None) -> T:
        """Sends the request, reads the whole answer and decodes it.

        Args:
            operation: What is sent.
            ready: Called when the request's turn has come, for each try: what it gives is sent.

        Raises:
            SigningError: As the operation's answer, or its absence, demands.
        """

        async def once(*, again: bool) -> T:
            async with self._exchange(operation, ready) as stream:
                response = await self._whole(stream)
            return operation.decode_again(response) if again else operation.decode(response)

        return await self.persistently(operation, once)

    async def send_telling(self, operation: Operation[T], leaving: Callable[[], None]) -> T:
        """As `send`; calls `leaving` just before the transport gets the request."""

        async def ready(request: Request) -> Request:
            leaving()
            return request

        return await self.send(operation, ready)

    @asynccontextmanager
    async def open(self, operation: Operation[bytes]) -> AsyncGenerator[ResponseStream]:
        """Sends the request and gives the body of a success as it comes.

        Repeated only until then: what the caller has read can't be taken back.

        Raises:
            SigningError: As the operation's answer, or its absence, demands.
        """

        async def once(*, again: bool) -> tuple[AsyncExitStack, ResponseStream]:
            del again
            async with AsyncExitStack() as stack:
                stream = await stack.enter_async_context(self.once_open(operation))
                return stack.pop_all(), stream

        stack, stream = await self.persistently(operation, once)
        async with stack:
            yield stream

    @asynccontextmanager
    async def once_open(self, operation: Operation[bytes]) -> AsyncGenerator[ResponseStream]:
        """As `open`, in one try: for use within `persistently`."""
        async with self._exchange(operation) as stream:
            if not succeeded(stream.status):
                operation.decode(await self._whole(stream))
            self._compare_clocks(stream, self._time.clock())
            yield stream

    async def persistently(self, operation: Operation[T], once: Callable[..., Awaitable[R]]) -> R:
        """Does something that sends the operation, in as many tries as the operation and luck allow.

        Args:
            operation: What is sent.
            once: One try, from the request to what is wanted of the answer. It is told by its
                keyword `again` whether an earlier try may have reached the service.
        """
        tried = 0
        while True:
            try:
                result = await once(again=tried > 0)
            except RateLimitedError as error:
                if error.wait is not None:
                    await self._block(self._payer(operation), min(error.wait, _LONGEST_BLOCK))
                raise
            except SigningError as error:
                tried += 1
                await self._time.sleep(self._delay(operation, error, tried))
            else:
                self._budget.succeeded()
                return result

    @asynccontextmanager
    async def _exchange(
        self, operation: Operation[T], ready: Ready | None = None
    ) -> AsyncGenerator[ResponseStream]:
        async with AsyncExitStack() as connection:
            payer, patience = self._payer(operation), operation.request.patience
            # First a connection, then the budget: calls that had paid for their moment and then waited
            # for a connection would leave all at once when the service is fast again. And one after
            # the other: an organisation that is held keeps one connection from others, not all.
            # A block is waited out before, so that as many blocked organisations as there are
            # connections do not stop all others.
            got = list[Arrived]()
            async with self._turns.setdefault((payer, patience), anyio.Lock()):
                while not got:
                    await self._wait_out_block(payer)
                    await connection.aclose()  # of a turn that a block cut short
                    got = await self._turn(connection, payer, patience)
            [arrived] = got
            try:
                request = operation.request if ready is None else await ready(operation.request)
                async with self._transport.exchange(request) as stream:
                    arrived()
                    if operation.form is not None and succeeded(stream.status):
                        yield WatchedStream(stream, operation.form)
                    else:
                        yield stream
            finally:
                arrived()

    async def _turn(
        self, connection: AsyncExitStack, payer: str, patience: Patience
    ) -> list[Arrived]:
        """Waits for a connection and the budget; gives nothing when the organisation is blocked."""
        got = list[Arrived]()
        with anyio.CancelScope() as turn:
            self._waiting[payer].add(turn)
            try:
                await connection.enter_async_context(self._connections[patience])
                got.append(await self._rate_limiter.acquire(payer))
            finally:
                self._waiting[payer].discard(turn)
        return got

    async def _block(self, payer: str, wait: timedelta) -> None:
        until = self._time.monotonic() + wait.total_seconds()
        self._blocked_until[payer] = max(until, self._blocked_until.get(payer, until))
        await self._rate_limiter.block(payer, wait.total_seconds())
        for turn in self._waiting[payer]:
            turn.cancel()

    async def _wait_out_block(self, payer: str) -> None:
        while (left := self._blocked_until.get(payer, 0.0) - self._time.monotonic()) > 0:
            await self._time.sleep(left)

    def _payer(self, operation: Operation[T]) -> str:
        return operation.organization_number or self._organization_number

    def _delay(self, operation: Operation[T], error: SigningError, tried: int) -> float:
        """Seconds before the next try; raises the error when there is none."""
        if tried > self._retries.extra_tries or not retry.is_passing(error, operation.repeatable):
            raise error
        delay = retry.delay(error, tried, self._time.random(), self._retries)
        if delay is None or not self._budget.take():
            raise error
        logger.info(
            "The service was asked to %s, and failed in passing; next try in %.2f s: %s",
            operation.name,
            delay,
            error,
        )
        return delay

    async def aclose(self) -> None:
        """Closes the transport."""
        await self._transport.aclose()

    async def _whole(self, stream: ResponseStream) -> Response:
        received = self._time.clock()
        self._compare_clocks(stream, received)
        # Out of sight, should the connection break in the middle.
        content = Secret(bytearray())
        unreadable: str | None = None
        try:
            async for chunk in stream.chunks():
                content.reveal().extend(chunk)
                del chunk
        except UnexpectedResponseError as error:
            # The status is there: a create was done or not, whatever its answer is packed in.
            content, unreadable = Secret(bytearray()), str(error)
        return Response(
            status=stream.status,
            headers=stream.headers,
            body=Secret(bytes(content.reveal())),
            received=received,
            unreadable=unreadable,
        )

    def _compare_clocks(self, stream: ResponseStream, now: datetime) -> None:
        theirs = poll_time.service_time(stream.headers)
        if theirs is None:
            return
        off = abs(now - theirs)
        wrong = off > _SIGNING_TIME_TOLERANCE + timedelta(seconds=1)
        if wrong and not self._clock_is_wrong:
            logger.warning(
                "This machine's clock is %.0f seconds off the service's. The service refuses a job "
                "whose signing time is more than %.0f seconds off: set the clock.",
                (now - theirs).total_seconds(),
                _SIGNING_TIME_TOLERANCE.total_seconds(),
            )
        # `Date` is cut off to whole seconds: a clock at the border would be told of again and again.
        right = off < _SIGNING_TIME_TOLERANCE - timedelta(seconds=1)
        self._clock_is_wrong = wrong or (self._clock_is_wrong and not right)
