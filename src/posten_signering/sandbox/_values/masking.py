"""Masks identity numbers and tokens in texts before they are shown. Performs no I/O."""

import re
from collections.abc import Iterable
from html import unescape
from urllib.parse import unquote

# Spaces of any kind, dots, slashes, underscores, hyphens, dashes, invisible characters, and what is left of
# a space in a different encoding. No line ends.
_GAP = r"(?:[^\S\r\n]|[._/\-\u2010-\u2015\u2212\u00ad\u200b-\u200d\u2060\ufeff\N{REPLACEMENT CHARACTER}])"
# The date of birth as one number or as three numbers, then five digits as one number or as two. Other
# numbers look different: an organisation number has fewer digits, a bank account number is grouped
# differently, and five digits rarely follow a date. The digits may be those of any script.
_DATE_OF_BIRTH = rf"(?:\d{{6}}|\d{{2}}{_GAP}{{1,3}}\d{{2}}{_GAP}{{1,3}}\d{{2}})"
_LAST_FIVE = rf"(?:{_GAP}{{0,3}}\d{{5}}|{_GAP}{{1,3}}\d{{3}}{_GAP}{{1,3}}\d{{2}})"
_IDENTITY_NUMBER = re.compile(rf"(?<!\d){_DATE_OF_BIRTH}{_LAST_FIVE}(?!\d)")
_MASK = "*" * 11

# Percent-encoded bytes, a character reference of XML or HTML, a form-encoded space. Each may be escaped
# several times.
_ESCAPE = (
    r"(?:%(?:25)*[0-9A-Fa-f]{2})+"
    r"|&(?:amp;)*(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,8});"
    r"|\+"
)
_HAS_ESCAPE = re.compile(_ESCAPE)
_PIECE = re.compile(f"{_ESCAPE}|.", re.DOTALL)
_MOST_LEVELS = 4
_HIDDEN = "***"

_SHOWN_PARAMETERS = frozenset({"polling_queue", "change"})


def masked(text: str) -> str:
    """The text with asterisks in place of every national identity number, also of an escaped one."""
    if _HAS_ESCAPE.search(text) is not None:
        text = _with_masked_escapes(text)
    return _IDENTITY_NUMBER.sub(_MASK, text)


def _with_masked_escapes(text: str) -> str:
    characters: list[str] = []
    pieces: list[re.Match[str]] = []  # the piece of the text that each character comes from
    for piece in _PIECE.finditer(text):
        unescaped = _unescaped(piece[0])
        characters += unescaped
        pieces += [piece] * len(unescaped)
    shown: list[str] = []
    end = 0
    for number in _IDENTITY_NUMBER.finditer("".join(characters)):
        shown += text[end : pieces[number.start()].start()], _MASK
        end = pieces[number.end() - 1].end()
    return "".join(shown) + text[end:]


def _unescaped(piece: str) -> str:
    if len(piece) > 1:
        for _ in range(_MOST_LEVELS):
            piece = unescape(unquote(piece))
    return " " if piece == "+" else piece


def masked_path(path: str, query: Iterable[tuple[str, str]]) -> str:
    """The path and query of a URL, with asterisks in place of the values that may be secret.

    Args:
        path: The path, decoded.
        query: The names and values of the parameters, decoded.
    """
    parameters = [
        f"{masked(name)}={masked(value) if name in _SHOWN_PARAMETERS else _HIDDEN}"
        if value
        else masked(name)
        for name, value in query
    ]
    shown = masked(path)
    return f"{shown}?{'&'.join(parameters)}" if parameters else shown
