"""Makes a signer's XAdES: baseline B (ETSI EN 319 132-1), detached from the documents it signs.

It names the documents as their entries in the container were named, so that it verifies beside
them. The live service's files are larger, with evidence for the long term; to a sender both are
opaque. Performs no I/O.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree

from posten_signering.sandbox._intake.profile import SIGNED_PROPERTIES_TYPE, XADES, in_xades
from posten_signering.sandbox._intake.xml import Element
from posten_signering.sandbox._intake.xmldsig import (
    C14N_10,
    DSIG,
    RSA_SHA256,
    SHA256,
    canonical,
    qualified,
)
from posten_signering.sandbox._signed.seal import SigningKey
from posten_signering.sandbox._values.hidden import Octets


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedDocument:
    """A document that was signed.

    Attributes:
        name: The name of its entry in the container.
        title: Its title.
        mime: `application/pdf` or `text/plain`.
        content: Its bytes.
    """

    name: str
    title: str = field(repr=False)
    mime: str
    content: Octets


def make_xades(
    *, documents: Sequence[SignedDocument], signer: SigningKey, signed_at: datetime
) -> bytes:
    """A signer's signature over all documents, as an XML file.

    Args:
        documents: The documents in the manifest's order.
        signer: The signer's key.
        signed_at: When the signer signed: an aware time.
    """
    root = etree.Element(qualified("Signature"), nsmap={"ds": DSIG, "xades": XADES}, Id="Signature")
    signed_info = etree.SubElement(root, qualified("SignedInfo"))
    etree.SubElement(signed_info, qualified("CanonicalizationMethod"), Algorithm=C14N_10)
    etree.SubElement(signed_info, qualified("SignatureMethod"), Algorithm=RSA_SHA256)
    for number, document in enumerate(documents):
        reference = etree.SubElement(
            signed_info, qualified("Reference"), Id=f"Document-{number}", URI=quote(document.name)
        )
        _add_digest(reference, document.content)
    to_properties = etree.SubElement(
        signed_info, qualified("Reference"), Type=SIGNED_PROPERTIES_TYPE, URI="#SignedProperties"
    )
    transforms = etree.SubElement(to_properties, qualified("Transforms"))
    etree.SubElement(transforms, qualified("Transform"), Algorithm=C14N_10)
    value = etree.SubElement(root, qualified("SignatureValue"))
    x509_data = etree.SubElement(
        etree.SubElement(root, qualified("KeyInfo")), qualified("X509Data")
    )
    for certificate in (signer.certificate, *signer.chain):
        etree.SubElement(x509_data, qualified("X509Certificate")).text = _base64(_der(certificate))
    properties = _add_properties(root, documents, signer.certificate, signed_at)
    _add_digest(to_properties, canonical(properties))
    signature = signer.key.sign(canonical(signed_info), PKCS1v15(), hashes.SHA256())
    value.text = _base64(signature)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _add_properties(
    root: Element,
    documents: Sequence[SignedDocument],
    certificate: x509.Certificate,
    signed_at: datetime,
) -> Element:
    qualifying = etree.SubElement(
        etree.SubElement(root, qualified("Object")),
        in_xades("QualifyingProperties"),
        Target="#Signature",
    )
    properties = etree.SubElement(qualifying, in_xades("SignedProperties"), Id="SignedProperties")
    of_signature = etree.SubElement(properties, in_xades("SignedSignatureProperties"))
    time = signed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    etree.SubElement(of_signature, in_xades("SigningTime")).text = time
    cert = etree.SubElement(
        etree.SubElement(of_signature, in_xades("SigningCertificateV2")), in_xades("Cert")
    )
    _add_digest(etree.SubElement(cert, in_xades("CertDigest")), _der(certificate))
    of_documents = etree.SubElement(properties, in_xades("SignedDataObjectProperties"))
    for number, document in enumerate(documents):
        element = etree.SubElement(
            of_documents, in_xades("DataObjectFormat"), ObjectReference=f"#Document-{number}"
        )
        etree.SubElement(element, in_xades("MimeType")).text = document.mime
    return properties


def _add_digest(parent: Element, content: bytes) -> None:
    etree.SubElement(parent, qualified("DigestMethod"), Algorithm=SHA256)
    etree.SubElement(parent, qualified("DigestValue")).text = _base64(
        hashlib.sha256(content).digest()
    )


def _der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
