"""Tells whoever watches the sandbox that something has changed. Performs no I/O."""

import asyncio


class Feed:
    """A version that grows with every change, and a way to wait for the next one."""

    def __init__(self) -> None:
        self._version = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def version(self) -> int:
        """How many changes there have been."""
        return self._version

    @property
    def closed(self) -> bool:
        """Whether there will be no more changes."""
        return self._closed

    def touch(self) -> None:
        """Something has changed."""
        self._version += 1
        self._wake()

    def close(self) -> None:
        """Ends all waiting for good."""
        self._closed = True
        self._wake()

    async def wait(self, version: int) -> None:
        """Returns when the version is another than this one, or the feed is closed."""
        while self._version == version and not self._closed:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
