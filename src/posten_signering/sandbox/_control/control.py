"""Actions on the sandbox, for tests and for the overview page. Independent of HTTP.

The caller must commit the changes. `guard` does it for HTTP requests, `Sandbox` for calls in the same process.
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
from posten_signering.sandbox._values.clock import AdvancedClock
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings
from posten_signering.sandbox._values.workers import Workers

LONGEST_ADVANCE = 365 * 24 * 3600
"""The largest number of seconds by which one `advance` moves the clock: one year."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """The actions on a sandbox. Signers are numbered from 1.

    An action that is not possible raises a `Refusal`. Changes are stored by the next `commit`.

    Attributes:
        settings: Times and limits.
        clock: The sandbox's clock.
        storage: Stores the changes.
        state: Jobs and queues.
        access: Decides who may call.
        authority: Issues certificates.
        workers: The threads in which certificates are issued.
        faults: The pending faults.
        delays: The requests that a fault delays.
        activity: The last requests to the API, and the counters.
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
        """The state of the sandbox: jobs, queues, requests, counters, faults and brokers."""
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

    def act(self, redirect_token: Hidden, act: Act) -> str:
        """Signs, rejects or fails as the signer of a redirect token. Returns the exit URL."""
        return self.state.act(redirect_token, act, now=self.settings.now())

    def expire(self, job_id: int) -> None:
        """Lets a job expire now."""
        self.state.expire(job_id, now=self.settings.now())

    def end_lease(self, job_id: int, change: int) -> None:
        """Ends the lease of a status change, so that the next poll delivers the change again."""
        self.state.end_lease(job_id, change, now=self.settings.now())

    def delete_documents(self, job_id: int) -> None:
        """Deletes the documents of a job that has ended, as the service does after its retention time."""
        self.state.end_availability(job_id, now=self.settings.now())
        self.storage.delete(job_id)

    def advance(self, seconds: float) -> None:
        """Moves the sandbox's clock forward."""
        if not 0 < seconds <= LONGEST_ADVANCE:
            raise Refusal(
                400,
                "BAD_REQUEST",
                f"seconds must be more than 0 and at most {LONGEST_ADVANCE} (one year).",
            )
        self.clock.advance(seconds)

    def authorize_broker(self, certificate_organization: str, sender: str) -> None:
        """Allows the organisation in a certificate to act for a sender."""
        for number in (certificate_organization, sender):
            require_organization_number(number)
        self.access.authorize_broker(certificate_organization, sender)

    def reset(self) -> None:
        """Deletes everything but the certificates, and undoes every `advance` of the clock."""
        self.state.clear()
        self.storage.clear()
        self.faults.clear()
        self.delays.discard_all()
        self.activity.clear()
        self.forget_received()

    async def commit(self) -> None:
        """Stores every change so far, then reports it on the feed.

        Raises:
            SandboxError: The storage can't be written to.
        """
        await self.storage.commit()
        self.feed.touch()

    def commit_now(self) -> None:
        """Does the same as `commit`, but blocks the calling thread."""
        self.storage.commit_now()
        self.feed.touch()


def require_organization_number(text: str) -> None:
    """Checks that a text is an organisation number.

    Raises:
        Refusal: The text does not consist of nine digits.
    """
    if re.fullmatch("[0-9]{9}", text) is None:
        raise Refusal(400, "BAD_REQUEST", "An organisation number must have nine digits.")
