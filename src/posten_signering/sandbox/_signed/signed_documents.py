"""Makes what the signers' work ends in: a PAdES of all documents, and a XAdES of each signer.

Both are real signatures, of the keys given. CPU-heavy and free of I/O: run them in a thread.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime

from posten_signering.sandbox._intake.pdf import joined, read
from posten_signering.sandbox._signed.front_page import FrontPage, ListedDocument, front_page
from posten_signering.sandbox._signed.seal import SigningKey, sealed
from posten_signering.sandbox._signed.signatory import Signatory
from posten_signering.sandbox._signed.text_pages import text_pages
from posten_signering.sandbox._signed.xades import SignedDocument, make_xades

__all__ = ["Signatory", "SignedDocument", "SigningKey", "make_pades", "make_xades"]

_PDF = "application/pdf"


def make_pades(
    *,
    title: str,
    description: str | None,
    sender: str,
    documents: Sequence[SignedDocument],
    signatories: Sequence[Signatory],
    identifier_in_signed_documents: str | None,
    seal: SigningKey,
    at: datetime,
) -> bytes:
    """The signed documents: a front page and every page of every document, sealed (PAdES).

    Args:
        title: The job's title.
        description: The message to the signers, if any.
        sender: The organisation number of the sender.
        documents: The documents in the manifest's order, as `judge` accepted them.
        signatories: Those who have signed, in the manifest's order.
        identifier_in_signed_documents: How they are named: the wire's value, or `None`.
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
    first = front_page(
        FrontPage(
            title=title,
            description=description,
            sender=sender,
            documents=[
                _listed(document, pages=len(pdf.pages))
                for document, pdf in zip(documents, pdfs, strict=True)
            ],
            signatories=signatories,
            identifier_in_signed_documents=identifier_in_signed_documents,
            sealed_at=at,
        )
    )
    titles = [document.title for document in documents]
    pages = joined([("Signatures", read(first)), *zip(titles, pdfs, strict=True)], title=title)
    return sealed(pages, seal=seal, at=at, reason="Signed documents of a signature job")


def _listed(document: SignedDocument, *, pages: int) -> ListedDocument:
    kind = "PDF" if document.mime == _PDF else "Text"
    count = "1 page" if pages == 1 else f"{pages} pages"
    return ListedDocument(
        title=document.title,
        kind=f"{kind}, {count}",
        sha256=hashlib.sha256(document.content).hexdigest(),
    )
