"""What has been asked of the API: the last requests, and counters for each organisation. No I/O.

A poll that comes too early is put down to the client that was told the time itself, or, when another
client was, to the two together: that can't be avoided by one of them alone.

`Feed` tells whoever watches the sandbox that something has changed.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from posten_signering.sandbox._api.faults import Operation
from posten_signering.sandbox._control.overview import OrganizationCounters, RequestSnapshot
from posten_signering.sandbox._state.queues import QueueName

_KEPT_REQUESTS = 200
_OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class Answered:
    """One request and what became of it; texts are masked already. See `RequestSnapshot`."""

    time: datetime
    method: str
    path: str
    operation: Operation | None
    organization: str | None
    client: str
    status: int | None
    refusal_code: str | None
    refusal: str | None
    faults: tuple[str, ...]


@dataclass(kw_only=True, slots=True)
class _Counts:
    calls: Counter[str] = field(default_factory=Counter[str])
    refusals: Counter[str] = field(default_factory=Counter[str])
    early_of_one: int = 0
    early_between: int = 0


class Activity:
    """The last requests and the counters."""

    def __init__(self) -> None:
        self._requests = deque[RequestSnapshot](maxlen=_KEPT_REQUESTS)
        self._count = 0
        self._organizations: dict[str, _Counts] = {}
        self._told: dict[tuple[QueueName, str], datetime] = {}

    @property
    def requests(self) -> tuple[RequestSnapshot, ...]:
        """The last requests, newest first."""
        return tuple(reversed(self._requests))

    @property
    def counters(self) -> Mapping[str, OrganizationCounters]:
        """The counters, by organisation number."""
        return MappingProxyType(
            {
                organization: OrganizationCounters(
                    calls=MappingProxyType(dict(counts.calls)),
                    refusals=MappingProxyType(dict(counts.refusals)),
                    early_polls_of_one_client=counts.early_of_one,
                    early_polls_between_clients=counts.early_between,
                )
                for organization, counts in sorted(self._organizations.items())
            }
        )

    def answered(self, request: Answered) -> None:
        """Takes note of a request."""
        self._count += 1
        self._requests.append(
            RequestSnapshot(
                number=self._count,
                time=request.time,
                method=request.method,
                path=request.path,
                operation=request.operation,
                organization=request.organization,
                client=request.client,
                status=request.status,
                refusal=request.refusal,
                faults=request.faults,
            )
        )
        if request.organization is None:
            return
        counts = self._counts(request.organization)
        counts.calls[_OTHER if request.operation is None else request.operation.value] += 1
        if request.refusal_code is not None:
            counts.refusals[request.refusal_code] += 1

    def polled_too_early(self, queue: QueueName, client: str, *, now: datetime) -> None:
        """Takes note of a poll that was refused as too early."""
        told = self._told.get((queue, client))
        counts = self._counts(queue.sender)
        if told is not None and now < told:
            counts.early_of_one += 1
        else:
            counts.early_between += 1

    def told(self, queue: QueueName, client: str, next_permitted: datetime) -> None:
        """Takes note that a client was told when its next poll is permitted."""
        self._told[queue, client] = next_permitted

    def clear(self) -> None:
        """Forgets everything."""
        self._requests.clear()
        self._count = 0
        self._organizations.clear()
        self._told.clear()

    def _counts(self, organization: str) -> _Counts:
        return self._organizations.setdefault(organization, _Counts())


class Feed:
    """The number of changes so far, and a way to wait for the next one."""

    def __init__(self) -> None:
        self._version = 0
        self._changed = asyncio.Event()
        self._closed = False

    @property
    def version(self) -> int:
        """How many changes there have been."""
        return self._version

    @property
    def closed(self) -> bool:
        """Whether there will be no more changes."""
        return self._closed

    def touch(self) -> None:
        """Something has changed."""
        self._version += 1
        self._wake()

    def close(self) -> None:
        """Ends all waiting for good."""
        self._closed = True
        self._wake()

    async def wait(self, version: int) -> None:
        """Returns when the version differs from this one, or the feed is closed."""
        while self._version == version and not self._closed:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
