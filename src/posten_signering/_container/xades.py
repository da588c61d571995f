"""Renders `META-INF/signatures.xml`, the XAdES signature over a container. Performs no I/O and holds no key.

The profile is XAdES baseline B (ETSI TS 103 171), namespace XAdES 1.3.2, with the algorithms in the service's
documentation ("Dokumentpakke"): rsa-sha256, SHA-256, inclusive C14N 1.0, and SHA-1 only for CertDigest.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from posten_signering._container.layout import SignedFile

_XmlElement: TypeAlias = etree._Element  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - lxml has no public name for it

_ASIC = "http://uri.etsi.org/2918/v1.2.1#"
_DS = "http://www.w3.org/2000/09/xmldsig#"
_XADES = "http://uri.etsi.org/01903/v1.3.2#"

_C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
_SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"
_SHA1 = "http://www.w3.org/2000/09/xmldsig#sha1"
_SIGNED_PROPERTIES = "http://uri.etsi.org/01903#SignedProperties"

# The attribute types that have a keyword in RFC 2253 (section 2.3).
_KEYWORDS = {
    "2.5.4.3": "CN",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.6": "C",
    "2.5.4.9": "STREET",
    "0.9.2342.19200300.100.1.25": "DC",
    "0.9.2342.19200300.100.1.1": "UID",
}
# DER tags of the string types that are written as text: UTF8String, PrintableString, BMPString.
_TEXT_ENCODINGS = {0x0C: "utf-8", 0x13: "ascii", 0x1E: "utf-16-be"}
_EXPLICIT_VERSION = 0xA0


def signatures_xml(
    files: Sequence[SignedFile],
    signing_time: datetime,
    *,
    chain: Sequence[x509.Certificate],
    sign: Callable[[bytes], bytes],
) -> bytes:
    """The XML document with the signature over the files.

    Args:
        files: Every file of the container outside META-INF, in order.
        signing_time: An aware datetime. The service accepts at most 5 seconds of difference from its
            clock, so read the clock just before this call.
        chain: The signing certificate, then its issuers. The document includes all of them.
        sign: Signs bytes with the certificate's key: RSASSA-PKCS1-v1_5 with SHA-256.
    """
    root = etree.Element(f"{{{_ASIC}}}XAdESSignatures", nsmap={None: _ASIC})
    signature = etree.SubElement(root, f"{{{_DS}}}Signature", nsmap={None: _DS}, Id="Signature")
    signed_info = etree.SubElement(signature, f"{{{_DS}}}SignedInfo")
    signature_value = etree.SubElement(signature, f"{{{_DS}}}SignatureValue")
    x509_data = _child(_child(signature, _DS, "KeyInfo"), _DS, "X509Data")
    for certificate in chain:
        _child(x509_data, _DS, "X509Certificate").text = _base64(_der(certificate))
    qualifying_properties = etree.SubElement(
        _child(signature, _DS, "Object"),
        f"{{{_XADES}}}QualifyingProperties",
        # CertDigest and IssuerSerial contain elements of XML Signature, which need this prefix.
        nsmap={None: _XADES, "ns2": _DS},
        Target="#Signature",
    )
    properties = _child(qualifying_properties, _XADES, "SignedProperties", Id="SignedProperties")
    _fill_properties(properties, files, chain[0], signing_time)
    # The properties come first, because SignedInfo contains their digest.
    _fill_signed_info(signed_info, files, hashlib.sha256(_canonical(properties)).digest())
    signature_value.text = _base64(sign(_canonical(signed_info)))
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=False)


def _fill_properties(
    properties: _XmlElement,
    files: Sequence[SignedFile],
    certificate: x509.Certificate,
    signing_time: datetime,
) -> None:
    of_signature = _child(properties, _XADES, "SignedSignatureProperties")
    _child(of_signature, _XADES, "SigningTime").text = _timestamp(signing_time)
    cert = _child(_child(of_signature, _XADES, "SigningCertificate"), _XADES, "Cert")
    # The profile requires SHA-1 here. Nothing depends on its strength, because the document includes
    # the certificate itself.
    digest = hashlib.sha1(_der(certificate), usedforsecurity=False).digest()
    _fill_digest(_child(cert, _XADES, "CertDigest"), _SHA1, digest)
    issuer_serial = _child(cert, _XADES, "IssuerSerial")
    _child(issuer_serial, _DS, "X509IssuerName").text = issuer_name(certificate)
    _child(issuer_serial, _DS, "X509SerialNumber").text = str(certificate.serial_number)
    of_files = _child(properties, _XADES, "SignedDataObjectProperties")
    for index, file in enumerate(files):
        data_object = _child(of_files, _XADES, "DataObjectFormat", ObjectReference=f"#ID_{index}")
        _child(data_object, _XADES, "MimeType").text = file.mime


def _fill_signed_info(
    signed_info: _XmlElement, files: Sequence[SignedFile], properties_sha256: bytes
) -> None:
    _child(signed_info, _DS, "CanonicalizationMethod", Algorithm=_C14N)
    _child(signed_info, _DS, "SignatureMethod", Algorithm=_RSA_SHA256)
    for index, file in enumerate(files):
        reference = _child(signed_info, _DS, "Reference", Id=f"ID_{index}", URI=file.name)
        _fill_digest(reference, _SHA256, file.sha256)
    reference = _child(
        signed_info, _DS, "Reference", Type=_SIGNED_PROPERTIES, URI="#SignedProperties"
    )
    _child(_child(reference, _DS, "Transforms"), _DS, "Transform", Algorithm=_C14N)
    _fill_digest(reference, _SHA256, properties_sha256)


def _fill_digest(parent: _XmlElement, algorithm: str, digest: bytes) -> None:
    _child(parent, _DS, "DigestMethod", Algorithm=algorithm)
    _child(parent, _DS, "DigestValue").text = _base64(digest)


def _child(parent: _XmlElement, namespace: str, name: str, **attributes: str) -> _XmlElement:
    return etree.SubElement(parent, f"{{{namespace}}}{name}", attributes)


def _canonical(element: _XmlElement) -> bytes:
    # lxml adds a wrong xmlns="" when it canonicalises an element inside a tree with default
    # namespaces. The result is right for a copy that is parsed as its own document.
    copy = etree.fromstring(etree.tostring(element, with_tail=False))
    return etree.tostring(copy, method="c14n")


def _timestamp(moment: datetime) -> str:
    """The time as xs:dateTime, in UTC with milliseconds."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


