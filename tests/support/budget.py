"""For tests of the rate budget: a rate limiter on virtual time, and a count of calls per second."""

from virtual_time import VirtualTime

from posten_signering import InMemoryRateLimiter


def limiter(share: float = 1.0) -> InMemoryRateLimiter:
    time = VirtualTime()
    return InMemoryRateLimiter(share=share, monotonic=time.monotonic, sleep=time.sleep)


def most_in_a_second(moments: list[float]) -> int:
    """The largest number of calls within one second, including both ends of the second."""
    return max(sum(first <= moment <= first + 1 for moment in moments) for first in moments)
