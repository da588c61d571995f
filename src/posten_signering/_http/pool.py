"""A connection pool that keeps only connections whose exchange completed. Knows nothing of HTTP.

A cancelled exchange can leave a connection in any state (httpcore issue 1093), so it is never reused.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Generic, Protocol, TypeVar

import anyio

from posten_signering.errors import ClientStateError


class Closable(Protocol):
    """A connection in a pool."""

    async def aclose(self) -> None:
        """Closes the connection, in any state."""
        ...


C = TypeVar("C", bound=Closable)


class Pool(Generic[C]):
    """Connections that are each used for one exchange at a time. The session limits their number.

    Any task may give a connection back, not only the task that took it.

    Args:
        connect: Creates a connection.
    """

    def __init__(self, connect: Callable[[], C]) -> None:
        self._connect = connect
        self._idle: list[C] = []
        self._in_use: set[C] = set()
        self._keeps_idle = True
        self._closed = False

    def take(self) -> C:
        """Takes an idle connection, or creates one when none is idle.

        Raises:
            ClientStateError: The pool is closed.
        """
        if self._closed:
            raise ClientStateError("The client is closed. Create a new DirectClient.")
        connection = self._idle.pop() if self._idle else self._connect()
        self._in_use.add(connection)
        return connection

    async def give_back(self, connection: C, *, reusable: bool) -> None:
        """Keeps a connection for the next exchange if its last one is complete; otherwise closes it."""
        self._in_use.discard(connection)
        if reusable and self._keeps_idle:
            self._idle.append(connection)
            return
        with anyio.CancelScope(shield=True):
            await connection.aclose()

    async def retire(self) -> None:
        """Closes the idle connections now, and every other one when its exchange ends.

        A call may still take a connection, for a request or a retry.
        """
        self._keeps_idle = False
        await self._close()

    async def aclose(self) -> None:
        """Closes every connection. A call that still uses one fails."""
        self._closed, self._keeps_idle = True, False
        await self._close(*self._in_use)

    async def _close(self, *in_use: C) -> None:
        """Closes the idle connections, and those given."""
        connections = (*self._idle, *in_use)
        self._idle.clear()
        with anyio.CancelScope(shield=True):
            # The exit stack closes the others even if `Task.cancel`, which a shield does not stop, or an
            # error interrupts closing one.
            async with AsyncExitStack() as exits:
                for connection in connections:
                    exits.push_async_callback(connection.aclose)
