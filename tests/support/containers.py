"""Containers that the package builds, signed with certificates of the tests' PKI."""

import functools
import io
import zipfile
from datetime import UTC, datetime

import pki
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import NameOID
from lxml import etree
from verify_bundle import NAMESPACES

from posten_signering._container.body import joined
from posten_signering._container.compression import Compression
from posten_signering._container.documents import inspect
from posten_signering._container.layout import (
    SignedFile,
    container_layout,
    document_name,
)
from posten_signering._container.xades import SigningCertificate, signatures_xml
from posten_signering._values.job import Document, DocumentType
from posten_signering._values.secret import Secret

NOW = datetime.now(UTC)
PDF = b"%PDF-1.7\nnot much of a document\nstartxref\n0\n%%EOF\n"
TEXT = "En avtale på norsk, med æøå.\n".encode()
ONE = [Document(title="One", content=PDF)]
SEVERAL = [
    *ONE,
    Document(title="Two", content=TEXT, type=DocumentType.TEXT),
    Document(title="Three", content=PDF * 5000),
]


def name(*parts) -> x509.Name:
    """A distinguished name. Each part is one attribute, or a list of attributes."""
    return x509.Name(
        [
            x509.RelativeDistinguishedName(part if isinstance(part, list) else [part])
            for part in parts
        ]
    )


def text(oid, value, **options) -> x509.NameAttribute:
    return x509.NameAttribute(oid, value, **options)


@functools.cache
def issuing() -> pki.Issued:
    """An intermediate whose name contains many characters that must be escaped."""
    subject = name(
        text(NameOID.COUNTRY_NAME, "NO"),
        text(NameOID.ORGANIZATION_IDENTIFIER, "NTRNO-983163327"),
        text(NameOID.ORGANIZATION_NAME, 'Ærlig, Øl + Ås "AS" <\\;=#'),
        text(NameOID.COMMON_NAME, " #Test utsteder "),
    )
    return pki.issue(subject, pki.root(), ca=True)


def enterprise(issuer: pki.Issued | None = None, key=None) -> pki.Issued:
    """A new certificate, always for the same organisation."""
    subject = name(
        text(NameOID.COUNTRY_NAME, "NO"),
        text(NameOID.ORGANIZATION_IDENTIFIER, "NTRNO-123456789"),
        text(NameOID.COMMON_NAME, "Bedrift AS"),
    )
    return pki.issue(subject, issuer, key=key)


@functools.cache
def leaf() -> pki.Issued:
    return enterprise(issuing())


def chain() -> list[x509.Certificate]:
    return [issued.certificate for issued in (leaf(), *leaf().issuers)]


def sign(content: bytes) -> bytes:
    return leaf().key.sign(content, padding.PKCS1v15(), hashes.SHA256())


def manifest_of(documents) -> bytes:
    entries = "".join(
        f'<document href="{document_name(index, document.type)}" mime="{document.type}">'
        f"<title>Tittel {index}</title></document>"
        for index, document in enumerate(documents)
    )
    return (
        f'<direct-signature-job-manifest xmlns="{NAMESPACES["signering"]}">'
        f"<documents>{entries}</documents></direct-signature-job-manifest>"
    ).encode()


def bundle(
    documents=SEVERAL, *, certificates=None, compression=Compression.STORED, at=NOW
) -> bytes:
    """A container that the package builds for these documents."""
    inspection = inspect(documents, compression=compression)
    assert inspection.violations == ()
    manifest = manifest_of(documents)
    manifest_file = SignedFile(
        name="manifest.xml",
        mime="application/xml",
        sha256=digest(manifest),
    )
    signatures = signatures_xml(
        [*inspection.entries, manifest_file],
        certificate=SigningCertificate.of_chain(certificates or chain()),
        sign=sign,
        signing_time=at,
    )
    layout = container_layout(
        inspection.entries,
        Secret(manifest),
        Secret(signatures),
        compression=compression,
        modified=NOW,
    )
    content = joined(layout, inspection)
    assert len(content) == layout.length
    return content


def digest(content: bytes, algorithm=None) -> bytes:
    hasher = hashes.Hash(algorithm or hashes.SHA256())
    hasher.update(content)
    return hasher.finalize()


def tree(content: bytes) -> etree._Element:
    """The parsed META-INF/signatures.xml of a container."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return etree.fromstring(archive.read("META-INF/signatures.xml"))
