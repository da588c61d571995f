"""Sends any operation and decodes its response, with pacing, limits on connections, and retries."""

import asyncio
import io
import logging
from collections import defaultdict
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from copy import copy
from datetime import timedelta
from functools import partial
from typing import TypeVar

import anyio

from posten_signering._session import retry
from posten_signering._session.fleet import EndInFlight, FleetMember
from posten_signering._session.observers import Notify
from posten_signering._session.retry import Retries, RetryBudget
from posten_signering._session.timing import Time
from posten_signering._values.events import CallEnded, CallRetried, OrganizationBlocked
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import (
    Request,
    Response,
    ResponseStream,
    TimeoutKind,
    Transport,
    announced_length,
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
T = TypeVar("T")

logger = logging.getLogger("posten_signering")

# The service blocks for 30 seconds. If a response asks for much longer, calls are sent again after this
# time and fail with an error, instead of waiting silently.
_LONGEST_BLOCK = timedelta(seconds=60)

# "Dokumentpakke", the service's documentation: it refuses a signing time that differs by more.
_SIGNING_TIME_TOLERANCE = timedelta(seconds=5)

# The largest message that the schema allows has 31 KB: the response to a create with 10 signers.
_LARGEST_ANSWER = 128 * 1024


Prepare = Callable[[Request], Awaitable[Request]]
"""Called in each attempt, just before the request is sent, with the operation's request. Returns the request to send."""

Receive = Callable[[ResponseStream, AsyncExitStack], Awaitable[R]]
"""Called with a response whose headers have arrived, and with the exit stack that ends its exchange."""


class Session:
    """Sends operations over one transport, with a common rate budget and retry budget.

    Args:
        transport: Carries the requests. Each call uses that of the session with which it began.
        time: For waiting, and for comparing the local clock with the service's.
        fleet: Delays calls to stay within the service's rate limit.
        notify: Receives the events of calls.
        retries: How often a call is retried after a transient failure.
        service_root: The root URL of the service, for the events.
        organization_number: The organisation whose rate budget is used for URLs that name none.
        max_connections: The most API calls in flight, and the most downloads in flight.
        max_bytes_in_memory: The size of the largest document that `send` downloads.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        time: Time,
        fleet: FleetMember,
        notify: Notify,
        retries: Retries,
        service_root: str,
        organization_number: str,
        max_connections: int,
        max_bytes_in_memory: int,
    ) -> None:
        self.transport = transport
        self._time = time
        self._fleet = fleet
        self._notify = notify
        self._retries = retries
        self._budget = RetryBudget(retries.budget)
        self._service_root = service_root
        self._organization_number = organization_number
        # A semaphore of asyncio is first come, first served, and takes no turn of the event loop when a
        # connection is free. One of anyio takes a turn, or lets new calls overtake others.
        self._connections = {kind: asyncio.Semaphore(max_connections) for kind in TimeoutKind}
        self._max_bytes_in_memory = max_bytes_in_memory
        # A lock of anyio is locked while it passes from one call to the next. One of asyncio is not.
        self._queues = defaultdict[tuple[str, TimeoutKind], anyio.Lock](anyio.Lock)
        self._blocked_until = dict[str, float]()
        self._waiting = defaultdict[str, set[anyio.CancelScope]](set)
        self._clock_is_wrong = False

    def over(self, transport: Transport) -> "Session":
        """A session over a different transport. It shares everything else, such as budgets, limits and blocks.

        Calls of this session that have begun keep its transport.
        """
        session = copy(self)
        session.transport = transport
        return session

    async def send(self, operation: Operation[T], prepare: Prepare | None = None) -> T:
        """Sends the request, reads the whole response and decodes it.

        Raises:
            SigningError: No response came, or the operation's `decode` raised it for the response.
        """

        async def decode(stream: ResponseStream, exchange: AsyncExitStack, *, repeated: bool) -> T:
            response = await self._read_whole(stream, operation)
            await exchange.aclose()
            return (operation.decode_again if repeated else operation.decode)(response)

        return await self._send_with_retries(operation, decode, prepare)

    async def receive(self, operation: Operation[bytes], use: Receive[R]) -> R:
        """Sends the request and calls `use` with the response when it is a success.

        A retry calls `use` again, with the new response.

        Raises:
            SigningError: No response came, or the operation's `decode` raised it for the response.
        """

        async def use_success(stream: ResponseStream, exchange: AsyncExitStack, **_: bool) -> R:
            if not succeeded(stream.status):
                operation.decode(await self._read_whole(stream, operation))
            return await use(stream, exchange)

        return await self._send_with_retries(operation, use_success)

    @asynccontextmanager
    async def open(self, operation: Operation[bytes]) -> AsyncGenerator[ResponseStream]:
        """Sends the request and yields the response while its body arrives.

        After that there is no retry, because the caller may have used a part of the body.

        Raises:
            SigningError: No response came, or the operation's `decode` raised it for the response.
        """

        async def keep_open(
            stream: ResponseStream, exchange: AsyncExitStack
        ) -> tuple[ResponseStream, AsyncExitStack]:
            return stream, exchange.pop_all()

        stream, exchange = await self.receive(operation, keep_open)
        async with exchange:
            yield stream

    async def _send_with_retries(
        self,
        operation: Operation[T],
        use: Callable[..., Awaitable[R]],
        prepare: Prepare | None = None,
    ) -> R:
        """Sends the request, retries it after transient failures, and returns the result of `use`.

        `use` is called with the response, the exit stack that ends the exchange, and `repeated`: whether
        an earlier attempt may have reached the service.
        """
        failed, may_have_reached = 0, False
        while True:
            try:
                result = await self._attempt(
                    operation,
                    partial(use, repeated=may_have_reached),
                    prepare,
                    number=failed + 1,
                )
            except RateLimitedError as error:
                if error.wait is not None:
                    await self._block(
                        self._organization_of(operation), min(error.wait, _LONGEST_BLOCK)
                    )
                raise
            except SigningError as error:
                failed += 1
                may_have_reached = may_have_reached or retry.may_have_reached(error)
                delay = self._retry_delay(operation, error, failed)
                self._notify(
                    CallRetried(
                        operation=operation.name,
                        organization_number=self._organization_of(operation),
                        attempt=failed,
                        delay=timedelta(seconds=delay),
                        error_type=type(error).__name__,
                    ),
                    error=error,
                )
                await self._time.sleep(delay)
            else:
                self._budget.succeeded()
                return result

    async def _attempt(
        self,
        operation: Operation[T],
        use: Callable[..., Awaitable[R]],
        prepare: Prepare | None,
        *,
        number: int,
    ) -> R:
        """Waits until the request may be sent, sends it, and returns the result of `use`."""
        async with AsyncExitStack() as exchange:
            end_in_flight = await self._wait_to_send(operation, exchange)
            request = operation.request if prepare is None else await prepare(operation.request)
            sent_at = self._time.monotonic()
            status, error_type, clock_difference = None, None, None
            try:
                stream = await exchange.enter_async_context(self.transport.exchange(request))
                end_in_flight()
                status = stream.status
                clock_difference = self._clock_difference(stream)
                if operation.form is not None and succeeded(status):
                    stream = CheckedStream(stream, operation.form)
                return await use(stream, exchange)
            except BaseException as error:
                error_type = type(error).__name__
                raise
            finally:
                self._notify(
                    CallEnded(
                        operation=operation.name,
                        organization_number=self._organization_of(operation),
                        attempt=number,
                        duration=timedelta(seconds=self._time.monotonic() - sent_at),
                        status=status,
                        error_type=error_type,
                        method=request.method,
                        service_root=self._service_root,
                        path=operation.path,
                        clock_difference=clock_difference,
                    )
                )

    async def _wait_to_send(self, operation: Operation[T], exchange: AsyncExitStack) -> EndInFlight:
        """Waits for a connection and for the rate budget. The exit stack gives both back.

        The connection comes first: calls that hold a rate token while they wait for a connection would
        later leave in a burst.
        """
        organization, kind = self._organization_of(operation), operation.request.timeout
        connections, queue = self._connections[kind], self._queues[organization, kind]
        # Every call waits for a connection first, even if its organisation is blocked. So calls come to
        # the queue, and are sent, in the order in which they began.
        await connections.acquire()
        # Only one call of an organisation waits for the rate budget at a time. So an organisation that
        # waits for it occupies one connection, not all of them. While it is blocked it occupies none,
        # because there may be as many blocked organisations as connections.
        has_connection = not queue.locked()
        if has_connection:
            queue.acquire_nowait()
        else:
            connections.release()
            await queue.acquire()
        try:
            while True:
                if not has_connection:
                    await self._wait_out_block(organization)
                    await connections.acquire()
                end_in_flight = await self._acquire(organization, connections, exchange)
                if end_in_flight is not None:
                    return end_in_flight
                has_connection = False
        finally:
            queue.release()

    async def _acquire(
        self, organization: str, connections: asyncio.Semaphore, exchange: AsyncExitStack
    ) -> EndInFlight | None:
        """Waits for the rate budget. None when the organisation is blocked: the connection is given back."""
        end_in_flight: EndInFlight | None = None
        try:
            if self._seconds_blocked(organization) <= 0:
                with anyio.CancelScope() as scope:
                    self._waiting[organization].add(scope)
                    try:
                        end_in_flight = await self._fleet.acquire(organization)
                    finally:
                        self._waiting[organization].discard(scope)
        finally:
            if end_in_flight is None:
                connections.release()
            else:
                exchange.callback(connections.release)
                exchange.callback(end_in_flight)
        return end_in_flight

    async def _block(self, organization: str, wait: timedelta) -> None:
        self._notify(OrganizationBlocked(organization_number=organization, duration=wait))
        until = self._time.monotonic() + wait.total_seconds()
        self._blocked_until[organization] = max(until, self._blocked_until.get(organization, until))
        # Before the fleet, because a fleet in Redis may take a while, and the caller may be cancelled.
        for scope in self._waiting[organization]:
            scope.cancel()
        await self._fleet.block(organization, wait.total_seconds())

    async def _wait_out_block(self, organization: str) -> None:
        while (left := self._seconds_blocked(organization)) > 0:
            await self._time.sleep(left)

    def _seconds_blocked(self, organization: str) -> float:
        """Seconds until the end of the organisation's block; 0 or less when there is none."""
        return self._blocked_until.get(organization, 0.0) - self._time.monotonic()

    def _organization_of(self, operation: Operation[T]) -> str:
        return operation.organization_number or self._organization_number

    def _retry_delay(self, operation: Operation[T], error: SigningError, failed: int) -> float:
        """Seconds before the next attempt. Raises the error when the call may not be retried."""
        if failed > self._retries.max_retries or not retry.may_retry(error, operation.retryable):
            raise error
        delay = retry.delay(error, failed, self._time.random(), self._retries)
        if delay is None or not self._budget.take():
            raise error
        return delay

    async def _read_whole(self, stream: ResponseStream, operation: Operation[T]) -> Response:
        """Reads the body, up to the largest size.

        A refusal whose body can't be read is still that refusal: its status and headers count.

        Raises:
            TransportError: The body of a success was cut off. More than the body may be missing.
        """
        received = self._time.clock()
        success = succeeded(stream.status)
        content, unreadable = Secret(b""), None
        try:
            if success and operation.form is not None:
                content = await _content(stream, self._max_bytes_in_memory, _DOCUMENT_TOO_LARGE)
            else:
                content = await _content(stream, _LARGEST_ANSWER, _ANSWER_TOO_LARGE)
        except UnexpectedResponseError as error:
            unreadable = str(error)
        except Exception as error:
            if success:
                raise
            # The text of an error that is not ours may quote what was received.
            known = isinstance(error, SigningError)
            unreadable = str(error) if known else f"Reading it failed with {type(error).__name__}."
        return Response(
            status=stream.status,
            headers=stream.headers,
            body=content,
            received=received,
            unreadable=unreadable,
        )

    def _clock_difference(self, stream: ResponseStream) -> timedelta | None:
        """How far the local clock is ahead of the service's. Logs a WARNING when it becomes too far."""
        service_now = service_time(stream.headers)
        if service_now is None:
            return None
        ahead = self._time.clock() - service_now
        difference = abs(ahead)
        wrong = difference > _SIGNING_TIME_TOLERANCE + timedelta(seconds=1)
        if wrong and not self._clock_is_wrong:
            logger.warning(
                "This machine's clock is %.0f seconds off the service's. The service refuses a job "
                "whose signing time is more than %.0f seconds off. Set the clock.",
                ahead.total_seconds(),
                _SIGNING_TIME_TOLERANCE.total_seconds(),
            )
        # The `Date` header has whole seconds only. Without the margin of one second, a clock near the
        # limit would be reported again and again.
        right = difference < _SIGNING_TIME_TOLERANCE - timedelta(seconds=1)
        self._clock_is_wrong = wrong or (self._clock_is_wrong and not right)
        return ahead


_ANSWER_TOO_LARGE = (
    "The response is larger than {limit} bytes, so it was not read. A proxy or gateway may have "
    "responded in place of the service."
)
_DOCUMENT_TOO_LARGE = (
    "The document is larger than {limit} bytes, the limit for a document in memory. Use "
    "download_pades, download_xades, open_pades or open_xades, which have no limit, or raise "
    "ClientConfiguration.max_bytes_in_memory."
)


async def _content(stream: ResponseStream, limit: int, too_large: str) -> Secret[bytes]:
    """The body of a response.

    Raises:
        TransportError: The body was cut off.
        UnexpectedResponseError: The body is larger than the limit, or it can't be read.
    """
    length = announced_length(stream.headers) or 0
    if length > limit:
        raise UnexpectedResponseError(too_large.format(limit=limit))
    # A traceback may show local variables when the connection is lost here, but a `BytesIO` shows no
    # content. It returns its content without a copy, which a `bytearray` can't: 10 MiB take 1 ms, not 14.
    # With its final size from the beginning, the next download of that size can reuse the memory.
    content = io.BytesIO(bytes(length))
    async for chunk in stream.chunks():
        if content.tell() + len(chunk) > limit:
            del chunk
            raise UnexpectedResponseError(too_large.format(limit=limit))
        content.write(chunk)
        del chunk
    content.truncate()
    return Secret(content.getvalue())


def _ends_with_connection(headers: Mapping[str, str]) -> bool:
    return "content-length" not in headers and "transfer-encoding" not in headers


class CheckedStream:
    """A `ResponseStream` that checks that its body is a document of the expected form."""

    def __init__(self, stream: ResponseStream, form: Form) -> None:
        self._stream = stream
        self._form = form
        self._watcher = Watcher(form)
        self.status = stream.status
        self.headers = stream.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The chunks of the body as they arrive.

        Raises:
            TransportError: The body was cut off.
            UnexpectedResponseError: The body is not a document of the expected form.
        """
        watcher, checked, valid = self._watcher, False, False
        end_needed = _ends_with_connection(self.headers)
        async for chunk in self._stream.chunks():
            if end_needed or not checked:
                watcher.feed(chunk)
            if not checked and watcher.beginning_is_complete():
                checked, valid = True, watcher.begins_well()
            if checked and not valid:
                # The chunk may hold an identity number, and a traceback may show local variables.
                del chunk
                break
            yield chunk
            del chunk
        else:
            valid = watcher.begins_well()
            if end_needed and not watcher.ends_well():
                raise TransportError(
                    "The download was cut off: the document has no valid end. Download it again.",
                    request_may_have_left=True,
                )
        if not valid:
            raise UnexpectedResponseError(
                f"The response to the download is not {self._form.value}. A proxy or gateway may have "
                "responded in place of the service."
            )
