"""Holds the signature of a container against the service's profile of it.

The profile is the documentation's page "Dokumentpakke": XAdES baseline B (ETSI TS 103 171) with one
signature over every file outside META-INF and over the signed properties. Performs no I/O.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from posten_signering.sandbox._intake.certificates import check_signing_certificate
from posten_signering.sandbox._intake.container import SIGNATURES
from posten_signering.sandbox._intake.issuer_name import names_issuer
from posten_signering.sandbox._intake.xml import Element, local_name, parse
from posten_signering.sandbox._intake.xmldsig import (
    References,
    check_no_xml_attributes,
    check_references,
    check_signature_value,
    decoded,
    key_info_certificates,
    only_child,
    only_text,
    qualified,
)
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import broken_bundle

ASIC = "http://uri.etsi.org/2918/v1.2.1#"
XADES = "http://uri.etsi.org/01903/v1.3.2#"
SIGNED_PROPERTIES_TYPE = "http://uri.etsi.org/01903#SignedProperties"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"

_DATE_TIME = re.compile(
    r"(-?[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"(?:\.([0-9]+))?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSignature:
    """A signature that was found right.

    Attributes:
        certificates: Those of its `KeyInfo`; the first one's key made it.
        signing_time: The time it claims.
    """

    certificates: tuple[x509.Certificate, ...]
    signing_time: datetime


def check_package_signature(
    signatures: Octets,
    files: Mapping[str, Octets],
    media_types: Mapping[str, str],
    *,
    trusted: Sequence[x509.Certificate],
    now: datetime,
    tolerance: timedelta,
) -> PackageSignature:
    """Verifies `META-INF/signatures.xml`.

    Args:
        signatures: Its bytes.
        files: Every file outside META-INF by the name of its entry, the manifest among them.
        media_types: The media type that each of them must be signed as.
        trusted: The certificates of the CAs that the service trusts.
        now: The service's time.
        tolerance: How far from it the signing time may be.

    Raises:
        Refusal: The signature does not verify, or the profile does not allow it.
    """
    root = parse(signatures, name=SIGNATURES, refuse=broken_bundle)
    if root.tag != f"{{{ASIC}}}XAdESSignatures":
        raise broken_bundle(f"{SIGNATURES}: the root element is not XAdESSignatures of {ASIC}")
    check_no_xml_attributes(root)
    signature = only_child(root, qualified("Signature"))
    certificates = key_info_certificates(signature)
    references = check_references(signature, files)
    properties = _signed_properties(signature, references)
    key = check_signing_certificate(
        certificates[0], others=certificates[1:], trusted=trusted, at=now
    )
    check_signature_value(signature, key)
    _check_every_file_signed(references, files)
    of_signature = only_child(properties, in_xades("SignedSignatureProperties"))
    _check_cert(of_signature, certificates[0])
    _check_data_object_formats(properties, references, media_types)
    return PackageSignature(
        certificates=certificates,
        signing_time=_check_signing_time(of_signature, now, tolerance),
    )


def in_xades(name: str) -> str:
    """The name of an element of XAdES."""
    return f"{{{XADES}}}{name}"


def _signed_properties(signature: Element, references: References) -> Element:
    qualifying = only_child(
        only_child(signature, qualified("Object")), in_xades("QualifyingProperties")
    )
    properties = only_child(qualifying, in_xades("SignedProperties"))
    target = qualifying.get("Target")
    if target is None or target != f"#{signature.get('Id')}":
        raise broken_bundle(
            "signature: QualifyingProperties has a Target that is not the Signature"
        )
    if len(references.elements) != 1:
        raise broken_bundle(
            "signature: besides the files exactly one Reference is expected, to SignedProperties;"
            f" there are {len(references.elements)}"
        )
    reference_type, element = references.elements[0]
    if element is not properties or reference_type != SIGNED_PROPERTIES_TYPE:
        raise broken_bundle(
            "signature: the Reference that is not to a file must be to SignedProperties, with the"
            f" Type {SIGNED_PROPERTIES_TYPE}"
        )
    return properties


def _check_every_file_signed(references: References, files: Mapping[str, object]) -> None:
    signed = {reference.entry for reference in references.files}
    for name in files:
        if name not in signed:
            raise broken_bundle(f"signature: {name} is in the container, but no Reference signs it")


def _check_cert(of_signature: Element, certificate: x509.Certificate) -> None:
    cert = only_child(only_child(of_signature, in_xades("SigningCertificate")), in_xades("Cert"))
    digest = only_child(cert, in_xades("CertDigest"))
    if only_child(digest, qualified("DigestMethod")).get("Algorithm") != SHA1:
        raise broken_bundle(f"signature: the DigestMethod of CertDigest is not {SHA1}")
    said = decoded(only_text(digest, qualified("DigestValue")), name="DigestValue of CertDigest")
    der = certificate.public_bytes(Encoding.DER)
    if said != hashlib.sha1(der, usedforsecurity=False).digest():
        raise broken_bundle("signature: CertDigest is not that of the first certificate in KeyInfo")
    issuer_serial = only_child(cert, in_xades("IssuerSerial"))
    serial = only_text(issuer_serial, qualified("X509SerialNumber"))
    if not re.fullmatch(r"[0-9]{1,50}", serial) or int(serial) != certificate.serial_number:
        raise broken_bundle(
            "signature: X509SerialNumber is not the signing certificate's serial number in decimal"
        )
    if not names_issuer(only_text(issuer_serial, qualified("X509IssuerName")), certificate):
        raise broken_bundle(
            "signature: X509IssuerName does not name the signing certificate's issuer,"
            f" {certificate.issuer.rfc4514_string()}"
        )


def _check_data_object_formats(
    properties: Element, references: References, media_types: Mapping[str, str]
) -> None:
    formats = only_child(properties, in_xades("SignedDataObjectProperties")).findall(
        in_xades("DataObjectFormat")
    )
    said: dict[str, str] = {}
    for element in formats:
        children = [local_name(child) for child in element]
        if children != ["MimeType"]:
            raise broken_bundle("signature: a DataObjectFormat must hold MimeType, and that only")
        about = element.get("ObjectReference", "")
        if about in said:
            raise broken_bundle(f"signature: two DataObjectFormat elements are about {about}")
        said[about] = only_text(element, in_xades("MimeType"))
    if len(said) != len(references.files):
        raise broken_bundle(
            f"signature: {len(references.files)} files need as many DataObjectFormat elements;"
            f" there are {len(said)}"
        )
    for reference in references.files:
        found = said.get(f"#{reference.id}")
        if reference.id is None or found is None:
            raise broken_bundle(f"signature: no DataObjectFormat is about {reference.entry}")
        if found != media_types[reference.entry]:
            raise broken_bundle(
                f"signature: the MimeType of {reference.entry} differs from the one expected,"
                f" {media_types[reference.entry]}"
            )


def _check_signing_time(of_signature: Element, now: datetime, tolerance: timedelta) -> datetime:
    signing_time = _date_time(only_text(of_signature, in_xades("SigningTime")))
    if abs(signing_time - now) > tolerance:
        difference = (signing_time - now).total_seconds()
        side = "behind" if difference < 0 else "ahead of"
        raise broken_bundle(
            f"signature: SigningTime is {abs(difference):.1f} s {side} the service's clock;"
            f" it must be right within {tolerance.total_seconds():g} s"
        )
    return signing_time


def _date_time(text: str) -> datetime:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        raise broken_bundle("signature: SigningTime is not an xs:dateTime")
    seconds, fraction, zone = found.groups()
    if zone is None:
        raise broken_bundle("signature: SigningTime has no time zone")
    try:
        return datetime.fromisoformat(f"{seconds}.{(fraction or '0')[:6].ljust(6, '0')}{zone}")
    except ValueError:
        raise broken_bundle("signature: SigningTime is not an xs:dateTime") from None
