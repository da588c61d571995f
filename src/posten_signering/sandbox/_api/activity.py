"""The last requests to the API, the counters of each organisation, and the feed of changes. No I/O.

An early poll is counted for one client if that client had received the next permitted poll time. Otherwise it
is counted between clients: usually a different client had polled the queue before.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from posten_signering.sandbox._api.faults import FaultKind, Operation
from posten_signering.sandbox._state.queues import QueueName

_KEPT_REQUESTS = 200
_OTHER = "other"


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestSnapshot:
    """One request to the API.

    Attributes:
        number: The number of the request, from 1, in the order of the responses.
        time: When the sandbox answered it.
        method: The HTTP method.
        path: The path, with its query; tokens and identity numbers are masked.
        operation: The operation; None when the service has no endpoint with this path.
        organization: The organisation number in the path, else the one in the client's certificate;
            None when neither names an organisation.
        client: The User-Agent header.
        status: The HTTP status; None when the sandbox reset the connection without a response.
        refusal: Why the request was refused; None when it was not refused.
        faults: The kinds of the faults that happened to the request.
    """

    number: int
    time: datetime
    method: str
    path: str
    operation: Operation | None
    organization: str | None
    client: str
    status: int | None
    refusal: str | None
    faults: tuple[FaultKind, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class OrganizationCounters:
    """The calls, refusals and early polls of one organisation since the sandbox was started or reset.

    Attributes:
        calls: The number of calls by operation, including refused calls.
        refusals: The number of refused calls by error code. `DoSFilter` stands for the rate limit.
        early_polls_of_one_client: Polls before a next permitted poll time that the same client had
            received.
        early_polls_between_clients: Polls before a next permitted poll time that the client had not
            received, usually because a different client polled. The User-Agent identifies a client.
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
        self._poll_times: dict[tuple[QueueName, str], datetime] = {}

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

    def record_request(self, request: RequestSnapshot, *, refusal_code: str | None) -> None:
        """Records a finished request, with the error code if the request was refused."""
        self._requests.append(request)
        if request.organization is None:
            return
        counts = self._counts(request.organization)
        counts.calls[str(request.operation or _OTHER)] += 1
        if refusal_code is not None:
            counts.refusals[refusal_code] += 1

    def record_early_poll(self, queue: QueueName, client: str, *, now: datetime) -> None:
        """Counts a poll that was refused as too early."""
        poll_time = self._poll_times.get((queue, client))
        counts = self._counts(queue.sender)
        if poll_time is not None and now < poll_time:
            counts.early_of_one += 1
        else:
            counts.early_between += 1

    def record_poll_time(self, queue: QueueName, client: str, next_permitted: datetime) -> None:
        """Records the next permitted poll time that a client received."""
        self._poll_times[queue, client] = next_permitted

    def clear(self) -> None:
        """Removes all requests, counters and poll times."""
        self._requests.clear()
        self._organizations.clear()
        self._poll_times.clear()

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
        """The number of changes so far."""
        return self._version

    @property
    def closed(self) -> bool:
        """Whether the feed has ended."""
        return self._closed

    def touch(self) -> None:
        """Reports a change."""
        self._version += 1
        self._wake()

    def close(self) -> None:
        """Ends the feed: every `wait` returns immediately from now on."""
        self._closed = True
        self._wake()

    async def wait(self, version: int) -> None:
        """Returns when the feed's version differs from `version`, or the feed is closed."""
        while self._version == version and not self._closed:
            await self._changed.wait()

    def _wake(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
