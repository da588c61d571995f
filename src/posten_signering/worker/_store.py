"""Stores signed documents before their status change is confirmed."""

import os
from pathlib import Path
from typing import Protocol

import anyio.to_thread

from posten_signering._client.client import DirectClient
from posten_signering._client.downloads import PartialFile, make_directory
from posten_signering._values.secret import Secret
from posten_signering._values.status import DirectJobStatusResponse

PADES_NAME = "pades.pdf"


class SignedDocumentStore(Protocol):
    """Stores signed documents. Implement it to store them in your own system."""

    async def save(self, *, job_id: int, name: str, content: bytes) -> None:
        """Stores a document. Returns only when the document would survive a power failure.

        The same document may be saved again, because delivery is at least once.

        Args:
            job_id: The id of the document's job.
            name: `pades.pdf`, `xades-1.xml`, `xades-2.xml` and so on. Signers are numbered in the
                sorted order of their identifiers, which is the same in each change of a job.
            content: The whole document.

        Raises:
            Exception: The document was not stored. `StoreSignedDocuments` lets the error through, so the
                worker calls its handler again.
        """
        ...


class DirectoryStore:
    """Stores signed documents as files: `<directory>/<job id>/<name>`.

    Each file is written under a temporary name, flushed to the disk and then renamed, so a file with
    its final name is complete. An existing file is replaced. Where the file system can't flush a
    directory, a WARNING is logged: a power failure might then lose the name of a new file.

    Args:
        directory: The directory for the files. It is created, with its parents, if it does not exist.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    async def save(self, *, job_id: int, name: str, content: bytes) -> None:
        """Stores a document. Returns when its content is on the disk.

        Raises:
            OSError: The file can't be written.
        """
        secret_content = Secret(content)
        del content
        path = self._directory / str(job_id) / name
        await anyio.to_thread.run_sync(_write, self._directory, path, secret_content)


def _write(directory: Path, path: Path, content: Secret[bytes]) -> None:
    make_directory(path.parent)
    # A warning names the store's directory: otherwise there would be one for each job.
    with PartialFile(path, within=directory) as file:
        file.write(content)
        file.complete()


class StoreSignedDocuments:
    """A handler for `StatusChangeWorker` that stores signed documents before a change is confirmed.

    It stores the PAdES and each XAdES that the change offers. A change may offer none. To do more with
    a change, call this handler from your own handler.

    Args:
        client: The client that downloads the documents.
        store: The store that saves the documents.
    """

    def __init__(self, client: DirectClient, store: SignedDocumentStore) -> None:
        self._client = client
        self._store = store

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        """Downloads the signed documents that the change offers, and saves them in the store.

        Raises:
            SigningError: A download failed.
            Exception: An error of the store.
        """
        if change.pades_url is not None:
            await self._store.save(
                job_id=change.job_id, name=PADES_NAME, content=await self._client.get_pades(change)
            )
        # The service guarantees no order of the signatures. Sorting gives each signer the same number in
        # each change, so that a file never replaces that of a different signer.
        signatures = sorted(change.signatures, key=lambda signature: signature.signer or "")
        for number, signature in enumerate(signatures, start=1):
            if signature.xades_url is not None:
                await self._store.save(
                    job_id=change.job_id,
                    name=f"xades-{number}.xml",
                    content=await self._client.get_xades(signature),
                )
