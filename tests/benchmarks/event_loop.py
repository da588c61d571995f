"""Stall of the event loop while 8 jobs of 10 MiB are created: at most twice that beside 8 bare POSTs."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import quantiles

from posten_signering import DirectClient

from . import bare
from .cpu import sent
from .place import MIB, Place, job
from .table import Row, compared

LIMIT = 2.0
_SIZE = 10 * MIB
_JOBS = 8
_WAVES = 2
_BEAT = 0.001


async def measure(where: Place, *, turns: int) -> list[Row]:
    """The table's rows: from bytes and from paths."""
    path = where.document(_SIZE)
    content = path.read_bytes()
    kept = await sent(where, content)
    async with (
        DirectClient(where.configuration()) as client,
        bare.transport(where.folder) as http,
    ):

        async def create(content: bytes | Path) -> None:
            await client.create(job(content))

        works = (
            partial(create, content),
            partial(create, path),
            partial(bare.post, http, kept.url, kept.headers, kept.body),
        )
        series = [list[float]() for _ in works]
        for turn in range(turns + 1):
            for work, values in zip(works, series, strict=True):
                stall = await _stall(work)
                if turn:
                    values.append(stall)
    from_bytes, from_path, posted = series
    return [
        compared(
            f"event loop, p99, {_JOBS} jobs from {source}", ours, posted, limit=LIMIT, unit="ms"
        )
        for source, ours in (("bytes", from_bytes), ("paths", from_path))
    ]


async def _stall(work: Callable[[], Awaitable[None]]) -> float:
    """The 99th percentile of how late a heartbeat comes while the work is done side by side, in ms."""
    late = list[float]()
    heart = asyncio.create_task(_beat(late))
    for _ in range(_WAVES):
        await asyncio.gather(*(work() for _ in range(_JOBS)))
    heart.cancel()
    await asyncio.wait([heart])
    return quantiles(late, n=100)[98]


async def _beat(late: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        start = loop.time()
        await asyncio.sleep(_BEAT)
        late.append((loop.time() - start - _BEAT) * 1000)
