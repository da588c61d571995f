"""Seals a PDF with a signature of PAdES baseline B (ETSI EN 319 142-1), made by pyHanko.

Performs no I/O. Call it in a thread without an event loop.
"""

import asyncio
import io
import logging
from datetime import datetime
from typing import Any, cast

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyhanko.keys import load_private_key_from_pemder_data
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.signers import SimpleSigner
from pyhanko.sign.signers.cms_embedder import PdfCMSEmbedder, SigIOSetup, SigObjSetup
from pyhanko.sign.signers.pdf_byterange import SignatureObject
from pyhanko_certvalidator.registry import SimpleCertificateStore

from posten_signering.sandbox._intake.certificates import as_pyhanko_takes
from posten_signering.sandbox._signed.pki import SigningKey

# Without a handler, the library's warnings would appear on the standard error of a program that has
# not set up logging.
logging.getLogger("pyhanko").addHandler(logging.NullHandler())

_DIGEST = "sha256"
_FIELD = "PostenSigneringSandboxSeal"
_RESERVED = 32 * 1024


def sealed(pdf: bytes, *, seal: SigningKey, at: datetime, reason: str) -> bytes:
    """A PDF with a signature over the whole of it.

    Args:
        pdf: The PDF, without a signature.
        seal: The key to sign with.
        at: The time of signing that the signature states.
        reason: The reason that the signature states.
    """
    # Without encryption, because it stays in memory.
    key = seal.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    certificate, *chain = as_pyhanko_takes([seal.certificate, *seal.chain])
    # The library leaves some types out.
    signer = cast(
        "Any",
        SimpleSigner(
            signing_cert=certificate,
            signing_key=load_private_key_from_pemder_data(key, passphrase=None),
            cert_registry=cast("Any", SimpleCertificateStore).from_certs(chain),
        ),
    )
    output = io.BytesIO(pdf)
    embedding = cast("Any", PdfCMSEmbedder()).write_cms(
        field_name=_FIELD, writer=IncrementalPdfFileWriter(output)
    )
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
        signer.async_sign(prepared.document_digest, digest_algorithm=_DIGEST, use_pades=True)
    )
    embedding.send(signature)
    return output.getvalue()
