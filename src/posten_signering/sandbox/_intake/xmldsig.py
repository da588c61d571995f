"""Verifies the parts of XML Signature 1.1 that the profile uses. Performs no I/O.

These are RSA-SHA256, SHA-256, inclusive C14N 1.0 and 1.1, and references to files by name and to
elements by Id. What the signature means (XAdES, the profile) is in `profile`.
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

from posten_signering.sandbox._intake.container import entry_named
from posten_signering.sandbox._intake.xml import Element, local_name
from posten_signering.sandbox._values.refusal import broken_bundle

PREFIXES = {
    "ds": "http://www.w3.org/2000/09/xmldsig#",
    "xades": "http://uri.etsi.org/01903/v1.3.2#",
}
"""The prefixes of element names in this package's paths."""

C14N_10 = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """What a signature signs. The digests were checked.

    Attributes:
        files: The `Id` of the reference, if it has one, by the name of the entry.
        elements: Elements of the signature's own file, each with the `Type` of its reference.
    """

    files: Mapping[str, str | None]
    elements: Sequence[tuple[str | None, Element]]


def canonical(element: Element) -> bytes:
    """An element of a document in inclusive C14N without comments.

    The element is serialised and parsed again first, because canonicalising it in place adds
    `xmlns=""` to descendants in a default namespace. Serialising keeps the namespaces in scope, as C14N
    1.0 section 2.4 requires. It does not keep inherited `xml:` attributes, but `profile` refuses these.

    Raises:
        Refusal: The element has no canonical form: a namespace of it is a relative URI.
    """
    alone = etree.fromstring(etree.tostring(element, with_tail=False))
    try:
        return etree.tostring(alone, method="c14n", with_comments=False)
    except etree.C14NError:
        raise broken_bundle(f"signature: {local_name(element)} has no canonical form") from None


def only_child(parent: Element, *path: str) -> Element:
    """The element at the end of a path, each step of which must lead to exactly one child.

    Raises:
        Refusal: A step leads to no child, or to several.
    """
    for name in path:
        found = parent.findall(name, PREFIXES)
        if len(found) != 1:
            many = "lacks" if not found else "has more than one"
            short = name.partition(":")[2]
            raise broken_bundle(f"signature: {local_name(parent)} {many} {short}")
        parent = found[0]
    return parent


def only_text(parent: Element, *path: str) -> str:
    """The text of the element at the end of a path, without white space around it."""
    return (only_child(parent, *path).text or "").strip()


def decoded(text: str, *, name: str) -> bytes:
    """Base64, with white space anywhere.

    Raises:
        Refusal: The text is not base64.
    """
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise broken_bundle(f"signature: {name} is not base64") from None


def key_info_certificates(signature: Element) -> tuple[x509.Certificate, ...]:
    """The certificates of `KeyInfo`, in its order.

    Raises:
        Refusal: There is none, or one can't be read.
    """
    key_info = only_child(signature, "ds:KeyInfo")
    found: list[x509.Certificate] = []
    for element in key_info.findall("ds:X509Data/ds:X509Certificate", PREFIXES):
        der = decoded(element.text or "", name="X509Certificate")
        try:
            certificate = x509.load_der_x509_certificate(der)
            # The library parses these when they are first used. An error must show here.
            _ = certificate.subject, certificate.issuer, certificate.extensions
            _ = certificate.public_key()
        except Exception:  # noqa: BLE001 - of a broken one the library can raise anything
            raise broken_bundle("signature: an X509Certificate can't be read") from None
        found.append(certificate)
    if not found:
        raise broken_bundle("signature: KeyInfo holds no X509Certificate")
    return tuple(found)


def check_references(signature: Element, files: Mapping[str, bytes]) -> References:
    """Checks the digest of every reference.

    Args:
        signature: The element `Signature`.
        files: The container's files outside `META-INF`, by the names of their entries.

    Raises:
        Refusal: A reference names nothing, twice the same, uses another algorithm or transform, or
            its digest differs.
    """
    signed_files: dict[str, str | None] = {}
    elements: list[tuple[str | None, Element]] = []
    for reference in only_child(signature, "ds:SignedInfo").findall("ds:Reference", PREFIXES):
        uri = reference.get("URI")
        if uri is None:
            raise broken_bundle("signature: a Reference has no URI")
        transforms = reference.findall("ds:Transforms/*", PREFIXES)
        if any(len(transform) for transform in transforms):
            raise broken_bundle("signature: a Transform has parameters")
        if uri.startswith("#"):
            element = _element_with_id(signature, uri[1:])
            if [transform.get("Algorithm") for transform in transforms] not in (
                [C14N_10],
                [C14N_11],
            ):
                raise broken_bundle(
                    f"signature: the Reference to {uri} must have one Transform, {C14N_10}"
                )
            _check_digest(reference, canonical(element), name=uri)
            elements.append((reference.get("Type"), element))
            continue
        entry = entry_named(uri, files)
        if entry is None:
            raise broken_bundle(
                f"signature: a Reference names {uri}, which is not in the container"
            )
        if entry in signed_files:
            raise broken_bundle(f"signature: two References name {entry}")
        if transforms:
            raise broken_bundle(f"signature: the Reference to {entry} must have no Transform")
        _check_digest(reference, files[entry], name=entry)
        signed_files[entry] = reference.get("Id")
    return References(files=signed_files, elements=elements)


def check_signature_value(signature: Element, key: RSAPublicKey) -> None:
    """Checks the signature itself.

    Raises:
        Refusal: An algorithm is not the profile's, or the key did not make this signature.
    """
    signed_info = only_child(signature, "ds:SignedInfo")
    method = only_child(signed_info, "ds:CanonicalizationMethod").get("Algorithm")
    if method not in (C14N_10, C14N_11):
        raise broken_bundle(
            f"signature: the CanonicalizationMethod is neither {C14N_11} nor {C14N_10}"
        )
    if only_child(signed_info, "ds:SignatureMethod").get("Algorithm") != RSA_SHA256:
        raise broken_bundle(f"signature: the SignatureMethod is not {RSA_SHA256}")
    value = decoded(only_text(signature, "ds:SignatureValue"), name="SignatureValue")
    try:
        key.verify(value, canonical(signed_info), PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise broken_bundle(
            "signature: the SignatureValue was not made over this SignedInfo by the key of the"
            " first certificate in KeyInfo"
        ) from None


def _check_digest(reference: Element, content: bytes, *, name: str) -> None:
    if only_child(reference, "ds:DigestMethod").get("Algorithm") != SHA256:
        raise broken_bundle(
            f"signature: the DigestMethod of the Reference to {name} is not {SHA256}"
        )
    said = decoded(only_text(reference, "ds:DigestValue"), name="DigestValue")
    if said != hashlib.sha256(content).digest():
        raise broken_bundle(f"signature: the digest of {name} differs from its Reference")


def _element_with_id(signature: Element, identifier: str) -> Element:
    root = signature.getroottree().getroot()
    found = [element for element in root.iter(etree.Element) if element.get("Id") == identifier]
    if len(found) != 1:
        many = "no element has" if not found else "several elements have"
        raise broken_bundle(f"signature: {many} the Id {identifier}, which a Reference names")
    return found[0]
