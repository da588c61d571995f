"""Connections: the listening sockets, the client's certificate, and the sending of responses."""

import asyncio
import logging
import os
import socket
import ssl
import struct
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, TypeVar, cast

from aiohttp import web
from aiohttp.http import HttpProcessingError
from cryptography import x509

from posten_signering.sandbox._intake.certificates import organization_number
from posten_signering.sandbox._values.refusal import SandboxError

_HOST = "127.0.0.1"
_LAST_PORT = 65535
_STOP_WITHIN = 5.0
_CHUNK = 64 * 1024
_ACCEPT_AGAIN_AFTER = 1.0

T = TypeVar("T")

logger = logging.getLogger("posten_signering.sandbox")


def _is_worth_logging(record: logging.LogRecord) -> bool:
    """False for aiohttp's record of a request that is not HTTP, which is the client's matter.

    The record has a traceback, and quotes what the client sent, which may be secret.
    """
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


_http_logger = logging.getLogger("posten_signering.sandbox.http")
_http_logger.addFilter(_is_worth_logging)


def listen(port: int, *, setting: str = "port") -> socket.socket:
    """A socket that listens on loopback. Port 0 means any free port.

    Args:
        port: The port.
        setting: The name of the setting that the port comes from, for errors.

    Raises:
        OSError: The port can't be used, for example because it is in use.
        SandboxError: The port is out of range.
    """
    names = f"`{setting}`, on the command line --{setting.replace('_', '-')}"
    if not 0 <= port <= _LAST_PORT:
        raise SandboxError(
            f"The port {port} ({names}) is out of range. Use 1 to {_LAST_PORT}, or 0 for any free port."
        )
    try:
        return socket.create_server((_HOST, port))
    except OSError as error:
        number = error.errno or 0
    raise OSError(
        number,
        f"Port {port} ({names}) can't be used: {os.strerror(number)}. Stop the program that uses it,"
        " or choose a different port; 0 means any free port",
    )


def address_of(listening: socket.socket) -> str:
    """The host and port of a socket, as in a URL: `host:port`."""
    host, port = listening.getsockname()
    return f"{host}:{port}"


async def serve(
    stack: AsyncExitStack,
    application: web.Application,
    listening: socket.socket,
    *,
    context: ssl.SSLContext | None = None,
    cancel_when_client_leaves: bool = False,
) -> None:
    """Serves an application until the stack is closed.

    Args:
        stack: Stops the server when it is closed.
        application: The application to serve.
        listening: The socket to listen on.
        context: The TLS context; None for plain HTTP.
        cancel_when_client_leaves: Whether to cancel a request's handler when the client disconnects.
    """
    runner = web.AppRunner(
        application,
        handle_signals=False,
        # aiohttp's access log would contain redirect tokens and status query tokens.
        access_log=None,
        logger=_http_logger,
        shutdown_timeout=_STOP_WITHIN,
        # aiohttp would decompress even the rest of a body that was refused as too large, and a small body can
        # become gigabytes. The event loop would be blocked meanwhile.
        auto_decompress=False,
        handler_cancellation=cancel_when_client_leaves,
    )
    stack.push_async_callback(_close, runner, encrypted=context is not None)
    await runner.setup()
    # `AppRunner.server` is None only before `setup`.
    accepting = asyncio.ensure_future(
        _accept(listening, cast("web.Server", runner.server), context)
    )
    stack.push_async_callback(_cancel, accepting)


async def _accept(
    listening: socket.socket,
    protocol: Callable[[], asyncio.Protocol],
    context: ssl.SSLContext | None,
) -> None:
    """Accepts connections until it is cancelled, which also ends the handshakes that have not finished.

    An `asyncio.Server` would leave those connections open when it is closed.
    """
    loop = asyncio.get_running_loop()
    listening.setblocking(False)
    async with asyncio.TaskGroup() as handshakes:
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                # The client left before its connection was accepted.
                continue
            except OSError as error:
                logger.warning("The sandbox can't accept a connection: %s", error.strerror)
                await asyncio.sleep(_ACCEPT_AGAIN_AFTER)
            else:
                handshakes.create_task(_connect(connection, protocol, context))


async def _connect(
    connection: socket.socket,
    protocol: Callable[[], asyncio.Protocol],
    context: ssl.SSLContext | None,
) -> None:
    loop = asyncio.get_running_loop()
    try:
        await loop.connect_accepted_socket(protocol, connection, ssl=context)
    except OSError:
        # A handshake that fails, or takes too long, is the client's matter.
        pass
    except Exception:
        # It must not stop the other connections.
        logger.exception("A connection failed because of a bug in the sandbox")


async def _close(runner: web.AppRunner, *, encrypted: bool) -> None:
    connections = runner.server.connections if runner.server is not None and encrypted else []
    transports = [connection.transport for connection in connections]
    await runner.cleanup()
    # Every response has been sent. A TLS connection would stay open until the client closes it too.
    for transport in transports:
        if transport is not None:
            transport.abort()


