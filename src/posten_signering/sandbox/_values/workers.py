"""Threads for what would hold up the event loop: judging bundles, signing documents, making keys."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A pool of threads that is gone when it is closed.

    At most one thread less than there are cores: more would starve the event loop.
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(
            max_workers=max(1, (os.cpu_count() or 1) - 1),
            thread_name_prefix="posten-signering-sandbox",
        )
        self._pending: set[Future[Any]] = set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns or raises, called in a thread."""
        future = self._executor.submit(function, *args, **kwargs)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Waits for what is under way, also where nobody waits for its result, and ends the threads."""
        for future in tuple(self._pending):
            await asyncio.wait([asyncio.wrap_future(future)])
        self._executor.shutdown()
