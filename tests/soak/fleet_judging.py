"""Judges a fleet by the times at which its calls arrived at the sandbox. Performs no I/O.

The limits are the service's (10 calls per second) and those of `RedisFleet`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from .table import Row

_MOST_IN_A_SECOND = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvidence:
    """What a run of calling processes recorded. Times are in seconds, on one clock.

    Attributes:
        scenario: What happened to the processes and to Redis.
        began: The time of the cold start.
        ended: The end of the measurement.
        arrivals: The times at which calls arrived.
        failed: How many calls raised an error.
        outage: The begin and the end of the time without Redis; None if there was none.
        least_per_second: The required calls per second; None if every throughput is right.
        first_call_within: The most seconds until the first call; None if every time is right.
    """

    scenario: str
    began: float
    ended: float
    arrivals: Sequence[float]
    failed: int
    outage: tuple[float, float] | None = None
    least_per_second: float | None = None
    first_call_within: float | None = None


def judged_calls(evidence: CallEvidence) -> list[Row]:
    """The rows of one scenario: most arrivals in a second, the first call, throughput."""
    name, arrivals = evidence.scenario, sorted(evidence.arrivals)
    # Without a call there is no first call, and it is later than any limit.
    first = arrivals[0] if arrivals else float("inf")
    during = evidence.outage or (min(first, evidence.ended), evidence.ended)
    return [
        Row(what=f"{name}: calls", counted=len(arrivals), must_be=1, at_least=True),
        Row(
            what="  most arrivals in a second",
            counted=most_in_a_second(arrivals),
            must_be=_MOST_IN_A_SECOND,
            at_most=True,
        ),
        Row(what="  failed calls", counted=evidence.failed, must_be=0),
        Row(
            what="  seconds until the first call",
            counted=first - evidence.began,
            must_be=evidence.first_call_within,
            at_most=True,
        ),
        Row(
            what=f"  calls per second{' without Redis' if evidence.outage else ''}",
            counted=per_second(arrivals, *during),
            must_be=evidence.least_per_second,
            at_least=True,
        ),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class PollEvidence:
    """What the processes on one queue recorded. Times are in seconds, on one clock.

    Attributes:
        scenario: What the processes share, and how far an early poll moves the permitted time.
        interval: The wait between two polls of an empty queue.
        put: The time at which each change entered the queue, by its number.
        delivered: The time at which a handler first received each change, by its number.
        polls: The number of polls.
        early_of_one: Polls before a permitted time that the same process had received.
        early_between: Polls before a permitted time that only a different process had received.
        most_early: The highest permitted part of early polls; None if every part is right.
        most_delay: The highest permitted median delay, in intervals; None if every delay is right.
    """

    scenario: str
    interval: float
    put: Mapping[int, float]
    delivered: Mapping[int, float]
    polls: int
    early_of_one: int
    early_between: int
    most_early: float | None = None
    most_delay: float | None = None


def judged_polls(evidence: PollEvidence) -> list[Row]:
    """The rows of one scenario: delivered changes, their delay, early polls."""
    delays = [
        (delivered - evidence.put[number]) / evidence.interval
        for number, delivered in evidence.delivered.items()
    ]
    early = evidence.early_of_one + evidence.early_between
    return [
        Row(
            what=f"{evidence.scenario}: changes delivered",
            counted=len(delays),
            must_be=len(evidence.put),
        ),
        Row(
            what="  median delay, in intervals",
            counted=median(delays) if delays else float("inf"),
            must_be=evidence.most_delay,
            at_most=True,
        ),
        Row(what="  polls", counted=evidence.polls, must_be=1, at_least=True),
        Row(
            what="  before the permitted time that the same process had received",
            counted=evidence.early_of_one,
            must_be=0,
        ),
        Row(
            what="  refused as too early, in percent",
            counted=100 * early / max(1, evidence.polls),
            must_be=None if evidence.most_early is None else 100 * evidence.most_early,
            at_most=True,
        ),
    ]


def most_in_a_second(times: Sequence[float]) -> int:
    """The largest number of times within one second, both ends included."""
    times = sorted(times)
    most = first = 0
    for number, time in enumerate(times, start=1):
        while times[first] < time - 1:
            first += 1
        most = max(most, number - first)
    return most


def per_second(times: Sequence[float], begin: float, end: float) -> float:
    """The average number of times per second between `begin` and `end`."""
    if end <= begin:
        return 0.0
    return sum(begin <= time <= end for time in times) / (end - begin)
