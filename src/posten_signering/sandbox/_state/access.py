"""Who may call the service, for whom and how often. Performs no I/O."""

from datetime import datetime

from posten_signering.sandbox._state import state_rate
from posten_signering.sandbox._state.state_rate import Calls
from posten_signering.sandbox._state.tables import Broker, Tables
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings


class Access:
    """The agreements there are, and the calls that were made.

    Args:
        settings: Which organisations have an agreement, and the rate limit.
        tables: What is known from before.
    """

    def __init__(self, settings: Settings, tables: Tables) -> None:
        self._settings = settings
        self._tables = tables

    def admit(self, organization: str, *, now: datetime) -> bool:
        """Counts a call of an organisation, and says whether it is answered."""
        limit = self._settings.rate_limit
        before = self._tables.calls.get(organization, Calls())
        if limit is None:
            return not state_rate.blocked(before, now=now)
        self._tables.calls[organization], admitted = state_rate.admit(before, now=now, limit=limit)
        return admitted

    def block(self, organization: str, *, until: datetime) -> None:
        """Refuses every call of an organisation for a time, as after too many calls."""
        self._tables.calls[organization] = Calls(blocked_until=until)

    def authorize(self, certificate_organization: str | None, sender: str) -> None:
        """Holds that the holder of a certificate may act for a sender.

        Raises:
            Refusal: It has no access, or is neither the sender nor a broker of it.
        """
        if certificate_organization is None:
            raise Refusal(403, "NOT_AUTHORIZED", "The certificate names no organisation number.")
        allowed = self._settings.organizations
        if allowed is not None and certificate_organization not in allowed:
            raise Refusal(
                403,
                "NOT_AUTHORIZED",
                f"The organisation {certificate_organization} has no access to the service.",
            )
        broker = Broker(certificate_organization=certificate_organization, sender=sender)
        if certificate_organization != sender and broker not in self._tables.brokers:
            raise Refusal(
                403,
                "BROKER_NOT_AUTHORIZED",
                f"The organisation {certificate_organization} is not authorised"
                f" to act on behalf of {sender}.",
            )

    def authorize_broker(self, certificate_organization: str, sender: str) -> None:
        """Permits the holder of a certificate to act for a sender."""
        broker = Broker(certificate_organization=certificate_organization, sender=sender)
        self._tables.brokers[broker] = None
