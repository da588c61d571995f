"""The connections below the requests: where they are served, whose certificate is at the other end, how answers leave.

What a request asks for, and which fault happens to it, is decided elsewhere.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

from aiohttp import web
from cryptography import x509

from posten_signering.sandbox._intake.certificates import organization_number
from posten_signering.sandbox._values.refusal import SandboxError

_HOST = "127.0.0.1"
_LAST_PORT = 65535
_STOP_WITHIN = 5.0
_CHUNK = 64 * 1024


def listen(port: int) -> socket.socket:
    """A socket that listens on loopback; port 0 takes a free one.

    Raises:
        OSError: The port is taken.
        SandboxError: The port is no port.
    """
    if not 0 <= port <= _LAST_PORT:
        raise SandboxError(
            f"There is no port {port}: ports are 1 to {_LAST_PORT}, and 0 a free one."
        )
    return socket.create_server((_HOST, port))


def address_of(listening: socket.socket) -> str:
    """Host and port of a socket, as a URL has them."""
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
        stack: Ends it.
        application: What is served.
        listening: Where.
        context: For TLS.
        cancel_when_client_leaves: Whether the handler of a request is cancelled then.
    """
    runner = web.AppRunner(
        application,
        handle_signals=False,
        # aiohttp's own would show redirect tokens and status query tokens.
        access_log=None,
        shutdown_timeout=_STOP_WITHIN,
        handler_cancellation=cancel_when_client_leaves,
    )
    stack.push_async_callback(runner.cleanup)
    await runner.setup()
    await web.SockSite(runner, listening, ssl_context=context).start()


def certificate_organization(request: web.Request) -> str | None:
    """The organisation number in the client's certificate; None when it names none."""
    tls = request.get_extra_info("ssl_object")
    # Without a client certificate no handshake of this server succeeds.
    return _organization_in(cast("ssl.SSLObject", tls).getpeercert(binary_form=True) or b"")


@lru_cache(maxsize=256)
def _organization_in(certificate: bytes) -> str | None:
    return organization_number(x509.load_der_x509_certificate(certificate))


def body_of(answer: web.Response) -> bytes:
    """The body of an answer, which is bytes always; empty when there is none."""
    return cast("bytes", answer.body or b"")


class CutOffError(Exception):
    """The connection is to be reset, and the client gets no answer."""


@dataclass(eq=False, slots=True)
class Caller:
    """The client that waits for an answer.

    Attributes:
        left: Whether the connection is lost.
        forgotten: Whether the sandbox was reset, or began to stop, while a delay held the request back.
        sleeping: The delay that holds the request back at present.
    """

    left: bool = False
    forgotten: bool = False
    sleeping: "asyncio.Future[None] | None" = None

    def leave(self) -> None:
        """The connection is lost."""
        self.left = True
        self._wake()

    def forget(self) -> None:
        """The sandbox is reset, or stops."""
        self.forgotten = True
        self._wake()

    def _wake(self) -> None:
        if self.sleeping is not None:
            self.sleeping.cancel()


class Delays:
    """Holds requests back, for a fault, and cuts them off before their time.

    A client that has left waits for no answer, and none is given when the sandbox stops. A request from
    before a reset must not take effect after it: a test that gave up waiting would disturb the next one.

    Args:
        sleep: Waits for some seconds.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._held = set[Caller]()
        self.closed = False
        """Whether the sandbox stops."""

    async def hold(self, caller: Caller, seconds: float) -> None:
        """Waits.

        Raises:
            CutOffError: The client has left, or the sandbox was reset or stops.
        """
        if caller.left or self.closed:
            raise CutOffError
        caller.sleeping = asyncio.ensure_future(self._sleep(seconds))
        self._held.add(caller)
        try:
            await caller.sleeping
        except asyncio.CancelledError:
            raise CutOffError from None
        finally:
            caller.sleeping = None
            self._held.discard(caller)

    def let_go(self) -> None:
        """Cuts off every request that is held back."""
        for caller in self._held:
            caller.forget()

    def close(self) -> None:
        """Cuts them off, and holds back no other."""
        self.closed = True
        self.let_go()


def reset(request: web.Request) -> web.StreamResponse:
    """Resets the connection; what it returns is sent no more."""
    transport = request.transport
    connection = None if transport is None else transport.get_extra_info("socket")
    # Both are None once the client has left.
    if transport is not None and connection is not None:
        # Without lingering the other end meets a reset, and not an orderly end.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
    return web.Response()


async def send(request: web.Request, answer: web.Response, *, cut: bool) -> web.StreamResponse:
    """Sends a large answer in pieces, which does not hold up the event loop; a small one as it is.

    Args:
        request: What it answers.
        answer: The whole answer.
        cut: Whether the connection is closed in the middle of the body.
    """
    body = body_of(answer)
    if not cut and len(body) <= _CHUNK:
        return answer
    response = web.StreamResponse(status=answer.status, headers=answer.headers)
    response.content_length = len(body)
    if answer.keep_alive is False:
        response.force_close()
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
        # The client went away; nobody reads the rest.
        pass
    return response
