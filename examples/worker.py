"""A worker for months: takes status changes from a polling queue, and keeps what was signed in SQLite.

    make example-worker        against a sandbox that is started for it, with a few jobs
    python worker.py           with POSTEN_SIGNERING_* set as ClientConfiguration.from_env() says

Ctrl-C or SIGTERM stops it: what is in hand is finished first. Of a change, everything is stored in one
transaction, and only then the worker confirms it. So a change that was cut off anywhere comes back,
and one that comes back after it was stored is seen by its key.
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
    """Jobs with their documents, and which changes were handled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(sqlite3.connect(path)) as database:
            database.executescript(TABLES)

    async def has(self, change: DirectJobStatusResponse) -> bool:
        """Whether the change was handled before."""
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
        """Keeps all of a change, or nothing; what is kept already stays as it is."""

        def save(database: sqlite3.Connection) -> None:
            known = database.execute(
                "insert into handled (deduplication_key, job) values (?, ?) on conflict do nothing",
                (change.deduplication_key, change.job_id),
            )
            if known.rowcount == 0:
                return  # Somebody else had the same change in hand, and was faster.
            # Changes are handled side by side: an outcome is not replaced by what came before it.
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
                # Or a loss of power could bring back the journal of what was committed (and confirmed).
                database.execute("pragma synchronous = extra")
                with database:
                    return work(database)

        return await asyncio.to_thread(run)


class KeepWhatWasSigned:
    """The handler: its return is what permits the worker to confirm."""

    def __init__(self, client: DirectClient, store: Store) -> None:
        self._client = client
        self._store = store

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        """Downloads what the change offers, and stores all of it at once."""
        if await self._store.has(change):
            logger.info("Job %s: this change came before, and is only confirmed", change.job_id)
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
    """Works until a signal stops it."""
    configuration = await asyncio.to_thread(ClientConfiguration.from_env)
    store = Store(Path(os.environ.get("WORKER_DATABASE", "worker.sqlite3")))
    async with DirectClient(configuration) as client:
        worker = StatusChangeWorker(client, KeepWhatWasSigned(client, store), handle_signals=True)
        await worker.run()
    counts = worker.counts
    logger.info(
        "Handled %d, confirmed %d, failed %d", counts.handled, counts.confirmed, counts.failed
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
