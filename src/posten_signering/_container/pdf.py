"""Checks whether a document is a PDF, and whether a PDF is encrypted. Performs no I/O.

This is not a full PDF parser. A file that it can't parse passes, because the service checks it too.
Clauses refer to ISO 32000-1 (PDF 1.7).
"""

import re
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""Takes an offset and a length, and returns the bytes there; fewer at the end of the file."""

HEADER = b"%PDF-"
HEADER_WITHIN = 1024
"""The header may be anywhere in the first 1024 bytes (Annex H, note 13)."""

_TAIL = 2048
_WINDOW = 64 * 1024
_LONGEST_DICTIONARY = 1024 * 1024

_SPACE = rb"\x00\t\n\f\r "
_BLANK = re.compile(rb"(?:[" + _SPACE + rb"]|%[^\r\n]*)*")
_TOKEN = re.compile(
    rb"<<|>>|[\[\]()]|<[0-9A-Fa-f" + _SPACE + rb"]*>|/?[^" + _SPACE + rb"()<>\[\]{}/%]+"
)
_IN_STRING = re.compile(rb"\\.|[()]", re.DOTALL)
_NAME_ESCAPE = re.compile(rb"#([0-9A-Fa-f]{2})")
_STARTXREF = re.compile(rb"startxref[" + _SPACE + rb"]+([0-9]{1,12})")
_TABLE = re.compile(rb"[" + _SPACE + rb"]*xref(?=[" + _SPACE + rb"])")
_TABLE_ENTRIES = re.compile(rb"[0-9fn" + _SPACE + rb"]*")
_OBJECT = re.compile(
    rb"[" + _SPACE + rb"]*[0-9]+[" + _SPACE + rb"]+[0-9]+[" + _SPACE + rb"]+obj(?![A-Za-z0-9])"
)


def has_header(start: bytes) -> bool:
    """Whether a file with this beginning is a PDF."""
    return HEADER in start[:HEADER_WITHIN]


def is_encrypted(read: Read, size: int) -> bool:
    """Whether a PDF is encrypted: with a password, or only with restricted permissions.

    A PDF is encrypted if the trailer to which the last `startxref` points has an entry `Encrypt`
    (7.5.5 and 7.5.8.2). The word in other places, such as a page or an older trailer, does not count.
    """
    # PDF readers search backwards from the end, and other bytes may follow the marker.
    tail = max(size - _WINDOW, 0)
    markers = list(_STARTXREF.finditer(read(tail, _WINDOW)))
    if not markers:
        return False
    offset = int(markers[-1][1])
    # Offsets count from the header, but many programs count from the start of the file.
    header = max(read(0, HEADER_WITHIN).find(HEADER), 0)
    for base in dict.fromkeys((0, header)):
        trailer = _trailer(read, base + offset)
        if trailer is not None:
            value = trailer.get(b"/Encrypt", [])
            return value[:1] == [b"<<"] or value[2:] == [b"R"]
    return False


def trailer_length(content: bytes) -> int:
    """The most bytes of this file that `is_encrypted` parses as tokens."""
    markers = list(_STARTXREF.finditer(content))
    return max(len(content) - int(markers[-1][1]), 0) if markers else 0


def _trailer(read: Read, offset: int) -> dict[bytes, list[bytes]] | None:
    """The entries of a trailer, after a table (7.5.5) or in a stream (7.5.8.2); None if there is none."""
    start = read(offset, _TAIL)
    if table := _TABLE.match(start):
        offset += table.end()
        while length := _end(_TABLE_ENTRIES, read(offset, _WINDOW)):
            offset += length
        keyword, content = b"trailer", read(offset, _WINDOW)
        return _dictionary(content[len(keyword) :]) if content.startswith(keyword) else None
    if stream := _OBJECT.match(start):
        # Its dictionary is long if the stream lists many sections of objects (Index).
        entries = _dictionary(read(offset + stream.end(), _LONGEST_DICTIONARY))
        return entries if entries is not None and entries.get(b"/Type") == [b"/XRef"] else None
    return None


def _dictionary(data: bytes) -> dict[bytes, list[bytes]] | None:
    """The entries of the dictionary at the beginning, each value as tokens; None if there is none."""
    entries: dict[bytes, list[bytes]] = {}
    value: list[bytes] | None = None
    depth = 0
    for token in _tokens(data):
        if depth == 1 and token == b">>":
            return entries
        if depth == 1 and token.startswith(b"/") and value != []:
            value = entries[token] = []
            continue
        if depth == 0 and token != b"<<":
            return None
        if value is not None:
            value.append(token)
        depth += (token in {b"<<", b"["}) - (token in {b">>", b"]"})
    return None


def _tokens(data: bytes) -> Iterator[bytes]:
    """The tokens (7.2, 7.3) up to the first bytes that are not a token. A string is only its `(`."""
    position = _end(_BLANK, data)
    while match := _TOKEN.match(data, position):
        position = match.end()
        token = match[0]
        depth = 1 if token == b"(" else 0
        while depth:
            part = _IN_STRING.search(data, position)
            if part is None:
                return
            depth += (part[0] == b"(") - (part[0] == b")")
            position = part.end()
        yield _NAME_ESCAPE.sub(lambda code: bytes([int(code[1], 16)]), token)
        position = _end(_BLANK, data, position)


def _end(pattern: re.Pattern[bytes], data: bytes, position: int = 0) -> int:
    """The position at which a match ends; the start position if nothing matches."""
    match = pattern.match(data, position)
    return match.end() if match else position
