"""The clocks, the sleep and the randomness that waiting needs. They are arguments, so tests need not wait."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """The clocks, the sleep and the randomness of a configuration.

    Attributes:
        clock: Returns the time now, with a time zone.
        monotonic: Returns the seconds of a clock that never jumps.
        sleep: Waits for some seconds.
        random: Returns a number from 0 up to 1.
    """

    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    random: Callable[[], float]
