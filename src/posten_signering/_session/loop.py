"""The event loop that an object belongs to. A call from any other loop, thread or process is refused."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress

from posten_signering.errors import ClientStateError

_REMEDY = (
    "Use one {owner} for each event loop, and call it only there, such as in one asyncio.run around the "
    "whole task. A program without an event loop can run one with "
    "anyio.from_thread.start_blocking_portal. In pytest-asyncio, give the fixture and its tests the "
    "same loop_scope."
)
_REMEDY_AFTER_FORK = "Create a {owner} in each process, after the fork."


class OwnLoop:
    """The event loop in which an object was created. Locks and connections work only in that loop.

    Args:
        owner: What the object is called in error messages.

    Raises:
        ClientStateError: No asyncio event loop is running.
    """

    def __init__(self, owner: str) -> None:
        running = _running_loop()
        if running is None:
            raise ClientStateError(
                f"A {owner} needs a running asyncio event loop, and there is none. Use asyncio.run, or "
                "anyio.run with its asyncio backend."
            )
        self._owner = owner
        self._loop = running
        self._process = os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs in this loop."""
        return not self._is_forked and _running_loop() is self._loop

    @property
    def has_ended(self) -> bool:
        """Whether nothing can run in this loop any more: it is closed, or this is a forked process."""
        return self._is_forked or self._loop.is_closed()

    def check(self) -> None:
        """Refuses a caller that does not run in this loop.

        Raises:
            ClientStateError: The caller runs in a different event loop, thread or process.
        """
        if not self.is_current:
            raise ClientStateError(
                f"This {self._owner} {self.describe()}, so nothing was sent. {self.remedy}"
            )

    def describe(self) -> str:
        """What is wrong with a call from elsewhere, in words that follow the name of the owner."""
        if self._is_forked:
            return "was entered before this process was forked"
        if self._loop.is_closed():
            return "belongs to an event loop that is closed"
        return "belongs to a different event loop"

    @property
    def remedy(self) -> str:
        """What the caller can do about it, in whole sentences."""
        return (_REMEDY_AFTER_FORK if self._is_forked else _REMEDY).format(owner=self._owner)

    def call_soon(self, callback: Callable[[], object]) -> None:
        """Calls a function in this loop. Works from any thread, and from a signal handler.

        Does nothing when the loop has ended.
        """
        # `call_soon_threadsafe` also wakes a loop that waits, which `call_soon` does not.
        with suppress(RuntimeError):  # the loop is closed
            if not self._is_forked:
                self._loop.call_soon_threadsafe(callback)

    @property
    def _is_forked(self) -> bool:
        return os.getpid() != self._process


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
