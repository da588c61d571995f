"""Compares what the handlers recorded with the requests to the sandbox. Performs no I/O.

A status change is identified by its number in the queue, which is a part of its confirmation URL.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .table import Row

# The sandbox truncates its times to whole milliseconds.
_ROUNDING = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """One handling of a status change, as its journal records it.

    Attributes:
        process: The User-Agent suffix of the process, which no other process has.
        change: The number of the change in the queue.
        begun: The time of the start by the sandbox's clock, in seconds.
        ended: The time of the end; None when the process was killed before.
    """

    process: str
    change: int
    begun: float
    ended: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmation:
    """A confirmation that the sandbox accepted (HTTP 204).

    Attributes:
        process: The User-Agent suffix of the process that sent it.
        change: The number of the change in the queue.
        time: The time of the response by the sandbox's clock, in seconds.
    """

    process: str
    change: int
    time: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """Everything that a run recorded.

    Attributes:
        changes: The number of changes; they are numbered from 1.
        lease: The length of a lease in seconds.
        handlings: The handlings in the journals.
        confirmations: The confirmations that the sandbox accepted.
        waiting: The number of changes that are left in the queue.
        kills: The names of the killed processes.
        requests: The number of requests that the sandbox answered, and how many of them were recorded.
        polls: The number of polls.
        early_of_one: Polls before a permitted time that the same process had received.
        early_between: Polls before a permitted time that only a different process had received.
        blocked: Requests that the sandbox refused because of the rate limit.
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
    changes = range(1, evidence.changes + 1)
    handled = {handling.change for handling in evidence.handlings if handling.ended is not None}
    confirmed = {confirmation.change for confirmation in evidence.confirmations}
    interrupted = {handling.process for handling in evidence.handlings if handling.ended is None}
    repeated, too_soon = _repeated_handlings(evidence)
    answered, recorded = evidence.requests
    return [
        Row(what="status changes", counted=evidence.changes),
        Row(what="processes killed", counted=len(evidence.kills), must_be=1, at_least=True),
        Row(
            what="  in the middle of a handler",
            counted=len(interrupted & set(evidence.kills)),
            must_be=1,
            at_least=True,
        ),
        Row(
            what="changes handled to the end",
            counted=sum(change in handled for change in changes),
            must_be=evidence.changes,
        ),
        Row(
            what="changes confirmed",
            counted=sum(change in confirmed for change in changes),
            must_be=evidence.changes,
        ),
        Row(what="  left in the queue", counted=evidence.waiting, must_be=0),
        Row(
            what="  confirmed before a handler of the same process had finished",
            counted=sum(
                not _was_handled_before(confirmation, evidence)
                for confirmation in evidence.confirmations
            ),
            must_be=0,
        ),
        Row(what="repeated handlings of a change", counted=repeated),
        Row(what="  before the lease had ended", counted=too_soon, must_be=0),
        Row(what="polls", counted=evidence.polls),
        Row(
            what="  before the permitted time that the same process had received",
            counted=evidence.early_of_one,
            must_be=0,
        ),
        Row(
            what="  before the permitted time that only a different process had received",
            counted=evidence.early_between,
        ),
        Row(what="calls refused because of the rate limit", counted=evidence.blocked),
        Row(
            what="recorded requests, of all that the sandbox answered",
            counted=recorded,
            must_be=answered,
        ),
    ]


def _was_handled_before(confirmation: Confirmation, evidence: Evidence) -> bool:
    return any(
        handling.ended is not None
        and handling.ended <= confirmation.time + _ROUNDING
        and (handling.process, handling.change) == (confirmation.process, confirmation.change)
        for handling in evidence.handlings
    )


def _repeated_handlings(evidence: Evidence) -> tuple[int, int]:
    """The number of repeated handlings, and how many of them began before the earlier lease had ended.

    A lease begins a short time before its handler does. This time is not recorded. It is assumed to be
    less than a quarter of the lease.
    """
    begun = defaultdict[int, list[float]](list)
    for handling in evidence.handlings:
        begun[handling.change].append(handling.begun)
    waits = [
        later - earlier
        for times in map(sorted, begun.values())
        for earlier, later in pairwise(times)
    ]
    return len(waits), sum(wait < 0.75 * evidence.lease for wait in waits)
