"""What a signed document looks like from outside: how it begins and how it ends. Pure.

A gateway's page with status 200 must not be kept as a signed document. And a response with neither
Content-Length nor chunks ends with its connection (RFC 9112, 6.3): a cut must not pass for an end.
"""

import re
from enum import Enum

# "Near the end", as the readers of PDF files have it.
_TAIL = 1024
# Where a PDF has its header, and where an XML document names its root: after a declaration, and
# comments of some length.
_PDF_HEADER_WITHIN = 1024
_HEAD = 4096

_BLANK = b" \t\r\n\xef\xbb\xbf\xfe\xff"  # byte order marks too


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
        tag = _first_tag(self._head)
        if tag is None:
            # A comment before the root may be a long one.
            return self.has_begun() and _legible(self._head).lstrip(_BLANK).startswith(b"<")
        return tag[1].lower() not in _HTML

    def ends_well(self) -> bool:
        """Whether it ends as one of its kind does."""
        if self._form is Form.PADES:
            return b"%%EOF" in self._tail
        tag = _first_tag(self._head)
        if tag is None:
            return False
        tail = _COMMENT.sub(b"", _legible(self._tail)).rstrip()
        if re.search(rb"</" + re.escape(tag[1]) + rb"\s*>$", tail):
            return True
        return tag[2].endswith(b"/") and tail.endswith(b"/>")


# A document's type declares what its root will be called (XML 1.0, 2.8), HTML's too.
_HTML = frozenset({b"html"})
_BEFORE_ROOT = re.compile(
    rb"(?:[" + _BLANK + rb"]+|<\?(?:(?!\?>).)*\?>|<!--(?:(?!-->).)*-->)*", re.DOTALL
)
_DOCTYPE = re.compile(rb"<!(?i:doctype)\s+([^\s>\[]+)[^>\[]*(?:\[[^\]]*\]\s*)?>")
_TAG = re.compile(rb"<([^\s/>!?][^\s/>]*)([^>]*)")
_COMMENT = re.compile(rb"<!--(?:(?!-->).)*-->|<\?(?:(?!\?>).)*\?>", re.DOTALL)


def _first_tag(head: bytes) -> re.Match[bytes] | None:
    """The root's tag, its name as the first group; that of a page for browsers by its type alone."""
    text = _legible(head)
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


def _legible(text: bytes) -> bytes:
    # UTF-16 becomes legible without its zero bytes; names are compared as they stand.
    return text.replace(b"\0", b"")
