"""Takes out of texts what must not be shown: identity numbers and tokens. Performs no I/O."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

# Spaces of any kind, hyphens, dashes, and what is not seen at all; no line ends.
_GAP = r"(?:[^\S\r\n]|[._/\-\u2010-\u2015\u2212\u00ad\u200b-\u200d\u2060\ufeff])"
# The date of birth as one number or as three, and the five digits after it. Nothing else is written so:
# an organisation number has fewer digits, a bank account number is divided elsewhere, and behind a date
# there seldom stand five digits.
_DATE_OF_BIRTH = rf"(?:[0-9]{{6}}|[0-9]{{2}}{_GAP}{{1,3}}[0-9]{{2}}{_GAP}{{1,3}}[0-9]{{2}})"
_IDENTITY_NUMBER = re.compile(rf"(?<![0-9]){_DATE_OF_BIRTH}{_GAP}{{0,3}}[0-9]{{5}}(?![0-9])")
_HIDDEN = "***"

_SHOWN_PARAMETERS = frozenset({"polling_queue", "change"})


def masked(text: str) -> str:
    """A text in which every national identity number is asterisks, its date of birth too."""
    return _IDENTITY_NUMBER.sub("*" * 11, text)


def masked_path(path: str, query: Iterable[tuple[str, str]]) -> str:
    """A path with its query, without the values that may be secret.

    Args:
        path: The path; its percent-encoding is taken off.
        query: Names and values, decoded.
    """
    parameters = [
        f"{masked(name)}={masked(value) if name in _SHOWN_PARAMETERS else _HIDDEN}"
        if value
        else masked(name)
        for name, value in query
    ]
    shown = masked(unquote(path))
    return f"{shown}?{'&'.join(parameters)}" if parameters else shown
