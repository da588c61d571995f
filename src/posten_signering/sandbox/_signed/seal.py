"""Seals a PDF: a signature that PAdES baseline B asks for (ETSI EN 319 142-1), made by pyHanko.

Must not be called in a thread whose event loop runs. Performs no I/O.
"""

import asyncio
import io
import logging
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol, cast

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko.keys import load_private_key_from_pemder_data
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers import SimpleSigner
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import SignatureObject
from pyhanko_certvalidator.registry import SimpleCertificateStore

from posten_signering.sandbox._intake.certificates import as_pyhanko_takes

# A program that has set up no logging is not to see the library's remarks.
logging.getLogger("pyhanko").addHandler(logging.NullHandler())

_DIGEST = "sha256"
_FIELD = "PostenSigneringSandboxSeal"
_RESERVED = 32 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class SigningKey:
    """What signs: a key, its certificate, and the certificates that lead to the root.

    Attributes:
        certificate: The key's certificate.
        key: The private key.
        chain: The certificates of its issuers, nearest first; the root may be among them.
    """

    certificate: x509.Certificate
    key: RSAPrivateKey = field(repr=False)
    chain: Sequence[x509.Certificate] = field(repr=False)


def sealed(pdf: bytes, *, seal: SigningKey, at: datetime, reason: str) -> bytes:
    """A PDF with a signature over all of it.

    Args:
        pdf: The PDF, not signed yet.
        seal: The key to sign with.
        at: The time of signing that the signature states.
        reason: Why it is sealed, in words.
    """
    output = io.BytesIO(pdf)
    writer = IncrementalPdfFileWriter(output)
    embedder = cast("_Embedder", PdfCMSEmbedder())
    embedding = embedder.write_cms(field_name=_FIELD, writer=writer)
    next(embedding)
    placeholder = SignatureObject(
        timestamp=at,
        subfilter=SigSeedSubFilter.PADES,
        reason=reason,
        bytes_reserved=_RESERVED,
    )
    embedding.send(SigObjSetup(sig_placeholder=placeholder))
    prepared, _ = embedding.send(SigIOSetup(md_algorithm=_DIGEST, in_place=True))
    signature = asyncio.run(
        _signer(seal).async_sign(prepared.document_digest, digest_algorithm=_DIGEST, use_pades=True)
    )
    embedding.send(signature)
    return output.getvalue()


def _signer(seal: SigningKey) -> "_Signer":
    # Serialised without encryption: it stays in memory.
    key = seal.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    issuers = cast("Callable[[], _Store]", SimpleCertificateStore)()
    certificate, *chain = as_pyhanko_takes([seal.certificate, *seal.chain])
    for issuer in chain:
        issuers.register(issuer)
    make = cast("Callable[..., _Signer]", SimpleSigner)
    return make(
        signing_cert=certificate,
        signing_key=load_private_key_from_pemder_data(key, passphrase=None),
        cert_registry=issuers,
    )


class _Signer(Protocol):
    """What is used of the library's signer; it leaves some types out."""

    async def async_sign(
        self, data_digest: bytes, *, digest_algorithm: str, use_pades: bool
    ) -> object: ...


class _Embedder(Protocol):
    """What is used of the library's embedder; it leaves some types out."""

    def write_cms(
        self, *, field_name: str, writer: IncrementalPdfFileWriter
    ) -> Generator[Any, object, None]: ...


class _Store(Protocol):
    """What is used of the library's store of certificates; it leaves some types out."""

    def register(self, cert: object) -> bool: ...
