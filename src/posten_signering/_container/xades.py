"""Renders `META-INF/signatures.xml`, the XAdES signature over a container. Performs no I/O and holds no key.

The profile is XAdES baseline B (ETSI TS 103 171), namespace XAdES 1.3.2, with the algorithms in the service's
documentation ("Dokumentpakke"): rsa-sha256, SHA-256, inclusive C14N 1.0, and SHA-1 only for CertDigest.
"""

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from posten_signering._container.layout import SignedFile

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


# How canonical XML writes special characters (C14N 1.0, section 2.3).
_ESCAPED_IN_TEXT = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"})
_ESCAPED_IN_ATTRIBUTE = str.maketrans(
    {"&": "&amp;", "<": "&lt;", '"': "&quot;", "\t": "&#x9;", "\n": "&#xA;", "\r": "&#xD;"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningCertificate:
    """What a signature says about its certificate, as canonical XML. It is the same in every signature.

    Attributes:
        x509_data: The content of `X509Data`: the signing certificate, then its issuers.
        cert: The content of `Cert`: digest, issuer and serial number of the signing certificate.
    """

    x509_data: str
    cert: str

    @classmethod
    def of_chain(cls, chain: Sequence[x509.Certificate]) -> "SigningCertificate":
        """The value for a certificate and its issuers, in this order. Signatures will include all of them."""
        leaf = chain[0]
        # The profile requires SHA-1 here. Nothing depends on its strength, because the document includes
        # the certificate itself.
        sha1 = hashlib.sha1(_der(leaf), usedforsecurity=False).digest()
        return cls(
            x509_data="".join(
                f"<X509Certificate>{_base64(_der(certificate))}</X509Certificate>"
                for certificate in chain
            ),
            cert=(
                f"<CertDigest>{_digest(_SHA1, sha1, prefix='ns2:')}</CertDigest><IssuerSerial>"
                f"<ns2:X509IssuerName>{_text(issuer_name(leaf))}</ns2:X509IssuerName>"
                f"<ns2:X509SerialNumber>{leaf.serial_number}</ns2:X509SerialNumber></IssuerSerial>"
            ),
        )


def signatures_xml(
    files: Sequence[SignedFile],
    signing_time: datetime,
    *,
    certificate: SigningCertificate,
    sign: Callable[[bytes], bytes],
) -> bytes:
    """The XML document with the signature over the files.

    `SignedProperties` and `SignedInfo` are written in their canonical form, which is what is digested and
    signed. So no XML needs to be parsed or canonicalised.

    Args:
        files: Every file of the container outside META-INF, in order.
        signing_time: An aware datetime. The service accepts at most 5 seconds of difference from its
            clock, so read the clock just before this call.
        certificate: The certificate of the key.
        sign: Signs bytes with the certificate's key: RSASSA-PKCS1-v1_5 with SHA-256.
    """
    # The properties come first, because SignedInfo contains their digest.
    properties = _signed_properties(files, signing_time, certificate)
    signed_info = _signed_info(files, hashlib.sha256(properties.encode()).digest())
    signature = _base64(sign(signed_info.encode()))
    return (
        "<?xml version='1.0' encoding='UTF-8' standalone='no'?>\n"
        f'<XAdESSignatures xmlns="{_ASIC}"><Signature xmlns="{_DS}" Id="Signature">{signed_info}'
        f"<SignatureValue>{signature}</SignatureValue>"
        f"<KeyInfo><X509Data>{certificate.x509_data}</X509Data></KeyInfo>"
        f'<Object><QualifyingProperties xmlns="{_XADES}" xmlns:ns2="{_DS}" Target="#Signature">'
        f"{properties}</QualifyingProperties></Object></Signature></XAdESSignatures>"
    ).encode()


# Canonical XML (C14N 1.0): the outermost element declares every namespace in scope, namespaces come before
# attributes, both are in alphabetical order, and an empty element has an end tag.


def _signed_properties(
    files: Sequence[SignedFile], signing_time: datetime, certificate: SigningCertificate
) -> str:
    data_objects = "".join(
        f'<DataObjectFormat ObjectReference="#ID_{index}"><MimeType>{_text(file.mime)}</MimeType>'
        "</DataObjectFormat>"
        for index, file in enumerate(files)
    )
    return (
        # CertDigest and IssuerSerial contain elements of XML Signature, which need the prefix.
        f'<SignedProperties xmlns="{_XADES}" xmlns:ns2="{_DS}" Id="SignedProperties">'
        f"<SignedSignatureProperties><SigningTime>{_timestamp(signing_time)}</SigningTime>"
        f"<SigningCertificate><Cert>{certificate.cert}</Cert></SigningCertificate>"
        "</SignedSignatureProperties><SignedDataObjectProperties>"
        f"{data_objects}</SignedDataObjectProperties></SignedProperties>"
    )


def _signed_info(files: Sequence[SignedFile], properties_sha256: bytes) -> str:
    references = "".join(
        f'<Reference Id="ID_{index}" URI="{_attribute_value(file.name)}">'
        f"{_digest(_SHA256, file.sha256)}</Reference>"
        for index, file in enumerate(files)
    )
    return (
        f'<SignedInfo xmlns="{_DS}">'
        f'<CanonicalizationMethod Algorithm="{_C14N}"></CanonicalizationMethod>'
        f'<SignatureMethod Algorithm="{_RSA_SHA256}"></SignatureMethod>{references}'
        f'<Reference Type="{_SIGNED_PROPERTIES}" URI="#SignedProperties">'
        f'<Transforms><Transform Algorithm="{_C14N}"></Transform></Transforms>'
        f"{_digest(_SHA256, properties_sha256)}</Reference></SignedInfo>"
    )


def _digest(algorithm: str, digest: bytes, *, prefix: str = "") -> str:
    return (
        f'<{prefix}DigestMethod Algorithm="{algorithm}"></{prefix}DigestMethod>'
        f"<{prefix}DigestValue>{_base64(digest)}</{prefix}DigestValue>"
    )


def _text(text: str) -> str:
    return text.translate(_ESCAPED_IN_TEXT)


def _attribute_value(text: str) -> str:
    return text.translate(_ESCAPED_IN_ATTRIBUTE)


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
    text = _decoded(value)
    if oid not in _KEYWORDS or text is None:
        return f"{_KEYWORDS.get(oid, oid)}=#{value.whole.hex()}"
    return f"{_KEYWORDS[oid]}={_escaped(text)}"


def _decoded(value: _Element) -> str | None:
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
