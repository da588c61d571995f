"""Carries requests to the service over httpx. Retries nothing, follows no redirect, reads no environment variable.

The exceptions of httpx stop here: they and their tracebacks hold URLs, so they are never chained.
"""

import re
import ssl
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import cast

import anyio
import httpx

from posten_signering._http.failures import FAILURES, Explain, Setting, failure
from posten_signering._http.log import event_names_only
from posten_signering._http.pool import Pool
from posten_signering._http.tls import proxy_context
from posten_signering._http.trace import NetworkStream, Sending, Trace
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import Request, TimeoutKind
from posten_signering._wire.urls import check_origin, is_proxy
from posten_signering.errors import (
    ConfigurationError,
    TransportError,
    UnexpectedResponseError,
    UntrustedUrlError,
)

# Servers close idle connections too; one that both ends may close at any moment is not worth keeping.
_KEPT_SECONDS = 5


class HttpTransport:
    """The package's own `Transport`: HTTP/1.1 over the TLS context given, straight or by a proxy.

    Each exchange has a connection to itself; how many exchanges there are at once is for the session
    to limit.

    Args:
        service_root: The service's root; URLs of another origin are refused.
        ssl_context: As `client_context` makes it.
        connect_seconds: How long a TCP connection, and then the TLS handshake, may take.
        api_seconds: How long the service may be silent in an API call.
        download_seconds: How long it may be silent in a download.
        user_agent: The header's value.
        explain: Says why a chain (DER) is not trusted.
        proxy: An http or https URL, with user and password if need be.

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
        proxy: Secret[str] | None = None,
    ) -> None:
        if re.fullmatch("[ -~]+", user_agent) is None:
            raise ConfigurationError("The user agent must be printable ASCII text.")
        self._service_root = service_root
        self._ssl_context = ssl_context
        self._proxy = httpx_proxy(proxy)
        self._user_agent = user_agent
        self._settings = {
            kind: Setting(
                service_root=service_root,
                proxied=proxy is not None,
                connect_seconds=connect_seconds,
                silence_seconds=seconds,
                explain=explain,
            )
            for kind, seconds in (
                (TimeoutKind.API, api_seconds),
                (TimeoutKind.DOWNLOAD, download_seconds),
            )
        }
        self._pool = Pool(self._connect)

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator["Answer", None]:
        """Sends the request; inside the context the answer's body can be read.

        A connection is used again only when the answer was read to its end.

        Raises:
            UntrustedUrlError: The URL is not the service's; nothing was sent.
            TransportError: No answer. Errors of the request's own body come through unchanged.
            ClientStateError: The transport is closed.
        """
        check_origin(request.url, self._service_root)
        async with self._pool.lend() as loan:
            answer = await self._send(request, loan.connection)
            try:
                await answer.take_in_if_empty()
                yield answer
            finally:
                loan.reusable = await answer.aclose()

    async def aclose(self) -> None:
        """Closes every connection, those in use too."""
        await self._pool.aclose()

    def _connect(self) -> "_Connection":
        return _Connection(
            httpx.AsyncHTTPTransport(
                verify=self._ssl_context,
                trust_env=False,
                proxy=self._proxy,
                limits=httpx.Limits(max_connections=1, keepalive_expiry=_KEPT_SECONDS),
            )
        )

    async def _send(self, request: Request, connection: "_Connection") -> "Answer":
        setting = self._settings[request.timeout]
        trace = Trace(connection, handled=sys.exception())
        body = None if request.body is None else Sending(request.body)
        try:
            with event_names_only():
                response = await connection.http.handle_async_request(
                    self._for_httpx(request, body, setting, trace)
                )
            return Answer(response, trace, setting)
        except FAILURES as error:
            if body is not None and body.failure is error:
                raise
            told = failure(error, trace, setting)
        finally:
            if body is not None:
                await body.aclose()
        raise told

    def _for_httpx(
        self, request: Request, body: Sending | None, setting: Setting, trace: Trace
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
                        setting.silence_seconds, connect=setting.connect_seconds, pool=None
                    ).as_dict(),
                },
            )
        except httpx.InvalidURL:
            pass
        raise UntrustedUrlError("The URL can't be understood, and was not followed.")


class Answer:
    """A response whose head has come; see `ResponseStream`. It is the iterator of its own body."""

    def __init__(self, response: httpx.Response, trace: Trace, setting: Setting) -> None:
        trace.answered = True
        self.status = response.status_code
        self.headers: Mapping[str, str] = {
            name.lower(): value for name, value in response.headers.items()
        }
        self._stream = cast("httpx.AsyncByteStream", response.stream)
        self._raw = aiter(self._stream)
        self._trace = trace
        self._setting = setting
        self._complete = False
        self._interrupted = False

    def chunks(self) -> "Answer":
        """The body as it comes; can be read once.

        Raises:
            UnexpectedResponseError: It has a Content-Encoding, though the request asked for none.
        """
        if self.headers.get("content-encoding", "identity").lower() not in {"identity", ""}:
            raise UnexpectedResponseError(
                "The service's answer is in a content encoding that the client did not ask for: a proxy "
                "or gateway on the way may have added it."
            )
        return self

    def __aiter__(self) -> "Answer":
        return self

    async def __anext__(self) -> bytes:
        """The next chunk.

        Raises:
            TransportError: The body was cut off, or stopped coming.
        """
        if self._complete:
            raise StopAsyncIteration
        if self._interrupted:
            raise TransportError("The answer was broken off.", request_may_have_left=True)
        self._trace.handled = sys.exception()
        try:
            with event_names_only():
                return await anext(self._raw)
        except StopAsyncIteration:
            self._complete = True
            raise
        except FAILURES as error:
            self._interrupted = True
            told = failure(error, self._trace, self._setting)
        except BaseException:
            # A read that was cancelled can't be continued.
            self._interrupted = True
            raise
        raise told

    async def take_in_if_empty(self) -> None:
        """Reads the end of an answer that has no body, so that its connection can be used again."""
        if self.status == HTTPStatus.NO_CONTENT or self.headers.get("content-length") == "0":
            with suppress(StopAsyncIteration):
                await anext(self)

    async def aclose(self) -> bool:
        """Gives the connection back to httpx; True when the answer was read to its end."""
        with anyio.CancelScope(shield=True), event_names_only():
            await self._stream.aclose()
        return self._complete


class _Connection:
    """An httpx transport that holds one connection at most, and the socket below it.

    httpcore forgets a socket whose TLS handshake was cancelled, and nothing else would close it.
    """

    def __init__(self, http: httpx.AsyncHTTPTransport) -> None:
        self.http = http
        self.socket: NetworkStream | None = None

    async def aclose(self) -> None:
        try:
            with event_names_only():
                await self.http.aclose()
        finally:
            if self.socket is not None:
                await self.socket.aclose()


def httpx_proxy(proxy: Secret[str] | None) -> httpx.Proxy | None:
    """The proxy for httpx.

    Raises:
        ConfigurationError: It is not the http or https URL of a host. The URL is not shown.
    """
    if proxy is None:
        return None
    encrypted = proxy.reveal().lower().startswith("https:")
    try:
        if is_proxy(proxy):
            # httpx's own context for it would read the system's store, SSL_CERT_FILE and SSLKEYLOGFILE.
            return httpx.Proxy(proxy.reveal(), ssl_context=proxy_context() if encrypted else None)
    except (httpx.InvalidURL, ValueError):  # for what stands in user and password
        pass
    raise ConfigurationError(
        "The proxy must be an http or https URL of a host, such as "
        "http://user:password@proxy.example:8080."
    )
