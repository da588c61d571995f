"""Text and bytes that never show themselves: tokens, messages with identity numbers, documents.

Identity numbers in texts that do show are masked: see `masking`.
"""


class Hidden(str):
    """A text that differs from any other only in its repr, which shows nothing of it.

    Methods of `str` return plain text: wrap what they return again, in the same expression.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


class Octets(bytes):
    """Bytes that differ from any others only in their repr and `str`, which show how many they are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__
