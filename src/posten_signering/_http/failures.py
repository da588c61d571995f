"""What a failed exchange means, in words and by type, and whether the request may have left. Performs no I/O.

That it certainly did not leave needs evidence; anything else is "maybe".
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
    OtherOrganization,
    UntrustedChain,
    describe,
    is_client_certificate_alert,
)
from posten_signering._http.trace import Trace
from posten_signering.errors import TlsError, TransportError, TransportTimeoutError

Explain = Callable[[tuple[bytes, ...]], str]
"""Says why a chain (in DER form, as the other side sent it) leads to no trust anchor."""


# Not every server says so before it hangs up; and in TLS 1.3 what it says can be lost when a large
# body is on its way.
_HINT = (
    " If every request fails so, the service may be refusing the client certificate: check_access "
    "may tell more."
)


FAILURES = (
    httpx.HTTPError,
    # Where httpcore does not map them, the exceptions of anyio and of the operating system come through.
    OSError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    anyio.EndOfStream,
)
"""What a failed exchange is raised with."""

_NO_CONNECTION = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What the words of a failure need to know.

    Attributes:
        service_root: Where the service is.
        proxied: Whether the way leads through a proxy.
        connect_seconds: How long a connection may take.
        silence_seconds: How long the service may be silent.
        explain: Says why a chain is not trusted.
    """

    service_root: str
    proxied: bool
    connect_seconds: float
    silence_seconds: float
    explain: Explain


def failure(cause: BaseException, trace: Trace, setting: Setting) -> TransportError:
    """The error to raise for an exchange that failed."""
    unsent = not trace.sending and (isinstance(cause, _NO_CONNECTION) or trace.asked_proxy)
    if isinstance(cause, httpx.TimeoutException):
        return _timeout(cause, trace, setting, unsent=unsent)
    for error in _links(cause, trace.handled):
        # The other subclasses are states of a connection, not failures: it wants to read, it is closed.
        if type(error) is ssl.SSLError or isinstance(error, ssl.SSLCertVerificationError):
            return _tls_failure(error, trace, setting, unsent=unsent)
    if isinstance(cause, httpx.ProxyError):
        return TransportError(
            f"The proxy did not open the way to the service: HTTP {str(cause)[:3]}. Check the proxy's "
            "URL, with user and password if it asks for them.",
            request_may_have_left=False,
        )
    return TransportError(
        _lost(cause, trace, setting, unsent=unsent), request_may_have_left=not unsent
    )


def _tls_failure(
    error: ssl.SSLError, trace: Trace, setting: Setting, *, unsent: bool
) -> TransportError:
    root = setting.service_root
    if isinstance(error, OtherOrganization):
        return TlsError(
            f"The certificate of the service at {root} belongs to "
            f"{'no organisation' if error.found is None else f'organisation {error.found}'}, not to "
            f"{error.expected}. Nothing was sent: check the service root, and the environment's "
            "server_organization_number.",
            request_may_have_left=False,
        )
    if isinstance(error, UntrustedChain):
        return TlsError(
            f"The certificate of the service at {root} is not trusted ({error.reason_in_words}). "
            f"{setting.explain(error.sent)}",
            request_may_have_left=False,
        )
    if unsent and setting.proxied and not trace.asked_proxy:
        if isinstance(error, ssl.SSLCertVerificationError):
            return TlsError(
                "The certificate of the proxy is not one of a public authority for its host name. Use "
                "the proxy's http URL if it has one: the way to the service is encrypted in either.",
                request_may_have_left=False,
            )
        return TransportError(
            "The proxy could not be talked to over TLS: is its URL an http one?",
            request_may_have_left=False,
        )
    # In TLS 1.3 the client may send before the server has looked at its certificate. A server that
    # then refuses it has not finished the handshake, and reads no request (RFC 8446, 4.4.2.4).
    refused = trace.tls == "TLSv1.3" and not trace.answered and is_client_certificate_alert(error)
    return TlsError(
        f"The service at {root} {describe(error)}", request_may_have_left=not (unsent or refused)
    )


def _timeout(
    cause: httpx.TimeoutException, trace: Trace, setting: Setting, *, unsent: bool
) -> TransportTimeoutError:
    root = setting.service_root
    if unsent and not isinstance(cause, httpx.ConnectTimeout):
        said = f"The proxy did not open the way to the service at {root} in time."
    elif unsent:
        said = f"No connection to the service at {root} within {setting.connect_seconds:g} seconds."
    elif trace.answered:
        said = (
            f"The answer of the service at {root} stopped for {setting.silence_seconds:g} seconds."
        )
    else:
        said = f"The service at {root} was silent for {setting.silence_seconds:g} seconds."
    return TransportTimeoutError(said, request_may_have_left=not unsent)


def _lost(cause: BaseException, trace: Trace, setting: Setting, *, unsent: bool) -> str:
    root = setting.service_root
    reason = reason_of(cause, trace.handled)
    if unsent and setting.proxied:
        return f"The service at {root} can't be reached through the proxy: {reason}."
    if unsent and trace.connected:
        return f"The TLS handshake with the service at {root} was broken off: {reason}.{_HINT}"
    if unsent:
        return f"The service at {root} can't be reached: {reason}."
    if trace.answered:
        return f"The answer of the service at {root} was cut off: {reason}."
    if isinstance(cause, httpx.RemoteProtocolError) and "disconnected" not in str(cause):
        return f"What came from {root} is not an answer in HTTP/1.1."
    hint = "" if trace.tls is None else _HINT
    return (
        f"The connection to the service at {root} was lost before an answer came: {reason}.{hint}"
    )


def reason_of(cause: BaseException, handled: BaseException | None) -> str:
    """The operating system's words: a library's may quote what was sent or received."""
    for error in _links(cause, handled):
        if isinstance(error, socket.gaierror):  # its numbers are not errno's
            return str(error.strerror)
        if isinstance(error, ssl.SSLCertVerificationError):  # where only the proxy's is looked at
            return "the proxy's certificate is not trusted"
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno:
            return os.strerror(error.errno)
    return "the other side closed the connection"


def _links(cause: BaseException, handled: BaseException | None) -> Iterator[BaseException]:
    """An exception and all that led to it, each once. Libraries cut `__cause__` with `from None`."""
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
