"""Judges the certificate that signed a container: its chain, its key, its time, its organisation.

pyhanko-certvalidator validates the path (RFC 5280), without network access and so without revocation.
Call it in a thread without an event loop.
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

# Without a handler, the library's warnings would appear on the standard error of a program that has
# not set up logging.
logging.getLogger("pyhanko_certvalidator").addHandler(logging.NullHandler())


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
        others: The other certificates of its `KeyInfo`, in any order; may be empty.
        trusted: The certificates of the CAs that the service trusts, roots or intermediates.
        at: When it must be valid.

    Raises:
        Refusal: The key, the key usage, the validity or the chain is not acceptable.
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
    if not _chains([certificate, *others], trusted=trusted, at=at):
        raise broken_bundle(
            "the signing certificate does not chain to a CA that this service trusts; its issuer"
            f" is {certificate.issuer.rfc4514_string()}"
        )
    return key


def organization_number(certificate: x509.Certificate) -> str | None:
    """The organisation number of an enterprise certificate, read by OID.

    The first attribute that holds one decides: organizationIdentifier (2.5.4.97, with or without
    `NTRNO-`), then serialNumber (2.5.4.5), then a common name that starts with nine digits.
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


def as_pyhanko_takes(certificates: Iterable[x509.Certificate]) -> list[Any]:
    """Converts certificates to the type that pyHanko and pyhanko-certvalidator take."""
    load = cast("Callable[[bytes], Iterable[Any]]", load_certs_from_pemder_data)
    pem = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    return list(load(pem))


def _chains(
    certificates: Sequence[x509.Certificate], *, trusted: Sequence[x509.Certificate], at: datetime
) -> bool:
    try:
        certificate, *others = as_pyhanko_takes(certificates)
        anchors = [
            CertTrustAnchor(ca, derive_default_quals_from_cert=True)
            for ca in as_pyhanko_takes(ca for ca in trusted if _may_issue(ca, at))
            if ca.ca
        ]
        context = ValidationContext(
            trust_roots=anchors, other_certs=others, moment=at, allow_fetching=False
        )
        validator = CertificateValidator(certificate, validation_context=context)
        asyncio.run(validator.async_validate_path())
    except Exception:  # noqa: BLE001 - of a broken certificate the library can raise anything
        return False
    return True


def _may_issue(ca: x509.Certificate, at: datetime) -> bool:
    """Whether a trusted CA is valid and may sign: path validation takes that for granted."""
    usage = _key_usage(ca)
    return _valid(ca, at) and (usage is None or usage.key_cert_sign)


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return None


def _valid(certificate: x509.Certificate, at: datetime) -> bool:
    return certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc
