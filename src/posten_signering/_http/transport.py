"""Sends requests to the service with httpx. Retries nothing, follows no redirect, uses no environment variable.

The exceptions of httpx are never chained to ours, because they and their tracebacks hold URLs.
"""

import os
import re
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from http import HTTPStatus
from typing import cast
from urllib.parse import urlsplit
from urllib.request import proxy_bypass

import anyio
import anyio.lowlevel
import httpx

from posten_signering._http.failures import FAILURES, Explain, FailureContext, transport_error
from posten_signering._http.hidden import Hidden
from posten_signering._http.pool import Pool
from posten_signering._http.tls import CERTIFICATE_ADVICE, proxy_context
from posten_signering._http.trace import BodyChunks, NetworkStream, Trace
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Request, TimeoutKind
from posten_signering._wire.urls import check_origin, is_proxy
from posten_signering.errors import (
    ConfigurationError,
    TransportError,
    UnexpectedResponseError,
    UntrustedUrlError,
)

# Short, because a server closes idle connections too, and a request on a closed connection fails.
_KEEP_ALIVE_SECONDS = 5
# httpcore waits at least once for each 64 KiB that it reads from the socket. One read may contain
# thousands of tiny chunks, which then come without a wait. A needless turn of the event loop between
# large chunks costs 0.15 ms.
_TINY_CHUNKS_PER_TURN = 32
_TINY = 64 * 1024 // _TINY_CHUNKS_PER_TURN


class HttpTransport:
    """The package's own `Transport`: HTTP/1.1 over TLS, with or without a proxy.

    A connection carries one exchange at a time. The session limits the number of exchanges in flight.

    Args:
        service_root: The service's root URL. URLs with a different origin are refused.
        ssl_context: The TLS context from `client_context`.
        connect_seconds: The timeout for the TCP connection, and again for the TLS handshake.
        api_seconds: The longest time that the service may be silent in an API call.
        download_seconds: The longest time that the service may be silent in a download.
        user_agent: The value of the User-Agent header.
        explain: Explains why a chain (in DER form) is not trusted.
        certificate_advice: What to do when the service refuses the client certificate, for errors.
        proxy: The proxy's http or https URL, with user and password if the proxy requires them.

    Raises:
        ConfigurationError: The proxy's URL or the user agent can't be used.
    """

    def __init__(
        self,
        *,
        service_root: str,
        ssl_context: ssl.SSLContext,
        connect_seconds: float,
        api_seconds: float,
        download_seconds: float,
        user_agent: str,
        explain: Explain,
        certificate_advice: str = CERTIFICATE_ADVICE,
        proxy: Secret[str] | None = None,
    ) -> None:
        if re.fullmatch("[ -~]+", user_agent) is None:
            raise ConfigurationError(
                "The user agent must be printable ASCII text. Check user_agent_suffix."
            )
        self._service_root = service_root
        self._user_agent = user_agent
        self._contexts = {
            kind: FailureContext(
                service_root=service_root,
                proxied=proxy is not None,
                connect_seconds=connect_seconds,
                silence_seconds=seconds,
                explain=explain,
                certificate_advice=certificate_advice,
                unused_proxy=None if proxy is not None else unused_proxy(service_root),
            )
            for kind, seconds in (
                (TimeoutKind.API, api_seconds),
                (TimeoutKind.DOWNLOAD, download_seconds),
            )
        }
        # Not a method of this object: without a reference cycle, its private key is freed with the last
        # call that uses it.
        connect = partial(_connect, ssl_context, httpx_proxy(proxy))
        self._pool = Pool(connect)
        # httpx imports httpcore with its first transport. That blocks, so it is done here, in a worker thread,
        # and not with the first request, in the event loop. This transport is never used.
        connect()

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator["HttpResponse", None]:
        """Sends the request. Inside the context, the response's body can be read.

        The connection is reused only when the response was read to its end. An exception that the
        request's own body raises is not changed.

        Raises:
            UntrustedUrlError: The URL is not a URL of the service; nothing was sent.
            TransportError: No response came.
            ClientStateError: The transport is closed.
        """
        check_origin(request.url, self._service_root)
        connection, reusable = self._pool.take(), False
        try:
            response = await self._send(request, connection)
            try:
                await response.finish_if_empty()
                yield response
            finally:
                reusable = await response.aclose()
        finally:
            await self._pool.give_back(connection, reusable=reusable)

    async def retire(self) -> None:
        """Closes the idle connections now, and every other one when its exchange ends.

        Calls that began with this transport may still use it.
        """
        await self._pool.retire()

    async def aclose(self) -> None:
        """Closes every connection, including those in use."""
        await self._pool.aclose()

    async def _send(self, request: Request, connection: "_Connection") -> "HttpResponse":
        context = self._contexts[request.timeout]
        trace = Trace(connection, sends_body=request.body is not None, handled=sys.exception())
        body = None if request.body is None else BodyChunks(request.body)
        try:
            with Hidden():
                response = await connection.http.handle_async_request(
                    self._for_httpx(request, body, context, trace)
                )
            return HttpResponse(response, trace, context)
        except FAILURES as error:
            if body is not None and body.failure is error:
                raise
            failure = transport_error(error, trace, context)
        finally:
            if body is not None:
                await body.aclose()
        raise failure

    def _for_httpx(
        self, request: Request, body: BodyChunks | None, context: FailureContext, trace: Trace
    ) -> httpx.Request:
        length = {} if request.body is None else {"content-length": str(request.body.length)}
        try:
            return httpx.Request(
                request.method,
                request.url.reveal(),
                headers={
                    "user-agent": self._user_agent,
                    "accept-encoding": "identity",
                    **request.headers,
                    **length,
                },
                content=body,
                extensions={
                    "trace": trace,
                    "timeout": httpx.Timeout(
                        context.silence_seconds, connect=context.connect_seconds, pool=None
                    ).as_dict(),
                },
            )
        except httpx.InvalidURL:
            pass
        raise UntrustedUrlError("The URL is not valid, and was not followed. Check the stored URL.")


