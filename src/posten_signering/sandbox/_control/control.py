"""What a test, or a person at the overview page, does to the sandbox from outside. Knows no HTTP.

An action commits nothing: over HTTP the guard does that, in the program's own process the `Sandbox`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from posten_signering.sandbox._api.activity import Activity, Feed
from posten_signering.sandbox._api.connection import Delays
from posten_signering.sandbox._api.faults import Faults
from posten_signering.sandbox._control.overview import (
    BrokerSnapshot,
    Overview,
    job_snapshot,
    queue_snapshot,
)
from posten_signering.sandbox._signed.pki import Authority
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.job import Act
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.storage import Storage
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import AdvancedClock, Settings
from posten_signering.sandbox._values.workers import Workers

_LONGEST_ADVANCE = 365 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """Everything that can be done to a sandbox. Signers are numbered from 1.

    Each action raises a `Refusal` when it can't be done. Its changes last after the next `commit`.

    Attributes:
        settings: Times and limits.
        clock: The sandbox's clock.
        storage: Where changes are kept.
        state: Jobs and queues.
        access: Who may call.
        authority: Issues certificates.
        workers: Where certificates are issued.
        faults: The faults that will act.
        delays: The requests that a fault delays.
        activity: The last requests to the API, and counters.
        feed: Reports every action.
        forget_received: Called when the sandbox is reset.
    """

    settings: Settings
    clock: AdvancedClock
    storage: Storage
    state: State
    access: Access
    authority: Authority
    workers: Workers
    faults: Faults
    delays: Delays
    activity: Activity
    feed: Feed
    forget_received: Callable[[], None]

    def overview(self) -> Overview:
        """Everything that the sandbox shows of itself."""
        now = self.settings.now()
        self.state.pass_time(now)
        tables = self.state.tables
        waiting = {change.job_id for change in tables.changes.values()}
        return Overview(
            version=self.feed.version,
            now=now,
            advanced_by=self.clock.ahead,
            jobs=tuple(
                job_snapshot(job, self.settings, now, change_waits=job_id in waiting)
                for job_id, job in sorted(tables.jobs.items(), reverse=True)
            ),
            queues=tuple(
                queue_snapshot(name, queue, self.state.queues.changes(name), now)
                for name, queue in sorted(
                    tables.queues.items(), key=lambda item: (item[0].sender, item[0].name or "")
                )
            ),
            requests=self.activity.requests,
            counters=self.activity.counters,
            faults=self.faults.pending,
            brokers=tuple(
                BrokerSnapshot(
                    certificate_organization=broker.certificate_organization, sender=broker.sender
                )
                for broker in tables.brokers
            ),
        )

    def act(self, redirect_token: Hidden, what: Act) -> str:
        """Acts as the signer whose pages a redirect token opens; returns the exit URL."""
        return self.state.act(redirect_token, what, now=self.settings.now())

    def expire(self, job_id: int) -> None:
        """Moves a job to the end of its lifetime."""
        self.state.expire(job_id, now=self.settings.now())

    def end_lease(self, job_id: int, change: int) -> None:
        """Lets a status change that a poller has come back at once."""
        self.state.end_lease(job_id, change, now=self.settings.now())

    def delete_documents(self, job_id: int) -> None:
        """Deletes the documents of a job that has ended, as when the service's time is over."""
        self.state.end_availability(job_id, now=self.settings.now())
        self.storage.delete(job_id)

    def advance(self, seconds: float) -> None:
        """Moves the sandbox's clock on."""
        if not 0 < seconds <= _LONGEST_ADVANCE:
            raise Refusal(
                400, "BAD_REQUEST", f"The clock moves on by up to {_LONGEST_ADVANCE} seconds."
            )
        self.clock.advance(seconds)

    def authorize_broker(self, certificate_organization: str, sender: str) -> None:
        """Permits the holder of a certificate to act for a sender."""
        for number in (certificate_organization, sender):
            require_organization_number(number)
        self.access.authorize_broker(certificate_organization, sender)

    def reset(self) -> None:
        """Forgets everything but the certificates, and sets the clock right."""
        self.state.clear()
        self.storage.clear()
        self.faults.clear()
        self.delays.let_go()
        self.activity.clear()
        self.forget_received()

    async def commit(self) -> None:
        """Returns when every change so far is committed; the feed then reports it.

        Raises:
            SandboxError: The storage can't be written to.
        """
        await self.storage.commit()
        self.feed.touch()

    def commit_now(self) -> None:
        """Does what `commit` does, but blocks."""
        self.storage.commit_now()
        self.feed.touch()


def require_organization_number(text: str) -> None:
    """Checks the form of an organisation number.

    Raises:
        Refusal: The text is not nine digits.
    """
    if re.fullmatch("[0-9]{9}", text) is None:
        raise Refusal(400, "BAD_REQUEST", "An organisation number has nine digits.")
