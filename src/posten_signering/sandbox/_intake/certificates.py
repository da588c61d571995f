"""Checks the certificate that signed a container: chain, key, validity, organisation number.

pyhanko-certvalidator validates the chain (RFC 5280). It has no network access, so revocation is not
checked. Call this module in a thread without an event loop.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from pyhanko.keys import load_certs_from_pemder_data
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.authority import CertTrustAnchor

from posten_signering.sandbox._values.refusal import broken_bundle

# Without a handler, Python prints the library's warnings to standard error in programs that have not
# configured logging.
logging.getLogger("pyhanko_certvalidator").addHandler(logging.NullHandler())


def check_signing_certificate(
    certificate: x509.Certificate,
    *,
    others: Sequence[x509.Certificate],
    trusted: Sequence[x509.Certificate],
    at: datetime,
) -> RSAPublicKey:
    """The public key of a certificate that may sign a container.

    Args:
        certificate: The signer's certificate.
        others: The other certificates of its `KeyInfo`, in any order. May be empty.
        trusted: The certificates of the CAs that the service trusts, roots or intermediates.
        at: The time at which the certificate must be valid.

    Raises:
        Refusal: The key, the key usage, the validity or the chain is not acceptable.
    """
    key = certificate.public_key()
    if not isinstance(key, RSAPublicKey):
        raise broken_bundle(
            "The key of the signing certificate is not an RSA key. Sign the container with an"
            " enterprise certificate that has an RSA key."
        )
    usage = _key_usage(certificate)
    if usage is None or not usage.digital_signature:
        raise broken_bundle(
            "The key usage of the signing certificate does not include digitalSignature. Sign the"
            " container with the enterprise certificate for authentication, whose key usage includes"
            " it."
        )
    if not _is_valid(certificate, at):
        problem = "has expired" if certificate.not_valid_after_utc < at else "is not valid yet"
        raise broken_bundle(
            f"The signing certificate {problem}: it is valid from"
            f" {certificate.not_valid_before_utc.isoformat()} to"
            f" {certificate.not_valid_after_utc.isoformat()}. Sign the container with a certificate"
            " that is valid now."
        )
    if not _has_trusted_chain([certificate, *others], trusted=trusted, at=at):
        raise broken_bundle(
            "The signing certificate does not chain to a CA that this service trusts. Its issuer is"
            f" {certificate.issuer.rfc4514_string()}. Sign the container with an enterprise"
            " certificate that this sandbox issued."
        )
    return key


def organization_number(certificate: x509.Certificate) -> str | None:
    """The organisation number of an enterprise certificate, or `None` if it has none.

    It comes from the first of these attributes that holds one: organizationIdentifier (2.5.4.97, with
    or without `NTRNO-`), serialNumber (2.5.4.5), a common name that starts with nine digits.
    """
    patterns = (
        (NameOID.ORGANIZATION_IDENTIFIER, r"(?:NTRNO-)?([0-9]{9})\Z"),
        (NameOID.SERIAL_NUMBER, r"([0-9]{9})\Z"),
        (NameOID.COMMON_NAME, r"([0-9]{9})(?![0-9])"),
    )
    for oid, pattern in patterns:
        for attribute in certificate.subject.get_attributes_for_oid(oid):
            match = re.match(pattern, str(attribute.value))
            if match is not None:
                return match[1]
    return None


def to_pyhanko_certificates(certificates: Iterable[x509.Certificate]) -> list[Any]:
    """The certificates as the type that pyHanko and pyhanko-certvalidator use."""
    load = cast("Callable[[bytes], Iterable[Any]]", load_certs_from_pemder_data)
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    return list(load(pem))


def _has_trusted_chain(
    certificates: Sequence[x509.Certificate], *, trusted: Sequence[x509.Certificate], at: datetime
) -> bool:
    try:
        certificate, *others = to_pyhanko_certificates(certificates)
        anchors = [
            CertTrustAnchor(ca, derive_default_quals_from_cert=True)
            for ca in to_pyhanko_certificates(ca for ca in trusted if _may_issue(ca, at))
            if ca.ca
        ]
        context = ValidationContext(
            trust_roots=anchors, other_certs=others, moment=at, allow_fetching=False
        )
        validator = CertificateValidator(certificate, validation_context=context)
        asyncio.run(validator.async_validate_path())
    except Exception:  # noqa: BLE001 - on a broken certificate the library can raise anything
        return False
    return True


def _may_issue(ca: x509.Certificate, at: datetime) -> bool:
    """Whether a trusted CA is valid and may issue certificates. Path validation does not check it."""
    usage = _key_usage(ca)
    return _is_valid(ca, at) and (usage is None or usage.key_cert_sign)


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _is_valid(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
