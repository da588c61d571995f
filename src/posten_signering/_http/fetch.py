"""Downloads a small public file over HTTP. The caller must check the content, for example its fingerprint."""

import ssl
import sys
from http import HTTPStatus
from typing import cast

import anyio
import anyio.lowlevel
import httpx

from posten_signering._http.failures import FAILURES, reason_of
from posten_signering._http.hidden import Hidden
from posten_signering._http.transport import httpx_proxy
from posten_signering._values.secret import Secret
from posten_signering.errors import TransportError, TransportTimeoutError


async def fetch_file(
    address: str, *, limit: int, seconds: float, proxy: Secret[str] | None
) -> bytes:
    """The content of a small public file, which the caller must check.

    The server is not trusted: the certificate of an https server is not checked. Redirects are not
    followed.

    Args:
        address: An http or https URL.
        limit: The largest number of bytes to accept.
        seconds: The time limit for the whole download.
        proxy: A proxy's URL.

    Raises:
        TransportError: The download failed, or the file is larger than the limit. If no connection
            was made, `request_may_have_left` is False.
    """
    handled = sys.exception()
    unchecked = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unchecked.check_hostname = False
    unchecked.verify_mode = ssl.CERT_NONE
    transport = httpx.AsyncHTTPTransport(
        verify=unchecked, trust_env=False, proxy=httpx_proxy(proxy)
    )
    try:
        with anyio.fail_after(seconds), Hidden():
            async with transport:
                return await _get(transport, address, limit)
    except TimeoutError:
        failure: TransportError = TransportTimeoutError(
            f"no complete response within {seconds:g} seconds", request_may_have_left=True
        )
    except FAILURES as error:
        unconnected = isinstance(error, httpx.ConnectError)
        place = "no connection through the proxy: " if unconnected and proxy is not None else ""
        failure = TransportError(
            f"{place}{reason_of(error, handled)}", request_may_have_left=not unconnected
        )
    except httpx.InvalidURL:
        failure = TransportError("the URL is not valid", request_may_have_left=False)
    raise failure


async def _get(transport: httpx.AsyncHTTPTransport, address: str, limit: int) -> bytes:
    response = await transport.handle_async_request(
        httpx.Request("GET", address, headers={"accept-encoding": "identity"})
    )
    if response.status_code != HTTPStatus.OK:
        raise TransportError(f"HTTP {response.status_code}", request_may_have_left=True)
    content = b""
    async for chunk in cast("httpx.AsyncByteStream", response.stream):
        content += chunk
        # Chunks that arrive together come without a wait.
        await anyio.lowlevel.checkpoint()
        if len(content) > limit:
            raise TransportError(f"more than {limit} bytes", request_may_have_left=True)
    return content
