"""Records how far an exchange got, and which connection it used. Performs no I/O itself."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import anyio

from posten_signering._wire.exchange import Body


class NetworkStream(Protocol):
    """httpcore's network stream, as far as it is used here."""

    def get_extra_info(self, info: str) -> object:
        """Information about the socket or its TLS."""
        ...

    async def aclose(self) -> None:
        """Closes the socket."""
        ...


class SocketHolder(Protocol):
    """An object that keeps the socket, so that it can close it."""

    socket: NetworkStream | None


@dataclass(slots=True, repr=False)
class Trace:
    """How far one exchange got, as httpcore's trace extension reports it.

    If httpcore renames an event, a request may count as sent although it was not.

    Attributes:
        holder: Keeps the socket.
        sends_body: Whether the request has a body.
        connected: A TCP connection to the service or the proxy was made for this exchange.
        tls: The TLS version of the handshake made for this exchange. None when there was no handshake
            yet, or when the connection is from an earlier exchange.
        tunnel_requested: The proxy was asked to open a tunnel for this exchange.
        request_begun: Sending the request has begun, so a byte of it may have left.
        response_begun: The status and headers of the response have arrived.
        handled: The exception that the caller was handling during the exchange. Python makes it the
            context of every later exception, but it did not cause the failure.
    """

    holder: SocketHolder
    sends_body: bool = False
    connected: bool = False
    tls: str | None = None
    tunnel_requested: bool = False
    request_begun: bool = False
    response_begun: bool = False
    handled: BaseException | None = None

    async def __call__(self, event: str, info: Mapping[str, object]) -> None:
        """Called by httpcore with `<part>.<action>.<started, complete or failed>`."""
        if event == "connection.connect_tcp.complete":
            self.connected = True
            self.holder.socket = cast("NetworkStream", info["return_value"])
        elif event.endswith(".start_tls.complete"):
            stream = cast("NetworkStream", info["return_value"])
            self.tls = cast("ssl.SSLObject", stream.get_extra_info("ssl_object")).version()
        elif event == "http11.send_request_headers.started":
            if getattr(info["request"], "method", None) == b"CONNECT":
                self.tunnel_requested = True
            else:
                self.request_begun = True


class BodyChunks:
    """The chunks of a request's body. Keeps the body's own exception, to distinguish it from the network's."""

    def __init__(self, body: Body) -> None:
        self._chunks = body.chunks()
        self._ended = False
        self.failure: Exception | None = None

    def __aiter__(self) -> "BodyChunks":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            self._ended = True
            raise
        except Exception as error:
            self.failure = error
            raise

    async def aclose(self) -> None:
        """Releases the resources of a body that was not sent to its end, such as an open file."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None and not self._ended:
            with anyio.CancelScope(shield=True):
                await close()
