"""What can be set on a sandbox, and what the real service has there. Performs no I/O."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypedDict

Clock = Callable[[], datetime]


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """How many calls an organisation may make, and what follows when it makes more.

    Attributes:
        calls: So many are answered within `period`.
        period: The time within which calls are counted together.
        block: How long every call is refused after one too many.
    """

    calls: int = 10
    period: timedelta = timedelta(seconds=1)
    block: timedelta = timedelta(seconds=30)


class AdvancedClock:
    """A clock that can be moved on, and is ahead of another from then on.

    Args:
        clock: The other.
        offsets: Holds, under `name`, by how many seconds this one is ahead.
        name: See `offsets`.
    """

    def __init__(self, clock: Clock, offsets: MutableMapping[str, float], name: str) -> None:
        self._clock = clock
        self._offsets = offsets
        self._name = name

    def __call__(self) -> datetime:
        return self._clock() + timedelta(seconds=self.ahead)

    @property
    def ahead(self) -> float:
        """By how many seconds this clock is ahead."""
        return self._offsets.get(self._name, 0.0)

    def advance(self, seconds: float) -> None:
        """Moves the clock on."""
        self._offsets[self._name] = self.ahead + seconds


def system_clock() -> datetime:
    """The present time of this machine."""
    return datetime.now(UTC)


def random_token() -> str:
    """A token that nobody can guess, of letters that need no escaping in a URL."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a sandbox. Every default is what the real service is documented to do.

    Attributes:
        port: Of the API; 0 takes a free one.
        pages_port: Of the signer's pages; 0 takes a free one.
        empty_queue_wait: How long after finding its queue empty a sender has to wait with the next
            poll: 30 seconds as in the service's test environment (10 minutes in production).
        lease: How long a fetched change stays hidden before it comes back unless confirmed.
        early_poll_penalty: What each poll that comes too early adds to the next permitted time.
            Zero: the time stands. (That the live service is stricter is said, not documented.)
        lifetime: How long the signers have before a job expires.
        deletable_after: How long after its completion the documents of a job can be deleted.
        available_for: How long after its end a job's signed documents can be downloaded.
        rate_limit: None answers any number of calls.
        organizations: The organisation numbers with an agreement; None: every one that has a
            certificate. Others are refused with NOT_AUTHORIZED.
        largest_body: In bytes; a request with more is refused with HTTP 413.
        clock: The present time, with an offset. Everything the sandbox says of time follows it.
        directory: Where everything is kept, so that a sandbox started there again continues where this
            one ended; None keeps everything in memory. It holds private keys: for this user only.
        random: A number from 0 up to 1, for faults with a probability.
        sleep: Waits for some seconds, for faults that delay.
        new_token: A new text of URL-safe characters for each call, for one-time redirect URLs and
            for status query tokens.
    """

    port: int = 0
    pages_port: int = 0
    empty_queue_wait: timedelta = timedelta(seconds=30)
    lease: timedelta = timedelta(minutes=10)
    early_poll_penalty: timedelta = timedelta(0)
    lifetime: timedelta = timedelta(days=30)
    deletable_after: timedelta = timedelta(hours=24)
    available_for: timedelta = timedelta(days=40)
    rate_limit: RateLimit | None = field(default_factory=RateLimit)
    organizations: frozenset[str] | None = None
    largest_body: int = 12 * 1024 * 1024
    clock: Clock = system_clock
    directory: Path | None = None
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    new_token: Callable[[], str] = random_token

    def now(self) -> datetime:
        """The clock's time in whole milliseconds, which is how the service writes times.

        A time in an answer is then exactly the time that the client's next call is compared with.
        """
        time = self.clock()
        return time.replace(microsecond=time.microsecond // 1000 * 1000)


class SettingsArguments(TypedDict, total=False):
    """The settings as keyword arguments: those of `Settings`, all optional."""

    port: int
    pages_port: int
    empty_queue_wait: timedelta
    lease: timedelta
    early_poll_penalty: timedelta
    lifetime: timedelta
    deletable_after: timedelta
    available_for: timedelta
    rate_limit: RateLimit | None
    organizations: frozenset[str] | None
    largest_body: int
    clock: Clock
    directory: Path | None
    random: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    new_token: Callable[[], str]
