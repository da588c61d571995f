"""Connections after random cancellations: later calls work, and nothing stays open.

The baseline is one pool of httpx with as many connections, treated the same.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from posten_signering import DirectClient

from . import bare
from .place import KIB, Place, job
from .table import Row, Verdict, counted

_CONNECTIONS = 5
_AT_ONCE = 20
_LATER = 20
_LATEST = 0.03
_SEED = 1

Call = Callable[[], Awaitable[object]]


class _Side:
    """What was seen of one side."""

    def __init__(self) -> None:
        self.cancelled = 0
        self.later = 0
        self.established = 0
        self.files_left = 0
        self.established_left = 0


async def measure(where: Place, *, cancellations: int) -> list[Row]:
    """The table's rows."""
    # Every cancelled create is warned of.
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    content = where.document(256 * KIB).read_bytes()
    ours, bares = _Side(), _Side()
    await _watched(where, ours, partial(_ours, where, content, ours, cancellations))
    await _watched(where, bares, partial(_bare, where, content, bares, cancellations))
    return [
        Row(
            bar=f"{_LATER} calls after {ours.cancelled} cancellations: worked",
            measured=str(ours.later),
            baseline=str(bares.later),
            limit=str(_LATER),
            verdict=Verdict.MET if ours.later == _LATER else Verdict.MISSED,
        ),
        counted("  connections then", ours.established, bares.established, most=2 * _CONNECTIONS),
        counted("  open files left when closed", ours.files_left, bares.files_left, most=0),
        counted(
            "  connections left when closed",
            ours.established_left,
            bares.established_left,
            most=0,
        ),
    ]


async def _watched(where: Place, side: _Side, run: Callable[[], Awaitable[None]]) -> None:
    files = _open_files()
    await run()
    await _settled(where)
    side.files_left = _open_files() - files
    side.established_left = _established(where.port)


async def _ours(where: Place, content: bytes, side: _Side, cancellations: int) -> None:
    configuration = where.configuration(max_connections=_CONNECTIONS)
    async with DirectClient(configuration) as client:
        calls = (client.check_access, partial(client.create, job(content)))
        await _cancel(calls, side, cancellations)
        await _call_later(client.check_access, where, side)


async def _bare(where: Place, content: bytes, side: _Side, cancellations: int) -> None:
    async with bare.transport(where.folder, max_connections=_CONNECTIONS) as http:
        url = f"{where.service_root}/jobs"
        get = partial(bare.get, http, url)
        calls = (get, partial(bare.post, http, url, {}, content))
        await _cancel(calls, side, cancellations)
        await _call_later(get, where, side)


async def _cancel(calls: tuple[Call, ...], side: _Side, cancellations: int) -> None:
    """Starts calls and cancels each at some moment, until so many were under way when they were."""
    dice = random.Random(_SEED)

    async def worker() -> None:
        while side.cancelled < cancellations:
            call = dice.choice(calls)
            task = asyncio.ensure_future(call())
            done, _ = await asyncio.wait([task], timeout=dice.uniform(0, _LATEST))
            if not done:
                side.cancelled += 1
                task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


async def _call_later(call: Call, where: Place, side: _Side) -> None:
    async def succeeds() -> bool:
        try:
            async with asyncio.timeout(5):
                await call()
        except Exception:  # noqa: BLE001 - whatever a client raises, the call did not work
            return False
        return True

    side.later = sum(await asyncio.gather(*(succeeds() for _ in range(_LATER))))
    side.established = _established(where.port)


async def _settled(where: Place) -> None:
    """Gives sockets that were closed just now the time to go."""
    for _ in range(50):
        if not _established(where.port):
            break
        await asyncio.sleep(0.02)


def _open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _established(port: int) -> int:
    """How many connections to the port stand, on the client's side (`/proc/net/tcp`, state 1)."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    fields = [line.split() for line in lines]
    return sum(each[2].endswith(f":{port:04X}") and each[3] == "01" for each in fields)
