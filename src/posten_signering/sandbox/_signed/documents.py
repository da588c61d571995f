"""The documents of jobs: the originals, and the PAdES and XAdES files that are created from them.

As in the service, a signed document is created at its first download. The storage keeps it, so every
later download returns the same bytes.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from datetime import datetime

from posten_signering.sandbox._intake.judge import PDF, Bundle
from posten_signering.sandbox._intake.messages import Manifest
from posten_signering.sandbox._intake.pdf import joined, read
from posten_signering.sandbox._signed.front_page import Signatory, front_page, text_pages
from posten_signering.sandbox._signed.pki import Authority, SigningKey
from posten_signering.sandbox._signed.seal import sealed
from posten_signering.sandbox._signed.xades import SignedDocument, make_xades
from posten_signering.sandbox._state.job import Job
from posten_signering.sandbox._state.storage import (
    DocumentKey,
    DocumentKind,
    Storage,
    StoredDocument,
)
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.workers import Workers


class JobDocuments:
    """The original and signed documents of every job, until they are deleted.

    Args:
        authority: Issues the signers' certificates, and has the service's key.
        workers: The worker threads that sign documents.
        storage: Stores the documents.
    """

    def __init__(self, authority: Authority, workers: Workers, storage: Storage) -> None:
        self._authority = authority
        self._workers = workers
        self._storage = storage
        self._locks = defaultdict[DocumentKey, asyncio.Lock](asyncio.Lock)

    def keep(self, job: Job, bundle: Bundle) -> None:
        """Stores the original documents of a job."""
        for position, (name, content) in enumerate(bundle.documents.items()):
            key = DocumentKey(job_id=job.id, kind=DocumentKind.ORIGINAL, position=position)
            self._storage.put(key, StoredDocument(name=name, content=content))

    def delete(self, job_id: int) -> None:
        """Deletes every document of a job."""
        self._storage.delete(job_id)

    async def originals(self, job: Job) -> Sequence[SignedDocument]:
        """The original documents of a job, in the manifest's order. Empty after deletion."""
        originals: list[SignedDocument] = []
        for position, document in enumerate(job.manifest.documents):
            key = DocumentKey(job_id=job.id, kind=DocumentKind.ORIGINAL, position=position)
            stored = await self._storage.get(key)
            if stored is not None:
                originals.append(
                    SignedDocument(
                        name=stored.name,
                        title=document.title,
                        mime=document.mime,
                        content=stored.content,
                    )
                )
        return originals

    async def pades(self, job: Job) -> Octets:
        """The signed PDF of a job that every signer has signed.

        Raises:
            Refusal: The documents of the job are deleted.
        """
        signatories = [
            Signatory(name=_name_of_signer(position), signer=signer, signed_at=state.state.since)
            for position, (signer, state) in enumerate(
                zip(job.manifest.signers, job.signers, strict=True)
            )
        ]

        def make(originals: Sequence[SignedDocument]) -> bytes:
            return make_pades(
                manifest=job.manifest,
                documents=originals,
                signatories=signatories,
                seal=self._authority.service,
                at=job.latest_change,
            )

        return await self._signed(job, DocumentKey(job_id=job.id, kind=DocumentKind.PADES), make)

    async def xades(self, job: Job, position: int) -> Octets:
        """The XAdES of a signer who has signed.

        Raises:
            Refusal: The documents of the job are deleted.
        """

        def make(originals: Sequence[SignedDocument]) -> bytes:
            signer = self._authority.person(_name_of_signer(position))
            signed_at = job.signers[position].state.since
            return make_xades(documents=originals, signer=signer, signed_at=signed_at)

        key = DocumentKey(job_id=job.id, kind=DocumentKind.XADES, position=position)
        return await self._signed(job, key, make)

    async def _signed(
        self, job: Job, key: DocumentKey, make: Callable[[Sequence[SignedDocument]], bytes]
    ) -> Octets:
        # If two requests need the same document, the second one waits until the first has created it.
        async with self._locks[key]:
            signed = await self._storage.get(key)
            if signed is None:
                originals = await self.originals(job)
                if not originals:
                    message = f"The documents of job {job.id} are deleted."
                    raise Refusal(410, "DOCUMENTS_DELETED", message)
                signed = StoredDocument(content=Octets(await self._workers.run(make, originals)))
                self._storage.put(key, signed)
        return signed.content


def make_pades(
    *,
    manifest: Manifest,
    documents: Sequence[SignedDocument],
    signatories: Sequence[Signatory],
    seal: SigningKey,
    at: datetime,
) -> bytes:
    """The signed PDF (PAdES): a front page and the pages of all documents, with the service's seal.

    CPU-heavy: run it in a thread without an event loop.

    Args:
        manifest: The job's manifest.
        documents: The documents in the manifest's order, as `judge` accepted them.
        signatories: The signers, in the manifest's order.
        seal: The service's key.
        at: The time of the seal, an aware datetime.
    """
    pdfs = [
        read(
            document.content
            if document.mime == PDF
            else text_pages(document.content, title=document.title)
        )
        for document in documents
    ]
    page_counts = [
        (document, len(pdf.pages)) for document, pdf in zip(documents, pdfs, strict=True)
    ]
    front = read(front_page(manifest, page_counts, signatories, sealed_at=at))
    titles = ["Signatures", *(document.title for document in documents)]
    joined_pdf = joined(list(zip(titles, [front, *pdfs], strict=True)), title=manifest.title)
    return sealed(joined_pdf, seal=seal, at=at, reason="Signed documents of a signature job")


def _name_of_signer(position: int) -> str:
    # The sandbox does not know the names of signers, so it invents one.
    return f"Sandbox Signer {position + 1}"
