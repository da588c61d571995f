"""Masks national identity numbers in texts that are printed. Performs no I/O."""

import re

# An identity number has 11 digits, often written as 6 and 5. Digits in a hexadecimal fingerprint are none.
_IDENTITY_NUMBER = re.compile("(?<![0-9A-Fa-f])[0-9]{6}[ -]?[0-9]{5}(?![0-9A-Fa-f])")


def masked(text: str) -> str:
    """The text with asterisks in place of every identity number."""
    return _IDENTITY_NUMBER.sub("*" * 11, text)
