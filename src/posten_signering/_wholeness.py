"""Whether a signed document came whole, where HTTP can't tell. Pure: performs no I/O.

An answer with a Content-Length or in chunks says where it ends. One with neither ends with its
connection (RFC 9112, 6.3), so that a connection that is cut looks like an end: such a document is held
against how its format ends.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from enum import Enum

from posten_signering._wire.exchange import ResponseStream
from posten_signering.errors import TransportError

# "Near the end", as the readers of PDF files have it.
_TAIL = 1024
# Where an XML document names its root: after a declaration, and comments of some length.
_HEAD = 4096


class Ending(Enum):
    """How a document ends."""

    PADES = "%%EOF"
    """As a PDF: with the marker `%%EOF` in its last 1024 bytes (ISO 32000-1, 7.5.5)."""

    XADES = "root"
    """As XML: with its root's end tag, after which only comments and white space may come."""


class Watcher:
    """Watches the chunks of a document go by, keeping only its beginning and its end."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Takes note of what comes next."""
        self._head += chunk[: _HEAD - len(self._head)]
        self._tail = (self._tail + chunk[-_TAIL:])[-_TAIL:]

    def whole(self) -> bool:
        """Whether the document ends as one of its kind does."""
        if self._ending is Ending.PADES:
            return b"%%EOF" in self._tail
        # UTF-16 becomes legible without its zero bytes; names are compared as they stand.
        tail = _without_comments(self._tail.replace(b"\0", b"")).rstrip()
        head = _without_comments(self._head.replace(b"\0", b""))
        root = re.search(rb"<([^\s/>!?][^\s/>]*)([^>]*)", head)
        if root is None:
            return False
        name = root[1]
        if re.search(rb"</" + re.escape(name) + rb"\s*>$", tail):
            return True
        return root[2].endswith(b"/") and tail.endswith(b"/>")


def _without_comments(text: bytes) -> bytes:
    """XML without comments, processing instructions and the declaration."""
    return re.sub(rb"<!--.*?-->|<\?.*?\?>", b"", text, flags=re.DOTALL)


def ends_with_connection(headers: Mapping[str, str]) -> bool:
    """Whether the body ends where its connection does."""
    return "content-length" not in headers and "transfer-encoding" not in headers


class WatchedStream:
    """A `ResponseStream` whose body must end as a document of its kind does."""

    def __init__(self, stream: ResponseStream, ending: Ending) -> None:
        self._stream = stream
        self._watcher = Watcher(ending)
        self.status = stream.status
        self.headers = stream.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises:
            TransportError: It was cut off.
        """
        async for chunk in self._stream.chunks():
            self._watcher.feed(chunk)
            yield chunk
            del chunk
        if not self._watcher.whole():
            raise TransportError(
                "The document was cut off: it does not end as one of its kind does.",
                request_may_have_left=True,
            )
