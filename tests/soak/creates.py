"""Creates jobs while connections break, responses are lost or damaged, and calls are cancelled.

The outcome that the client reported for each job is compared with the jobs that the sandbox has.
"""

import asyncio
import logging
import random
import tempfile
from collections import Counter
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from posten_signering import DirectClient, Environment, InMemoryFleet, Timeouts
from posten_signering.errors import (
    ApiError,
    CreateOutcomeUnknownError,
    SigningError,
    TransportError,
)

from .network import Proxy, proxy_to
from .service import Service, job, service
from .table import Row

_CONCURRENCY = 6
_LATER_CALLS = 20
_SEED = 11
# A create takes about 20 to 60 ms here.
_CANCELLATION_PROBABILITY = 0.15
_LATEST_CANCELLATION = 0.08
# Probabilities are per request.
_FAULTS: list[dict[str, object]] = [
    {"kind": "reset", "probability": 0.02},
    {"kind": "reset", "after": True, "probability": 0.03},
    {"kind": "server_error", "probability": 0.02},
    {"kind": "server_error", "after": True, "probability": 0.03},
    {"kind": "unavailable", "seconds": 1, "probability": 0.02},
    {"kind": "unavailable", "seconds": 1, "after": True, "probability": 0.02},
    {"kind": "truncated_body", "probability": 0.03},
    {"kind": "malformed_xml", "probability": 0.02},
    {"kind": "wrong_root", "probability": 0.02},
    {"kind": "error_document", "code": "NOT_AUTHORIZED", "probability": 0.03},
    {"kind": "delay", "seconds": 2, "after": True, "probability": 0.005},
]
_RESET_PROBABILITY = 0.15


class Reported(Enum):
    """The outcome of a create that the client reported."""

    CREATED = "created"
    NOT_CREATED = "not created"
    UNKNOWN = "outcome unknown"
    CANCELLED = "cancelled"
    OTHER = "something else"


def run(*, jobs: int) -> list[Row]:
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="posten-signering-soak-") as name,
        service(Path(name), paced=False) as running,
    ):
        return asyncio.run(_run(running, jobs))


async def _run(running: Service, jobs: int) -> list[Row]:
    port = urlsplit(running.service_root).port
    assert port is not None
    async with proxy_to(port) as proxy:
        files = _open_files()
        root = f"https://127.0.0.1:{proxy.port}/api"
        configuration = running.configuration(
            environment=Environment(name="soak", service_root=root),
            fleet=InMemoryFleet(share=None),
            timeouts=Timeouts(connect=5, api=1, download=5),
            max_connections=_CONCURRENCY,
        )
        async with DirectClient(configuration) as client:
            for fault in _FAULTS:
                body = {"times": None, "operation": "create", **fault}
                await asyncio.to_thread(running.post, "faults", body)
            proxy.reset_probability = _RESET_PROBABILITY
            reported = await _create(client, jobs)
            proxy.reset_probability = 0.0
            later = await _call_later(client)
        await _settled(running, proxy)
        existing = Counter(
            existing_job["reference"]
            for existing_job in await asyncio.to_thread(running.get, "jobs")
        )
        files_left = _open_files() - files
        return [
            *_rows(reported, existing),
            Row(what="connections reset by the proxy", counted=proxy.resets),
            Row(what="successful later calls", counted=later, must_be=_LATER_CALLS),
            Row(what="connections left open", counted=proxy.open, must_be=0),
            Row(what="files left open", counted=max(0, files_left), must_be=0),
        ]


def _rows(reported: dict[str, Reported], existing: Counter[str]) -> list[Row]:
    def count(outcome: Reported, *, times: int | None = None) -> int:
        return sum(
            reported_outcome is outcome and (times is None or existing[reference] == times)
            for reference, reported_outcome in reported.items()
        )

    created, not_created = count(Reported.CREATED), count(Reported.NOT_CREATED)
    return [
        Row(what="creates", counted=len(reported)),
        Row(what="reported as created", counted=created),
        Row(what="  and exist once", counted=count(Reported.CREATED, times=1), must_be=created),
        Row(what="reported as not created", counted=not_created),
        Row(
            what="  and do not exist",
            counted=count(Reported.NOT_CREATED, times=0),
            must_be=not_created,
        ),
        Row(what="reported as outcome unknown", counted=count(Reported.UNKNOWN)),
        Row(what="  and exist once", counted=count(Reported.UNKNOWN, times=1)),
        Row(what="cancelled", counted=count(Reported.CANCELLED)),
        Row(what="  and exist once", counted=count(Reported.CANCELLED, times=1)),
        Row(
            what="lost: reported as created, but do not exist",
            counted=count(Reported.CREATED, times=0),
            must_be=0,
        ),
        Row(
            what="jobs that exist more than once",
            counted=sum(times > 1 for times in existing.values()),
            must_be=0,
        ),
        Row(
            what="jobs that exist but were never requested",
            counted=len(set(existing) - set(reported)),
            must_be=0,
        ),
        Row(what="any other outcome", counted=count(Reported.OTHER), must_be=0),
    ]


async def _create(client: DirectClient, jobs: int) -> dict[str, Reported]:
    rng = random.Random(_SEED)
    numbers = iter(range(jobs))
    reported: dict[str, Reported] = {}

    async def worker() -> None:
        for number in numbers:
            reference = f"job-{number}"
            reported[reference] = await _create_one(client, reference, rng)

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))
    return reported


async def _create_one(client: DirectClient, reference: str, rng: random.Random) -> Reported:
    task = asyncio.ensure_future(client.create(job(reference)))
    if rng.random() < _CANCELLATION_PROBABILITY:
        await asyncio.wait([task], timeout=rng.uniform(0, _LATEST_CANCELLATION))
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return Reported.CANCELLED
    except CreateOutcomeUnknownError:
        return Reported.UNKNOWN
    except (TransportError, ApiError):
        return Reported.NOT_CREATED
    except SigningError:
        return Reported.OTHER
    return Reported.CREATED


async def _call_later(client: DirectClient) -> int:
    async def works() -> bool:
        try:
            await client.check_access()
        except SigningError:
            return False
        return True

    return sum(await asyncio.gather(*(works() for _ in range(_LATER_CALLS))))


async def _settled(running: Service, proxy: Proxy) -> None:
    """Waits up to 20 seconds until the sandbox has handled every request that reached it."""
    previous = -1
    for _ in range(100):
        counters = await asyncio.to_thread(running.get, "counters")
        calls = sum(sum(counts["calls"].values()) for counts in counters.values())
        if calls == previous and proxy.open == 0:
            return
        previous = calls
        await asyncio.sleep(0.2)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
