"""The documents of jobs: those that arrived, and the signed ones made of them on demand.

They are kept in the store, beside the tables. A signed document is made when it is first downloaded,
in a thread, and then stays the same: the service too makes the PAdES when it is asked for.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence

from posten_signering.sandbox._intake.judge import Bundle
from posten_signering.sandbox._signed.pki import Authority
from posten_signering.sandbox._signed.signed_documents import (
    Signatory,
    SignedDocument,
    make_pades,
    make_xades,
)
from posten_signering.sandbox._state.job import Job
from posten_signering.sandbox._state.store import DocumentKey, DocumentKind, Store, StoredDocument
from posten_signering.sandbox._values.octets import Octets
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.workers import Workers


class JobDocuments:
    """The documents of every job that has not been deleted.

    Args:
        authority: Issues the signers' certificates, and has the service's key.
        workers: Where documents are signed.
        store: Where documents are kept.
    """

    def __init__(self, authority: Authority, workers: Workers, store: Store) -> None:
        self._authority = authority
        self._workers = workers
        self._store = store
        self._being_made = defaultdict[DocumentKey, asyncio.Lock](asyncio.Lock)

    def keep(self, job: Job, bundle: Bundle) -> None:
        """Keeps the documents that arrived with a job."""
        for position, (name, content) in enumerate(bundle.documents.items()):
            key = DocumentKey(job_id=job.id, kind=DocumentKind.ORIGINAL, position=position)
            self._store.put(key, StoredDocument(name=name, content=content))

    def delete(self, job_id: int) -> None:
        """Forgets every document of a job."""
        self._store.delete(job_id)

    async def originals(self, job: Job) -> Sequence[SignedDocument]:
        """The documents that arrived with a job, in the manifest's order; none once deleted."""
        kept = [
            await self._store.get(
                DocumentKey(job_id=job.id, kind=DocumentKind.ORIGINAL, position=position)
            )
            for position in range(len(job.manifest.documents))
        ]
        return [
            SignedDocument(
                name=stored.name, title=document.title, mime=document.mime, content=stored.content
            )
            for stored, document in zip(kept, job.manifest.documents, strict=True)
            if stored is not None
        ]

    async def pades(self, job: Job) -> Octets:
        """The signed PDF of a job that everybody has signed."""
        return await self._signed(job, None)

    async def xades(self, job: Job, position: int) -> Octets:
        """The signature of a signer who has signed."""
        return await self._signed(job, position)

    async def _signed(self, job: Job, position: int | None) -> Octets:
        kind = DocumentKind.PADES if position is None else DocumentKind.XADES
        key = DocumentKey(job_id=job.id, kind=kind, position=position or 0)
        # Whoever asks while it is being made waits for the same document.
        async with self._being_made[key]:
            kept = await self._store.get(key)
            if kept is None:
                originals = await self.originals(job)
                if not originals:
                    raise Refusal(
                        410, "DOCUMENTS_DELETED", f"The documents of job {job.id} are deleted."
                    )
                made = await self._workers.run(self._make, job, position, originals)
                kept = StoredDocument(content=made)
                self._store.put(key, kept)
        return kept.content

    def _make(self, job: Job, position: int | None, originals: Sequence[SignedDocument]) -> Octets:
        if position is None:
            return self._make_pades(job, originals)
        return self._make_xades(job, position, originals)

    def _make_pades(self, job: Job, originals: Sequence[SignedDocument]) -> Octets:
        return Octets(
            make_pades(
                manifest=job.manifest,
                documents=originals,
                signatories=[
                    Signatory(
                        name=_name_of_signer(position),
                        signer=signer,
                        signed_at=state.state.since,
                    )
                    for position, (signer, state) in enumerate(
                        zip(job.manifest.signers, job.signers, strict=True)
                    )
                ],
                seal=self._authority.service,
                at=job.latest_change,
            )
        )

    def _make_xades(self, job: Job, position: int, originals: Sequence[SignedDocument]) -> Octets:
        return Octets(
            make_xades(
                documents=originals,
                signer=self._authority.person(_name_of_signer(position)),
                signed_at=job.signers[position].state.since,
            )
        )


def _name_of_signer(position: int) -> str:
    # Nobody's name: the sandbox asks no register, and its signers are made up.
    return f"Sandbox Signer {position + 1}"
