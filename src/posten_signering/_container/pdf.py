"""What must be known of a PDF before it is sent: is it one, and is it encrypted. Performs no I/O.

Not a PDF reader. What can't be understood passes: the service is the judge. Clauses are those of
ISO 32000-1 (PDF 1.7).
"""

import re
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""Gives the bytes at an offset, at most so many; fewer at the end."""

HEADER = b"%PDF-"
HEADER_WITHIN = 1024
"""The header may stand anywhere in so many bytes from the start (Annex H, note 13)."""

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
    """Whether a file that begins so is a PDF."""
    return HEADER in start[:HEADER_WITHIN]


def is_encrypted(read: Read, size: int) -> bool:
    """Whether a PDF is encrypted: with a password, or with permissions only.

    It is when the trailer that the last `startxref` points at has an entry `Encrypt` (7.5.5 and
    7.5.8.2). The word elsewhere means nothing: in a page, in a string, in an older trailer.
    """
    # Readers seek it from the end, however much stands behind it.
    tail = max(size - _WINDOW, 0)
    found = list(_STARTXREF.finditer(read(tail, _WINDOW)))
    if not found:
        return False
    offset = int(found[-1][1])
    # Offsets count from the header, but are often written as if from the start of the file.
    header = max(read(0, HEADER_WITHIN).find(HEADER), 0)
    for base in dict.fromkeys((0, header)):
        trailer = _trailer(read, base + offset)
        if trailer is not None:
            value = trailer.get(b"/Encrypt", [])
            return value[:1] == [b"<<"] or value[2:] == [b"R"]
    return False


def _trailer(read: Read, offset: int) -> dict[bytes, list[bytes]] | None:
    """The entries of a trailer, whether of a table (7.5.5) or of a stream (7.5.8.2)."""
    start = read(offset, _TAIL)
    if table := _TABLE.match(start):
        offset += table.end()
        while length := _end(_TABLE_ENTRIES, read(offset, _WINDOW)):
            offset += length
        keyword, rest = b"trailer", read(offset, _WINDOW)
        return _dictionary(rest[len(keyword) :]) if rest.startswith(keyword) else None
    if stream := _OBJECT.match(start):
        # One that lists many sections of objects (Index) is long.
        entries = _dictionary(read(offset + stream.end(), _LONGEST_DICTIONARY))
        return entries if entries is not None and entries.get(b"/Type") == [b"/XRef"] else None
    return None


def _dictionary(data: bytes) -> dict[bytes, list[bytes]] | None:
    """The entries of the dictionary that comes first, each value as tokens; None where none does."""
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
    """Tokens (7.2, 7.3), strings without their content, up to the first that is none."""
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
    """Where something that may be empty ends."""
    match = pattern.match(data, position)
    return match.end() if match else position
