"""Verifies XML signatures: the signature value, and the digest of each reference. Performs no I/O.

It says what a signature covers and whose key made it, but not whether to trust the certificate.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from posten_signering._cli.inspection.loading import loaded
from posten_signering._cli.inspection.xml import Element, canonical, children, text
from posten_signering.errors import ConfigurationError

SIGNED_PROPERTIES_TYPE = "http://uri.etsi.org/01903#SignedProperties"

# More would take too long. The service's profile has one reference to an element, and a few certificates.
_MOST_REFERENCES_TO_ELEMENTS = 5
_MOST_CERTIFICATES = 20

_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    "http://www.w3.org/2001/04/xmlenc#sha256": hashes.SHA256(),
    "http://www.w3.org/2001/04/xmldsig-more#sha384": hashes.SHA384(),
    "http://www.w3.org/2001/04/xmlenc#sha512": hashes.SHA512(),
}
# The service's profile names the certificate by its SHA-1. For documents and signatures, SHA-1 is not secure.
_CERTIFICATE_DIGESTS: dict[str, hashes.HashAlgorithm] = {
    **_DIGESTS,
    "http://www.w3.org/2000/09/xmldsig#sha1": hashes.SHA1(),  # noqa: S303 - see above
}
_METHODS = {
    f"http://www.w3.org/2001/04/xmldsig-more#{kind}-{digest.name}": (kind, digest)
    for kind in ("rsa", "ecdsa")
    for digest in _DIGESTS.values()
}
_DEFAULT_C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"

_NO_FILE = "the file is not here"
_NO_ELEMENT = "no element, or more than one, has this Id"
_UNKNOWN_TRANSFORM = "not checked, because it uses a transform that this command does not know"

FileContent = Callable[[str], bytes | None]
"""Returns the content of the file that a reference names; None if there is no file with this name."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a signature covers.

    Attributes:
        uri: A file, or `#` and the Id of an element; empty for the whole document.
        type: The type of the reference; None if it has none.
        matches: Whether the digest was compared and is right; None if the file is not here.
        finding: The result in words.
    """

    uri: str
    type: str | None
    matches: bool | None
    finding: str


@dataclass(frozen=True, kw_only=True)
class SignatureFound:
    """An XML signature.

    Attributes:
        certificates: The certificates in the signature. If the value is right, that of the key is first.
        value_is_right: Whether the signature was checked, and one of the certificates' keys made it.
        finding: The result in words.
        references: What it covers.
        signing_time: The time that the signer states; None if there is none.
        properties_are_signed: Whether the signature covers its XAdES properties; None if it has none.
        names_its_certificate: Whether the properties name the certificate by its digest; None if they
            name none.
    """

    certificates: tuple[x509.Certificate, ...]
    value_is_right: bool
    finding: str
    references: tuple[Reference, ...]
    signing_time: str | None
    properties_are_signed: bool | None
    names_its_certificate: bool | None


def verified(signature: Element, content_of: FileContent) -> SignatureFound:
    """What a signature covers, and whether its value and its digests are right.

    Args:
        signature: The element `Signature`.
        content_of: Returns the content of a file.

    Raises:
        ConfigurationError: It has more references or certificates than can be checked in a short time.
    """
    elements = children(signature, "ds:SignedInfo/ds:Reference")
    to_elements = [element for element in elements if element.get("URI", "").startswith("#")]
    if len(to_elements) > _MOST_REFERENCES_TO_ELEMENTS:
        raise ConfigurationError(
            f"A signature has {len(to_elements)} references to elements, which are too many to inspect."
        )
    right, finding, certificates = _value(signature, _certificates(signature))
    by_id = _elements_by_id(signature)
    references = tuple(_reference(element, by_id, content_of) for element in elements)
    properties = children(signature, "ds:Object/xades:QualifyingProperties/xades:SignedProperties")
    return SignatureFound(
        certificates=certificates,
        value_is_right=right,
        finding=finding,
        references=references,
        signing_time=next(
            (
                time
                for found in properties
                if (time := text(found, "xades:SignedSignatureProperties/xades:SigningTime"))
            ),
            None,
        ),
        properties_are_signed=_are_signed(properties, references),
        names_its_certificate=_names(properties, certificates),
    )


def _are_signed(properties: Sequence[Element], references: Sequence[Reference]) -> bool | None:
    if not properties:
        return None
    uri = f"#{properties[0].get('Id')}"
    # A reference matches only if no other element has this Id.
    return len(properties) == 1 and any(
        reference.type == SIGNED_PROPERTIES_TYPE and reference.uri == uri and reference.matches
        for reference in references
    )


def _names(properties: Sequence[Element], certificates: Sequence[x509.Certificate]) -> bool | None:
    """Whether the certificate that the properties name first is the first of the signature."""
    named = [
        digest
        for found in properties
        for version in ("SigningCertificate", "SigningCertificateV2")
        for digest in children(
            found, f"xades:SignedSignatureProperties/xades:{version}/xades:Cert/xades:CertDigest"
        )[:1]
    ]
    if not named:
        return None
    return bool(certificates) and all(_is_digest_of(certificates[0], digest) for digest in named)


def _is_digest_of(certificate: x509.Certificate, digest: Element) -> bool:
    algorithm = _CERTIFICATE_DIGESTS.get(_algorithm(digest, "ds:DigestMethod"))
    expected = _decoded(text(digest, "ds:DigestValue"))
    return algorithm is not None and certificate.fingerprint(algorithm) == expected


def _value(
    signature: Element, certificates: Sequence[x509.Certificate]
) -> tuple[bool, str, tuple[x509.Certificate, ...]]:
    """Whether the value is right, the same in words, and the certificates, that of the key first."""
    unchanged = tuple(certificates)
    signed_infos = children(signature, "ds:SignedInfo")
    value = _decoded(text(signature, "ds:SignatureValue"))
    if len(signed_infos) != 1 or value is None:
        return False, "the signature is not complete", unchanged
    if not certificates:
        return (
            False,
            "not checked: the signature contains no certificate that can be read",
            unchanged,
        )
    method = _METHODS.get(_algorithm(signed_infos[0], "ds:SignatureMethod"))
    content = canonical(signed_infos[0], _algorithm(signed_infos[0], "ds:CanonicalizationMethod"))
    if content is None or method is None:
        return False, "not checked: it uses an algorithm that this command does not know", unchanged
    kind, digest = method
    for certificate in certificates:
        if _key_made(certificate, value, content, digest, kind):
            others = (other for other in certificates if other != certificate)
            return True, "made by the key of the certificate", (certificate, *others)
    return False, "not made by the key of the certificate, or changed afterwards", unchanged


def _key_made(
    certificate: x509.Certificate,
    value: bytes,
    content: bytes,
    digest: hashes.HashAlgorithm,
    kind: str,
) -> bool:
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey) and kind == "rsa":
            key.verify(value, content, padding.PKCS1v15(), digest)
            return True
        if isinstance(key, ec.EllipticCurvePublicKey) and kind == "ecdsa":
            half = len(value) // 2
            numbers = int.from_bytes(value[:half], "big"), int.from_bytes(value[half:], "big")
            key.verify(encode_dss_signature(*numbers), content, ec.ECDSA(digest))
            return True
    except (InvalidSignature, UnsupportedAlgorithm, ValueError):
        pass
    return False


def _reference(
    reference: Element, by_id: dict[str, list[Element]], content_of: FileContent
) -> Reference:
    uri = reference.get("URI", "")
    matches, finding = _compared(reference, uri, by_id, content_of)
    return Reference(uri=uri, type=reference.get("Type"), matches=matches, finding=finding)


def _compared(
    reference: Element, uri: str, by_id: dict[str, list[Element]], content_of: FileContent
) -> tuple[bool | None, str]:
    expected = _decoded(text(reference, "ds:DigestValue"))
    if expected is None:
        return False, "its digest can't be read"
    algorithm = _DIGESTS.get(_algorithm(reference, "ds:DigestMethod"))
    if algorithm is None:
        return False, "not checked: its digest uses an algorithm that this command does not know"
    transforms = [_uri(transform) for transform in children(reference, "ds:Transforms/*")]
    content, missing = _covered(uri, transforms, by_id, content_of)
    if content is None:
        if missing != _NO_FILE:
            return False, missing
        return None, f"{missing}; its {algorithm.name} must be {expected.hex()}"
    if hashlib.new(algorithm.name, content).digest() != expected:
        return False, "changed after it was signed: the digest differs"
    return True, "the digest matches"


def _covered(
    uri: str,
    transforms: Sequence[str],
    by_id: dict[str, list[Element]],
    content_of: FileContent,
) -> tuple[bytes | None, str]:
    """The bytes that a reference covers, or None and the reason."""
    if uri.startswith("#"):
        targets = by_id.get(uri[1:], [])
        if len(targets) != 1:
            return None, _NO_ELEMENT
        return canonical(targets[0], _only(transforms)), _UNKNOWN_TRANSFORM
    if not uri or transforms:
        return None, _UNKNOWN_TRANSFORM
    return content_of(uri), _NO_FILE


def _only(transforms: Sequence[str]) -> str:
    """The algorithm of the only transform; the default if there is none, and no algorithm if there are several."""
    match transforms:
        case []:
            return _DEFAULT_C14N
        case [algorithm]:
            return algorithm
        case _:
            return ""


def _elements_by_id(signature: Element) -> dict[str, list[Element]]:
    by_id: dict[str, list[Element]] = {}
    for element in signature.getroottree().getroot().iter():
        identifier = element.get("Id")
        if identifier is not None:
            by_id.setdefault(identifier, []).append(element)
    return by_id


def _certificates(signature: Element) -> list[x509.Certificate]:
    elements = children(signature, "ds:KeyInfo/ds:X509Data/ds:X509Certificate")
    if len(elements) > _MOST_CERTIFICATES:
        raise ConfigurationError(
            f"A signature has {len(elements)} certificates, which are too many to inspect."
        )
    return [certificate for element in elements for certificate in _certificate(element)]


def _certificate(element: Element) -> list[x509.Certificate]:
    """The certificate of an element; none if it can't be read."""
    return loaded(lambda: [x509.load_der_x509_certificate(_decoded(element.text) or b"")])


def _algorithm(parent: Element, path: str) -> str:
    """The algorithm that the only element at a path names; no algorithm if there is none or several."""
    found = children(parent, path)
    return _uri(found[0]) if len(found) == 1 else ""


def _uri(method: Element) -> str:
    """The algorithm of an element; no algorithm if it has parameters, because none is supported."""
    return "" if len(method) else method.get("Algorithm", "")


def _decoded(encoded: str | None) -> bytes | None:
    try:
        return base64.b64decode("".join((encoded or "").split()), validate=True) or None
    except (binascii.Error, ValueError):
        return None
