"""The documents of jobs: the originals, and the PAdES and XAdES files that are created from them.

As in the service, a signed document is created at its first download. The storage keeps it, so every
later download returns the same bytes.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from posten_signering.sandbox._documents.processes import (
    DocumentProcesses,
    Original,
    TooMuchWork,
    UnusableDocument,
)
from posten_signering.sandbox._intake.judge import TEXT, Bundle
from posten_signering.sandbox._signed.front_page import Signatory, front_page
from posten_signering.sandbox._signed.pki import Authority
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
from posten_signering.sandbox._values.refusal import Refusal, broken_bundle
from posten_signering.sandbox._values.workers import Workers

_SIGNING_FACTOR = 3
"""Signing may take three times as long as the check, so that a job that was created can be signed."""


class JobDocuments:
    """The original and signed documents of every job, until they are deleted.

    Args:
        authority: Issues the signers' certificates, and has the service's key.
        workers: The worker threads that sign documents.
        processes: The processes that open documents.
        storage: Stores the documents.
    """

    def __init__(
        self,
        authority: Authority,
        workers: Workers,
        processes: DocumentProcesses,
        storage: Storage,
    ) -> None:
        self._authority = authority
        self._workers = workers
        self._processes = processes
        self._storage = storage
        self._locks = defaultdict[DocumentKey, asyncio.Lock](asyncio.Lock)

    async def check(self, bundle: Bundle) -> None:
        """Checks that the documents can be signed: does what `pades` will do, except for front page and seal.

        Raises:
            Refusal: A document can't be signed, or the documents exceed a limit.
        """
        documents = [
            Original(title=document.title, is_text=document.mime == TEXT, content=content)
            for document, content in zip(
                bundle.manifest.documents, bundle.documents.values(), strict=True
            )
        ]
        try:
            await self._processes.joined(documents, _no_front_page, title=bundle.manifest.title)
        except UnusableDocument as problem:
            name = list(bundle.documents)[problem.position]
            raise broken_bundle(f"The document {name} {problem}") from None
        except TooMuchWork as problem:
            raise broken_bundle(
                f"To make one PDF of A4 pages, the documents {problem}. Send smaller or simpler documents."
            ) from None

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
            Refusal: The documents of the job are deleted, or exceed a limit because the machine is slow.
        """
        signatories = [
            Signatory(name=_name_of_signer(position), signer=signer, signed_at=state.state.since)
            for position, (signer, state) in enumerate(
                zip(job.manifest.signers, job.signers, strict=True)
            )
        ]

        async def make(originals: Sequence[SignedDocument]) -> bytes:
            def make_front_page(page_counts: Sequence[int]) -> bytes:
                documents = list(zip(originals, page_counts, strict=True))
                return front_page(job.manifest, documents, signatories, sealed_at=job.latest_change)

            documents = [
                Original(
                    title=original.title, is_text=original.mime == TEXT, content=original.content
                )
                for original in originals
            ]
            try:
                pdf = await self._processes.joined(
                    documents, make_front_page, title=job.manifest.title, factor=_SIGNING_FACTOR
                )
            except TooMuchWork as problem:
                raise Refusal(
                    503,
                    "SIGNED_DOCUMENT_NOT_CREATED",
                    f"The documents of job {job.id} {problem}, although they did not when the job was"
                    " created. Try again when this machine has less to do.",
                ) from None
            return await self._workers.run(
                sealed,
                pdf,
                seal=self._authority.service,
                at=job.latest_change,
                reason="Signed documents of a signature job",
            )

        return await self._signed(job, DocumentKey(job_id=job.id, kind=DocumentKind.PADES), make)

    async def xades(self, job: Job, position: int) -> Octets:
        """The XAdES of a signer who has signed.

        Raises:
            Refusal: The documents of the job are deleted.
        """

        def sign(originals: Sequence[SignedDocument]) -> bytes:
            signer = self._authority.person(_name_of_signer(position))
            signed_at = job.signers[position].state.since
            return make_xades(documents=originals, signer=signer, signed_at=signed_at)

        async def make(originals: Sequence[SignedDocument]) -> bytes:
            return await self._workers.run(sign, originals)

        key = DocumentKey(job_id=job.id, kind=DocumentKind.XADES, position=position)
        return await self._signed(job, key, make)

    async def _signed(
        self,
        job: Job,
        key: DocumentKey,
        make: Callable[[Sequence[SignedDocument]], Awaitable[bytes]],
    ) -> Octets:
        # If two requests need the same document, the second one waits until the first has created it.
        async with self._locks[key]:
            signed = await self._storage.get(key)
            if signed is None:
                originals = await self.originals(job)
                if not originals:
                    message = f"The documents of job {job.id} are deleted."
                    raise Refusal(410, "DOCUMENTS_DELETED", message)
                signed = StoredDocument(content=Octets(await make(originals)))
                self._storage.put(key, signed)
        return signed.content


def _no_front_page(_: object) -> bytes:
    return b""


def _name_of_signer(position: int) -> str:
    # The sandbox does not know the names of signers, so it invents one.
    return f"Sandbox Signer {position + 1}"
