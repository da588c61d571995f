"""Time that passes only when nobody has anything else to do: an event loop that never waits for a clock.

The loop's own time is virtual. When every task waits for something, and the next thing to happen is a
timer, the time jumps there. So whatever waits on the loop's time (`anyio.sleep`, `move_on_after`,
`asyncio.timeout`, a lock held by somebody asleep) happens in its right order, in no time, and the same
way in every run; nothing is patched. With anyio's pytest plugin: `anyio_backend` gives `BACKEND`.

Work in threads takes no virtual time while no timer is set. Beside a timer that is set, time jumps
although a thread still works: do not mix the two.
"""

import asyncio
import random
import selectors
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import ClassVar, TypeVar

import anyio
import pki

# A moment within a second, since the service's header `Date` has none.
NOW = pki.NOW + timedelta(milliseconds=250)

T = TypeVar("T")

# How long the loop waits for a thread or a socket, in real seconds, when no timer is set.
_PATIENCE = 20.0


class StuckError(AssertionError):
    """Every task waits for something that nobody will do."""


class _Jumping(selectors.DefaultSelector):
    """Lets the loop's time jump, where another selector would wait."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            ready = super().select(_PATIENCE)
            if not ready:
                raise StuckError("nothing is left to happen, and somebody waits")
            return ready
        ready = super().select(0)
        if not ready and timeout > 0:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is virtual and begins at 0.

    Attributes:
        latest: The one that was made last.
    """

    latest: "ClassVar[VirtualLoop]"

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        # Rounding may land a hair before a timer: that counts as its time.
        self._clock_resolution = 1e-6
        VirtualLoop.latest = self

    def time(self) -> float:
        return self._jumping.now


BACKEND = ("asyncio", {"loop_factory": VirtualLoop})


def run(main: Callable[[], Coroutine[object, object, T]]) -> T:
    """Runs a coroutine function on a loop of its own; for tests that are no coroutines themselves."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


class VirtualTime:
    """What a client takes for time: its clocks, its sleep, its randomness.

    Args:
        offset: How wrong this machine's clock is; the service's shows `NOW` plus the loop's time.
        seed: For the randomness.

    Attributes:
        slept: How long each sleep was asked to be.
    """

    def __init__(self, *, offset: timedelta = timedelta(0), seed: int = 0) -> None:
        self.offset = offset
        self.slept: list[float] = []
        self.random: Callable[[], float] = random.Random(seed).random

    @staticmethod
    def monotonic() -> float:
        """Seconds since the loop began. A thread that works for it may ask too."""
        try:
            return asyncio.get_running_loop().time()
        except RuntimeError:
            return VirtualLoop.latest.time()

    @classmethod
    def service_clock(cls) -> datetime:
        """The right time."""
        return NOW + timedelta(seconds=cls.monotonic())

    def clock(self) -> datetime:
        """The time as this machine has it."""
        return self.service_clock() + self.offset

    async def sleep(self, seconds: float) -> None:
        """Waits on the loop's time."""
        self.slept.append(seconds)
        await anyio.sleep(seconds)

    @property
    def fields(self) -> dict[str, object]:
        """The fields of a `ClientConfiguration`."""
        return {
            "clock": self.clock,
            "monotonic": self.monotonic,
            "sleep": self.sleep,
            "random": self.random,
        }


async def settle() -> None:
    """Lets every task run until it waits. Takes no time."""
    await anyio.sleep(1e-6)


async def cancel_natively(task: asyncio.Task[object]) -> None:
    """Cancels a task as asyncio itself does, and waits for its end."""
    task.cancel()
    await asyncio.wait([task])
