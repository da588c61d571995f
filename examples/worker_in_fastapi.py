"""A web app on FastAPI with a worker in its lifespan. The worker stores signed documents, as in worker.py.

python run.py worker-in-fastapi    starts it with a sandbox and three jobs
python worker_in_fastapi.py        uses the POSTEN_SIGNERING_* variables: see docs/reference/configuration.md
"""

import asyncio
import logging
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI, Response
from worker import Store, StoreChange
from worker_lifespan import is_alive, running_worker

from posten_signering import ClientConfiguration, DirectClient
from posten_signering.worker import WorkerHealth


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
    """Keeps the client open and the worker running while the app runs."""
    configuration = await asyncio.to_thread(ClientConfiguration.from_env)
    database = Path(os.environ.get("WORKER_DATABASE", "worker.sqlite3"))
    store = await asyncio.to_thread(Store, database)
    async with (
        DirectClient(configuration) as client,
        running_worker(client, StoreChange(client, store)) as worker,
    ):
        app.state.client, app.state.worker = client, worker
        yield


app = FastAPI(lifespan=lifespan)


@app.get("/live")
async def live() -> Response:
    """For a liveness probe: 503 if the process must be restarted."""
    return Response(status_code=200 if is_alive(app.state.worker) else 503)


@app.get("/worker")
async def health() -> WorkerHealth:
    """The state of the worker, for people and monitoring. It names senders and queues: keep it internal."""
    state: WorkerHealth = app.state.worker.health
    return state


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    url = urlsplit(os.environ.get("SHOP_URL", "http://127.0.0.1:8000"))
    # Requests that still run after 10 seconds are cancelled. Then the lifespan ends, and stops the worker.
    uvicorn.run(
        app,
        host="127.0.0.1",
        port=url.port or 80,
        access_log=False,
        timeout_graceful_shutdown=10,
    )