# The issuer's name. It is read from the DER, because the text contains the exact bytes of every value
# whose type has no keyword.


def issuer_name(certificate: x509.Certificate) -> str:
    """The issuer of a certificate in the format of RFC 2253, the same text as Java's X500Principal.

    The most specific part comes first. A type without a keyword in RFC 2253, such as
    organizationIdentifier, is written as `2.5.4.97=#` and the DER of its value in hexadecimal. So is a
    value of an unusual string type. The text is also valid in RFC 4514, which replaced RFC 2253.
    """
    (tbs_certificate,) = _elements(certificate.tbs_certificate_bytes)
    fields = [
        field for field in _elements(tbs_certificate.content) if field.tag != _EXPLICIT_VERSION
    ]
    # RFC 5280, section 4.1: after the version come serialNumber, signature, issuer.
    parts = list(_elements(fields[2].content))
    return ",".join("+".join(map(_attribute, _elements(rdn.content))) for rdn in reversed(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Element:
    """One DER element: its tag, its content, and all of its bytes."""

    tag: int
    content: bytes
    whole: bytes


def _elements(der: bytes) -> Iterator[_Element]:
    """The elements in the content of a DER sequence. X.509 uses one-byte tags and definite lengths."""
    offset = 0
    while offset < len(der):
        start, length = offset + 2, der[offset + 1]
        if length >= 0x80:
            start += length - 0x80
            length = int.from_bytes(der[offset + 2 : start], "big")
        end = start + length
        yield _Element(tag=der[offset], content=der[start:end], whole=der[offset:end])
        offset = end


def _attribute(attribute: _Element) -> str:
    """One AttributeTypeAndValue as `type=value`."""
    type_, value = _elements(attribute.content)
    oid = _dotted(type_.content)
    text = _text(value)
    if oid not in _KEYWORDS or text is None:
        return f"{_KEYWORDS.get(oid, oid)}=#{value.whole.hex()}"
    return f"{_KEYWORDS[oid]}={_escaped(text)}"


def _text(value: _Element) -> str | None:
    encoding = _TEXT_ENCODINGS.get(value.tag)
    if encoding is None:
        return None
    try:
        return value.content.decode(encoding)
    except UnicodeDecodeError:
        return None


def _dotted(oid: bytes) -> str:
    """An object identifier in dotted form (ITU-T X.690, section 8.19)."""
    numbers = list[int]()
    number = 0
    for octet in oid:
        number = number << 7 | octet & 0x7F
        if not octet & 0x80:
            numbers.append(number)
            number = 0
    # The first two arcs share one number.
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, [first, numbers[0] - 40 * first, *numbers[1:]]))


def _escaped(text: str) -> str:
    """The value, escaped as in RFC 4514 (section 2.4)."""
    core = text.strip(" ")
    leading = len(text) - len(text.lstrip(" "))
    trailing = len(text) - leading - len(core)
    return r"\ " * leading + "".join(map(_escaped_character, core)) + r"\ " * trailing


def _escaped_character(character: str) -> str:
    # "=" and "#" need escaping only in a few places, but Java escapes them everywhere.
    if character in ',+"\\<>;=#':
        return f"\\{character}"
    # Characters that XML does not allow or would change are written as their octets.
    if character < " " or character in "\x7f\ufffe\uffff":
        return "".join(f"\\{octet:02X}" for octet in character.encode())
    return character
