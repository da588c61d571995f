"""A worker that stores signed documents in the folder `signed`, and serves metrics for Prometheus.

    pip install posten-signering prometheus-client
    python worker_metrics.py   uses the POSTEN_SIGNERING_* variables: see docs/reference/configuration.md

The metrics are at http://127.0.0.1:9464/metrics. Ctrl-C or SIGTERM stops the worker gracefully.
"""

import asyncio
import logging
import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from posten_signering import (
    CallEnded,
    ChangeConfirmed,
    ChangeReleased,
    ClientConfiguration,
    DirectClient,
    Event,
    HandlerEnded,
    QueuePolled,
)
from posten_signering.worker import DirectoryStore, StatusChangeWorker, StoreSignedDocuments

CALLS = Histogram("signing_call_seconds", "Attempts of calls.", ["operation", "error"])
POLLS = Counter("signing_polls", "Polls.", ["organization", "queue", "result"])
HANDLED = Histogram("signing_handler_seconds", "Attempts of the handler.", ["result"])
CONFIRMED = Histogram("signing_change_seconds", "From a delivery to its confirmation.")
RELEASED = Counter("signing_changes_released", "Changes that were not confirmed.", ["reason"])
HANDLING = Gauge("signing_changes_handling", "Changes that are being handled now.")
OVERDUE = Gauge("signing_poll_overdue_seconds", "For how long a poll has been due.")


def observe(event: Event, /) -> None:
    """Counts an event. The client calls this in its event loop, so it must not block."""
    match event:
        case CallEnded():
            call = CALLS.labels(event.operation, event.error_type or "")
            call.observe(event.duration.total_seconds())
        case QueuePolled():
            POLLS.labels(event.organization_number, event.polling_queue or "", event.result).inc()
        case HandlerEnded():
            HANDLED.labels(event.result).observe(event.duration.total_seconds())
        case ChangeConfirmed():
            CONFIRMED.observe(event.duration.total_seconds())
        case ChangeReleased():
            RELEASED.labels(event.reason).inc()
        case _:  # new versions may add events
            pass


async def main() -> None:
    """Runs the worker and the server of the metrics until a signal stops it."""
    configuration = await asyncio.to_thread(ClientConfiguration.from_env)
    async with DirectClient(replace(configuration, observers=[observe])) as client:
        store = DirectoryStore(Path("signed"))
        worker = StatusChangeWorker(
            client, StoreSignedDocuments(client, store), handle_signals=True
        )
        HANDLING.set_function(lambda: worker.health.handling)
        OVERDUE.set_function(lambda: worker.health.overdue_for / timedelta(seconds=1))
        # In a container, use the address 0.0.0.0, so that Prometheus can reach it.
        port = int(os.environ.get("METRICS_PORT", "9464"))
        server, thread = start_http_server(port, addr="127.0.0.1")
        try:
            await worker.run()
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main())
