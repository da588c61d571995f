"""Verifies the parts of XML Signature 1.1 that the profile uses. Performs no I/O.

The parts are RSA-SHA256, SHA-256, inclusive C14N 1.0 and 1.1, references to files by name, and
references to elements by Id. The module `profile` checks XAdES and the other rules of the profile.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from lxml import etree

from posten_signering.sandbox._intake.container import SIGNATURES, entry_named
from posten_signering.sandbox._intake.xml import Element, local_name
from posten_signering.sandbox._values.refusal import Refusal, broken_bundle

PREFIXES = {
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "xades": "http://uri.etsi.org/01903/v1.3.2#",
}
"""The namespace prefixes in the element paths of this package."""

C14N_10 = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"


# The number of paths through certificates with equal names grows with the factorial of their number.
_MAX_CERTIFICATES = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """The files and elements that a signature signs. Their digests are correct.

    Attributes:
        files: The `Id` of the reference to each file, or `None`, by the name of the entry.
        elements: The signed elements of the signature file, each after the `Type` of its reference.
    """

    files: Mapping[str, str | None]
    elements: Sequence[tuple[str | None, Element]]


def broken_signature(message: str) -> Refusal:
    """The refusal of a container whose signature file breaks the profile."""
    return broken_bundle(f"{SIGNATURES}: {message}")


def canonical(element: Element) -> bytes:
    """The bytes of an element in inclusive C14N without comments.

    The element is first serialised and parsed again, because canonicalising it in place would add
    `xmlns=""` to descendants in a default namespace. Serialising keeps the namespaces in scope, as C14N
    1.0 section 2.4 requires. It drops inherited `xml:` attributes, but `profile` refuses those.

    Raises:
        Refusal: The element has no canonical form, because the name of a namespace is a relative URI.
    """
    alone = etree.fromstring(etree.tostring(element, with_tail=False))
    try:
        return etree.tostring(alone, method="c14n", with_comments=False)
    except etree.C14NError:
        raise broken_signature(
            f"the element {local_name(element)} has no canonical form. Use absolute URIs as the names"
            " of namespaces."
        ) from None


def only_child(parent: Element, *path: str) -> Element:
    """The element at a path. Every step of the path must lead to exactly one child.

    Raises:
        Refusal: A step leads to no child, or to more than one.
    """
    for name in path:
        children = parent.findall(name, PREFIXES)
        if len(children) != 1:
            count = "no" if not children else "more than one"
            child_name = name.partition(":")[2]
            raise broken_signature(
                f"{local_name(parent)} has {count} {child_name}. Write exactly one."
            )
        parent = children[0]
    return parent


def only_text(parent: Element, *path: str) -> str:
    """The text of the element at a path, without leading and trailing white space."""
    return (only_child(parent, *path).text or "").strip()


def decoded(text: str, *, name: str) -> bytes:
    """The bytes of a base64 text, which may contain white space.

    Raises:
        Refusal: The text is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise broken_signature(f"{name} is not base64. Encode its bytes as base64.") from None


def key_info_certificates(signature: Element) -> tuple[x509.Certificate, ...]:
    """The certificates of `KeyInfo`, in document order.

    Raises:
        Refusal: `KeyInfo` has no certificate or too many, or a certificate can't be read.
    """
    key_info = only_child(signature, "ds:KeyInfo")
    elements = key_info.findall("ds:X509Data/ds:X509Certificate", PREFIXES)
    if len(elements) > _MAX_CERTIFICATES:
        raise broken_signature(
            f"KeyInfo has {len(elements)} certificates, and the limit is {_MAX_CERTIFICATES}. Include"
            " only the signing certificate and its issuers."
        )
    certificates: list[x509.Certificate] = []
    for element in elements:
        der = decoded(element.text or "", name="X509Certificate")
        try:
            certificate = x509.load_der_x509_certificate(der)
            # The library parses these parts at their first use. Use them here, so that an error is raised
            # here.
            _ = certificate.subject, certificate.issuer, certificate.extensions
            _ = certificate.public_key()
        except Exception:  # noqa: BLE001 - on a broken certificate the library can raise anything
            raise broken_signature(
                "an X509Certificate can't be read. Write the certificate's DER bytes as base64."
            ) from None
        certificates.append(certificate)
    if not certificates:
        raise broken_signature(
            "KeyInfo has no X509Certificate. Add the signing certificate, then its issuers."
        )
    return tuple(certificates)