async def _cancel(task: asyncio.Future[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def certificate_organization(request: web.Request) -> str | None:
    """The organisation number in the client's certificate; None when it has none, or has disconnected."""
    tls = cast("ssl.SSLObject | None", request.get_extra_info("ssl_object"))
    # This server completes a TLS handshake only with a client certificate.
    return None if tls is None else _organization_in(tls.getpeercert(binary_form=True) or b"")


@lru_cache(maxsize=256)
def _organization_in(certificate: bytes) -> str | None:
    return organization_number(x509.load_der_x509_certificate(certificate))


def body_of(answer: web.Response) -> bytes:
    """The body of a response as bytes; empty when there is no body."""
    return cast("bytes", answer.body or b"")


class CutOffError(Exception):
    """Raised to reset the connection without a response."""


@dataclass(eq=False, slots=True)
class Caller:
    """The client that waits for a response.

    Attributes:
        left: Whether the connection is lost.
        discarded: Whether the sandbox was reset, or began to stop, during a delay of the request.
        delay: What the request waits for: a delay, its body, the check of its documents, or the end of
            an endless response. None: nothing.
        ends_when_left: Whether `delay` ends when the connection is lost.
    """

    left: bool = False
    discarded: bool = False
    delay: "asyncio.Future[Any] | None" = None
    ends_when_left: bool = True

    def leave(self) -> None:
        """Called when the connection is lost."""
        self.left = True
        if self.ends_when_left:
            self._end_delay()

    def discard(self) -> None:
        """Called when the sandbox is reset or stops."""
        self.discarded = True
        self._end_delay()

    def _end_delay(self) -> None:
        if self.delay is not None:
            self.delay.cancel()


class Delays:
    """Delays requests for a fault, and does their other work that may take long. Both can end early.

    They end early when the sandbox stops or is reset: a request from before a reset must not take effect
    after the reset, because it would disturb the next test. Most of them also end when the client
    disconnects.

    Args:
        sleep: Waits for a number of seconds.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._delayed = set[Caller]()
        self.closed = False
        """Whether the sandbox is stopping."""

    async def wait(self, caller: Caller, seconds: float) -> None:
        """Delays the request of this caller.

        Raises:
            CutOffError: The client has disconnected, or the sandbox was reset or is stopping.
        """
        await self.run(caller, partial(self._sleep, seconds))

    async def run(
        self, caller: Caller, work: Callable[[], Awaitable[T]], *, ends_when_left: bool = True
    ) -> T:
        """Does work that takes long, or never ends, for the request of this caller.

        Args:
            caller: The client.
            work: The work.
            ends_when_left: Whether the work ends when the client disconnects.

        Raises:
            CutOffError: The client has disconnected, or the sandbox was reset or is stopping.
        """
        if (caller.left and ends_when_left) or self.closed:
            raise CutOffError
        caller.ends_when_left = ends_when_left
        caller.delay = running = asyncio.ensure_future(work())
        self._delayed.add(caller)
        try:
            result = await running
        except asyncio.CancelledError:
            raise CutOffError from None
        finally:
            caller.delay = None
            self._delayed.discard(caller)
        if caller.discarded:  # just after the work had ended
            raise CutOffError
        return result

    def discard_all(self) -> None:
        """Ends every delay, and cuts off its request."""
        for caller in self._delayed:
            caller.discard()

    def close(self) -> None:
        """Cuts off every delayed request, and every request that would be delayed later."""
        self.closed = True
        self.discard_all()


def reset(request: web.Request) -> web.StreamResponse:
    """Resets the connection. aiohttp needs a response as the return value, but does not send it."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    # Both are None after the client has disconnected.
    if transport is not None and connection is not None:
        # With a linger time of 0, `abort` sends a reset (RST) instead of a normal close.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def send(request: web.Request, answer: web.Response, *, cut: bool) -> web.StreamResponse:
    """Sends a response. A large body is sent in chunks so that it does not block the event loop.

    Args:
        request: The request.
        answer: The complete response.
        cut: Whether to close the connection in the middle of the body.
    """
    body = body_of(answer)
    if not cut and len(body) <= _CHUNK:
        return answer
    response = _streamed(answer)
    response.content_length = len(body)
    sent = body[: len(body) // 2] if cut else body
    try:
        await response.prepare(request)
        for start in range(0, len(sent), _CHUNK):
            await response.write(sent[start : start + _CHUNK])
        if cut and request.transport is not None:
            request.transport.close()
        else:
            await response.write_eof()
    except ConnectionError:
        # The client has disconnected, so the rest of the body is not needed.
        pass
    return response


async def flood(
    request: web.Request, answer: web.Response, *, length: int | None
) -> web.StreamResponse:
    """Sends a response whose body is followed by spaces.

    Args:
        request: The request.
        answer: The complete response.
        length: The number of bytes to send, which the header says too. None: without end.
    """
    response = _streamed(answer)
    response.content_length = length
    left = (length or sys.maxsize) - len(body_of(answer))
    spaces = b" " * _CHUNK
    with suppress(ConnectionError):  # the client disconnects when it has had enough
        await response.prepare(request)
        await response.write(body_of(answer))
        while left > 0:
            await response.write(spaces[:left])
            left -= _CHUNK
            # A client that reads fast must not keep the event loop from other requests.
            await asyncio.sleep(0)
        await response.write_eof()
    return response


def _streamed(answer: web.Response) -> web.StreamResponse:
    """A response with the same status and headers, but without a body yet."""
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    if answer.keep_alive is False:
        response.force_close()
    return response
