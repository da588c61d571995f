"""The hands of the sandbox: what a test, or a person at the overview page, does to it from outside.

What an action has changed is there to stay when it returns, and told to whoever watches.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

from posten_signering.sandbox._api.activity import Activity, Feed
from posten_signering.sandbox._api.connection import Delays
from posten_signering.sandbox._api.faults import Faults
from posten_signering.sandbox._control.overview import Overview
from posten_signering.sandbox._control.overview_made import overview_of
from posten_signering.sandbox._signed.pki import Authority
from posten_signering.sandbox._state import state_control
from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._state.job import Act
from posten_signering.sandbox._state.state import State
from posten_signering.sandbox._state.store import Store
from posten_signering.sandbox._state.tables import Pkcs12
from posten_signering.sandbox._values.hidden import Hidden
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import AdvancedClock, Settings
from posten_signering.sandbox._values.workers import Workers

_LONGEST_ADVANCE = 365 * 24 * 3600


@dataclass(frozen=True, kw_only=True, slots=True)
class Control:
    """Everything that can be done to a sandbox. Signers are numbered from 1.

    Each action raises a `Refusal` when it can't be done, and a `SandboxError` when the store can't
    be written to.

    Attributes:
        settings: Times and limits.
        clock: The sandbox's clock.
        store: Where changes are kept.
        state: Jobs and queues.
        access: Who may call.
        authority: Issues certificates.
        workers: Where certificates are issued.
        faults: What goes wrong.
        delays: Hold requests back.
        activity: What was asked of the API.
        feed: Told of every action.
        forget_received: Called when the sandbox is reset.
    """

    settings: Settings
    clock: AdvancedClock
    store: Store
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
        return overview_of(
            settings=self.settings,
            state=self.state,
            activity=self.activity,
            faults=self.faults,
            version=self.feed.version,
        )

    async def act(self, redirect_token: Hidden, what: Act) -> str:
        """A signer acts on the pages that a redirect token opens; gives the exit URL."""
        exit_url = self.state.act(redirect_token, what, now=self.settings.now())
        await self._lasting()
        return exit_url

    async def act_as(self, job_id: int, number: int, what: Act) -> str:
        """Acts as a signer; gives the exit URL. Uses up the signer's redirect URL."""
        exit_url = state_control.act_as(
            self.state, job_id, number - 1, what, now=self.settings.now()
        )
        await self._lasting()
        return exit_url

    def status_query_token(self, job_id: int, number: int) -> Hidden:
        """The token that the exit URL of a signer carries, or will carry."""
        return state_control.status_query_token(
            self.state, job_id, number - 1, now=self.settings.now()
        )

    async def expire(self, job_id: int) -> None:
        """Moves a job to the end of its lifetime."""
        state_control.expire(self.state, job_id, now=self.settings.now())
        await self._lasting()

    async def end_lease(self, job_id: int, change: int) -> None:
        """Lets a leased status change come back at once."""
        state_control.end_lease(self.state, job_id, change, now=self.settings.now())
        await self._lasting()

    async def delete_documents(self, job_id: int) -> None:
        """Deletes the documents of a job that has ended, whenever that was."""
        state_control.delete_documents(self.state, job_id, now=self.settings.now())
        self.store.delete(job_id)
        await self._lasting()

    async def advance(self, seconds: float) -> None:
        """Moves the sandbox's clock on."""
        if not 0 < seconds <= _LONGEST_ADVANCE:
            raise Refusal(
                400, "BAD_REQUEST", f"The clock moves on by up to {_LONGEST_ADVANCE} seconds."
            )
        self.clock.advance(seconds)
        await self._lasting()

    async def authorize_broker(self, certificate_organization: str, sender: str) -> None:
        """Permits the holder of a certificate to act for a sender."""
        self.allow_broker(certificate_organization, sender)
        await self._lasting()

    def allow_broker(self, certificate_organization: str, sender: str) -> None:
        """Does what `authorize_broker` does. Whoever calls this commits."""
        for number in (certificate_organization, sender):
            require_organization_number(number)
        self.access.authorize_broker(certificate_organization, sender)

    async def issue(self, organization_number: str) -> Pkcs12:
        """The enterprise certificate of an organisation; the same for every call."""
        require_organization_number(organization_number)
        issued = await self.workers.run(self.authority.enterprise_pkcs12, organization_number)
        await self._lasting()
        return issued

    async def reset(self) -> None:
        """Forgets everything but the certificates."""
        state_control.clear(self.state)
        self.store.clear()
        self.faults.clear()
        self.delays.let_go()
        self.activity.clear()
        self.forget_received()
        await self._lasting()

    def lasting_now(self) -> None:
        """Waits until every change so far is there to stay; blocks meanwhile."""
        self.store.commit_now()
        self.feed.touch()

    async def _lasting(self) -> None:
        await self.store.commit()
        self.feed.touch()


def require_organization_number(text: str) -> None:
    """Refuses what is no organisation number.

    Raises:
        Refusal: It has not nine digits.
    """
    if re.fullmatch("[0-9]{9}", text) is None:
        raise Refusal(400, "BAD_REQUEST", "An organisation number has nine digits.")
