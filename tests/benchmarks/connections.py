"""Connections after random cancellations: later calls work, and nothing stays open.

The baseline is a connection pool of httpx of the same size, treated the same way.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from posten_signering import DirectClient

from . import bare
from .place import KIB, RunningServer, job
from .table import Limit, Row

_CONNECTIONS = 5
_CONCURRENCY = 20
_LATER_CALLS = 20
_LATEST_CANCELLATION = 0.03
_SEED = 1

Call = Callable[[], Awaitable[object]]


class _Side:
    """The counts of one side: the package, or bare httpx."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.later = 0
        self.established = 0
        self.files_left = 0
        self.established_left = 0


async def measure(server: RunningServer, *, cancellations: int) -> list[Row]:
    # The package logs a warning for every create that is cancelled in flight.
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    content = server.document(256 * KIB).read_bytes()
    ours, baseline = _Side(), _Side()
    await _run(server, ours, partial(_ours, server, content, ours, cancellations))
    await _run(server, baseline, partial(_bare, server, content, baseline, cancellations))
    return [
        Row(
            name=name,
            measured=[count],
            baseline=[count_of_bare],
            limit=Limit(value=limit, of_ratio=False, at_least=at_least),
        )
        for name, count, count_of_bare, limit, at_least in (
            (
                f"successful of {_LATER_CALLS} calls after {ours.cancelled} cancellations",
                *(ours.later, baseline.later, _LATER_CALLS, True),
            ),
            (
                "  open connections after these calls",
                *(ours.established, baseline.established, 2 * _CONNECTIONS, False),
            ),
            (
                "  files left open after closing",
                *(ours.files_left, baseline.files_left, 0, False),
            ),
            (
                "  connections left open after closing",
                *(ours.established_left, baseline.established_left, 0, False),
            ),
        )
    ]


async def _run(server: RunningServer, side: _Side, run: Callable[[], Awaitable[None]]) -> None:
    files = _open_files()
    await run()
    await _settled(server)
    side.files_left = _open_files() - files
    side.established_left = _established(server.port)


async def _ours(server: RunningServer, content: bytes, side: _Side, cancellations: int) -> None:
    configuration = server.configuration(max_connections=_CONNECTIONS)
    async with DirectClient(configuration) as client:
        calls = (client.check_access, partial(client.create, job(content)))
        await _cancel(calls, side, cancellations)
        await _call_later(client.check_access, server, side)


async def _bare(server: RunningServer, content: bytes, side: _Side, cancellations: int) -> None:
    async with bare.transport(server.folder, max_connections=_CONNECTIONS) as http:
        url = f"{server.service_root}/jobs"
        get = partial(bare.get, http, url)
        calls = (get, partial(bare.post, http, url, {}, content))
        await _cancel(calls, side, cancellations)
        await _call_later(get, server, side)


async def _cancel(calls: tuple[Call, ...], side: _Side, cancellations: int) -> None:
    """Starts calls and cancels each at a random moment, until this many were cancelled."""
    rng = random.Random(_SEED)

    async def worker() -> None:
        while side.cancelled < cancellations:
            call = rng.choice(calls)
            task = asyncio.ensure_future(call())
            done, _ = await asyncio.wait([task], timeout=rng.uniform(0, _LATEST_CANCELLATION))
            if not done:
                side.cancelled += 1
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))


async def _call_later(call: Call, server: RunningServer, side: _Side) -> None:
    async def succeeds() -> bool:
        try:
            async with asyncio.timeout(5):
                await call()
        except Exception:  # noqa: BLE001 - a call has failed, whatever it raises
            return False
        return True

    side.later = sum(await asyncio.gather(*(succeeds() for _ in range(_LATER_CALLS))))
    side.established = _established(server.port)


async def _settled(server: RunningServer) -> None:
    """Waits up to a second until the sockets that were just closed are gone."""
    for _ in range(50):
        if not _established(server.port):
            break
        await asyncio.sleep(0.02)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _established(port: int) -> int:
    """The number of established connections to the port, on the client's side (`/proc/net/tcp`, state 1)."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)
