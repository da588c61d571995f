"""Text and bytes whose repr does not show the value: tokens, messages, documents.

Identity numbers in other texts are masked: see `masking`.
"""


class Hidden(str):
    """A `str` whose repr is `<hidden>`.

    The methods of `str` return a plain `str`: wrap their result in `Hidden` in the same expression.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "<hidden>"


class Octets(bytes):
    """`bytes` whose repr and `str` show only the number of bytes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__
