"""Runs a worker inside a web app, from the start of the app to its end. Independent of the web framework."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from posten_signering import DirectClient, DirectJobStatusResponse
from posten_signering.errors import SigningError
from posten_signering.worker import StatusChangeWorker

# The server stops its requests first, and then the worker. Both times together must be shorter than the
# time that the platform gives the process.
STOP_WITHIN = timedelta(seconds=10)
# Changes may occupy every slot for `handler_timeout`, 8 minutes. Handlers that still run then are stuck.
OVERDUE = timedelta(minutes=15)

logger = logging.getLogger("worker")


@asynccontextmanager
async def running_worker(
    client: DirectClient, handler: Callable[[DirectJobStatusResponse], Awaitable[None]]
) -> AsyncGenerator[StatusChangeWorker]:
    """Runs a worker until the `async with` block ends, and then stops it gracefully."""
    worker = StatusChangeWorker(client, handler, stop_within=STOP_WITHIN)
    task = asyncio.create_task(_run(worker))
    try:
        yield worker
    finally:
        worker.stop()
        await task
        counts = worker.counts
        logger.info("Handled %d, confirmed %d", counts.handled, counts.confirmed)


async def _run(worker: StatusChangeWorker) -> None:
    try:
        await worker.run()
    except SigningError:
        # The web app continues to serve its customers. `is_alive` reports the failure.
        logger.exception("The worker has ended, because polling failed permanently")


def is_alive(worker: StatusChangeWorker) -> bool:
    """Whether the worker polls. If not, the process should be restarted."""
    health = worker.health
    return health.running and health.overdue_for < OVERDUE
