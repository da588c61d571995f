"""One HTTP exchange as values: what is asked, what comes back. Performs no I/O.

Neither repr shows a URL, a header's value or a body: status URLs and redirect URLs carry tokens.
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
    """Which of the configuration's timeouts, and which connections, a request uses."""

    API = "api"
    DOWNLOAD = "download"


class Body(Protocol):
    """A request body of known length that can be produced, and produced again, in chunks."""

    @property
    def length(self) -> int:
        """Its exact number of bytes."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body from its beginning, in chunks small enough not to hold up an event loop."""
        ...


@dataclass(frozen=True, slots=True)
class Message:
    """A body that is at hand whole: a short XML message."""

    content: Secret[bytes]

    @property
    def length(self) -> int:
        """Its number of bytes."""
        return len(self.content.reveal())

    async def chunks(self) -> AsyncIterator[bytes]:
        """The message in one chunk."""
        yield self.content.reveal()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to the service.

    Attributes:
        method: The HTTP method.
        url: Absolute, on the service root's origin.
        headers: Without Host and Content-Length, which the transport adds.
        body: None where the request has none; a POST then has a Content-Length of zero.
        timeout: How long its answer may take.
    """

    method: Literal["GET", "POST", "DELETE"]
    url: Secret[str]
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Body | None = field(default=None, repr=False)
    timeout: TimeoutKind = TimeoutKind.API


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """A whole answer.

    Attributes:
        status: The HTTP status.
        headers: Names in lower case.
        body: As received; empty where it can't be read.
        received: When its head came, by the client's clock.
        unreadable: Why the body can't be read, in words; None where it can. The status counts all the
            same: a create was done or not, whatever the body is encoded in.
    """

    status: int
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    body: Secret[bytes]
    received: datetime
    unreadable: str | None = None

    def content(self) -> Secret[bytes]:
        """The body, for a decoder that needs it.

        Raises:
            UnexpectedResponseError: It can't be read.
        """
        if self.unreadable is not None:
            raise UnexpectedResponseError(self.unreadable)
        return self.body


class ResponseStream(Protocol):
    """An answer whose head has come and whose body is still on its way."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes; can be read once.

        Raises:
            TransportError: The body was cut off, or stopped coming.
            UnexpectedResponseError: It can't be read, such as one in a Content-Encoding.
        """
        ...


class Transport(Protocol):
    """Carries requests to the service: the one place with sockets in it.

    `ClientConfiguration(transport=...)` takes one in place of the package's own, which speaks mutual
    TLS. Give one to test without a network, or to send through something else.
    """

    def exchange(self, request: Request) -> AbstractAsyncContextManager[ResponseStream]:
        """Sends the request; inside the context the answer's body can be read.

        Raises:
            TransportError: No answer; its `request_may_have_left` says whether the service may
                have got the request.
        """
        ...

    async def aclose(self) -> None:
        """Closes every connection. Called once, when the client is closed."""
        ...


_NEXT_PERMITTED_POLL_TIME = "x-next-permitted-poll-time"


def next_permitted_poll_time(headers: Mapping[str, str]) -> datetime | None:
    """The header `X-Next-permitted-poll-time`: ISO 8601, at times with a `[Region]` behind it."""
    text = re.sub(r"\[.*\]\s*$", "", headers.get(_NEXT_PERMITTED_POLL_TIME, "")).strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def service_time(headers: Mapping[str, str]) -> datetime | None:
    """The header `Date`: the service's clock when it answered, cut off to whole seconds."""
    try:
        time = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def permitted_wait(headers: Mapping[str, str]) -> timedelta | None:
    """From the answer to the next permitted poll, measured on the service's clock alone.

    `Date` is cut off to whole seconds, so this is up to a second too long and never too short.
    """
    permitted, now = next_permitted_poll_time(headers), service_time(headers)
    if permitted is None or now is None:
        return None
    return max(permitted - now, timedelta(0))
