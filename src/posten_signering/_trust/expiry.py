"""When a client warns that a certificate expires. Has no timer: the client asks at each call."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from posten_signering._trust.certificates import EnterpriseCertificate, name_text
from posten_signering._values.events import CertificateExpiring, CertificateKind

_EXPIRES_SOON = timedelta(days=30)
_SECONDS_PER_DAY = 24 * 60 * 60


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchedCertificate:
    """What a warning says of a certificate. The fields are those of `CertificateExpiring`."""

    kind: CertificateKind
    subject: str
    sha256: str
    not_after: datetime


def watched_certificates(
    certificate: EnterpriseCertificate, anchors: Iterable[bytes]
) -> tuple[WatchedCertificate, ...]:
    """The certificates that a client warns about: its own, and its trust anchors.

    Args:
        certificate: The enterprise certificate.
        anchors: Trust anchors in DER form.
    """
    own = _watched(CertificateKind.ENTERPRISE, certificate.chain[0])
    issuers = map(x509.load_der_x509_certificate, anchors)
    return (own, *(_watched(CertificateKind.TRUST_ANCHOR, issuer) for issuer in issuers))


def without_expired(anchors: tuple[bytes, ...], now: datetime) -> tuple[bytes, ...]:
    """The trust anchors that have not expired; all of them if every one has.

    OpenSSL finds an expired intermediate among the trust anchors first. It then refuses the service's chain, even
    if the service has sent the intermediate's successor and their root is a trust anchor too.
    """
    valid = tuple(
        der for der in anchors if x509.load_der_x509_certificate(der).not_valid_after_utc >= now
    )
    return valid or anchors


def _watched(kind: CertificateKind, certificate: x509.Certificate) -> WatchedCertificate:
    return WatchedCertificate(
        kind=kind,
        subject=name_text(certificate.subject),
        sha256=certificate.fingerprint(hashes.SHA256()).hex(),
        not_after=certificate.not_valid_after_utc,
    )


class ExpiryWarnings:
    """Warns about certificates in their last 30 days and after they have expired.

    The clock decides whether a certificate expires soon or has expired. Each of the two is reported at
    once, and again after a day. The monotonic clock measures that day. So however the clock jumps,
    there are at most two warnings a day about a certificate, and none is suppressed for longer than a day.

    An expired trust anchor is reported once: either the client does not need it, or its calls fail.

    Args:
        clock: Returns the current time as an aware datetime.
        monotonic: Returns the seconds of a clock that never jumps.
        notify: Receives the warnings.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
        notify: Callable[[CertificateExpiring], None],
    ) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._notify = notify
        self._watched: tuple[WatchedCertificate, ...] = ()
        self._nothing_before = datetime.min.replace(tzinfo=UTC)
        # By fingerprint, and whether it was expired: when the last warning was given. The warnings of a
        # certificate that is replaced and comes back are counted on.
        self._warned_at = dict[tuple[str, bool], float]()

    def watch(self, watched: tuple[WatchedCertificate, ...]) -> None:
        """Warns about these certificates from now on, and no longer about others."""
        self._watched = watched
        self._nothing_before = min(entry.not_after for entry in watched) - _EXPIRES_SOON
        self.check()

    def check(self) -> None:
        """Gives the warnings that are due. Costs less than a microsecond while no certificate expires soon."""
        now = self._clock()
        if now < self._nothing_before:
            return
        seconds = self._monotonic()
        for entry in self._watched:
            time_left = entry.not_after - now
            if time_left <= _EXPIRES_SOON and self._is_due(entry, seconds, time_left):
                self._notify(
                    CertificateExpiring(
                        kind=entry.kind,
                        subject=entry.subject,
                        sha256=entry.sha256,
                        not_after=entry.not_after,
                        time_left=time_left,
                    )
                )

    def _is_due(self, entry: WatchedCertificate, seconds: float, time_left: timedelta) -> bool:
        expired = time_left < timedelta(0)
        last = self._warned_at.get((entry.sha256, expired))
        once = expired and entry.kind is CertificateKind.TRUST_ANCHOR
        if last is not None and (once or seconds - last < _SECONDS_PER_DAY):
            return False
        self._warned_at[entry.sha256, expired] = seconds
        return True
