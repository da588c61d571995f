"""Masks identity numbers and tokens in texts before they are shown. Performs no I/O."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

# Spaces of any kind, dots, slashes, underscores, hyphens, dashes and invisible characters. No line ends.
_GAP = r"(?:[^\S\r\n]|[._/\-\u2010-\u2015\u2212\u00ad\u200b-\u200d\u2060\ufeff])"
# The date of birth as one number or as three numbers, then five digits. Other numbers look different:
# an organisation number has fewer digits, a bank account number is grouped differently, and five
# digits rarely follow a date.
_DATE_OF_BIRTH = rf"(?:[0-9]{{6}}|[0-9]{{2}}{_GAP}{{1,3}}[0-9]{{2}}{_GAP}{{1,3}}[0-9]{{2}})"
_IDENTITY_NUMBER = re.compile(rf"(?<![0-9]){_DATE_OF_BIRTH}{_GAP}{{0,3}}[0-9]{{5}}(?![0-9])")
_HIDDEN = "***"

_SHOWN_PARAMETERS = frozenset({"polling_queue", "change"})


def masked(text: str) -> str:
    """The text with asterisks in place of every national identity number."""
    return _IDENTITY_NUMBER.sub("*" * 11, text)


def masked_path(path: str, query: Iterable[tuple[str, str]]) -> str:
    """The path and query of a URL, with asterisks in place of the values that may be secret.

    Args:
        path: The path. Its percent-encoding is decoded.
        query: The names and values of the parameters, decoded.
    """
    parameters = [
        f"{masked(name)}={masked(value) if name in _SHOWN_PARAMETERS else _HIDDEN}"
        if value
        else masked(name)
        for name, value in query
    ]
    shown = masked(unquote(path))
    return f"{shown}?{'&'.join(parameters)}" if parameters else shown
