"""A model of the service: queues, leases, permitted poll times, the rate limit.

It behaves as the service's documentation says ("Polling", "Rate limiting"). It records every poll, and which permitted
time each party knows: a process, or the processes of a shared fleet. `model_transport` connects a client to it. Times are seconds on the virtual loop's
clock.
"""

import math
import random
import re
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from urllib.parse import parse_qs, urlsplit

import anyio
import pki
from doubles import NS, ROOT
from model_faults import Fault
from virtual_time import NOW, VirtualTime

from posten_signering import DirectJobStatusResponse, Request, Sender
from posten_signering.errors import TransportError

SENDER = Sender(organization_number=pki.SENDER)
OTHER_QUEUE = Sender(organization_number=pki.SENDER, polling_queue="shop")
OTHER_SENDER = Sender(organization_number="999888777")
PADES = b"%PDF-1.7\nsigned\n%%EOF\n"
XADES = b"<XAdESSignatures/>"

now = VirtualTime.monotonic


@dataclass(kw_only=True)
class Change:
    """A status change in a queue.

    Attributes:
        leases: For each delivery, the time at which its lease ends, and the process that got the change.
        confirmed: The time of its confirmation, and the process that confirmed it.
        readable: Whether its XML is complete.
    """

    number: int
    job_id: int
    queue: "Queue"
    leases: list[tuple[float, str]] = field(default_factory=list)
    confirmed: tuple[float, str] | None = None
    readable: bool = True

    def is_deliverable(self, at: float) -> bool:
        """Whether a poll at this time may deliver it."""
        return self.confirmed is None and (not self.leases or self.leases[-1][0] <= at)

    def xml(self) -> bytes:
        job = f"{ROOT}/{self.queue.sender.organization_number}/direct/signature-jobs/{self.job_id}"
        return (
            f'<direct-signature-job-status-response xmlns="{NS}">'
            f"<signature-job-id>{self.job_id}</signature-job-id>"
            f"<signature-job-status>IN_PROGRESS</signature-job-status>"
            f'<status signer="customer-42" since="{(NOW + timedelta(seconds=self.number)).isoformat()}">'
            f"SIGNED</status><confirmation-url>{job}/changes/{self.number}/complete"
            f"</confirmation-url><pades-url>{job}/pades</pades-url>"
            "</direct-signature-job-status-response>"
        ).encode()


@dataclass(kw_only=True, eq=False)
class Queue:
    """A polling queue.

    Attributes:
        permitted_at: The service's next permitted poll time.
        known_permitted_at: For each party, the last permitted time that it received.
        lost_at: For each party, the last time at which it lost the response to a poll.
        in_flight: For each party, how many of its polls are in flight.
        most_in_flight: The largest number of polls of one party that were in flight at the same time.
    """

    sender: Sender
    changes: list[Change] = field(default_factory=list)
    permitted_at: float = 0.0
    known_permitted_at: dict[str, float] = field(default_factory=dict)
    lost_at: dict[str, float] = field(default_factory=dict)
    in_flight: Counter[str] = field(default_factory=Counter)
    most_in_flight: int = 0

    @contextmanager
    def polled_by(self, party: str) -> Iterator[None]:
        """Counts a poll as in flight."""
        self.in_flight[party] += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight[party])
        try:
            yield
        finally:
            self.in_flight[party] -= 1


class Outcome(Enum):
    """What became of a poll."""

    CHANGE = auto()
    EMPTY = auto()
    TOO_EARLY = auto()
    BLOCKED = auto()
    NOT_RECEIVED = auto()


@dataclass(kw_only=True)
class Poll:
    """A poll that a process sent.

    Attributes:
        known_permitted_at: The permitted time that its party knew when the poll was sent.
        lost_at: The last time before the poll at which its party lost a response from this queue.
        outcome: None while the request is on the network.
        delivered_number: The number of the change that its process received completely and could read.
    """

    process: str
    queue: Queue
    sent_at: float
    known_permitted_at: float | None
    lost_at: float | None
    outcome: Outcome | None = None
    delivered_number: int | None = None

    @property
    def knowingly_too_early(self) -> bool:
        """Whether its party knew that the poll was too early."""
        return self.known_permitted_at is not None and self.sent_at < self.known_permitted_at - 1e-6


