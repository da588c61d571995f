"""The limit of calls per organisation, and its block. Performs no I/O and reads no clock."""

from dataclasses import dataclass, replace
from datetime import datetime

from posten_signering.sandbox._values.settings import RateLimit


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """The calls of one organisation that still count.

    Attributes:
        times: When they came, oldest first.
        blocked_until: Every call is refused until then; None without a block.
    """

    times: tuple[datetime, ...] = ()
    blocked_until: datetime | None = None


def blocked(calls: Calls, *, now: datetime) -> bool:
    """Whether every call is refused now."""
    return calls.blocked_until is not None and now < calls.blocked_until


def admit(calls: Calls, *, now: datetime, limit: RateLimit) -> tuple[Calls, bool]:
    """Counts a call, and says whether it is answered.

    One call more than the limit allows starts a block; calls during a block neither count nor make
    it longer ("10 API calls per second per organisation number; excess: 30 s block").
    """
    if blocked(calls, now=now):
        return calls, False
    counted = tuple(each for each in calls.times if each > now - limit.period)
    if len(counted) >= limit.calls:
        return Calls(blocked_until=now + limit.block), False
    return replace(calls, times=(*counted, now), blocked_until=None), True
