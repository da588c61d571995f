"""Calls per second with 100 concurrent callers, compared with 8, without a rate limit."""

import asyncio
import time
from functools import partial

from posten_signering import DirectClient

from .measuring import Action
from .place import KIB, RunningServer, job
from .table import Limit, Row

LIMIT = Limit(value=0.9, at_least=True)
_MANY, _FEW = 100, 8


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows: a status by token, and a create of 10 KiB."""
    content = server.document(10 * KIB).read_bytes()
    rows = list[Row]()
    async with DirectClient(server.configuration()) as client:
        get_status = partial(
            client.get_status, server.job_url("status"), status_query_token="token"
        )
        for name, call, calls in (
            ("status", get_status, 600),
            ("create", partial(client.create, job(content)), 300),
        ):
            series: dict[int, list[float]] = {_MANY: [], _FEW: []}
            for turn in range(turns + 1):
                for callers, values in series.items():
                    rate = await _calls_per_second(call, callers, calls)
                    if turn:
                        values.append(rate)
            rows.append(
                Row(
                    name=f"{name}, calls per second with {_MANY} callers and with {_FEW}",
                    measured=series[_MANY],
                    baseline=series[_FEW],
                    unit="/s",
                    limit=LIMIT,
                )
            )
    return rows


async def _calls_per_second(call: Action, callers: int, calls: int) -> float:
    left = calls

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await call()

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(callers)))
    return calls / (time.perf_counter() - start)
