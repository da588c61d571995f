"""Checks how a signed document begins and ends, so that an error page is not saved in its place. Pure.

A response with neither Content-Length nor chunked encoding ends when its connection closes (RFC 9112,
6.3). Only the end of the document then shows whether the response is complete.
"""

import re
from enum import Enum

# PDF readers look for `%%EOF` in the last 1024 bytes, and for the header in the first 1024.
_TAIL = 1024
_PDF_HEADER_WITHIN = 1024
# Long enough for the XML declaration and comments before the root's tag.
_HEAD = 4096

_BLANK = b" \t\r\n\xef\xbb\xbf\xfe\xff"  # white space and byte order marks


class Form(Enum):
    """The format of a signed document."""

    PADES = "a PDF"
    """Contains `%PDF-` in its first 1024 bytes, and `%%EOF` in its last 1024 (ISO 32000-1, 7.5.5)."""

    XADES = "an XML document"
    """Begins with the root's start tag and ends with its end tag. Only comments, processing
    instructions and white space may follow."""


class Watcher:
    """Checks a document while its chunks pass by. It keeps only the beginning and the end in memory."""

    def __init__(self, form: Form) -> None:
        self._form = form
        self._head = b""
        self._tail = b""

    def feed(self, chunk: bytes) -> None:
        """Takes the next chunk."""
        self._head += chunk[: _HEAD - len(self._head)]
        self._tail = (self._tail + chunk[-_TAIL:])[-_TAIL:]

    def beginning_is_complete(self) -> bool:
        """Whether the beginning has arrived, so that more bytes do not change what `begins_well` returns."""
        return len(self._head) == _HEAD

    def begins_well(self) -> bool:
        """Whether the document begins as its format requires."""
        if self._form is Form.PADES:
            return b"%PDF-" in self._head[:_PDF_HEADER_WITHIN]
        tag = _first_tag(self._head)
        if tag is None:
            # A comment before the root may be longer than the bytes that are kept.
            head = _without_zero_bytes(self._head).lstrip(_BLANK)
            return self.beginning_is_complete() and head.startswith(b"<")
        return tag[1].lower() not in _HTML

    def ends_well(self) -> bool:
        """Whether the document ends as its format requires."""
        if self._form is Form.PADES:
            return b"%%EOF" in self._tail
        tag = _first_tag(self._head)
        if tag is None:
            return False
        tail = _COMMENT.sub(b"", _without_zero_bytes(self._tail)).rstrip()
        if re.search(rb"</" + re.escape(tag[1]) + rb"\s*>$", tail):
            return True
        return tag[2].endswith(b"/") and tail.endswith(b"/>")


# The DOCTYPE gives the name of the root (XML 1.0, 2.8), also in HTML.
_HTML = frozenset({b"html"})
_BEFORE_ROOT = re.compile(
    rb"(?:[" + _BLANK + rb"]+|<\?(?:(?!\?>).)*\?>|<!--(?:(?!-->).)*-->)*", re.DOTALL
)
_DOCTYPE = re.compile(rb"<!(?i:doctype)\s+([^\s>\[]+)[^>\[]*(?:\[[^\]]*\]\s*)?>")
_TAG = re.compile(rb"<([^\s/>!?][^\s/>]*)([^>]*)")
_COMMENT = re.compile(rb"<!--(?:(?!-->).)*-->|<\?(?:(?!\?>).)*\?>", re.DOTALL)


def _first_tag(head: bytes) -> re.Match[bytes] | None:
    """The root's start tag, with its name as the first group.

    A page whose DOCTYPE is HTML counts as one with the root `html`.
    """
    text = _without_zero_bytes(head)
    position = _end(_BEFORE_ROOT, text, 0)
    doctype = _DOCTYPE.match(text, position)
    if doctype is not None:
        if doctype[1].lower() in _HTML:
            return _TAG.match(b"<html>")
        position = _end(_BEFORE_ROOT, text, doctype.end())
    return _TAG.match(text, position)


def _end(pattern: re.Pattern[bytes], text: bytes, position: int) -> int:
    match = pattern.match(text, position)
    return match.end() if match else position


def _without_zero_bytes(text: bytes) -> bytes:
    # UTF-16 can be searched like ASCII once its zero bytes are removed. Names need no decoding,
    # because they are only compared with each other.
    return text.replace(b"\0", b"")
