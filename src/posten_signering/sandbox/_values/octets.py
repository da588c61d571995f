"""Bytes that never show themselves: messages hold identity numbers, documents are confidential."""


class Octets(bytes):
    """Bytes in every respect, save that their repr tells no more than how many they are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__
