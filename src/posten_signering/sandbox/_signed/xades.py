"""Creates a signer's XAdES: baseline B (ETSI EN 319 132-1), detached from the documents. Performs no I/O.

It refers to the documents by the names of their entries in the container. Unlike the files of the live
service, it has no evidence for long-term validation.
"""

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.serialization import Encoding
from lxml import etree
from lxml.builder import ElementMaker

from posten_signering.sandbox._intake.profile import SIGNED_PROPERTIES_TYPE
from posten_signering.sandbox._intake.xml import Element
from posten_signering.sandbox._intake.xmldsig import (
    C14N_10,
    PREFIXES,
    RSA_SHA256,
    SHA256,
    canonical,
)
from posten_signering.sandbox._signed.pki import SigningKey
from posten_signering.sandbox._values.hidden import Octets

# Every element declares both prefixes. Its canonical form is then the same alone and in the signature.
_DS = ElementMaker(namespace=PREFIXES["ds"], nsmap=PREFIXES)
_XADES = ElementMaker(namespace=PREFIXES["xades"], nsmap=PREFIXES)


@dataclass(frozen=True, kw_only=True, slots=True)
class SignedDocument:
    """A document that the signers of a job sign.

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
    """The XML file with a signer's signature over all documents.

    Args:
        documents: The documents in the manifest's order.
        signer: The signer's key.
        signed_at: The time of signing, an aware datetime.
    """
    time = signed_at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    certificates = [
        certificate.public_bytes(Encoding.DER)
        for certificate in (signer.certificate, *signer.chain)
    ]
    properties = _XADES.SignedProperties(
        _XADES.SignedSignatureProperties(
            _XADES.SigningTime(time),
            _XADES.SigningCertificateV2(_XADES.Cert(_XADES.CertDigest(*_digest(certificates[0])))),
        ),
        _XADES.SignedDataObjectProperties(
            *(
                _XADES.DataObjectFormat(
                    _XADES.MimeType(document.mime), ObjectReference=f"#Document-{number}"
                )
                for number, document in enumerate(documents)
            )
        ),
        Id="SignedProperties",
    )
    signed_info = _DS.SignedInfo(
        _DS.CanonicalizationMethod(Algorithm=C14N_10),
        _DS.SignatureMethod(Algorithm=RSA_SHA256),
        *(
            _DS.Reference(
                *_digest(document.content), Id=f"Document-{number}", URI=quote(document.name)
            )
            for number, document in enumerate(documents)
        ),
        _DS.Reference(
            _DS.Transforms(_DS.Transform(Algorithm=C14N_10)),
            *_digest(canonical(properties)),
            Type=SIGNED_PROPERTIES_TYPE,
            URI="#SignedProperties",
        ),
    )
    signature = signer.key.sign(canonical(signed_info), PKCS1v15(), hashes.SHA256())
    root = _DS.Signature(
        signed_info,
        _DS.SignatureValue(_base64(signature)),
        _DS.KeyInfo(_DS.X509Data(*(_DS.X509Certificate(_base64(der)) for der in certificates))),
        _DS.Object(_XADES.QualifyingProperties(properties, Target="#Signature")),
        Id="Signature",
    )
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")


def _digest(content: bytes) -> tuple[Element, Element]:
    value = _base64(hashlib.sha256(content).digest())
    return _DS.DigestMethod(Algorithm=SHA256), _DS.DigestValue(value)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")
