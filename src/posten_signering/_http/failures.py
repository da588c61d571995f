"""Turns a failed exchange into an error, and decides whether the request may have left. Performs no I/O.

A request counts as not sent only when there is proof. In every other case it may have left.
"""

import os
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import cast

import anyio
import httpx

from posten_signering._http.tls import (
    CERTIFICATE_ADVICE,
    UntrustedChain,
    WrongOrganization,
    describe,
    is_client_certificate_alert,
)
from posten_signering._http.trace import Trace
from posten_signering.errors import TlsError, TransportError, TransportTimeoutError

Explain = Callable[[tuple[bytes, ...]], str]
"""Explains why a chain (the service's certificates in DER form) is not trusted."""


# Some servers close the connection without a TLS alert.
_HINT = " If every request fails like this, the service may be refusing the client certificate. "
# In TLS 1.3 an alert can also be lost while a large body is being sent. `check_access` sends no body.
_ADVICE_WITH_BODY = "Call check_access, which may give a clearer error."


FAILURES = (
    httpx.HTTPError,
    # httpcore does not convert every exception of anyio and of the operating system.
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
"""The exceptions that a failed exchange raises."""

_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureContext:
    """What the error messages need to know about the connection.

    Attributes:
        service_root: The service's root URL.
        proxied: Whether the connection goes through a proxy.
        connect_seconds: The timeout for the TCP connection, and again for the TLS handshake.
        silence_seconds: The timeout for the service to send or receive more.
        explain: Explains why a chain is not trusted.
        certificate_advice: What to do when the service refuses the client certificate.
        unused_proxy: The environment variable with a proxy that the client does not use; None if there is
            none.
    """

    service_root: str
    proxied: bool
    connect_seconds: float
    silence_seconds: float
    explain: Explain
    certificate_advice: str = CERTIFICATE_ADVICE
    unused_proxy: str | None = None


def transport_error(cause: BaseException, trace: Trace, context: FailureContext) -> TransportError:
    """The error to raise for an exchange that failed."""
    unsent = not trace.request_begun and (
        isinstance(cause, _NO_CONNECTION) or trace.tunnel_requested
    )
    if isinstance(cause, httpx.TimeoutException):
        return _timeout(cause, trace, context, unsent=unsent)
    for error in causes(cause, trace.handled):
        # The other subclasses of SSLError report a connection's state, such as closed or waiting to read.
        if type(error) is ssl.SSLError or isinstance(error, ssl.SSLCertVerificationError):
            return _tls_error(error, trace, context, unsent=unsent)
    if isinstance(cause, httpx.ProxyError):
        return TransportError(
            f"The proxy refused to open a tunnel to the service: HTTP {str(cause)[:3]}. Check the "
            "proxy's URL, including the user and password if the proxy requires them.",
            request_may_have_left=False,
        )
    return TransportError(
        _lost_connection(cause, trace, context, unsent=unsent), request_may_have_left=not unsent
    )


def _tls_error(
    error: ssl.SSLError, trace: Trace, context: FailureContext, *, unsent: bool
) -> TransportError:
    root = context.service_root
    if isinstance(error, WrongOrganization):
        owner = "no organisation" if error.found is None else f"organisation {error.found}"
        return TlsError(
            f"The certificate of the service at {root} belongs to {owner}, not to {error.expected}. "
            "Nothing was sent. Check the environment's service_root and server_organization_number.",
            request_may_have_left=False,
        )
    if isinstance(error, UntrustedChain):
        return TlsError(
            f"The certificate of the service at {root} is not trusted ({error.reason_in_words}). "
            f"{context.explain(error.sent)}",
            request_may_have_left=False,
        )
    if unsent and context.proxied and not trace.tunnel_requested:
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsError(
                "The proxy's certificate is not trusted: a public certificate authority must have "
                "issued it for the proxy's host name. If the proxy has an http URL, use that: the "
                "connection to the service is encrypted in both cases.",
                request_may_have_left=False,
            )
        return TransportError(
            "The TLS connection to the proxy failed. If the proxy does not use TLS, start its URL with "
            "http:// instead of https://.",
            request_may_have_left=False,
        )
    # In TLS 1.3 the client may send its request before the server has checked the client certificate.
    # A server that then refuses the certificate has not finished the handshake, so it reads no request
    # (RFC 8446, 4.4.2.4).
    certificate_refused = is_client_certificate_alert(error)
    refused = trace.tls == "TLSv1.3" and not trace.response_begun and certificate_refused
    return TlsError(
        f"The service at {root} {describe(error, context.certificate_advice)}",
        request_may_have_left=not (unsent or refused),
        certificate_refused=certificate_refused,
    )


def _timeout(
    cause: httpx.TimeoutException, trace: Trace, context: FailureContext, *, unsent: bool
) -> TransportTimeoutError:
    root = context.service_root
    silence = f"{context.silence_seconds:g} seconds"
    if unsent and not isinstance(cause, httpx.ConnectTimeout):
        message = f"The proxy did not open a tunnel to the service at {root} within {silence}."
    elif unsent:
        message = (
            f"No TCP connection to the service at {root}, or no TLS handshake, within "
            f"{context.connect_seconds:g} seconds.{_proxy_hint(context)}"
        )
    elif trace.response_begun:
        message = f"The response of the service at {root} stopped for {silence}."
    else:
        message = f"The service at {root} was silent for {silence}."
    return TransportTimeoutError(
        f"{message} If the service needs more time, raise ClientConfiguration.timeouts.",
        request_may_have_left=not unsent,
    )


def _lost_connection(
    cause: BaseException, trace: Trace, context: FailureContext, *, unsent: bool
) -> str:
    root = context.service_root
    reason = reason_of(cause, trace.handled)
    hint = _HINT + (_ADVICE_WITH_BODY if trace.sends_body else context.certificate_advice)
    if unsent and context.proxied:
        return f"The service at {root} can't be reached through the proxy: {reason}."
    if unsent and trace.connected:
        return f"The connection to the service at {root} was lost in the TLS handshake: {reason}.{hint}"
    if unsent:
        return f"The service at {root} can't be reached: {reason}.{_proxy_hint(context)}"
    if trace.response_begun:
        return f"The response of the service at {root} was cut off: {reason}."
    if isinstance(cause, httpx.RemoteProtocolError) and "disconnected" not in str(cause):
        return (
            f"The response from {root} is not HTTP/1.1. Check the environment's service_root, and the "
            "proxy if there is one."
        )
    lost = f"The connection to the service at {root} was lost before a response came: {reason}."
    return lost if trace.tls is None else lost + hint


def _proxy_hint(context: FailureContext) -> str:
    if context.unused_proxy is None:
        return ""
    return (
        f" The variable {context.unused_proxy} is set, but the client does not use it. If the service must be "
        "reached through that proxy, set ClientConfiguration.proxy or POSTEN_SIGNERING_PROXY."
    )


def reason_of(cause: BaseException, handled: BaseException | None) -> str:
    """The operating system's text for the failure. A library's text may quote what was sent or received."""
    for error in causes(cause, handled):
        if isinstance(error, socket.gaierror):  # its numbers are not those of errno
            return str(error.strerror)
        # The service's certificate is handled before, so this is the certificate of a proxy.
        if isinstance(error, ssl.SSLCertVerificationError):
            return "the proxy's certificate is not trusted"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
            return os.strerror(error.errno)
    return "the other side closed the connection"


def causes(cause: BaseException, handled: BaseException | None = None) -> Iterator[BaseException]:
    """The exception and every exception that led to it, each of them once.

    Contexts are followed too, because libraries remove `__cause__` with `from None`.
    """
    waiting: list[BaseException | None] = [cause]
    seen = {id(None), id(handled)}
    while waiting:
        error = waiting.pop(0)
        if error is None or id(error) in seen:
            continue
        seen.add(id(error))
        yield error
        waiting += [error.__cause__, error.__context__]
        if isinstance(error, BaseExceptionGroup):
            waiting += cast("BaseExceptionGroup[BaseException]", error).exceptions
