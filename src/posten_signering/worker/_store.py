"""Signed documents into safe keeping, before their status change is confirmed."""

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
    """Where signed documents are kept."""

    async def save(self, *, job_id: int, name: str, content: bytes) -> None:
        """Keeps a document, and returns when it would survive a loss of power.

        The same document may come again: delivery is at least once.

        Args:
            job_id: The job that it belongs to.
            name: `pades.pdf`, or `xades-1.xml` and so on: signers are numbered in the order of their
                identifiers as text, which is the same in every change of a job.
            content: All of it.
        """
        ...


class DirectoryStore:
    """Keeps signed documents as files: `<directory>/<job id>/<name>`.

    Each is written under a temporary name, flushed to the disk and renamed: a file that has its name
    is whole. A file that is there is replaced.

    Args:
        directory: Is made when it is missing, with its parents.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self._directory = Path(directory)

    async def save(self, *, job_id: int, name: str, content: bytes) -> None:
        """Keeps a document, and returns when it is on the disk.

        Raises:
            OSError: It can't be written.
        """
        hidden = Secret(content)
        del content
        await anyio.to_thread.run_sync(_write, self._directory / str(job_id) / name, hidden)


def _write(path: Path, content: Secret[bytes]) -> None:
    make_directory(path.parent)
    with PartialFile(path) as file:
        file.write(content)
        file.complete()


class StoreSignedDocuments:
    """A handler for `StatusChangeWorker`: what is signed is in the store before the change is confirmed.

    Keeps the PAdES and every XAdES that a change offers; changes that offer none pass by. To do more
    with a change, call it from a handler of your own.

    Args:
        client: Downloads.
        store: Keeps.
    """

    def __init__(self, client: DirectClient, store: SignedDocumentStore) -> None:
        self._client = client
        self._store = store

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        """Downloads and keeps what the change offers.

        Raises:
            SigningError: A download failed.
            Exception: What the store raises.
        """
        if change.pades_url is not None:
            await self._store.save(
                job_id=change.job_id, name=PADES_NAME, content=await self._client.get_pades(change)
            )
        # Not as the service lists them: it promises no order, and one change's files would replace
        # another's of other signers.
        signatures = sorted(change.signatures, key=lambda each: each.signer or "")
        for number, signature in enumerate(signatures, start=1):
            if signature.xades_url is not None:
                await self._store.save(
                    job_id=change.job_id,
                    name=f"xades-{number}.xml",
                    content=await self._client.get_xades(signature),
                )
