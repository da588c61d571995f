"""Checks that the signature of a container follows the service's profile. Performs no I/O.

The profile is the documentation's page "Dokumentpakke": XAdES baseline B (ETSI TS 103 171) with one
signature over every file outside META-INF and over the signed properties.
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
from posten_signering.sandbox._intake.xml import Element, local_name, parse
from posten_signering.sandbox._intake.xmldsig import (
    PREFIXES,
    References,
    check_references,
    check_signature_value,
    decoded,
    key_info_certificates,
    only_child,
    only_text,
)
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import broken_bundle

ASIC = "http://uri.etsi.org/2918/v1.2.1#"
SIGNED_PROPERTIES_TYPE = "http://uri.etsi.org/01903#SignedProperties"
SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"

_DATE_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]+)?(?:Z|[+-][0-9]{2}:[0-9]{2})?"
)

_ATTRIBUTE = re.compile(
    r'\s*[^=,;+"\s][^=,;+"]*=(\s*"(?:[^"\\]|\\.)*"\s*|(?:[^",;+\\]|\\.)*)(?:[,;+](?=.)|\Z)',
    re.DOTALL,
)
"""An attribute of a name: its type, "=", its value in quotes or with escapes, a separator."""

_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
"""Of UTF8String, PrintableString, TeletexString, IA5String and BMPString."""


_SIGNING_TIME_TOLERANCE = timedelta(seconds=5)
"""How far SigningTime may be from the service's clock ("Dokumentpakke")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSignature:
    """A signature that was accepted.

    Attributes:
        certificates: The certificates of its `KeyInfo`; the first one's key made it.
        signing_time: The time that it states.
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
) -> PackageSignature:
    """Verifies `META-INF/signatures.xml`.

    Args:
        signatures: The bytes of that file.
        files: Every file outside META-INF by the name of its entry, also the manifest.
        media_types: The media type that the signature must state for each of these files.
        trusted: The certificates of the CAs that the service trusts.
        now: The service's time.

    Raises:
        Refusal: The signature does not verify, or the profile does not allow it.
    """
    root = parse(signatures, name=SIGNATURES, refuse=broken_bundle)
    if root.tag != f"{{{ASIC}}}XAdESSignatures":
        raise broken_bundle(f"{SIGNATURES}: the root element is not XAdESSignatures of {ASIC}")
    # The schemas allow no `xml:` attribute. Without one, C14N 1.0 and 1.1 give the same bytes.
    if root.xpath("//@xml:*"):
        raise broken_bundle("the signature file has an attribute xml:…, which it must not")
    signature = only_child(root, "ds:Signature")
    certificates = key_info_certificates(signature)
    references = check_references(signature, files)
    properties = _signed_properties(signature, references)
    key = check_signing_certificate(
        certificates[0], others=certificates[1:], trusted=trusted, at=now
    )
    check_signature_value(signature, key)
    for name in files:
        if name not in references.files:
            raise broken_bundle(f"signature: {name} is in the container, but no Reference signs it")
    of_signature = only_child(properties, "xades:SignedSignatureProperties")
    _check_cert(of_signature, certificates[0])
    _check_data_object_formats(properties, references, media_types)
    return PackageSignature(
        certificates=certificates,
        signing_time=_check_signing_time(of_signature, now),
    )


def _signed_properties(signature: Element, references: References) -> Element:
    qualifying = only_child(signature, "ds:Object", "xades:QualifyingProperties")
    properties = only_child(qualifying, "xades:SignedProperties")
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


def _check_cert(of_signature: Element, certificate: x509.Certificate) -> None:
    cert = only_child(of_signature, "xades:SigningCertificate", "xades:Cert")
    digest = only_child(cert, "xades:CertDigest")
    if only_child(digest, "ds:DigestMethod").get("Algorithm") != SHA1:
        raise broken_bundle(f"signature: the DigestMethod of CertDigest is not {SHA1}")
    said = decoded(only_text(digest, "ds:DigestValue"), name="DigestValue of CertDigest")
    der = certificate.public_bytes(Encoding.DER)
    if said != hashlib.sha1(der, usedforsecurity=False).digest():
        raise broken_bundle("signature: CertDigest is not that of the first certificate in KeyInfo")
    issuer_serial = only_child(cert, "xades:IssuerSerial")
    serial = only_text(issuer_serial, "ds:X509SerialNumber")
    if not re.fullmatch(r"[0-9]{1,50}", serial) or int(serial) != certificate.serial_number:
        raise broken_bundle(
            "signature: X509SerialNumber is not the signing certificate's serial number in decimal"
        )
    if not _names_issuer(only_text(issuer_serial, "ds:X509IssuerName"), certificate):
        raise broken_bundle(
            "signature: X509IssuerName does not name the signing certificate's issuer,"
            f" {certificate.issuer.rfc4514_string()}"
        )


def _names_issuer(text: str, certificate: x509.Certificate) -> bool:
    """Whether an `X509IssuerName` names the issuer of a certificate.

    Clients write the name in different ways: RFC 2253 with unknown types as OID and hexadecimal DER,
    RFC 4514 with text values, .NET's form with a space after each comma. The service accepts them all,
    because CertDigest already pins the certificate. So only the values are compared; their order and
    the spelling of their types do not matter.
    """
    values: list[str] = []
    position = 0
    while position < len(text):
        found = _ATTRIBUTE.match(text, position)
        if found is None:
            return False
        values.append(_attribute_value(found[1].strip()))
        position = found.end()
    expected = [str(attribute.value) for attribute in certificate.issuer]
    return sorted(map(_folded, values)) == sorted(map(_folded, expected))


def _folded(value: str) -> str:
    return " ".join(value.split()).casefold()


def _attribute_value(text: str) -> str:
    if re.fullmatch(r"#(?:[0-9a-fA-F]{2}){2,}", text):
        tag, length, *content = bytes.fromhex(text[1:])
        # A length from 128 on is the count of the length's own bytes, then these (X.690, 8.1.3).
        content = content[length & 0x7F if length & 0x80 else 0 :]
        return bytes(content).decode(_ENCODINGS[tag], "replace") if tag in _ENCODINGS else text
    text = re.sub(r'\A"(.*)"\Z', r"\1", text, flags=re.DOTALL)
    # One character of UTF-8 may be several escaped bytes, so decode a run of them together.
    text = re.sub(
        r"(?:\\[0-9a-fA-F]{2})+",
        lambda run: bytes.fromhex(run[0].replace("\\", "")).decode("utf-8", "replace"),
        text,
    )
    return re.sub(r"\\(.)", r"\1", text)


def _check_data_object_formats(
    properties: Element, references: References, media_types: Mapping[str, str]
) -> None:
    said: dict[str, str] = {}
    of_files = only_child(properties, "xades:SignedDataObjectProperties")
    for element in of_files.findall("xades:DataObjectFormat", PREFIXES):
        children = [local_name(child) for child in element]
        if children != ["MimeType"]:
            raise broken_bundle("signature: a DataObjectFormat must hold MimeType, and that only")
        about = element.get("ObjectReference", "")
        if about in said:
            raise broken_bundle(f"signature: two DataObjectFormat elements are about {about}")
        said[about] = only_text(element, "xades:MimeType")
    if len(said) != len(references.files):
        raise broken_bundle(
            f"signature: {len(references.files)} files need as many DataObjectFormat elements;"
            f" there are {len(said)}"
        )
    for name, identifier in references.files.items():
        found = said.get(f"#{identifier}")
        if identifier is None or found is None:
            raise broken_bundle(f"signature: no DataObjectFormat is about {name}")
        if found != media_types[name]:
            raise broken_bundle(
                f"signature: the MimeType of {name} differs from the one expected,"
                f" {media_types[name]}"
            )


def _check_signing_time(of_signature: Element, now: datetime) -> datetime:
    text = only_text(of_signature, "xades:SigningTime")
    try:
        signing_time = datetime.fromisoformat(text if _DATE_TIME.fullmatch(text) else "")
    except ValueError:
        raise broken_bundle("signature: SigningTime is not an xs:dateTime") from None
    if signing_time.tzinfo is None:
        raise broken_bundle("signature: SigningTime has no time zone")
    ahead = (signing_time - now).total_seconds()
    if abs(ahead) > _SIGNING_TIME_TOLERANCE.total_seconds():
        side = "behind" if ahead < 0 else "ahead of"
        raise broken_bundle(
            f"signature: SigningTime is {abs(ahead):.1f} s {side} the service's clock;"
            f" it must be right within {_SIGNING_TIME_TOLERANCE.total_seconds():g} s"
        )
    return signing_time
