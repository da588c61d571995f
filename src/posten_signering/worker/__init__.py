"""For async workers: poll, handle, confirm, and lose nothing on the way.

    worker = StatusChangeWorker(client, StoreSignedDocuments(client, DirectoryStore(Path("signed"))))
    await worker.run()

Delivery is at least once. A change is confirmed only after its handler has returned; one whose handler
raised, or whose process died, comes back when its lease of 10 minutes has run out. A handler sees by
`change.deduplication_key` that it has dealt with a change before.
"""

from posten_signering.worker._store import DirectoryStore, SignedDocumentStore, StoreSignedDocuments
from posten_signering.worker._worker import Handler, StatusChangeWorker, WorkCounts

__all__ = [
    "DirectoryStore",
    "Handler",
    "SignedDocumentStore",
    "StatusChangeWorker",
    "StoreSignedDocuments",
    "WorkCounts",
]
