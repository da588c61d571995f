"""A worker process: takes status changes from the queue, and stores the signed documents.

python -m fleet.worker

Ctrl-C or SIGTERM stops it gracefully: the running handlers finish first.
"""

import asyncio
import logging
import os
from dataclasses import replace
from datetime import timedelta

from fleet.orders import Orders, SignedDocument, open_orders
from posten_signering import ClientConfiguration, DirectClient, DirectJobStatusResponse, RedisFleet
from posten_signering.worker import StatusChangeWorker

REDIS_URL = os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")

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


async def main() -> None:
    """Runs the worker until a signal stops it."""
    configuration = replace(
        await asyncio.to_thread(ClientConfiguration.from_env), fleet=RedisFleet(REDIS_URL)
    )
    async with open_orders() as orders, DirectClient(configuration) as client:
        worker = StatusChangeWorker(
            client,
            StoreOutcome(client, orders),
            stop_within=timedelta(seconds=20),
            handle_signals=True,
        )
        await worker.run()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s worker %(process)d: %(message)s")
    logging.getLogger("psycopg.pool").setLevel(logging.WARNING)
    asyncio.run(main())
