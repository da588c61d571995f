"""The orders of the shop in PostgreSQL. Each method is one transaction, and can be interrupted anywhere."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from uuid import uuid4

from psycopg import AsyncConnection
from psycopg.rows import class_row
from psycopg_pool import AsyncConnectionPool

from posten_signering import DirectJobStatus, DirectJobStatusResponse


class OrderState(StrEnum):
    """The state of an order."""

    OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"
    """The signing job may exist: it is being created, or its creation was interrupted."""

    READY_TO_SIGN = "READY_TO_SIGN"
    """The signing job exists."""

    NOT_CREATED = "NOT_CREATED"
    """Final: the service refused the job, or was not reached."""

    SIGNED = "SIGNED"
    """Final: the signed documents are stored."""

    NOT_SIGNED = "NOT_SIGNED"
    """Final: the customer rejected the job, or did not sign in time, or the signing failed."""


# A status that is not listed here raises a KeyError in `store`. The change then stays unconfirmed until
# a newer version of this program knows the status.
STATE_AFTER: dict[str, OrderState] = {
    DirectJobStatus.IN_PROGRESS: OrderState.READY_TO_SIGN,
    DirectJobStatus.COMPLETED_SUCCESSFULLY: OrderState.SIGNED,
    DirectJobStatus.FAILED: OrderState.NOT_SIGNED,
}


@dataclass(frozen=True, slots=True)
class Order:
    """An order.

    Attributes:
        reference: The order's number, and the reference of its signing job.
        state: The state.
        signer_url: The signer URL of the job; None if it is not known.
    """

    reference: str
    state: OrderState
    signer_url: str | None


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A signed document.

    Attributes:
        kind: "pades" or "xades".
        signer: The signer of a XAdES; empty for the PAdES, which belongs to all signers.
        content: The document.
    """

    kind: str
    signer: str
    content: bytes


@asynccontextmanager
async def open_orders() -> AsyncGenerator["Orders"]:
    """Opens the connection pool of one process. libpq's variables (PGHOST, PGPASSWORD, ...) name the database.

    Raises:
        PoolTimeout: There is no database. A worker without one must not take changes from the queue.
    """
    async with AsyncConnectionPool[AsyncConnection](
        min_size=1,
        max_size=4,
        # A connection that broke while it was idle, for example because PostgreSQL restarted, is replaced.
        check=AsyncConnectionPool.check_connection,
        timeout=10,
        # The pauses between attempts to connect become longer for 5 seconds. Then the next transaction
        # connects immediately.
        reconnect_timeout=5,
        open=False,
    ) as pool:
        await pool.wait()
        yield Orders(pool)


class Orders:
    """All orders of the shop."""

    def __init__(self, pool: AsyncConnectionPool[AsyncConnection]) -> None:
        self._pool = pool

    async def place(self) -> str:
        """Adds an order, and returns its reference. Call it before the job is created.

        The new order is OUTCOME_UNKNOWN until the response of the service is stored. If the process
        dies in between, that is what the order stays.
        """
        reference = str(uuid4())
        async with self._pool.connection() as connection:
            await connection.execute("insert into shop_order (reference) values (%s)", [reference])
        return reference

    async def job_created(self, reference: str, job_id: int, signer_url: str) -> None:
        """Stores the job of an order."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update shop_order set state = 'READY_TO_SIGN', job_id = %s, signer_url = %s"
                " where reference = %s and state = 'OUTCOME_UNKNOWN'",
                [job_id, signer_url, reference],
            )

    async def job_not_created(self, reference: str) -> None:
        """Stores that an order has no job."""
        async with self._pool.connection() as connection:
            await connection.execute(
                "update shop_order set state = 'NOT_CREATED'"
                " where reference = %s and state = 'OUTCOME_UNKNOWN'",
                [reference],
            )

    async def is_stored(self, change: DirectJobStatusResponse) -> bool:
        """Whether a status change was stored before."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select 1 from handled_change where deduplication_key = %s",
                [change.deduplication_key],
            )
            return cursor.rowcount == 1

    async def store(
        self, change: DirectJobStatusResponse, documents: Sequence[SignedDocument]
    ) -> bool:
        """Stores a status change: its key, its documents and the state of its order, or nothing.

        Returns:
            False if the change was stored before. Nothing is then stored.

        Raises:
            KeyError: The status is not known.
            psycopg.IntegrityError: No order has the reference of the change.
        """
        state = STATE_AFTER[change.status]
        async with self._pool.connection() as connection:
            # If another process is storing the same change, this waits for the end of its transaction.
            inserted = await connection.execute(
                "insert into handled_change (deduplication_key, reference) values (%s, %s)"
                " on conflict do nothing",
                [change.deduplication_key, change.reference],
            )
            if inserted.rowcount == 0:
                return False
            # The changes of a job may be handled in any order, so a final state is never replaced.
            await connection.execute(
                "update shop_order set state = %s, job_id = %s"
                " where reference = %s and state in ('OUTCOME_UNKNOWN', 'READY_TO_SIGN')",
                [state, change.job_id, change.reference],
            )
            await connection.cursor().executemany(
                "insert into signed_document values (%s, %s, %s, %s) on conflict do nothing",
                [
                    (change.reference, document.kind, document.signer, document.content)
                    for document in documents
                ],
            )
        return True

    async def set_aside(self, change: DirectJobStatusResponse) -> None:
        """Stores a status change for a person, because no delivery of it could be stored."""
        xades_urls = [signature.xades_url for signature in change.signatures if signature.xades_url]
        async with self._pool.connection() as connection:
            await connection.execute(
                "insert into dead_letter values (%s, %s, %s, %s, %s, %s) on conflict do nothing",
                [
                    *(change.deduplication_key, change.job_id, change.reference, change.status),
                    *(change.pades_url, xades_urls),
                ],
            )

    async def latest(self) -> Sequence[Order]:
        """The latest 100 orders, newest first."""
        async with self._pool.connection() as connection:
            cursor = connection.cursor(row_factory=class_row(Order))
            await cursor.execute(
                "select reference, state, signer_url from shop_order order by placed_at desc limit 100"
            )
            return await cursor.fetchall()

    async def signer_url(self, reference: str) -> str | None:
        """The signer URL of an order; None if there is no such order, or its job is not known."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select signer_url from shop_order where reference = %s", [reference]
            )
            row = await cursor.fetchone()
            return None if row is None else row[0]

    async def signed_pdf(self, reference: str) -> bytes | None:
        """The signed PDF of an order; None while it is not stored."""
        async with self._pool.connection() as connection:
            cursor = await connection.execute(
                "select content from signed_document where reference = %s and kind = 'pades'",
                [reference],
            )
            row = await cursor.fetchone()
            return None if row is None else row[0]
