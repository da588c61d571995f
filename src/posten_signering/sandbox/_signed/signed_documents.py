"""Makes what the signers' work ends in: a PAdES of all documents, and a XAdES of each signer.

Both are real signatures, of the keys given. CPU-heavy and free of I/O: run them in a thread.
"""

from collections.abc import Sequence
from datetime import datetime

from posten_signering.sandbox._intake.messages import Manifest
from posten_signering.sandbox._intake.pdf import joined, read
from posten_signering.sandbox._signed.front_page import Signatory, front_page, text_pages
from posten_signering.sandbox._signed.seal import SigningKey, sealed
from posten_signering.sandbox._signed.xades import SignedDocument, make_xades

__all__ = ["Signatory", "SignedDocument", "SigningKey", "make_pades", "make_xades"]

_PDF = "application/pdf"


def make_pades(
    *,
    manifest: Manifest,
    documents: Sequence[SignedDocument],
    signatories: Sequence[Signatory],
    seal: SigningKey,
    at: datetime,
) -> bytes:
    """The signed documents: a front page and every page of every document, sealed (PAdES).

    Args:
        manifest: The job's manifest.
        documents: The documents in the manifest's order, as `judge` accepted them.
        signatories: Those who have signed, in the manifest's order.
        seal: The service's key.
        at: The time of the seal: an aware time.
    """
    pdfs = [
        read(
            document.content
            if document.mime == _PDF
            else text_pages(document.content, title=document.title)
        )
        for document in documents
    ]
    counted = [(document, len(pdf.pages)) for document, pdf in zip(documents, pdfs, strict=True)]
    first = read(front_page(manifest, counted, signatories, sealed_at=at))
    titles = ["Signatures", *(document.title for document in documents)]
    pages = joined(list(zip(titles, [first, *pdfs], strict=True)), title=manifest.title)
    return sealed(pages, seal=seal, at=at, reason="Signed documents of a signature job")
