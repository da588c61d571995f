"""Opens one client for each process of a program without an event loop: Celery, or Django and Flask under WSGI."""

import atexit
import os
import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, ExitStack
from typing import Generic, TypeVar

from anyio.from_thread import BlockingPortal, start_blocking_portal

T = TypeVar("T")


class OnePerProcess(Generic[T]):
    """A client, or an object that has one, in an event loop that runs in a thread of this process.

    Every thread of the process may use it: `portal, client = signing.open()`, and then
    `portal.call(client.create, job)`. The first `open` of a process opens it. It must not be open when
    the process forks, because a forked process has no thread that runs the event loop.

    Args:
        opening: Returns the context manager to enter, such as a new `DirectClient`.
    """

    def __init__(self, opening: Callable[[], AbstractAsyncContextManager[T]]) -> None:
        self._opening = opening
        self._lock = threading.Lock()
        self._opened: tuple[BlockingPortal, T] | None = None
        self._process_id = 0
        self._closing = ExitStack()

    def open(self) -> tuple[BlockingPortal, T]:
        """The portal to the event loop, and what is open in it."""
        with self._lock:
            if self._opened is None:
                with ExitStack() as stack:
                    portal = stack.enter_context(start_blocking_portal())
                    opened = stack.enter_context(portal.wrap_async_context_manager(self._opening()))
                    self._closing = stack.pop_all()
                atexit.register(self.close)  # an open portal would keep the interpreter from ending
                self._opened, self._process_id = (portal, opened), os.getpid()
            if self._process_id != os.getpid():
                # `portal.call` would never return.
                raise RuntimeError(
                    "It was open when this process was forked. Open it after the fork."
                )
            return self._opened

    def close(self) -> None:
        """Closes it, if this process opened it. Call this before the process ends.

        `atexit` calls it too, but too late for calls that still run: asyncio's worker threads have ended.
        """
        with self._lock:
            if self._process_id == os.getpid():
                self._opened = None
                self._closing.close()
