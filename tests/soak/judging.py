"""Holds what handlers wrote down against what the sandbox was asked. Performs no I/O.

A delivery is told by its number in the queue, which its confirmation URL carries.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .table import Row

# The sandbox tells times in whole milliseconds, cut off.
_ROUNDING = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """One delivery in a handler's hands, as its journal has it.

    Attributes:
        process: The User-Agent's suffix of the process that had it: another for each life.
        change: Its number in the queue.
        begun: When, by the sandbox's clock, in seconds.
        ended: The same; None when the process did not live to see it.
    """

    process: str
    change: int
    begun: float
    ended: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A confirmation that the sandbox took (204).

    Attributes:
        process: Whose.
        change: Of which change.
        time: When it was answered.
    """

    process: str
    change: int
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All there is.

    Attributes:
        changes: How many changes there were, numbered from 1.
        lease: In seconds.
        handlings: What the journals say.
        confirmations: What the sandbox says.
        waiting: The changes that still wait in the queue.
        kills: The processes that were killed.
        requests: How many requests the sandbox answered, and how many of these were seen one by one.
        polls: How many it took.
        early_of_one: Polls before a time that the same process had been told.
        early_between: Polls before a time that only another process had been told.
        blocked: Requests refused for the rate limit.
    """

    changes: int
    lease: float
    handlings: Sequence[Handling]
    confirmations: Sequence[Confirmation]
    waiting: int
    kills: Sequence[str]
    requests: tuple[int, int]
    polls: int
    early_of_one: int
    early_between: int
    blocked: int


def judged(evidence: Evidence) -> list[Row]:
    """The table's rows."""
    everything = range(1, evidence.changes + 1)
    ended = {each.change for each in evidence.handlings if each.ended is not None}
    confirmed = Counter(each.change for each in evidence.confirmations)
    unfinished = {each.process for each in evidence.handlings if each.ended is None}
    again, too_soon = _handled_again(evidence)
    answered, seen = evidence.requests
    return [
        Row(what="status changes", counted=evidence.changes),
        Row(what="processes killed", counted=len(evidence.kills), must_be=1, at_least=True),
        Row(
            what="  in the middle of a handler",
            counted=len(unfinished & set(evidence.kills)),
            must_be=1,
            at_least=True,
        ),
        Row(
            what="changes handled to the end",
            counted=sum(each in ended for each in everything),
            must_be=evidence.changes,
        ),
        Row(
            what="changes confirmed",
            counted=sum(each in confirmed for each in everything),
            must_be=evidence.changes,
        ),
        Row(what="  left in the queue", counted=evidence.waiting, must_be=0),
        Row(
            what="  confirmed before any handler of that process had ended",
            counted=sum(not _was_handled_before(each, evidence) for each in evidence.confirmations),
            must_be=0,
        ),
        Row(what="changes handled again", counted=again),
        Row(what="  before their lease ran out", counted=too_soon, must_be=0),
        Row(what="polls", counted=evidence.polls),
        Row(
            what="  before a time that the process had been told",
            counted=evidence.early_of_one,
            must_be=0,
        ),
        Row(
            what="  before a time that another process had been told",
            counted=evidence.early_between,
        ),
        Row(what="calls refused for the rate limit", counted=evidence.blocked),
        Row(
            what="requests that the sandbox answered, seen one by one",
            counted=seen,
            must_be=answered,
        ),
    ]


def _was_handled_before(confirmation: Confirmation, evidence: Evidence) -> bool:
    return any(
        each.ended is not None
        and each.ended <= confirmation.time + _ROUNDING
        and (each.process, each.change) == (confirmation.process, confirmation.change)
        for each in evidence.handlings
    )


def _handled_again(evidence: Evidence) -> tuple[int, int]:
    """How often a change was handled once more, and how often before the last lease could be over.

    A lease begins shortly before its handler does: how long before is not known, and taken to be less
    than a quarter of the lease.
    """
    begun = defaultdict[int, list[float]](list)
    for each in evidence.handlings:
        begun[each.change].append(each.begun)
    waits = [
        later - earlier
        for times in map(sorted, begun.values())
        for earlier, later in pairwise(times)
    ]
    return len(waits), sum(wait < 0.75 * evidence.lease for wait in waits)