@dataclass(kw_only=True)
class Call:
    """A call that a process sent. Polls are calls too.

    Attributes:
        knowingly_blocked: Whether its party knew that the organisation was blocked.
    """

    process: str
    method: str
    url: str
    sent_at: float
    arrived_at: float | None = None
    knowingly_blocked: bool = False


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes = b""
    cut: bool = False
    permitted_at: float | None = None
    change: int | None = None
    readable: bool = True

    def truncate(self) -> None:
        """Shortens the body so that the transport does not notice it."""
        self.readable = self.readable and not self.body
        self.body = self.body[: len(self.body) * 2 // 3]

    async def chunks(self) -> AsyncIterator[bytes]:
        await anyio.lowlevel.checkpoint()
        if self.cut:
            yield self.body[: len(self.body) // 2]
            raise TransportError(
                "The connection broke in the response's body.", request_may_have_left=True
            )
        if self.body:
            yield self.body


class ModelService:
    """The model of the service. All durations are in seconds.

    Args:
        seed: The seed for the random network delays.
        empty_wait: The wait between two polls of an empty queue.
        lease: How long a delivered change stays hidden.
        busy: How long the service processes a request.
        slow: The longest delay of a request on the network, and of a response.
        rate: The number of calls per second that an organisation may make. One more call blocks it.
        block: How long an organisation is blocked.
        early_poll_penalty: How much each early poll adds to the next permitted poll time.

    Attributes:
        wait_after_change: The wait between a poll that got a change and the next poll.
        script: The faults of the next calls, of any process. None stands for a call without a fault.
        outages: The fault of every call of a process, used once the script is empty.
        polls: Every poll that was sent.
        calls: Every call that was sent, including polls.
        changes: Every change ever added. Its index is its number minus one.
        most_in_a_second: The largest number of an organisation's calls that arrived within one second.
        blocks: How often an organisation was blocked because it made too many calls.
        informed_at: For each party and organisation, when it last learned that the organisation is blocked.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        empty_wait: float = 600.0,
        lease: float = 600.0,
        slow: float = 0.1,
        busy: float = 0.0,
        rate: int = 10,
        block: float = 30.0,
        early_poll_penalty: float = 0.0,
    ) -> None:
        self.random = random.Random(seed)
        self.empty_wait = empty_wait
        self.lease = lease
        self.slow = slow
        self.busy = busy
        self.wait_after_change = 0.0
        self.rate = rate
        self.block = block
        self.early_poll_penalty = early_poll_penalty
        self.script: deque[Fault | None] = deque()
        self.outages: dict[str, Fault] = {}
        self.polls: list[Poll] = []
        self.calls: list[Call] = []
        self.changes: list[Change] = []
        self.most_in_a_second: dict[str, int] = defaultdict(int)
        self.blocks: dict[str, int] = defaultdict(int)
        self.informed_at: dict[tuple[str, str], float] = {}
        self._queues: dict[tuple[str, str | None], Queue] = {}
        self._arrivals: dict[str, deque[float]] = defaultdict(deque)
        self._blocked_until: dict[str, float] = defaultdict(float)

    def queue(self, sender: Sender) -> Queue:
        key = (sender.organization_number, sender.polling_queue)
        return self._queues.setdefault(key, Queue(sender=sender))

    def put(self, sender: Sender, *, job_id: int | None = None) -> Change:
        """Adds a change of a job's status to a queue."""
        number = len(self.changes) + 1
        queue = self.queue(sender)
        change = Change(
            number=number, job_id=1000 + number if job_id is None else job_id, queue=queue
        )
        self.changes.append(change)
        queue.changes.append(change)
        return change

    def block_now(self, organization_number: str) -> None:
        """Blocks an organisation, as if another of its processes had called too often."""
        self._blocked_until[organization_number] = now() + self.block

    @property
    def queues(self) -> Iterable[Queue]:
        """Every queue that a process has polled, or that has had a change."""
        return self._queues.values()

    def polls_of(self, process: str) -> list[Poll]:
        """The polls of a process."""
        return [poll for poll in self.polls if poll.process == process]

    # Handling of requests

    def queue_of(self, request: Request) -> Queue | None:
        """The queue that a request polls, or None if it is no poll."""
        url = urlsplit(request.url.reveal())
        if request.method != "GET" or not url.path.endswith("/direct/signature-jobs"):
            return None
        [name] = parse_qs(url.query).get("polling_queue", [None])
        return self.queue(Sender(organization_number=url.path.split("/")[2], polling_queue=name))

    def answer(self, request: Request, process: str, poll: Poll | None) -> Answer:
        """The response to a request that has reached the service."""
        path = urlsplit(request.url.reveal()).path
        if self._too_many(path.split("/")[2]):
            if poll is not None:
                poll.outcome = Outcome.BLOCKED
            return Answer(429, {"date": self._date(), "dosfilter": "delayed"})
        if poll is not None:
            return self._poll(poll)
        if confirmation := re.search(r"/changes/(\d+)/complete$", path):
            change = self.changes[int(confirmation[1]) - 1]
            if change.confirmed is not None:
                return Answer(404, {"date": self._date()})
            change.confirmed = (now(), process)
            change.queue.changes.remove(change)
            return Answer(204, {"date": self._date()})
        body = PADES if path.endswith("/pades") else XADES if "/xades" in path else b"known"
        return Answer(200, {"date": self._date(), "content-length": str(len(body))}, body)

    def _poll(self, poll: Poll) -> Answer:
        queue = poll.queue
        if now() < queue.permitted_at:
            poll.outcome = Outcome.TOO_EARLY
            queue.permitted_at += self.early_poll_penalty
            return Answer(429, self._times(queue), permitted_at=queue.permitted_at)
        change = next((change for change in queue.changes if change.is_deliverable(now())), None)
        wait = self.empty_wait if change is None else self.wait_after_change
        # A wait is rounded up to whole milliseconds, because the header has no finer precision.
        queue.permitted_at = math.ceil((now() + wait) * 1000) / 1000 if wait else now()
        if change is None:
            poll.outcome = Outcome.EMPTY
            return Answer(204, self._times(queue), permitted_at=queue.permitted_at)
        poll.outcome = Outcome.CHANGE
        change.leases.append((now() + self.lease, poll.process))
        answer = Answer(
            200,
            self._times(queue),
            change.xml(),
            permitted_at=queue.permitted_at,
            change=change.number,
        )
        if not change.readable:
            answer.truncate()
        return answer

    def _times(self, queue: Queue) -> dict[str, str]:
        permitted = NOW + timedelta(milliseconds=round(queue.permitted_at * 1000))
        return {"date": self._date(), "x-next-permitted-poll-time": permitted.isoformat()}

    @staticmethod
    def _date() -> str:
        return f"{VirtualTime.service_clock():%a, %d %b %Y %H:%M:%S} GMT"

    def _too_many(self, organization_number: str) -> bool:
        if now() < self._blocked_until[organization_number]:
            return True
        arrivals = self._arrivals[organization_number]
        while arrivals and arrivals[0] <= now() - 1.0:
            arrivals.popleft()
        arrivals.append(now())
        most = self.most_in_a_second
        most[organization_number] = max(most[organization_number], len(arrivals))
        if len(arrivals) <= self.rate:
            return False
        self.blocks[organization_number] += 1
        self._blocked_until[organization_number] = now() + self.block
        arrivals.clear()
        return True


def number_of(change: DirectJobStatusResponse) -> int:
    """The model's number of a change that a client received."""
    match = re.search(r"/changes/(\d+)/", change.confirmation_url or "")
    assert match is not None
    return int(match[1])
