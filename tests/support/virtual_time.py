"""An event loop with virtual time, which never waits for a real clock.

When every task waits, the loop's time jumps to the next timer. Everything that uses the loop's time (`anyio.sleep`,
`move_on_after`, `asyncio.timeout`) therefore happens in the right order, immediately, and identically in every run.
Nothing is patched. With anyio's pytest plugin, the fixture `anyio_backend` returns `BACKEND`.

Work in threads takes no virtual time, as long as no timer is set. If a timer is set, the time jumps to it although a
thread is still working. So do not combine threads and timers.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import ClassVar, TypeVar

import anyio
import pki

# Not a whole second, because the service's header `Date` is rounded down to whole seconds.
NOW = pki.NOW + timedelta(milliseconds=250)

T = TypeVar("T")

# How many real seconds the loop waits for a thread or a socket when no timer is set.
_MAX_REAL_WAIT = 20.0


class StuckError(AssertionError):
    """Every task waits, but no timer, thread or socket will wake one."""


class _Jumping(selectors.DefaultSelector):
    """A selector that advances the loop's time instead of waiting for a timer."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(_MAX_REAL_WAIT)
            if not ready:
                raise StuckError(
                    "Deadlock: every task waits, no timer is set, and no thread or socket"
                    f" became ready within {_MAX_REAL_WAIT} s."
                )
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose virtual time begins at 0.

    Attributes:
        latest: The most recently created loop.
    """

    latest: "ClassVar[VirtualLoop]"

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        # Rounding may stop the time slightly before a timer. The loop treats that as the timer's time.
        self._clock_resolution = 1e-6
        VirtualLoop.latest = self

    def time(self) -> float:
        return self._jumping.now


BACKEND = ("asyncio", {"loop_factory": VirtualLoop})


def run(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Runs a coroutine function on a new loop, for tests that are not coroutines."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


class VirtualTime:
    """The clocks, the sleep and the randomness of a client.

    Args:
        offset: The error of this machine's clock. The service's clock shows `NOW` plus the loop's time.
        seed: The seed for the randomness.

    Attributes:
        slept: The duration of each sleep, in seconds.
    """

    def __init__(self, *, offset: timedelta = timedelta(0), seed: int = 0) -> None:
        self.offset = offset
        self.slept: list[float] = []
        self.random: Callable[[], float] = random.Random(seed).random

    @staticmethod
    def monotonic() -> float:
        """Seconds since the loop began. Its worker threads may call this too."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return VirtualLoop.latest.time()

    @classmethod
    def service_clock(cls) -> datetime:
        """The correct time, which the service's clock shows."""
        return NOW + timedelta(seconds=cls.monotonic())

    def clock(self) -> datetime:
        """The time on this machine's clock, which may be wrong."""
        return self.service_clock() + self.offset

    async def sleep(self, seconds: float) -> None:
        """Sleeps in the loop's virtual time."""
        self.slept.append(seconds)
        await anyio.sleep(seconds)

    @property
    def fields(self) -> dict[str, object]:
        """The time-related fields for a `ClientConfiguration`."""
        return {
            "clock": self.clock,
            "monotonic": self.monotonic,
            "sleep": self.sleep,
            "random": self.random,
        }


async def settle() -> None:
    """Lets every task run until it waits. This takes a microsecond of virtual time."""
    await anyio.sleep(1e-6)


async def cancel_natively(task: asyncio.Task[object]) -> None:
    """Cancels a task with asyncio's own `Task.cancel`, and waits until the task ends."""
    task.cancel()
    await asyncio.wait([task])
