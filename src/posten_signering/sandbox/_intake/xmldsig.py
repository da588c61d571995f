"""Verifies an XML signature over files (W3C XML Signature 1.1), as far as the profile uses it.

That is: RSA-SHA256 over inclusive C14N 1.0 or 1.1, SHA-256 digests, files by name, and elements of
the signature file by Id. What the signature means (XAdES, the profile) is `_profile`'s. Performs
no I/O.
"""

import base64
import binascii
import hashlib
from collections.abc import Iterator, Mapping, Sequence
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

DSIG = "http://www.w3.org/2000/09/xmldsig#"
C14N_10 = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
C14N_11 = "http://www.w3.org/2006/12/xml-c14n11"
RSA_SHA256 = "http://www.w3.org/2001/04/xmldsig-more#rsa-sha256"
SHA256 = "http://www.w3.org/2001/04/xmlenc#sha256"

_XML_ATTRIBUTE = "{http://www.w3.org/XML/1998/namespace}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FileReference:
    """A reference of the signature to a file of the container, whose digest was found right.

    Attributes:
        entry: The name of the file's entry.
        id: The reference's `Id`, which other parts of the signature name it by.
    """

    entry: str
    id: str | None


@dataclass(frozen=True, kw_only=True, slots=True)
class References:
    """What a signature signs: files, and elements of its own file by their `Type`."""

    files: tuple[FileReference, ...]
    elements: tuple[tuple[str | None, Element], ...]


def canonical(element: Element) -> bytes:
    """An element in inclusive C14N without comments, as it stands in its document.

    It is serialised and parsed again first: canonicalised in place, the library adds `xmlns=""` to
    descendants in a default namespace. Serialising brings along the namespaces in scope, as
    C14N 1.0 section 2.4 asks; `check_no_xml_attributes` sees to the attributes it would bring.

    Raises:
        Refusal: The element has no canonical form: a namespace of it is a relative URI.
    """
    alone = etree.fromstring(etree.tostring(element, with_tail=False))
    try:
        return etree.tostring(alone, method="c14n", with_comments=False)
    except etree.C14NError:
        raise broken_bundle(f"signature: {local_name(element)} has no canonical form") from None


def check_no_xml_attributes(root: Element) -> None:
    """Refuses `xml:` attributes in a signature file: no type of its schemas has one.

    They are what C14N 1.0 and 1.1 treat differently, so that without them the two are the same.
    """
    for element in root.iter(etree.Element):
        if any(str(name).startswith(_XML_ATTRIBUTE) for name in element.attrib):
            raise broken_bundle("the signature file has an attribute xml:…, which it must not")


def qualified(name: str) -> str:
    """The name of an element of XML Signature."""
    return f"{{{DSIG}}}{name}"


def only_child(parent: Element, name: str) -> Element:
    """The one child of a qualified name.

    Raises:
        Refusal: There is none, or there are several.
    """
    found = parent.findall(name)
    short = name.rpartition("}")[2]
    if len(found) != 1:
        many = "lacks" if not found else "has more than one"
        raise broken_bundle(f"signature: {local_name(parent)} {many} {short}")
    return found[0]


def only_text(parent: Element, name: str) -> str:
    """The text of the one child of a qualified name, without white space around it."""
    return (only_child(parent, name).text or "").strip()


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
    key_info = only_child(signature, qualified("KeyInfo"))
    found: list[x509.Certificate] = []
    for data in key_info.findall(qualified("X509Data")):
        for element in data.findall(qualified("X509Certificate")):
            der = decoded(element.text or "", name="X509Certificate")
            try:
                certificate = x509.load_der_x509_certificate(der)
                # Read when first asked for; what can't be read must show here.
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
    signed_files: list[FileReference] = []
    elements: list[tuple[str | None, Element]] = []
    signed_info = only_child(signature, qualified("SignedInfo"))
    for reference in signed_info.findall(qualified("Reference")):
        uri = reference.get("URI")
        if uri is None:
            raise broken_bundle("signature: a Reference has no URI")
        transforms = list(_transforms(reference))
        if uri.startswith("#"):
            element = _element_with_id(signature, uri[1:])
            if transforms not in ([C14N_10], [C14N_11]):
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
        if any(earlier.entry == entry for earlier in signed_files):
            raise broken_bundle(f"signature: two References name {entry}")
        if transforms:
            raise broken_bundle(f"signature: the Reference to {entry} must have no Transform")
        _check_digest(reference, files[entry], name=entry)
        signed_files.append(FileReference(entry=entry, id=reference.get("Id")))
    return References(files=tuple(signed_files), elements=tuple(elements))


def check_signature_value(signature: Element, key: RSAPublicKey) -> None:
    """Checks the signature itself.

    Raises:
        Refusal: An algorithm is not the profile's, or the key did not make this signature.
    """
    signed_info = only_child(signature, qualified("SignedInfo"))
    method = only_child(signed_info, qualified("CanonicalizationMethod")).get("Algorithm")
    if method not in (C14N_10, C14N_11):
        raise broken_bundle(
            f"signature: the CanonicalizationMethod is neither {C14N_11} nor {C14N_10}"
        )
    if only_child(signed_info, qualified("SignatureMethod")).get("Algorithm") != RSA_SHA256:
        raise broken_bundle(f"signature: the SignatureMethod is not {RSA_SHA256}")
    value = decoded(only_text(signature, qualified("SignatureValue")), name="SignatureValue")
    try:
        key.verify(value, canonical(signed_info), PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        raise broken_bundle(
            "signature: the SignatureValue was not made over this SignedInfo by the key of the"
            " first certificate in KeyInfo"
        ) from None


def _check_digest(reference: Element, content: bytes, *, name: str) -> None:
    if only_child(reference, qualified("DigestMethod")).get("Algorithm") != SHA256:
        raise broken_bundle(
            f"signature: the DigestMethod of the Reference to {name} is not {SHA256}"
        )
    said = decoded(only_text(reference, qualified("DigestValue")), name="DigestValue")
    if said != hashlib.sha256(content).digest():
        raise broken_bundle(f"signature: the digest of {name} differs from its Reference")


def _transforms(reference: Element) -> Iterator[str]:
    for transforms in reference.findall(qualified("Transforms")):
        for transform in transforms:
            if len(transform):
                raise broken_bundle("signature: a Transform has parameters")
            yield transform.get("Algorithm", "")


def _element_with_id(signature: Element, identifier: str) -> Element:
    root = signature.getroottree().getroot()
    found: Sequence[Element] = [
        element for element in root.iter(etree.Element) if element.get("Id") == identifier
    ]
    if len(found) != 1:
        many = "no element has" if not found else "several elements have"
        raise broken_bundle(f"signature: {many} the Id {identifier}, which a Reference names")
    return found[0]
