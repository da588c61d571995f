"""Creating jobs while connections break, answers are lost or spoiled and calls are cancelled.

What the client said of each job is held against the jobs that the sandbox has.
"""

import asyncio
import logging
import random
import tempfile
from collections import Counter
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

from posten_signering import DirectClient, Environment, Timeouts
from posten_signering.errors import (
    ApiError,
    CreateOutcomeUnknownError,
    SigningError,
    TransportError,
)

from .network import Network, network
from .service import Service, job, service, unpaced
from .table import Row

_AT_ONCE = 6
_LATER = 20
_SEED = 11
# A create takes some 20 to 60 ms here.
_CANCELLED = 0.15
_LATEST_CANCELLATION = 0.08
# How likely each is, per request.
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
_RESETS = 0.15


class Said(Enum):
    """What the client said of a job."""

    CREATED = "created"
    NOT_CREATED = "not created"
    UNKNOWN = "outcome unknown"
    CANCELLED = "cancelled"
    OTHER = "something else"


def run(*, jobs: int) -> list[Row]:
    """The table's rows."""
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    with (
        tempfile.TemporaryDirectory(prefix="posten-signering-soak-") as name,
        service(Path(name), paced=False) as running,
    ):
        return asyncio.run(_run(running, jobs))


async def _run(running: Service, jobs: int) -> list[Row]:
    port = urlsplit(running.service_root).port
    assert port is not None
    async with network(port) as way:
        files = _open_files()
        root = f"https://127.0.0.1:{way.port}/api"
        configuration = running.configuration(
            environment=Environment(name="soak", service_root=root),
            rate_limiter=unpaced(),
            timeouts=Timeouts(connect=5, api=1, download=5),
            max_connections=_AT_ONCE,
        )
        async with DirectClient(configuration) as client:
            for fault in _FAULTS:
                given = {"times": None, "operation": "create", **fault}
                await asyncio.to_thread(running.does, "faults", given)
            way.harm = _RESETS
            said = await _create(client, jobs)
            way.harm = 0.0
            later = await _call_later(client)
        await _settled(running, way)
        there = Counter(
            each["reference"] for each in await asyncio.to_thread(running.tells, "jobs")
        )
        left = _open_files() - files
        return [
            *_rows(said, there),
            Row(what="connections reset on the way", counted=way.resets),
            Row(what="later calls that work", counted=later, must_be=_LATER),
            Row(what="connections left open", counted=way.open, must_be=0),
            Row(what="open files left", counted=max(0, left), must_be=0),
        ]


def _rows(said: dict[str, Said], there: Counter[str]) -> list[Row]:
    def count(what: Said, *, times: int | None = None) -> int:
        return sum(
            each is what and (times is None or there[reference] == times)
            for reference, each in said.items()
        )

    created, not_created = count(Said.CREATED), count(Said.NOT_CREATED)
    return [
        Row(what="creates", counted=len(said)),
        Row(what="said to be created", counted=created),
        Row(what="  and there once", counted=count(Said.CREATED, times=1), must_be=created),
        Row(what="said not to be created", counted=not_created),
        Row(
            what="  and not there",
            counted=count(Said.NOT_CREATED, times=0),
            must_be=not_created,
        ),
        Row(what="said to be unknown", counted=count(Said.UNKNOWN)),
        Row(what="  and there once", counted=count(Said.UNKNOWN, times=1)),
        Row(what="cancelled", counted=count(Said.CANCELLED)),
        Row(what="  and there once", counted=count(Said.CANCELLED, times=1)),
        Row(
            what="lost: said to be created, and not there",
            counted=count(Said.CREATED, times=0),
            must_be=0,
        ),
        Row(
            what="there more than once, whatever was said",
            counted=sum(times > 1 for times in there.values()),
            must_be=0,
        ),
        Row(what="there, and never asked for", counted=len(set(there) - set(said)), must_be=0),
        Row(what="another answer than these", counted=count(Said.OTHER), must_be=0),
    ]


async def _create(client: DirectClient, jobs: int) -> dict[str, Said]:
    dice = random.Random(_SEED)
    numbers = iter(range(jobs))
    said: dict[str, Said] = {}

    async def worker() -> None:
        for number in numbers:
            reference = f"job-{number}"
            said[reference] = await _one(client, reference, dice)

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))
    return said


async def _one(client: DirectClient, reference: str, dice: random.Random) -> Said:
    task = asyncio.ensure_future(client.create(job(reference)))
    if dice.random() < _CANCELLED:
        await asyncio.wait([task], timeout=dice.uniform(0, _LATEST_CANCELLATION))
        task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return Said.CANCELLED
    except CreateOutcomeUnknownError:
        return Said.UNKNOWN
    except (TransportError, ApiError):
        return Said.NOT_CREATED
    except SigningError:
        return Said.OTHER
    return Said.CREATED


async def _call_later(client: DirectClient) -> int:
    async def works() -> bool:
        try:
            await client.check_access()
        except SigningError:
            return False
        return True

    return sum(await asyncio.gather(*(works() for _ in range(_LATER))))


async def _settled(running: Service, way: Network) -> None:
    """Waits until the sandbox has dealt with all that came through."""
    last = -1
    for _ in range(100):
        counters = await asyncio.to_thread(running.tells, "counters")
        now = sum(sum(each["calls"].values()) for each in counters.values())
        if now == last and way.open == 0:
            return
        last = now
        await asyncio.sleep(0.2)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
