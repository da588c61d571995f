"""A connection pool that keeps only connections whose exchange completed. Knows nothing of HTTP.

A cancelled exchange can leave a connection in any state (httpcore issue 1093), so it is never reused.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from posten_signering.errors import ClientStateError


class Closable(Protocol):
    """A connection in a pool."""

    async def aclose(self) -> None:
        """Closes the connection, in any state."""
        ...


C = TypeVar("C", bound=Closable)


class Borrowed(Generic[C]):
    """A connection that one caller uses.

    Attributes:
        connection: The connection.
        reusable: Set to True when the exchange is complete. Otherwise the pool closes the connection.
    """

    def __init__(self, connection: C) -> None:
        self.connection = connection
        self.reusable = False


class Pool(Generic[C]):
    """Connections that are each used for one exchange at a time. The session limits their number.

    Any task may give a borrowed connection back, not only the task that borrowed it.

    Args:
        connect: Creates a connection.
    """

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._idle: list[C] = []
        self._in_use: set[C] = set()
        self._closed = False

    @asynccontextmanager
    async def borrow(self) -> AsyncGenerator[Borrowed[C], None]:
        """Borrows an idle connection, or a new one when none is idle.

        Raises:
            ClientStateError: The pool is closed.
        """
        if self._closed:
            raise ClientStateError("The client is closed. Create a new DirectClient.")
        borrowed = Borrowed(self._idle.pop() if self._idle else self._connect())
        self._in_use.add(borrowed.connection)
        try:
            yield borrowed
        finally:
            self._in_use.discard(borrowed.connection)
            if borrowed.reusable and not self._closed:
                self._idle.append(borrowed.connection)
            else:
                with anyio.CancelScope(shield=True):
                    await borrowed.connection.aclose()

    async def aclose(self) -> None:
        """Closes every connection. A call that still uses one fails."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            while self._idle:
                await self._idle.pop().aclose()
            for connection in tuple(self._in_use):
                await connection.aclose()
