"""What a sandbox keeps: the tables, and the documents beside them. Performs no I/O.

`MemoryStore` forgets everything in the end; `_store_sqlite` keeps it in a directory.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from posten_signering.sandbox._state.tables import Tables
from posten_signering.sandbox._values.hidden import Octets


class DocumentKind(StrEnum):
    """What kind of document is kept."""

    ORIGINAL = "original"
    PADES = "pades"
    XADES = "xades"


@dataclass(frozen=True, kw_only=True, slots=True)
class DocumentKey:
    """Which document.

    Attributes:
        job_id: The job.
        kind: What kind of document.
        position: Of an original or of a signer, from 0; 0 for the PAdES.
    """

    job_id: int
    kind: DocumentKind
    position: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredDocument:
    """A document.

    Attributes:
        name: Of its entry in the container; empty when it came in none.
        content: Its bytes.
    """

    name: str = ""
    content: Octets = field(repr=False)


class Store(Protocol):
    """Tables and documents. What is changed lasts from the next `commit` on."""

    @property
    def tables(self) -> Tables:
        """The tables; changed by assigning and deleting entries."""
        ...

    def put(self, key: DocumentKey, document: StoredDocument) -> None:
        """Keeps a document."""
        ...

    async def get(self, key: DocumentKey) -> StoredDocument | None:
        """A document that is kept."""
        ...

    def delete(self, job_id: int) -> None:
        """Forgets every document of a job."""
        ...

    def clear(self) -> None:
        """Forgets all documents."""
        ...

    async def commit(self) -> None:
        """Returns when every change so far lasts.

        Raises:
            SandboxError: It can't be written.
        """
        ...

    def commit_now(self) -> None:
        """Does what `commit` does, and blocks meanwhile."""
        ...

    async def aclose(self) -> None:
        """Ends the store; what was changed lasts."""
        ...


class MemoryStore:
    """Keeps everything in memory."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._documents: dict[DocumentKey, StoredDocument] = {}

    def put(self, key: DocumentKey, document: StoredDocument) -> None:
        """See `Store`."""
        self._documents[key] = document

    async def get(self, key: DocumentKey) -> StoredDocument | None:
        """See `Store`."""
        return self._documents.get(key)

    def delete(self, job_id: int) -> None:
        """See `Store`."""
        for key in [key for key in self._documents if key.job_id == job_id]:
            del self._documents[key]

    def clear(self) -> None:
        """See `Store`."""
        self._documents.clear()

    async def commit(self) -> None:
        """See `Store`."""

    def commit_now(self) -> None:
        """See `Store`."""

    async def aclose(self) -> None:
        """See `Store`."""
