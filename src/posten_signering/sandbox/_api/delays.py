"""Requests that a fault holds back, and what lets go of them before their time.

Nobody waits any more for the answer to a client that has left, nor to anybody when the sandbox stops. And
what was asked before a reset must not take effect after it: a test that gave up waiting would disturb the
next one.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class Caller:
    """Who waits for an answer.

    Attributes:
        left: Whether the connection is lost.
        forgotten: Whether the sandbox was reset, or began to stop, while the request was held back.
        sleeping: What holds the request back at present.
    """

    left: bool = False
    forgotten: bool = False
    sleeping: "asyncio.Future[None] | None" = None

    def leave(self) -> None:
        """The connection is lost."""
        self.left = True
        self._wake()

    def forget(self) -> None:
        """The sandbox is reset, or stops."""
        self.forgotten = True
        self._wake()

    def _wake(self) -> None:
        if self.sleeping is not None:
            self.sleeping.cancel()


class Delays:
    """Holds requests back.

    Args:
        sleep: Waits for some seconds.
    """

    def __init__(self, sleep: Callable[[float], Awaitable[None]]) -> None:
        self._sleep = sleep
        self._held = set[Caller]()
        self.closed = False
        """Whether the sandbox stops."""

    async def hold(self, caller: Caller, seconds: float) -> bool:
        """Waits, and says whether the request goes on: not when it was let go of."""
        if caller.left or self.closed:
            return False
        caller.sleeping = asyncio.ensure_future(self._sleep(seconds))
        self._held.add(caller)
        try:
            await asyncio.wait({caller.sleeping})
            if caller.sleeping.cancelled():
                return False
            caller.sleeping.result()
        finally:
            caller.sleeping.cancel()
            caller.sleeping = None
            self._held.discard(caller)
        return True

    def let_go(self) -> None:
        """Ends every request that is held back."""
        for caller in self._held:
            caller.forget()

    def close(self) -> None:
        """Ends them, and holds back no other."""
        self.closed = True
        self.let_go()
