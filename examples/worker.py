"""A long-running worker: polls a queue for status changes, and stores signed documents in SQLite.

    make example-worker        starts it with a sandbox and three jobs
    python worker.py           uses the POSTEN_SIGNERING_* variables: see docs/reference/configuration.md

Ctrl-C or SIGTERM stops it gracefully: the running handlers finish first. Each change is stored in one
transaction before the worker confirms it. If the worker is interrupted before the confirmation, the
service redelivers the change. The worker then detects by its key whether the change is stored already.
"""

import asyncio
import logging
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from posten_signering import ClientConfiguration, DirectClient, DirectJobStatusResponse
from posten_signering.worker import StatusChangeWorker

T = TypeVar("T")

TABLES = """
create table if not exists job (
    id integer primary key, reference text, status text not null
) strict;
create table if not exists document (
    job integer references job, kind text, signer text, content blob not null,
    primary key (job, kind, signer)
) strict;
create table if not exists handled (
    deduplication_key text primary key, job integer references job, at text default current_timestamp
) strict;
"""

logger = logging.getLogger("worker")


class Store:
    """Stores jobs, their documents, and the keys of the changes that were handled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(sqlite3.connect(path)) as database:
            database.executescript(TABLES)

    async def was_handled(self, change: DirectJobStatusResponse) -> bool:
        """Whether this change is stored already."""
        return await self._in_transaction(
            lambda database: (
                database.execute(
                    "select 1 from handled where deduplication_key = ?",
                    (change.deduplication_key,),
                ).fetchone()
                is not None
            )
        )

    async def save(
        self, change: DirectJobStatusResponse, documents: Sequence[tuple[str, str, bytes]]
    ) -> None:
        """Stores the whole change or nothing. Does not overwrite documents that are stored already."""

        def save(database: sqlite3.Connection) -> None:
            insertion = database.execute(
                "insert into handled (deduplication_key, job) values (?, ?) on conflict do nothing",
                (change.deduplication_key, change.job_id),
            )
            if insertion.rowcount == 0:
                return  # Another process has stored the same change in the meantime.
            # Changes may be handled in any order: an older status must not replace the outcome.
            database.execute(
                "insert into job values (?, ?, ?) on conflict do update"
                " set status = excluded.status where status = 'IN_PROGRESS'",
                (change.job_id, change.reference, change.status),
            )
            database.executemany(
                "insert into document values (?, ?, ?, ?) on conflict do nothing",
                [(change.job_id, *document) for document in documents],
            )

        await self._in_transaction(save)

    async def _in_transaction(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with closing(sqlite3.connect(self._path, timeout=60)) as database:
                # Otherwise a power failure could roll back a transaction that is confirmed already.
                database.execute("pragma synchronous = extra")
                with database:
                    return work(database)

        return await asyncio.to_thread(run)


class StoreChange:
    """The handler. When it returns, the worker confirms the change."""

    def __init__(self, client: DirectClient, store: Store) -> None:
        self._client = client
        self._store = store

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        """Downloads the documents of the change, and stores them with it in one transaction."""
        if await self._store.was_handled(change):
            logger.info(
                "Job %s: this change is stored already and is only confirmed", change.job_id
            )
            return
        documents = list[tuple[str, str, bytes]]()
        if change.pades_url is not None:
            documents.append(("pades", "", await self._client.get_pades(change)))
        for signature in change.signatures:
            if signature.xades_url is not None:
                xades = await self._client.get_xades(signature)
                documents.append(("xades", signature.signer or "", xades))
        logger.info("Job %s: %s, %d documents", change.job_id, change.status, len(documents))
        await self._store.save(change, documents)


async def main() -> None:
    """Runs the worker until a signal stops it."""
    configuration = await asyncio.to_thread(ClientConfiguration.from_env)
    store = Store(Path(os.environ.get("WORKER_DATABASE", "worker.sqlite3")))
    async with DirectClient(configuration) as client:
        worker = StatusChangeWorker(client, StoreChange(client, store), handle_signals=True)
        await worker.run()
    counts = worker.counts
    logger.info(
        "Handled %d, confirmed %d, failed %d", counts.handled, counts.confirmed, counts.failed
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
