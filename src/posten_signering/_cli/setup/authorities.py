"""CA certificates: their names, fingerprints and validity."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from posten_signering import EnterpriseCertificate, Environment, TrustAnchors
from posten_signering._cli.names import name_text
from posten_signering.errors import ConfigurationError


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA certificate that is at hand.

    Attributes:
        name: The common name of its subject.
        sha256: The SHA-256 fingerprint of the certificate in DER form.
        not_before: When it becomes valid.
        not_after: When it expires.
        der: The certificate in DER form.
    """

    name: str
    sha256: str
    not_before: datetime
    not_after: datetime
    der: bytes = field(repr=False)

    def is_valid(self, now: datetime) -> bool:
        """Whether the certificate is valid at a time."""
        return self.not_before <= now <= self.not_after

    def validity(self, now: datetime) -> str:
        """The validity in words."""
        if now > self.not_after:
            return f"expired on {self.not_after:%Y-%m-%d}"
        if now < self.not_before:
            return f"not valid before {self.not_before:%Y-%m-%d}"
        return f"valid to {self.not_after:%Y-%m-%d}"


def authorities_in(certificates: Iterable[bytes]) -> tuple[Authority, ...]:
    """The certificates with their names and validity. All must be readable.

    Args:
        certificates: Certificates in DER form.
    """
    return tuple(_authority(der) for der in certificates)


def at_hand(
    given: TrustAnchors, environment: Environment, certificate: EnterpriseCertificate | None
) -> tuple[Authority, ...]:
    """The CA certificates of an environment that are at hand: given, in the `.p12` file, or in certifi."""
    try:
        return authorities_in(given.select(environment, certificate=certificate))
    except ConfigurationError:  # there is none
        return ()


def _authority(der: bytes) -> Authority:
    certificate = x509.load_der_x509_certificate(der)
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return Authority(
        name=str(names[0].value) if names else name_text(certificate.subject),
        sha256=hashlib.sha256(der).hexdigest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        der=der,
    )
