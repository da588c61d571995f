"""What was asked of the API: the last requests, counters for each organisation, and the feed of changes. No I/O.

An early poll counts for the client that knew the time itself, or else for the two clients together: one of
them alone can't avoid it.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from posten_signering.sandbox._state.queues import QueueName

_KEPT_REQUESTS = 200
_OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSnapshot:
    """One request to the API.

    Attributes:
        number: From 1, in the order of arrival.
        time: When it was answered.
        method: The HTTP method.
        path: The path, with its query; tokens and identity numbers are masked.
        operation: Which operation; None when the path is none of the service's.
        organization: The organisation number in the path, or that of the certificate; None when
            neither is known.
        client: Its User-Agent.
        status: The HTTP status; None when a fault cut the connection.
        refusal: Why it was refused; None when it was not.
        faults: The faults that acted on it.
    """

    number: int
    time: datetime
    method: str
    path: str
    operation: str | None
    organization: str | None
    client: str
    status: int | None
    refusal: str | None
    faults: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganizationCounters:
    """What the calls of one organisation have come to, since the sandbox was started or reset.

    Attributes:
        calls: How many, by operation; refused ones too.
        refusals: How many were refused, by error code. `DoSFilter` stands for the rate limit.
        early_polls_of_one_client: Polls before a time that the same client had been told.
        early_polls_between_clients: Polls before a time that only another client had been told.
            A client is known by its User-Agent.
    """

    calls: Mapping[str, int]
    refusals: Mapping[str, int]
    early_polls_of_one_client: int
    early_polls_between_clients: int


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

    @property
    def next_number(self) -> int:
        """The number of the next request."""
        return self._requests[-1].number + 1 if self._requests else 1

    def answered(self, request: RequestSnapshot, *, refusal_code: str | None) -> None:
        """Adds a request that was answered, with the error code of its refusal, if it was refused."""
        self._requests.append(request)
        if request.organization is None:
            return
        counts = self._counts(request.organization)
        counts.calls[str(request.operation or _OTHER)] += 1
        if refusal_code is not None:
            counts.refusals[refusal_code] += 1

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
