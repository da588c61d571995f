"""How far an exchange came: what went out, over which connection. Performs no I/O of its own."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import anyio

from posten_signering._wire.exchange import Body


class NetworkStream(Protocol):
    """What httpcore shows of a connection."""

    def get_extra_info(self, info: str) -> object:
        """What it knows of its socket or its TLS."""
        ...

    async def aclose(self) -> None:
        """Closes the socket."""
        ...


class Holder(Protocol):
    """Who keeps the socket, to close it."""

    socket: NetworkStream | None


@dataclass(slots=True, repr=False)
class Trace:
    """How far one exchange came, as httpcore's trace extension reports it.

    If httpcore renames an event, a request counts as sent although it was not.

    Attributes:
        holder: Keeps the socket, to close it.
        connected: A TCP connection was made for this exchange, to the service or the proxy.
        tls: The TLS version of the handshake made for this exchange; None when there was none yet,
            or when the connection was kept from an earlier exchange.
        asked_proxy: The proxy was asked to open a tunnel for this exchange.
        sending: The request itself was begun: a byte of it may have left.
        answered: The head of the answer came.
        handled: What the caller was handling when the exchange went on: Python makes it the context
            of every exception below, and it has nothing to do with the exchange.
    """

    holder: Holder
    connected: bool = False
    tls: str | None = None
    asked_proxy: bool = False
    sending: bool = False
    answered: bool = False
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
                self.asked_proxy = True
            else:
                self.sending = True


class Sending:
    """A request's body on its way. Remembers what it failed with, to tell it from the network."""

    def __init__(self, body: Body) -> None:
        self._chunks = body.chunks()
        self.failure: Exception | None = None

    def __aiter__(self) -> "Sending":
        return self

    async def __anext__(self) -> bytes:
        try:
            return await anext(self._chunks)
        except StopAsyncIteration:
            raise
        except Exception as error:
            self.failure = error
            raise

    async def aclose(self) -> None:
        """Lets go of what the body holds, such as an open file."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            with anyio.CancelScope(shield=True):
                await close()
