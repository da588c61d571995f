"""Which organisation may call, for which sender, and how often. Performs no I/O and reads no clock."""

from collections.abc import MutableMapping
from dataclasses import dataclass
from datetime import datetime

from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Broker:
    """A permission: the holder of a certificate may act for a sender.

    Attributes:
        certificate_organization: The organisation number of the certificate's holder.
        sender: The organisation number of the sender.
    """

    certificate_organization: str
    sender: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Calls:
    """The calls of one organisation that still count towards its rate limit.

    Attributes:
        times: The times of the calls, oldest first.
        blocked_until: The end of a block; None when the organisation is not blocked.
    """

    times: tuple[datetime, ...] = ()
    blocked_until: datetime | None = None


class Access:
    """Decides whether the service answers a call.

    Args:
        settings: Which organisations have an agreement, and the rate limit.
        calls: By organisation number, the calls that still count.
        brokers: The permissions of brokers; the value is always True.
    """

    def __init__(
        self,
        settings: Settings,
        calls: MutableMapping[str, Calls],
        brokers: MutableMapping[Broker, bool],
    ) -> None:
        self._settings = settings
        self._calls = calls
        self._brokers = brokers

    def admit(self, organization: str, *, now: datetime) -> bool:
        """Counts a call of an organisation. Returns whether the service answers it.

        The first call above the limit starts a block. Calls during a block are not counted and do not
        make it longer ("10 API calls per second per organisation number; excess: 30 s block").
        """
        calls = self._calls.get(organization, Calls())
        if calls.blocked_until is not None and now < calls.blocked_until:
            return False
        limit = self._settings.rate_limit
        if limit is None:
            return True
        counted = tuple(time for time in calls.times if time > now - limit.period)
        admitted = len(counted) < limit.calls
        self._calls[organization] = (
            Calls(times=(*counted, now)) if admitted else Calls(blocked_until=now + limit.block)
        )
        return admitted

    def block(self, organization: str, *, until: datetime) -> None:
        """Blocks an organisation until this time, as if it had exceeded its rate limit."""
        self._calls[organization] = Calls(blocked_until=until)

    def authorize(self, certificate_organization: str | None, sender: str) -> None:
        """Checks that the holder of a certificate may act for a sender.

        Raises:
            Refusal: The holder has no access to the service, or may not act for this sender.
        """
        if certificate_organization is None:
            raise Refusal(403, "NOT_AUTHORIZED", "The certificate has no organisation number.")
        allowed = self._settings.organizations
        if allowed is not None and certificate_organization not in allowed:
            raise Refusal(
                403,
                "NOT_AUTHORIZED",
                f"The organisation {certificate_organization} has no access to the service.",
            )
        broker = Broker(certificate_organization=certificate_organization, sender=sender)
        if certificate_organization != sender and broker not in self._brokers:
            raise Refusal(
                403,
                "BROKER_NOT_AUTHORIZED",
                f"The organisation {certificate_organization} is not authorised"
                f" to act on behalf of {sender}.",
            )

    def authorize_broker(self, certificate_organization: str, sender: str) -> None:
        """Permits the holder of a certificate to act for a sender."""
        broker = Broker(certificate_organization=certificate_organization, sender=sender)
        self._brokers[broker] = True
