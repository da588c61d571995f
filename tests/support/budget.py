"""For tests of the rate budget: a rate budget on virtual time, and a count of calls per second."""

from virtual_time import VirtualTime

from posten_signering._session.rate import RateBudget


def budget(share: float = 1.0) -> RateBudget:
    time = VirtualTime()
    return RateBudget(share=share, monotonic=time.monotonic, sleep=time.sleep)


def most_in_a_second(moments: list[float]) -> int:
    """The largest number of calls within one second, including both ends of the second."""
    return max(sum(first <= moment <= first + 1 for moment in moments) for first in moments)
