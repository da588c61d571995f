"""Sends an operation and decodes its response: pacing, connections, retries. Knows no single operation."""

import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

import anyio

from posten_signering._session import retry
from posten_signering._session.rate import RateLimiter
from posten_signering._session.retry import Retries, RetryBudget
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import (
    Request,
    Response,
    ResponseStream,
    TimeoutKind,
    Transport,
    service_time,
)
from posten_signering._wire.form import Form, Watcher
from posten_signering._wire.operations import Operation, succeeded
from posten_signering.errors import (
    RateLimitedError,
    SigningError,
    TransportError,
    UnexpectedResponseError,
)

R = TypeVar("R")

Arrived = Callable[[], None]
T = TypeVar("T")

logger = logging.getLogger("posten_signering")

# The service's own block lasts 30 seconds. Whoever asks for much more gets errors, not silence.
_LONGEST_BLOCK = timedelta(seconds=60)

# "Dokumentpakke", the service's documentation: a signing time further off is refused.
_SIGNING_TIME_TOLERANCE = timedelta(seconds=5)


Prepare = Callable[[Request], Awaitable[Request]]
"""Called in each attempt, just before the request leaves, with the operation's request; gives the one to send."""

Receive = Callable[[ResponseStream, AsyncExitStack], Awaitable[R]]
"""Called with a response of which the head has come, and with what ends its exchange when it is closed."""


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
        organization_number: The organisation that pays for calls whose URL names none.
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
        self._budget = RetryBudget(retries.budget)
        self._organization_number = organization_number
        self._connections = {each: anyio.Semaphore(max_connections) for each in TimeoutKind}
        self._turns = dict[tuple[str, TimeoutKind], anyio.Lock]()
        self._blocked_until = dict[str, float]()
        self._waiting = defaultdict[str, set[anyio.CancelScope]](set)
        self._clock_is_wrong = False

    async def send(self, operation: Operation[T], prepare: Prepare | None = None) -> T:
        """Sends the request, reads the whole response and decodes it.

        Args:
            operation: The operation to send.
            prepare: Called in each attempt when the request may leave; what it gives is sent.

        Raises:
            SigningError: As the operation's response, or its absence, demands.
        """

        async def decode(stream: ResponseStream, exchange: AsyncExitStack, *, repeated: bool) -> T:
            response = await self._whole(stream)
            await exchange.aclose()
            return (operation.decode_again if repeated else operation.decode)(response)

        return await self._attempts(operation, decode, prepare)

    async def receive(self, operation: Operation[bytes], use: Receive[R]) -> R:
        """Sends the request and calls `use` with the body of a success, again in each attempt.

        Raises:
            SigningError: As the operation's response, or its absence, demands.
        """

        async def use_success(stream: ResponseStream, exchange: AsyncExitStack, **_: bool) -> R:
            if not succeeded(stream.status):
                operation.decode(await self._whole(stream))
            self._compare_clocks(stream, self._time.clock())
            return await use(stream, exchange)

        return await self._attempts(operation, use_success)

    @asynccontextmanager
    async def open(self, operation: Operation[bytes]) -> AsyncGenerator[ResponseStream]:
        """Sends the request and gives the body of a success as it comes.

        Retried only until then: what the caller has read can't be taken back.

        Raises:
            SigningError: As the operation's response, or its absence, demands.
        """

        async def keep_open(
            stream: ResponseStream, exchange: AsyncExitStack
        ) -> tuple[ResponseStream, AsyncExitStack]:
            return stream, exchange.pop_all()

        stream, exchange = await self.receive(operation, keep_open)
        async with exchange:
            yield stream

    async def _attempts(
        self,
        operation: Operation[T],
        use: Callable[..., Awaitable[R]],
        prepare: Prepare | None = None,
    ) -> R:
        """Sends the request, and again after transient failures; gives what `use` makes of the response.

        `use` gets the response, what ends the exchange when it is closed, and whether an earlier attempt
        may have reached the service.
        """
        failed = 0
        while True:
            try:
                async with AsyncExitStack() as exchange:
                    stream = await self._begin(operation, prepare, exchange)
                    result = await use(stream, exchange, repeated=failed > 0)
            except RateLimitedError as error:
                if error.wait is not None:
                    await self._block(self._payer(operation), min(error.wait, _LONGEST_BLOCK))
                raise
            except SigningError as error:
                failed += 1
                await self._time.sleep(self._delay(operation, error, failed))
            else:
                self._budget.succeeded()
                return result

    async def _begin(
        self, operation: Operation[T], prepare: Prepare | None, exchange: AsyncExitStack
    ) -> ResponseStream:
        """Waits until the request may leave, sends it, and gives the response when its head has come."""
        payer, kind = self._payer(operation), operation.request.timeout
        arrived: Arrived | None = None
        # One call after the other: an organisation that is held up keeps one connection from the
        # others, not all. A block is waited out without any connection, because there may be as many
        # blocked organisations as there are connections.
        async with self._turns.setdefault((payer, kind), anyio.Lock()):
            while arrived is None:
                await self._wait_out_block(payer)
                arrived = await self._turn(payer, kind, exchange)
        exchange.callback(arrived)
        request = operation.request if prepare is None else await prepare(operation.request)
        stream = await exchange.enter_async_context(self._transport.exchange(request))
        arrived()
        if operation.form is not None and succeeded(stream.status):
            return WatchedStream(stream, operation.form)
        return stream

    async def _turn(
        self, payer: str, kind: TimeoutKind, exchange: AsyncExitStack
    ) -> Arrived | None:
        """Waits for a connection and then for the rate budget; None when a block cut the wait short.

        In this order: calls that hold a place in the budget while they wait for a connection would
        later leave in a burst.
        """
        connections = self._connections[kind]
        with anyio.CancelScope() as turn:
            self._waiting[payer].add(turn)
            try:
                await connections.acquire()
                try:
                    arrived = await self._rate_limiter.acquire(payer)
                except BaseException:
                    connections.release()
                    raise
                exchange.callback(connections.release)
                return arrived
            finally:
                self._waiting[payer].discard(turn)
        return None

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

    def _delay(self, operation: Operation[T], error: SigningError, failed: int) -> float:
        """Seconds before the next attempt; raises the error when there is none."""
        if failed > self._retries.max_retries or not retry.may_retry(error, operation.retryable):
            raise error
        delay = retry.delay(error, failed, self._time.random(), self._retries)
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
        theirs = service_time(stream.headers)
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


def _ends_with_connection(headers: Mapping[str, str]) -> bool:
    return "content-length" not in headers and "transfer-encoding" not in headers


class WatchedStream:
    """A `ResponseStream` whose body must be a document of its kind."""

    def __init__(self, stream: ResponseStream, form: Form) -> None:
        self._stream = stream
        self._form = form
        self._watcher = Watcher(form)
        self.status = stream.status
        self.headers = stream.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises:
            TransportError: It was cut off.
            UnexpectedResponseError: It is something else.
        """
        watcher, judged, well = self._watcher, False, False
        async for chunk in self._stream.chunks():
            watcher.feed(chunk)
            if not judged and watcher.beginning_is_complete():
                judged, well = True, watcher.begins_well()
            if judged and not well:
                del chunk  # An identity number may stand in it, and a traceback may show locals.
                break
            yield chunk
            del chunk
        else:
            well = watcher.begins_well()
            if _ends_with_connection(self.headers) and not watcher.ends_well():
                raise TransportError(
                    "The document was cut off: it does not end as one of its kind does.",
                    request_may_have_left=True,
                )
        if not well:
            raise UnexpectedResponseError(
                f"The service's answer is not {self._form.value}, though it should be: something on "
                "the way may have answered in its place."
            )
