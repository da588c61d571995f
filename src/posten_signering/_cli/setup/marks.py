"""The marks in front of a line of output: for what is right, and for what is wrong."""

_PLAIN = {True: "[ok]", False: "[FAILED]"}
_SIGNS = {True: "✓", False: "✗"}


def mark(encoding: str | None, *, good: bool) -> str:
    """A tick or a cross, or a word if the output's encoding has no such sign."""
    sign = _SIGNS[good]
    try:
        sign.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return _PLAIN[good]
    return sign