class HttpResponse:
    """A response whose status and headers have arrived; see `ResponseStream`. Iterates over its body."""

    def __init__(self, response: httpx.Response, trace: Trace, context: FailureContext) -> None:
        trace.response_begun = True
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._raw = aiter(self._stream)
        self._trace = trace
        self._context = context
        self._complete = False
        self._interrupted = False
        self._tiny_chunks = 0

    def chunks(self) -> "HttpResponse":
        """The chunks of the body as they arrive. The body can be read once.

        Raises:
            UnexpectedResponseError: The body has a Content-Encoding, which the request did not allow.
        """
        if self.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            raise UnexpectedResponseError(
                "The response has a Content-Encoding, which the client did not ask for. A proxy or "
                "gateway may have added it."
            )
        return self

    def __aiter__(self) -> "HttpResponse":
        return self

    async def __anext__(self) -> bytes:
        """The next chunk.

        Raises:
            TransportError: The body was cut off, or no more of it came within the timeout.
        """
        if self._complete:
            raise StopAsyncIteration
        if self._interrupted:
            raise TransportError(
                "The response was interrupted before its end, so the rest can't be read.",
                request_may_have_left=True,
            )
        self._trace.handled = sys.exception()
        try:
            if self._tiny_chunks == _TINY_CHUNKS_PER_TURN:
                self._tiny_chunks = 0
                await anyio.lowlevel.checkpoint()
            with Hidden():
                chunk = await anext(self._raw)
        except StopAsyncIteration:
            self._complete = True
            raise
        except FAILURES as error:
            self._interrupted = True
            failure = transport_error(error, self._trace, self._context)
        except BaseException:
            # A read that was cancelled can't be continued.
            self._interrupted = True
            raise
        else:
            self._tiny_chunks += len(chunk) < _TINY
            return chunk
        raise failure

    async def finish_if_empty(self) -> None:
        """Reads a response without a body to its end, so that its connection can be reused."""
        if self.status == HTTPStatus.NO_CONTENT or self.headers.get("content-length") == "0":
            with suppress(StopAsyncIteration):
                await anext(self)

    async def aclose(self) -> bool:
        """Gives the connection back to httpx. Returns True when the response was read to its end."""
        with anyio.CancelScope(shield=True), Hidden():
            await self._stream.aclose()
        return self._complete


class _Connection:
    """An httpx transport with at most one connection, and the socket of that connection.

    httpcore does not close a socket whose TLS handshake was cancelled, so this class does.
    """

    def __init__(self, http: httpx.AsyncHTTPTransport) -> None:
        self.http = http
        self.socket: NetworkStream | None = None

    async def aclose(self) -> None:
        try:
            with Hidden():
                await self.http.aclose()
        finally:
            if self.socket is not None:
                await self.socket.aclose()


def _connect(ssl_context: ssl.SSLContext, proxy: httpx.Proxy | None) -> _Connection:
    return _Connection(
        httpx.AsyncHTTPTransport(
            verify=ssl_context,
            trust_env=False,
            proxy=proxy,
            limits=httpx.Limits(max_connections=1, keepalive_expiry=_KEEP_ALIVE_SECONDS),
        )
    )


def unused_proxy(url: str) -> str | None:
    """The name of the environment variable whose proxy other programs use for a URL; None if there is none.

    This package never uses it, but a user may expect that. The value may contain a password.
    """
    parts = urlsplit(url)
    names = [f"{parts.scheme}_proxy", "all_proxy"]
    for name in (name for lower in names for name in (lower.upper(), lower)):
        if os.environ.get(name):
            # NO_PROXY may list the host.
            return None if proxy_bypass(parts.hostname or "") else name
    return None


def httpx_proxy(proxy: Secret[str] | None) -> httpx.Proxy | None:
    """The proxy in httpx's form.

    Raises:
        ConfigurationError: The proxy is not the http or https URL of a host. The error does not show
            the URL.
    """
    if proxy is None:
        return None
    encrypted = proxy.reveal().lower().startswith("https:")
    try:
        if is_proxy(proxy):
            # Without a context, httpx makes one with the system's store, SSL_CERT_FILE and SSLKEYLOGFILE.
            return httpx.Proxy(proxy.reveal(), ssl_context=proxy_context() if encrypted else None)
    except (httpx.InvalidURL, ValueError):  # httpx rejects some users and passwords
        pass
    raise ConfigurationError(
        "The proxy must be an http or https URL of a host, such as "
        "http://user:password@proxy.example:8080. Check ClientConfiguration.proxy or POSTEN_SIGNERING_PROXY."
    )
