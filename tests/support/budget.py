"""The rate budget in tests: a limiter on virtual time, and how many calls a second held."""

from virtual_time import VirtualTime

from posten_signering import InMemoryRateLimiter


def limiter(share: float = 1.0) -> InMemoryRateLimiter:
    time = VirtualTime()
    return InMemoryRateLimiter(share=share, monotonic=time.monotonic, sleep=time.sleep)


def most_in_a_second(moments: list[float]) -> int:
    """Of any second, its two ends included."""
    return max(sum(first <= each <= first + 1 for each in moments) for first in moments)
