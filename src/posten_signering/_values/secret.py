"""A wrapper that keeps a value out of reprs, log lines and tracebacks with local variables."""

from typing import Generic, TypeVar

T_co = TypeVar("T_co", covariant=True)


class Secret(Generic[T_co]):
    """Wraps a URL, a token, a password or a message, so that its repr does not show the value.

    Call `reveal` inside the expression that uses the value. Do not assign the result to a local
    variable, because a traceback may show local variables.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T_co) -> None:
        self._value = value

    def reveal(self) -> T_co:
        """The wrapped value."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"
