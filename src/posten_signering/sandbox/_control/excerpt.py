"""What the overview page shows: one page of jobs, one page of requests, and the beginning of each queue. No I/O.

The page asks after every change. So an answer has a bounded size, however many jobs there are.
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TypeVar

from posten_signering.sandbox._api.activity import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._api.faults import PendingFault
from posten_signering.sandbox._control.control import Control
from posten_signering.sandbox._control.overview import (
    JobSnapshot,
    QueueSnapshot,
    job_snapshot,
    queue_snapshot,
)
from posten_signering.sandbox._state.job import Job, awaits_confirmation
from posten_signering.sandbox._state.queues import Change, QueueName

JOBS = 6
REQUESTS = 10
ORGANIZATIONS = 20
QUEUES = 10
CHANGES = 5

_UNCONFIRMED = "unconfirmed"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Which page of a list this is.

    Attributes:
        page: The number of the page, from 1.
        pages: The number of pages, at least 1.
        found: The number of items on all pages.
    """

    page: int
    pages: int
    found: int


@dataclass(frozen=True, kw_only=True, slots=True)
class QueueExcerpt:
    """The beginning of a queue.

    Attributes:
        queue: The queue with its oldest changes.
        left_out: The number of further changes.
    """

    queue: QueueSnapshot
    left_out: int


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewExcerpt:
    """What the overview page shows.

    Attributes:
        now: The sandbox's time.
        advanced_by: The number of seconds by which the sandbox's clock was moved forward.
        jobs: One page of the selected jobs, newest first.
        jobs_place: Which page of jobs it is.
        jobs_total: The number of all jobs.
        organizations: The senders of all jobs, as organisation numbers.
        queues: The first queues.
        queues_left_out: The number of further queues.
        requests: One page of the last requests, newest first.
        requests_place: Which page of requests it is.
        counters: The counters of the first organisations, by organisation number.
        counters_left_out: The number of further organisations.
        faults: The pending faults, oldest first.
    """

    now: datetime
    advanced_by: float
    jobs: tuple[JobSnapshot, ...]
    jobs_place: Place
    jobs_total: int
    organizations: tuple[str, ...]
    queues: tuple[QueueExcerpt, ...]
    queues_left_out: int
    requests: tuple[RequestSnapshot, ...]
    requests_place: Place
    counters: Mapping[str, OrganizationCounters]
    counters_left_out: int
    faults: tuple[PendingFault, ...]


def overview_excerpt(control: Control, query: Mapping[str, str]) -> OverviewExcerpt:
    """The part of the overview that the query of the page's URL selects.

    Args:
        control: The sandbox.
        query: `job`, an id; `state`, a job's status or `unconfirmed`; `organization`, for jobs and counters;
            `page`, of jobs; `requests`, a page too; `queues`, which shows whole queues if it is `all`.
            All are optional.
    """
    now = control.settings.now()
    control.state.pass_time(now)
    tables = control.state.tables
    changes: defaultdict[QueueName, list[Change]] = defaultdict(list)
    for key, change in tables.changes.items():
        changes[key.queue].append(change)
    waiting = {change.job_id for change in tables.changes.values()}
    selected = [
        job
        for _, job in sorted(tables.jobs.items(), reverse=True)
        if _is_selected(job, query, change_waits=job.id in waiting)
    ]
    jobs, jobs_place = _page(selected, query.get("page", ""), JOBS)
    requests, requests_place = _page(control.activity.requests, query.get("requests", ""), REQUESTS)
    counters = control.activity.counters
    wanted = query.get("organization", "")
    of_wanted = ((number, counts) for number, counts in counters.items() if wanted in {"", number})
    shown_counters = dict(islice(of_wanted, ORGANIZATIONS))
    names = sorted(tables.queues, key=lambda name: (name.sender, name.name or ""))
    whole = query.get("queues") == "all"
    shown_names = names if whole else names[:QUEUES]
    most_changes = None if whole else CHANGES
    return OverviewExcerpt(
        now=now,
        advanced_by=control.clock.ahead,
        jobs=tuple(
            job_snapshot(job, control.settings, now, change_waits=job.id in waiting) for job in jobs
        ),
        jobs_place=jobs_place,
        jobs_total=len(tables.jobs),
        organizations=tuple(sorted({job.sender for job in tables.jobs.values()})),
        queues=tuple(
            _queue_excerpt(control, name, changes[name], most_changes, now) for name in shown_names
        ),
        queues_left_out=len(names) - len(shown_names),
        requests=tuple(requests),
        requests_place=requests_place,
        counters=shown_counters,
        counters_left_out=len(counters) - len(shown_counters),
        faults=control.faults.pending,
    )


def _is_selected(job: Job, query: Mapping[str, str], *, change_waits: bool) -> bool:
    state = query.get("state", "")
    if state == _UNCONFIRMED:
        in_state = change_waits or awaits_confirmation(job)
    else:
        in_state = state in {"", job.status}
    return (
        in_state
        and query.get("organization", "") in {"", job.sender}
        and query.get("job", "") in {"", str(job.id)}
    )


def _page(items: Sequence[T], number: str, size: int) -> tuple[Sequence[T], Place]:
    """One page of a list. A number that is no page's number gives the first or the last page."""
    pages = max(1, -(-len(items) // size))
    wanted = int(number) if re.fullmatch("[0-9]{1,9}", number) else 1
    page = min(max(wanted, 1), pages)
    place = Place(page=page, pages=pages, found=len(items))
    return items[(page - 1) * size : page * size], place


def _queue_excerpt(
    control: Control, name: QueueName, changes: list[Change], most: int | None, now: datetime
) -> QueueExcerpt:
    oldest = sorted(changes, key=lambda change: change.number)[:most]
    queue = queue_snapshot(name, control.state.tables.queues[name], oldest, now)
    return QueueExcerpt(queue=queue, left_out=len(changes) - len(oldest))
