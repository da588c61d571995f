"""Connections lent out one at a time, fairly, and thrown away unless their exchange completed.

Knows nothing of HTTP. A cancelled exchange can leave a connection, or a library's account of it, in
any state (httpcore issue 1093); one that is never used again can't harm the next caller.
"""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Generic, Protocol, TypeVar

import anyio

from posten_signering.errors import ClientStateError

__all__ = ["Loan", "Pool"]


class Closable(Protocol):
    """What can be lent."""

    async def aclose(self) -> None:
        """Closes it, in whatever state it is."""
        ...


C = TypeVar("C", bound=Closable)


class Loan(Generic[C]):
    """A connection in one caller's hands.

    Attributes:
        connection: The connection.
        reusable: To be set to True when the exchange is complete; otherwise it is closed.
    """

    def __init__(self, connection: C) -> None:
        self.connection = connection
        self.reusable = False


class Pool(Generic[C]):
    """At most `size` connections; who asks first, gets first.

    Waiting for one has no bound of its own: whoever holds one is bounded by the timeouts of its
    exchange, and the wait can be cancelled. A loan belongs to no task: another may give it back.
    """

    def __init__(self, size: int, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._free = anyio.Semaphore(size, max_value=size)
        self._idle: list[C] = []
        self._lent: set[C] = set()
        self._closed = False

    @asynccontextmanager
    async def lend(self) -> AsyncGenerator[Loan[C], None]:
        """Lends a connection, an idle one if there is any.

        Raises:
            ClientStateError: The pool is closed.
        """
        await self._free.acquire()
        try:
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
        finally:
            self._free.release()

    async def aclose(self) -> None:
        """Closes every connection: a lent one fails in the hands of its holder."""
        self._closed = True
        with anyio.CancelScope(shield=True):
            while self._idle:
                await self._idle.pop().aclose()
            for connection in tuple(self._lent):
                await connection.aclose()
