"""What a signed document looks like from outside: how it begins, and how it ends. Pure: performs no I/O.

A gateway may answer 200 with a page of its own, which must not be kept as what was signed. And an answer
with neither Content-Length nor chunks ends with its connection (RFC 9112, 6.3), so that a connection
that is cut looks like an end: such a document is held against how its format ends.
"""

import re
from collections.abc import AsyncGenerator, Mapping
from enum import Enum

from posten_signering._wire.exchange import ResponseStream
from posten_signering.errors import TransportError, UnexpectedResponseError

# "Near the end", as the readers of PDF files have it.
_TAIL = 1024
# Where a PDF has its header, and where an XML document names its root: after a declaration, and
# comments of some length.
_PDF_HEADER_WITHIN = 1024
_HEAD = 4096

_BLANK = b" \t\r\n\xef\xbb\xbf\xfe\xff"  # byte order marks too
_HTML = re.compile(rb"(?i:<!doctype\s+html|<html)[\s>]")


class Form(Enum):
    """What kind of document it is."""

    PADES = "a PDF"
    """Has `%PDF-` in its first 1024 bytes, and `%%EOF` in its last 1024 (ISO 32000-1, 7.5.5)."""

    XADES = "an XML document"
    """Begins with a root's tag, and ends with its end tag, behind which only comments and white space
    may come."""


class Watcher:
    """Watches the chunks of a document go by, keeping only its beginning and its end."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Takes note of what comes next."""
        self._head += chunk[: _HEAD - len(self._head)]
        self._tail = (self._tail + chunk[-_TAIL:])[-_TAIL:]

    def has_begun(self) -> bool:
        """Whether so much has come that nothing changes what `begins_well` says."""
        return len(self._head) == _HEAD

    def begins_well(self) -> bool:
        """Whether it begins as one of its kind does."""
        if self._form is Form.PADES:
            return b"%PDF-" in self._head[:_PDF_HEADER_WITHIN]
        head = self._legible_head()
        # A comment before the root may be a long one.
        return (
            head.lstrip(_BLANK).startswith(b"<")
            and _HTML.search(_without_comments(head)) is None
            and (self._root() is not None or self.has_begun())
        )

    def ends_well(self) -> bool:
        """Whether it ends as one of its kind does."""
        if self._form is Form.PADES:
            return b"%%EOF" in self._tail
        root = self._root()
        if root is None:
            return False
        tail = _without_comments(self._tail.replace(b"\0", b"")).rstrip()
        if re.search(rb"</" + re.escape(root[1]) + rb"\s*>$", tail):
            return True
        return root[2].endswith(b"/") and tail.endswith(b"/>")

    def _root(self) -> re.Match[bytes] | None:
        return re.search(rb"<([^\s/>!?][^\s/>]*)([^>]*)", _without_comments(self._legible_head()))

    def _legible_head(self) -> bytes:
        # UTF-16 becomes legible without its zero bytes; names are compared as they stand.
        return self._head.replace(b"\0", b"")


def _without_comments(text: bytes) -> bytes:
    """XML without comments, processing instructions and the declaration."""
    return re.sub(rb"<!--.*?-->|<\?.*?\?>", b"", text, flags=re.DOTALL)


def _ends_with_connection(headers: Mapping[str, str]) -> bool:
    return "content-length" not in headers and "transfer-encoding" not in headers


class WatchedStream:
    """A `ResponseStream` whose body must be a document of its kind."""

    def __init__(self, stream: ResponseStream, form: Form) -> None:
        self._stream = stream
        self._form = form
        self._watcher = Watcher(form)
        self.status = stream.status
        self.headers = stream.headers

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """The body as it comes.

        Raises:
            TransportError: It was cut off.
            UnexpectedResponseError: It is something else.
        """
        watcher = self._watcher
        async for chunk in self._stream.chunks():
            watcher.feed(chunk)
            if watcher.has_begun() and not watcher.begins_well():
                del chunk
                break
            yield chunk
            del chunk
        else:
            if _ends_with_connection(self.headers) and not watcher.ends_well():
                raise TransportError(
                    "The document was cut off: it does not end as one of its kind does.",
                    request_may_have_left=True,
                )
        if not watcher.begins_well():
            raise UnexpectedResponseError(
                f"The service's answer is not {self._form.value}, though it should be: something on "
                "the way may have answered in its place."
            )
