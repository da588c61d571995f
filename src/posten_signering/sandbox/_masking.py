"""Takes out of texts what must not be shown: identity numbers and tokens. Performs no I/O."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

_IDENTITY_NUMBER = re.compile(r"(?<![0-9])[0-9]{6}[ .-]?[0-9]{5}(?![0-9])")
_HIDDEN = "***"

_SHOWN_PARAMETERS = frozenset({"polling_queue", "change"})


def masked(text: str) -> str:
    """A text in which every national identity number is asterisks: the date of birth tells too much."""
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
