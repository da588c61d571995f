"""A value that never shows itself: not in a repr, a log line or a traceback with locals."""

from typing import Generic, TypeVar

T = TypeVar("T")


class Secret(Generic[T]):
    """Holds a URL, a token, a password or a message out of sight until `reveal` is called.

    Call `reveal` inside the expression that uses the value: a local variable would show it in a
    traceback that renders locals.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    def reveal(self) -> T:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"
