"""A worker process: takes status changes from the queue, and stores the signed documents.

python -m fleet.worker

Ctrl-C or SIGTERM stops it gracefully: the running handlers finish first.
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import timedelta

from fleet.orders import Orders, SignedDocument, open_orders
from posten_signering import ClientConfiguration, DirectClient, DirectJobStatusResponse, RedisFleet
from posten_signering.worker import StatusChangeWorker

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")
# A change is delivered at most every 10 minutes, so this is about two days: longer than any outage of the
# database. What still fails then has no order, or kills its process each time, for example.
MAX_DELIVERIES = 300
# Changes may occupy every slot for `handler_timeout`, 8 minutes. Handlers that still run are stuck.
OVERDUE = timedelta(minutes=15)

logger = logging.getLogger("worker")


class StoreOutcome:
    """The handler. When it returns, the worker confirms the change."""

    def __init__(self, client: DirectClient, orders: Orders) -> None:
        self._client = client
        self._orders = orders

    async def __call__(self, change: DirectJobStatusResponse) -> None:
        """Downloads the documents of a change, and stores them with it in one transaction."""
        if await self._orders.is_stored(change):
            logger.info("Order %s: the change is stored already", change.reference)
            return
        documents = list[SignedDocument]()
        if change.pades_url is not None:
            documents.append(SignedDocument("pades", "", await self._client.get_pades(change)))
        for signature in change.signatures:
            if signature.xades_url is not None:
                xades = await self._client.get_xades(signature)
                documents.append(SignedDocument("xades", signature.signer or "", xades))
        if await self._orders.store(change, documents):
            logger.info(
                "Order %s: stored %s and %d documents",
                *(change.reference, change.status, len(documents)),
            )


@asynccontextmanager
async def liveness_endpoint(worker: StatusChangeWorker, port: int) -> AsyncGenerator[None]:
    """Answers the liveness probe of Kubernetes with HTTP 200, or 503 if the worker must be restarted.

    An outage of the service or of the database is no reason for a restart.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError, asyncio.LimitOverrunError):  # TimeoutError is an OSError
            async with asyncio.timeout(5):
                await reader.readuntil(b"\r\n\r\n")
                health = worker.health
                status = "200 OK" if health.overdue_for < OVERDUE else "503 Service Unavailable"
                head = f"HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: text/plain\r\n\r\n"
                writer.write(f"{head}{health}\n".encode())
                await writer.drain()
        writer.close()

    host = os.environ.get("HOST", "127.0.0.1")
    async with await asyncio.start_server(answer, host, port) as server:
        host, port = server.sockets[0].getsockname()
        logger.info("http://%s:%d/ shows the health of this worker", host, port)
        yield


async def main() -> None:
    """Runs the worker until a signal stops it."""
    configuration = replace(
        await asyncio.to_thread(ClientConfiguration.from_env), fleet=RedisFleet(REDIS_URL)
    )
    async with open_orders() as orders, DirectClient(configuration) as client:
        worker = StatusChangeWorker(
            client,
            StoreOutcome(client, orders),
            max_deliveries=MAX_DELIVERIES,
            dead_letter=orders.set_aside,
            stop_within=timedelta(seconds=20),
            handle_signals=True,
        )
        async with liveness_endpoint(worker, int(os.environ.get("PORT", "8080"))):
            await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(process)d: %(message)s")
    logging.getLogger("psycopg.pool").setLevel(logging.WARNING)
    asyncio.run(main())
