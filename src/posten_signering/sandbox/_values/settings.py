"""The settings of a sandbox."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypedDict

from posten_signering.sandbox._values.clock import Clock, system_clock


@dataclass(frozen=True, kw_only=True, slots=True)
class RateLimit:
    """The rate limit of each organisation, and the block when an organisation exceeds it.

    Attributes:
        calls: The number of calls that an organisation may make within `period`.
        period: The length of the sliding window in which calls are counted.
        block: How long every call is refused after the limit was exceeded.
    """

    calls: int = 10
    period: timedelta = timedelta(seconds=1)
    block: timedelta = timedelta(seconds=30)


def random_token() -> str:
    """A token that can't be guessed, in characters that need no escaping in a URL."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """The settings of a sandbox. Every default follows the documentation of the real service.

    Attributes:
        port: The port of the API. 0: a free port.
        pages_port: The port of the signer's pages, the overview and the control API. 0: a free port.
        empty_queue_wait: How long a sender must wait with the next poll after it found the queue
            empty: 30 seconds as in the service's test environment (10 minutes in production).
        lease: How long a fetched change stays hidden. If it is not confirmed by then, the next poll
            can get it.
        early_poll_penalty: How much each early poll adds to the next permitted poll time. Zero: an
            early poll does not move it. The service's documentation says that the response to an
            early poll has a new time, which can be read in both ways.
        lifetime: How long the signers have before a job expires.
        deletable_after: How long a sender must wait after the completion of a job before it may delete
            the documents.
        available_for: How long after its end a job's signed documents can be downloaded.
        rate_limit: The rate limit of each organisation. None: no limit.
        organizations: The organisation numbers that have an agreement with the service. None: every
            organisation with a certificate. Others are refused with NOT_AUTHORIZED.
        largest_body: The most bytes in the body of a request. A larger one is refused with HTTP 413.
        document_time_limit: How long the documents of a job may take to become one PDF, when the job is
            created: less than a client waits for the response. Documents that take longer are refused
            with HTTP 400. Signing may take three times as long.
        clock: Returns the current time as an aware datetime. The sandbox takes every time from it.
        directory: Where the sandbox keeps its state. A sandbox that is started with the same
            directory continues from that state. None: in memory. The directory holds private keys:
            only this user may read it.
        random: Returns a number from 0 (inclusive) to 1 (exclusive), for faults with a probability.
        sleep: Waits for a number of seconds, for faults that delay.
        new_token: Returns a new URL-safe text at each call, for redirect URLs, status query tokens and
            cookies.
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
    document_time_limit: timedelta = timedelta(seconds=6)
    clock: Clock = system_clock
    directory: Path | None = None
    random: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    new_token: Callable[[], str] = random_token

    def now(self) -> datetime:
        """The clock's time in whole milliseconds, the precision of times in responses.

        The sandbox then compares the client's next call with exactly the time in the response.
        """
        time = self.clock()
        return time.replace(microsecond=time.microsecond // 1000 * 1000)


class SettingsArguments(TypedDict, total=False):
    """The attributes of `Settings` as optional keyword arguments."""

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
    document_time_limit: timedelta
    clock: Clock
    directory: Path | None
    random: Callable[[], float]
    sleep: Callable[[float], Awaitable[None]]
    new_token: Callable[[], str]