def check_references(signature: Element, files: Mapping[str, bytes]) -> References:
    """The files and elements that a signature signs, if every digest is correct.

    Args:
        signature: The element `Signature`.
        files: The container's files outside `META-INF`, by the names of their entries.

    Raises:
        Refusal: A reference has no target or a wrong digest, or uses an algorithm or a transform that
            the profile does not allow, or two references have the same target file.
    """
    signed_files: dict[str, str | None] = {}
    elements: list[tuple[str | None, Element]] = []
    for reference in only_child(signature, "ds:SignedInfo").findall("ds:Reference", PREFIXES):
        uri = reference.get("URI")
        if uri is None:
            raise broken_signature(
                "a Reference has no URI. Write the name of the file or # and the Id of the element."
            )
        transforms = reference.findall("ds:Transforms/*", PREFIXES)
        if any(len(transform) for transform in transforms):
            raise broken_signature("a Transform has parameters. Remove its child elements.")
        if uri.startswith("#"):
            element = _element_with_id(signature, uri[1:])
            if [transform.get("Algorithm") for transform in transforms] not in (
                [C14N_10],
                [C14N_11],
            ):
                raise broken_signature(
                    f"the Transforms of the Reference to {uri} are not allowed. Use only {C14N_10}."
                )
            _check_digest(reference, canonical(element), name=uri)
            elements.append((reference.get("Type"), element))
            continue
        entry = entry_named(uri, files)
        if entry is None:
            raise broken_signature(
                f"a Reference names {uri}, which is not in the container. Add the file, or correct"
                " the URI."
            )
        if entry in signed_files:
            raise broken_signature(f"two References name {entry}. Write one for every file.")
        if transforms:
            raise broken_signature(
                f"the Reference to {entry} must have no Transform. Remove it, and calculate the digest"
                " from the bytes of the file."
            )
        _check_digest(reference, files[entry], name=entry)
        signed_files[entry] = reference.get("Id")
    return References(files=signed_files, elements=elements)


def check_signature_value(signature: Element, key: RSAPublicKey) -> None:
    """Checks that the key made the signature over `SignedInfo`.

    Raises:
        Refusal: The profile does not allow an algorithm, or the signature does not verify.
    """
    signed_info = only_child(signature, "ds:SignedInfo")
    method = only_child(signed_info, "ds:CanonicalizationMethod").get("Algorithm")
    if method not in (C14N_10, C14N_11):
        raise broken_signature(
            f"the CanonicalizationMethod is not allowed. Use {C14N_11} or {C14N_10}."
        )
    if only_child(signed_info, "ds:SignatureMethod").get("Algorithm") != RSA_SHA256:
        raise broken_signature(f"the SignatureMethod is not allowed. Use {RSA_SHA256}.")
    value = decoded(only_text(signature, "ds:SignatureValue"), name="SignatureValue")
    try:
        key.verify(value, canonical(signed_info), PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise broken_signature(
            "the SignatureValue does not verify with the key of the first certificate in KeyInfo."
            " Sign the canonical form of SignedInfo with the key of this certificate, and do not"
            " change SignedInfo afterwards."
        ) from None


def _check_digest(reference: Element, content: bytes, *, name: str) -> None:
    if only_child(reference, "ds:DigestMethod").get("Algorithm") != SHA256:
        raise broken_signature(
            f"the DigestMethod of the Reference to {name} is not allowed. Use {SHA256}."
        )
    stated_digest = decoded(only_text(reference, "ds:DigestValue"), name="DigestValue")
    if stated_digest != hashlib.sha256(content).digest():
        raise broken_signature(
            f"the digest of {name} differs from the DigestValue of its Reference. Calculate the"
            " digest last, from exactly the content that is sent."
        )


def _element_with_id(signature: Element, identifier: str) -> Element:
    root = signature.getroottree().getroot()
    elements = [element for element in root.iter(etree.Element) if element.get("Id") == identifier]
    if len(elements) != 1:
        count = "no element has" if not elements else "several elements have"
        raise broken_signature(
            f"{count} the Id {identifier}, which a Reference names. Give this Id to exactly one"
            " element."
        )
    return elements[0]
