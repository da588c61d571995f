"""Checks that the signature of a container follows the service's profile. Performs no I/O.

The service's documentation defines the profile on the page "Dokumentpakke": XAdES baseline B (ETSI TS
103 171), with one signature over all files outside META-INF and over the signed properties.
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
    broken_signature,
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
"""One attribute of an issuer name: type, "=", value in quotes or with escapes, separator."""

_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x14: "latin-1", 0x16: "ascii", 0x1E: "utf-16-be"}
"""The encodings of the ASN.1 types UTF8String, PrintableString, TeletexString, IA5String and BMPString,
by their tags."""

_SIGNING_TIME_TOLERANCE = timedelta(seconds=5)
"""The largest difference between SigningTime and the service's clock ("Dokumentpakke")."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageSignature:
    """A signature that passed all checks.

    Attributes:
        certificates: The certificates of its `KeyInfo`. The key of the first one made the signature.
        signing_time: The signing time that the signature states.
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
    advanced_by: timedelta,
) -> PackageSignature:
    """The certificates and the signing time of `META-INF/signatures.xml`, if it passes all checks.

    Args:
        signatures: The bytes of that file.
        files: All files outside META-INF, including the manifest, by the names of their entries.
        media_types: The media type that the signature must state for each of these files.
        trusted: The certificates of the CAs that the service trusts.
        now: The service's time.
        advanced_by: How far the sender's clock may be ahead of it; see `judge`.

    Raises:
        Refusal: The signature does not verify, or the profile does not allow it.
    """
    root = parse(signatures, name=SIGNATURES, refuse=broken_bundle)
    if root.tag != f"{{{ASIC}}}XAdESSignatures":
        raise broken_signature(
            f"the root element is not XAdESSignatures in the namespace {ASIC}. Use it as the root."
        )
    # The schemas allow no `xml:` attributes. Without them, C14N 1.0 and 1.1 produce the same bytes.
    if root.xpath("//@xml:*"):
        raise broken_signature(
            "the file has an attribute with the prefix xml:, such as xml:lang. Remove it."
        )
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
            raise broken_signature(
                f"{name} is in the container, but no Reference signs it. Add a Reference to it."
            )
    signature_properties = only_child(properties, "xades:SignedSignatureProperties")
    _check_cert(signature_properties, certificates[0])
    _check_data_object_formats(properties, references, media_types)
    return PackageSignature(
        certificates=certificates,
        signing_time=_check_signing_time(signature_properties, (now, now + advanced_by)),
    )


def _signed_properties(signature: Element, references: References) -> Element:
    qualifying = only_child(signature, "ds:Object", "xades:QualifyingProperties")
    properties = only_child(qualifying, "xades:SignedProperties")
    target = qualifying.get("Target")
    if target is None or target != f"#{signature.get('Id')}":
        raise broken_signature(
            "the Target of QualifyingProperties is not the Signature. Set it to # and the Id of the"
            " Signature."
        )
    if len(references.elements) != 1:
        raise broken_signature(
            f"there are {len(references.elements)} References to elements. Write exactly one, to"
            " SignedProperties."
        )
    reference_type, element = references.elements[0]
    if element is not properties or reference_type != SIGNED_PROPERTIES_TYPE:
        raise broken_signature(
            "the Reference to an element does not name SignedProperties, or has a different Type. Set"
            f" its URI to # and the Id of SignedProperties, and its Type to {SIGNED_PROPERTIES_TYPE}."
        )
    return properties


def _check_cert(signature_properties: Element, certificate: x509.Certificate) -> None:
    cert = only_child(signature_properties, "xades:SigningCertificate", "xades:Cert")
    digest = only_child(cert, "xades:CertDigest")
    if only_child(digest, "ds:DigestMethod").get("Algorithm") != SHA1:
        raise broken_signature(f"the DigestMethod of CertDigest is not allowed. Use {SHA1}.")
    stated_digest = decoded(only_text(digest, "ds:DigestValue"), name="DigestValue of CertDigest")
    der = certificate.public_bytes(Encoding.DER)
    if stated_digest != hashlib.sha1(der, usedforsecurity=False).digest():
        raise broken_signature(
            "CertDigest is not the digest of the first certificate in KeyInfo. Put the signing"
            " certificate first, and calculate CertDigest from its DER bytes."
        )
    issuer_serial = only_child(cert, "xades:IssuerSerial")
    serial = only_text(issuer_serial, "ds:X509SerialNumber")
    if not re.fullmatch(r"[0-9]{1,50}", serial) or int(serial) != certificate.serial_number:
        raise broken_signature(
            "X509SerialNumber is not the serial number of the signing certificate in decimal. Write"
            f" {certificate.serial_number}."
        )
    if not _names_issuer(only_text(issuer_serial, "ds:X509IssuerName"), certificate):
        raise broken_signature(
            "X509IssuerName does not name the issuer of the signing certificate. Write"
            f" {certificate.issuer.rfc4514_string()}."
        )


def _names_issuer(text: str, certificate: x509.Certificate) -> bool:
    """Whether an `X509IssuerName` names the issuer of a certificate.

    Clients write the name in different ways: RFC 2253 with unknown types as OID and hexadecimal DER,
    RFC 4514 with text values, .NET's form with a space after each comma. The service accepts all of
    them, and CertDigest already identifies the certificate. This function therefore compares only the
    values. It ignores their order and the names of their types.
    """
    values: list[str] = []
    position = 0
    while position < len(text):
        attribute = _ATTRIBUTE.match(text, position)
        if attribute is None:
            return False
        values.append(_attribute_value(attribute[1].strip()))
        position = attribute.end()
    expected = [str(attribute.value) for attribute in certificate.issuer]
    return sorted(map(_normalized, values)) == sorted(map(_normalized, expected))


def _normalized(value: str) -> str:
    return " ".join(value.split()).casefold()


def _attribute_value(text: str) -> str:
    if re.fullmatch(r"#(?:[0-9a-fA-F]{2}){2,}", text):
        tag, length, *content = bytes.fromhex(text[1:])
        # If the high bit of the length is set, the other bits count the length bytes that follow (X.690,
        # 8.1.3).
        content = content[length & 0x7F if length & 0x80 else 0 :]
        return bytes(content).decode(_ENCODINGS[tag], "replace") if tag in _ENCODINGS else text
    text = re.sub(r'\A"(.*)"\Z', r"\1", text, flags=re.DOTALL)
    # A UTF-8 character may have several escaped bytes, so decode adjacent bytes together.
    text = re.sub(
        r"(?:\\[0-9a-fA-F]{2})+",
        lambda escaped: bytes.fromhex(escaped[0].replace("\\", "")).decode("utf-8", "replace"),
        text,
    )
    return re.sub(r"\\(.)", r"\1", text)


def _check_data_object_formats(
    properties: Element, references: References, media_types: Mapping[str, str]
) -> None:
    stated_types: dict[str, str] = {}
    file_properties = only_child(properties, "xades:SignedDataObjectProperties")
    for element in file_properties.findall("xades:DataObjectFormat", PREFIXES):
        children = [local_name(child) for child in element]
        if children != ["MimeType"]:
            raise broken_signature(
                "a DataObjectFormat does not have MimeType as its only child. Give it exactly this child."
            )
        object_reference = element.get("ObjectReference", "")
        if object_reference in stated_types:
            raise broken_signature(
                f"two DataObjectFormat elements have the ObjectReference {object_reference}. Write"
                " one for every file."
            )
        stated_types[object_reference] = only_text(element, "xades:MimeType")
    if len(stated_types) != len(references.files):
        raise broken_signature(
            f"there are {len(stated_types)} DataObjectFormat elements for {len(references.files)}"
            " files. Write one for every file."
        )
    for name, identifier in references.files.items():
        stated_type = stated_types.get(f"#{identifier}")
        if identifier is None or stated_type is None:
            raise broken_signature(
                f"no DataObjectFormat refers to {name}. Give the Reference to this file an Id, and"
                " write an ObjectReference with # and this Id."
            )
        if stated_type != media_types[name]:
            raise broken_signature(
                f"the MimeType of {name} is not the expected one. Write {media_types[name]}."
            )


def _check_signing_time(signature_properties: Element, times: Sequence[datetime]) -> datetime:
    text = only_text(signature_properties, "xades:SigningTime")
    try:
        signing_time = datetime.fromisoformat(text if _DATE_TIME.fullmatch(text) else "")
    except ValueError:
        raise broken_signature(
            "SigningTime is not an xs:dateTime. Write it like 2026-03-05T12:30:00Z."
        ) from None
    if signing_time.tzinfo is None:
        raise broken_signature("SigningTime has no time zone. Add Z or an offset such as +01:00.")
    ahead = min(((signing_time - time).total_seconds() for time in times), key=abs)
    if abs(ahead) > _SIGNING_TIME_TOLERANCE.total_seconds():
        direction = "behind" if ahead < 0 else "ahead of"
        raise broken_signature(
            f"SigningTime is {abs(ahead):.1f} s {direction} the service's clock, and at most"
            f" {_SIGNING_TIME_TOLERANCE.total_seconds():g} s are allowed. Correct the clock of the"
            " machine that signs, and sign just before sending."
        )
    return signing_time
