"""Judges the certificate that signed a container: its chain, its key, its time, its organisation.

The rules are RFC 5280's path validation for the parts an enterprise certificate uses: names,
signatures, validity, basic constraints and key usage. Revocation is not looked up. Performs no I/O.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.oid import NameOID

from posten_signering.sandbox._values.refusal import broken_bundle

_LONGEST_CHAIN = 8


def check_signing_certificate(
    certificate: x509.Certificate,
    *,
    others: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    at: datetime,
) -> RSAPublicKey:
    """Checks that a certificate may sign a container, and gives its key.

    Args:
        certificate: The signer's certificate.
        others: Further certificates of its `KeyInfo`, in any order; may be none.
        trusted: The certificates of the CAs that the service trusts, roots or intermediates.
        at: When it must be valid.

    Raises:
        Refusal: The key, key usage, validity or chain is not acceptable.
    """
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise broken_bundle("the signing certificate's key is not an RSA key")
    usage = _key_usage(certificate)
    if usage is None or not usage.digital_signature:
        raise broken_bundle("the signing certificate's key usage does not have digitalSignature")
    if not _valid(certificate, at):
        when = "has expired" if certificate.not_valid_after_utc < at else "is not valid yet"
        raise broken_bundle(f"the signing certificate {when}")
    if not _chains(certificate, others=others, trusted=trusted, at=at, intermediates=0):
        raise broken_bundle(
            "the signing certificate does not chain to a CA that this service trusts; its issuer"
            f" is {certificate.issuer.rfc4514_string()}"
        )
    return key


def organization_number(certificate: x509.Certificate) -> str | None:
    """The organisation number of an enterprise certificate, read by OID.

    The first of these that holds one decides: organizationIdentifier (2.5.4.97, with or without
    `NTRNO-`), serialNumber (2.5.4.5), a common name that starts with nine digits.
    """
    patterns = (
        (NameOID.ORGANIZATION_IDENTIFIER, r"(?:NTRNO-)?([0-9]{9})\Z"),
        (NameOID.SERIAL_NUMBER, r"([0-9]{9})\Z"),
        (NameOID.COMMON_NAME, r"([0-9]{9})(?![0-9])"),
    )
    for oid, pattern in patterns:
        for attribute in certificate.subject.get_attributes_for_oid(oid):
            found = re.match(pattern, str(attribute.value))
            if found is not None:
                return found[1]
    return None


def _chains(
    certificate: x509.Certificate,
    *,
    others: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    at: datetime,
    intermediates: int,
) -> bool:
    if intermediates > _LONGEST_CHAIN:
        return False
    if any(True for _ in _issuers(certificate, trusted, at, intermediates)):
        return True
    return any(
        _chains(issuer, others=others, trusted=trusted, at=at, intermediates=intermediates + 1)
        for issuer in _issuers(certificate, others, at, intermediates)
        if issuer.subject != issuer.issuer
    )


def _issuers(
    certificate: x509.Certificate,
    candidates: Sequence[x509.Certificate],
    at: datetime,
    intermediates: int,
) -> Iterator[x509.Certificate]:
    for candidate in candidates:
        if candidate.subject == certificate.issuer and _may_issue(candidate, at, intermediates):
            try:
                certificate.verify_directly_issued_by(candidate)
            except (InvalidSignature, ValueError, TypeError):
                continue
            yield candidate


def _may_issue(candidate: x509.Certificate, at: datetime, intermediates: int) -> bool:
    try:
        constraints = candidate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (x509.ExtensionNotFound, ValueError):
        return False
    usage = _key_usage(candidate)
    within = constraints.path_length is None or intermediates <= constraints.path_length
    return (
        constraints.ca
        and within
        and (usage is None or usage.key_cert_sign)
        and _valid(candidate, at)
    )


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _valid(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
