"""Worker threads for work that would block the event loop: checking bundles, signing, making keys."""

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Workers:
    """A pool of worker threads. No thread is left when `aclose` returns.

    One core stays free for the event loop, so the pool has one thread fewer than there are cores
    (at least one).
    """

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(
            max_workers=max(1, (os.cpu_count() or 1) - 1),
            thread_name_prefix="posten-signering-sandbox",
        )
        self._pending: set[Future[Any]] = set()

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Calls the function in a worker thread, and returns or raises what it returns or raises."""
        future = self._executor.submit(function, *args, **kwargs)
        self._pending.add(future)
        future.add_done_callback(self._pending.discard)
        return await asyncio.wrap_future(future)

    async def aclose(self) -> None:
        """Waits for the submitted calls, then ends the threads.

        Cancelling `run` does not stop a call that has started.
        """
        for future in tuple(self._pending):
            await asyncio.wait([asyncio.wrap_future(future)])
        self._executor.shutdown()
