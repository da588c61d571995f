"""The wait for a call's permission by a `RedisFleet`, compared with a bare round trip to the same Redis.

Nobody else calls, so no call waits for its turn.
"""

import shutil
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

import redis.asyncio
import redis_process

from posten_signering import DirectClient, RedisFleet

from .place import RunningServer
from .table import Row

_CALLS_IN_A_TURN = 100


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows; none if redis-server is not installed."""
    program = shutil.which("redis-server")
    if program is None:
        sys.stderr.write("fleet is skipped: redis-server is not installed.\n")
        return []
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_process.running(program, Path(folder)) as running,
    ):
        configuration = server.configuration(fleet=RedisFleet(running.uri))
        async with (
            DirectClient(configuration) as client,
            redis.asyncio.from_url(running.uri) as bare,
        ):
            member = client._open().fleet
            # Every call is for a different organisation, so none has to wait for an earlier one.
            organizations = (f"{number:09}" for number in range(100_000_000, 1_000_000_000))

            async def acquire() -> None:
                end_in_flight = await member.acquire(next(organizations))
                end_in_flight()

            # The first call of a new fleet waits until the state in Redis is complete.
            await acquire()
            ours, theirs = [], []
            for _ in range(turns):
                ours.append(await _median(acquire))
                theirs.append(await _median(bare.ping))
    return [
        Row(
            name="permission by a RedisFleet, and a PING", measured=ours, baseline=theirs, unit="ms"
        )
    ]


async def _median(call: Callable[[], Awaitable[object]]) -> float:
    """The median time of a call in ms."""
    times = list[float]()
    for _ in range(_CALLS_IN_A_TURN):
        start = time.perf_counter()
        await call()
        times.append((time.perf_counter() - start) * 1000)
    return median(times)
