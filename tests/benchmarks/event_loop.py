"""How long 8 creates of 10 MiB stall the event loop: at most twice as long as 8 bare POSTs."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from statistics import quantiles

from posten_signering import DirectClient

from . import bare
from .place import MIB, RunningServer, job
from .recording import recorded_create
from .table import Limit, Row

LIMIT = Limit(value=2.0)
_SIZE = 10 * MIB
_JOBS = 8
_WAVES = 2
_HEARTBEAT = 0.001


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows: from bytes and from paths."""
    path = server.document(_SIZE)
    content = path.read_bytes()
    recorded = await recorded_create(server, content)
    async with (
        DirectClient(server.configuration()) as client,
        bare.transport(server.folder) as http,
    ):

        async def create(content: bytes | Path) -> None:
            await client.create(job(content))

        actions = (
            partial(create, content),
            partial(create, path),
            partial(bare.post, http, recorded.url, recorded.headers, recorded.body),
        )
        series = [list[float]() for _ in actions]
        for turn in range(turns + 1):
            for action, values in zip(actions, series, strict=True):
                stall = await _stall(action)
                if turn:
                    values.append(stall)
    from_bytes, from_path, posted = series
    return [
        Row(
            name=f"event loop stall, p99, {_JOBS} jobs from {source}",
            measured=ours,
            baseline=posted,
            unit="ms",
            limit=LIMIT,
        )
        for source, ours in (("bytes", from_bytes), ("paths", from_path))
    ]


async def _stall(action: Callable[[], Awaitable[None]]) -> float:
    """The 99th percentile of a heartbeat's delay in ms, while several actions run concurrently."""
    delays = list[float]()
    heartbeat = asyncio.create_task(_beat(delays))
    for _ in range(_WAVES):
        await asyncio.gather(*(action() for _ in range(_JOBS)))
    heartbeat.cancel()
    await asyncio.wait([heartbeat])
    return quantiles(delays, n=100)[98]


async def _beat(delays: list[float]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        start = loop.time()
        await asyncio.sleep(_HEARTBEAT)
        delays.append((loop.time() - start - _HEARTBEAT) * 1000)
