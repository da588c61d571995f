"""A worker that polls for status changes, passes each to a handler, and confirms it.

    worker = StatusChangeWorker(client, StoreSignedDocuments(client, DirectoryStore(Path("signed"))))
    await worker.run()

Delivery is at least once. The worker confirms a change only after its handler has returned. If the
handler raises or the process dies, the service redelivers the change when its lease of 10 minutes has
ended. Use `change.deduplication_key` to detect a change that was handled before.
"""

from posten_signering.worker._delivery import Handler
from posten_signering.worker._health import QueueHealth, WorkCounts, WorkerHealth
from posten_signering.worker._store import DirectoryStore, SignedDocumentStore, StoreSignedDocuments
from posten_signering.worker._worker import StatusChangeWorker

__all__ = [
    "DirectoryStore",
    "Handler",
    "QueueHealth",
    "SignedDocumentStore",
    "StatusChangeWorker",
    "StoreSignedDocuments",
    "WorkCounts",
    "WorkerHealth",
]
