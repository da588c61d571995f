"""Connections that are lent out, and thrown away unless their exchange completed. Knows nothing of HTTP.

A cancelled exchange can leave a connection in any state (httpcore issue 1093), so it is never used again.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from posten_signering.errors import ClientStateError


class Closable(Protocol):
    """A connection that can be lent."""

    async def aclose(self) -> None:
        """Closes it, in whatever state it is."""
        ...


C = TypeVar("C", bound=Closable)


class Loan(Generic[C]):
    """A connection that one caller uses.

    Attributes:
        connection: The connection.
        reusable: To be set to True when the exchange is complete; otherwise it is closed.
    """

    def __init__(self, connection: C) -> None:
        self.connection = connection
        self.reusable = False


class Pool(Generic[C]):
    """Connections for one exchange at a time each. How many there are is for the session to limit.

    A loan belongs to no task: another task may give it back.

    Args:
        connect: Makes a connection.
    """

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._idle: list[C] = []
        self._lent: set[C] = set()
        self._closed = False

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[Loan[C], None]:
        """Lends a connection, an idle one if there is any.

        Raises:
            ClientStateError: The pool is closed.
        """
        if self._closed:
            raise ClientStateError("The client is closed.")
        loan = Loan(self._idle.pop() if self._idle else self._connect())
        self._lent.add(loan.connection)
        try:
            yield loan
        finally:
            self._lent.discard(loan.connection)
            if loan.reusable and not self._closed:
                self._idle.append(loan.connection)
            else:
                with anyio.CancelScope(shield=True):
                    await loan.connection.aclose()

    async def aclose(self) -> None:
        """Closes every connection: a call that still uses one fails."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            while self._idle:
                await self._idle.pop().aclose()
            for connection in tuple(self._lent):
                await connection.aclose()
