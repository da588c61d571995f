"""Seals a PDF with a signature of PAdES baseline B (ETSI EN 319 142-1), made by pyHanko.

Performs no I/O. Call it in a thread without an event loop.
"""

import asyncio
import io
import logging
from datetime import UTC, datetime
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko.keys import load_private_key_from_pemder_data
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers import SimpleSigner
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import SignatureObject
from pyhanko_certvalidator.registry import SimpleCertificateStore

from posten_signering.sandbox._intake.certificates import to_pyhanko_certificates
from posten_signering.sandbox._signed.pki import SigningKey

# Without a handler, Python prints the library's warnings to standard error in programs that have not
# configured logging.
logging.getLogger("pyhanko").addHandler(logging.NullHandler())

_DIGEST = "sha256"
_FIELD = "PostenSigneringSandboxSeal"
_RESERVED_BYTES = 32 * 1024


class _Writer(IncrementalPdfFileWriter):
    """A writer that does not note the time of the change in the properties of the PDF.

    The library would write it in the time zone of the machine, and can't read a zone like `CET-1CEST`.
    """

    def _update_meta(self) -> None:
        pass


def sealed(pdf: bytes, *, seal: SigningKey, at: datetime, reason: str) -> bytes:
    """The PDF with a signature over the whole file.

    Args:
        pdf: The PDF, without a signature.
        seal: The key that signs.
        at: The time of signing that the signature states, an aware datetime. It is written in UTC.
        reason: The reason that the signature states.
    """
    # The key stays in memory, so it needs no encryption.
    key = seal.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    certificate, *chain = to_pyhanko_certificates([seal.certificate, *seal.chain])
    # `Any`, because some parts of the library have no types.
    signer = cast(
        "Any",
        SimpleSigner(
            signing_cert=certificate,
            signing_key=load_private_key_from_pemder_data(key, passphrase=None),
            cert_registry=cast("Any", SimpleCertificateStore).from_certs(chain),
        ),
    )
    output = io.BytesIO(pdf)
    embedding = cast("Any", PdfCMSEmbedder()).write_cms(field_name=_FIELD, writer=_Writer(output))
    next(embedding)
    placeholder = SignatureObject(
        timestamp=at.astimezone(UTC),
        subfilter=SigSeedSubFilter.PADES,
        reason=reason,
        bytes_reserved=_RESERVED_BYTES,
    )
    embedding.send(SigObjSetup(sig_placeholder=placeholder))
    prepared, _ = embedding.send(SigIOSetup(md_algorithm=_DIGEST, in_place=True))
    signature = asyncio.run(
        signer.async_sign(prepared.document_digest, digest_algorithm=_DIGEST, use_pades=True)
    )
    embedding.send(signature)
    return output.getvalue()
