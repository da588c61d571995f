"""One HTTP exchange as values: the request and the response. Performs no I/O.

No repr shows a URL, a header's value or a body, because status URLs and redirect URLs contain tokens.
"""

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import Literal, Protocol

from posten_signering._values.secret import Secret
from posten_signering.errors import UnexpectedResponseError


class TimeoutKind(Enum):
    """Which of the configuration's timeouts a request uses.

    API calls and downloads are also limited separately, each to `max_connections` in flight.
    """

    API = "api"
    DOWNLOAD = "download"


class Body(Protocol):
    """A request body of known length. It can be produced in chunks more than once."""

    @property
    def length(self) -> int:
        """The exact number of bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body from its beginning, in chunks small enough not to block the event loop."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A request body in memory: a short XML message."""

    content: Secret[bytes]

    @property
    def length(self) -> int:
        """The number of bytes."""
        return len(self.content.reveal())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The message in one chunk."""
        yield self.content.reveal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the service.

    Attributes:
        method: The HTTP method.
        url: An absolute URL with the same origin as the service root. It may have a token, so do not
            log the result of `url.reveal()`.
        headers: All headers except Host and Content-Length, which the transport adds.
        body: None if the request has no body. The Content-Length of a POST is then zero.
        timeout: Which timeout applies to the response.
    """

    method: Literal["GET", "POST", "DELETE"]
    url: Secret[str]
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Body | None = field(default=None, repr=False)
    timeout: TimeoutKind = TimeoutKind.API


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A complete response.

    Attributes:
        status: The HTTP status.
        headers: The headers, with their names in lower case.
        body: The body as received; empty if it can't be read.
        received: When the headers arrived, by the client's clock.
        unreadable: The reason why the body can't be read, in words; None if it can be read. The status
            is valid in both cases.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Secret[bytes]
    received: datetime
    unreadable: str | None = None

    def content(self) -> Secret[bytes]:
        """The body, for a decoder that needs it.

        Raises:
            UnexpectedResponseError: The body can't be read.
        """
        if self.unreadable is not None:
            raise UnexpectedResponseError(self.unreadable)
        return self.body


class ResponseStream(Protocol):
    """A response whose headers have arrived and whose body has not been read yet."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, with their names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body in chunks, as they arrive. It can be read once.

        Raises:
            TransportError: The body was cut off, or no more of it arrived within the timeout.
            UnexpectedResponseError: The body can't be read, for example because of its Content-Encoding.
                The status and headers still count.
        """
        ...


class Transport(Protocol):
    """Sends requests to the service.

    The package's own transport uses mutual TLS. `ClientConfiguration(transport=...)` replaces it, for
    example in tests without a network.
    """

    def exchange(self, request: Request) -> AbstractAsyncContextManager[ResponseStream]:
        """Sends the request. The body of the response can be read inside the context.

        Raises:
            TransportError: No response arrived. `request_may_have_left` says whether the service may
                have received the request.
        """
        ...

    async def aclose(self) -> None:
        """Closes every connection. The client calls this once, when it is closed."""
        ...


def announced_length(headers: Mapping[str, str]) -> int | None:
    """The header `Content-Length`; None if it is missing or is not a size in bytes."""
    length = headers.get("content-length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


_NEXT_PERMITTED_POLL_TIME = "x-next-permitted-poll-time"


def next_permitted_poll_time(headers: Mapping[str, str]) -> datetime | None:
    """The header `X-Next-permitted-poll-time` in UTC: ISO 8601, sometimes followed by `[Region]`.

    None if the header is missing or is not a time. A time without an offset is read as UTC. With a
    region and no offset it is not read, because rules of time zones are files, and this module reads none.
    """
    text, _, region = headers.get(_NEXT_PERMITTED_POLL_TIME, "").partition("[")
    try:
        # `fromisoformat` accepts only an upper-case Z.
        time = datetime.fromisoformat(text.strip().upper())
        if time.tzinfo is not None:
            return time.astimezone(UTC)
    except (ValueError, OverflowError):  # OverflowError: in UTC, it is before year 1 or after 9999
        return None
    return None if region else time.replace(tzinfo=UTC)


def service_time(headers: Mapping[str, str]) -> datetime | None:
    """The header `Date`: when the service responded, by its own clock, without fractions of a second."""
    return http_date(headers.get("date", ""))


def http_date(text: str) -> datetime | None:
    """The time in a header in HTTP's format for dates (RFC 9110, 5.6.7); None if it is not one."""
    try:
        time = parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def permitted_wait(response: Response) -> timedelta | None:
    """How long to wait after the response before the next poll; None without a next permitted poll time.

    The wait is measured by the service's clock, the header `Date`, which has no fractions of a second. So
    it is up to one second too long and never too short. Without a readable `Date` it is measured by the
    local clock, and is wrong by as much as that clock is.
    """
    permitted = next_permitted_poll_time(response.headers)
    if permitted is None:
        return None
    now = service_time(response.headers) or response.received
    return max(permitted - now, timedelta(0))
