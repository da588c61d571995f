"""CPU of one create: at most 1.25 times the bare POST of its bytes with the hashes and one signature.

The bar is for 10 MiB, the most that a job may hold. Of smaller jobs the messages are the larger part:
rendering, validating and parsing them is not in the baseline, and the ratio tells what they cost.
A job from a path is held against a POST that reads a file too.
"""

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx

from posten_signering import DirectClient, Request, ResponseStream

from . import bare
from .place import KIB, MIB, Place, job
from .table import Row, compared

LIMIT = 1.25

# How often each does its work in a turn: a turn lasts some hundredths of a second.
SIZES = {10 * KIB: 20, MIB: 6, 10 * MIB: 1}

Work = Callable[[], Awaitable[None]]


class _Sent:
    """A transport that only keeps what it is given to send."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.url = ""
        self.body = b""

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator[ResponseStream]:
        assert request.body is not None
        self.body = b"".join([chunk async for chunk in request.body.chunks()])
        self.headers, self.url = dict(request.headers), request.url.reveal()
        yield _Created()

    async def aclose(self) -> None:
        pass


class _Created:
    status = 200
    headers: dict[str, str] = {}

    async def chunks(self) -> AsyncIterator[bytes]:
        yield (
            b'<direct-signature-job-response xmlns="http://signering.posten.no/schema/v1">'
            b"<signature-job-id>1</signature-job-id></direct-signature-job-response>"
        )


async def sent(where: Place, content: bytes | Path) -> _Sent:
    """What the package sends to create a job of this document."""
    kept = _Sent()
    async with DirectClient(replace(where.configuration(), transport=kept)) as client:
        await client.create(job(content))
    return kept


async def measure(where: Place, *, turns: int) -> list[Row]:
    """A table's rows for every size, from bytes and from a path."""
    rows = list[Row]()
    async with (
        DirectClient(where.configuration()) as client,
        bare.transport(where.folder) as http,
    ):
        for size, times in SIZES.items():
            rows += await _measure(where, client, http, size, times=times, turns=turns)
    return rows


async def _measure(
    where: Place,
    client: DirectClient,
    http: httpx.AsyncHTTPTransport,
    size: int,
    *,
    times: int,
    turns: int,
) -> list[Row]:
    path = where.document(size)
    content = path.read_bytes()
    kept = await sent(where, content)
    signing, encryption = bare.Signing(where.folder), bare.Encryption()

    async def create(content: bytes | Path) -> None:
        await client.create(job(content))

    async def post() -> None:
        signing(content)
        await bare.post(http, kept.url, kept.headers, kept.body)

    whole = where.folder / f"{size}.body"
    whole.write_bytes(kept.body)

    async def post_file() -> None:
        signing(path.read_bytes())
        await bare.post(http, kept.url, kept.headers, whole)

    async def least() -> None:
        signing(content)
        encryption(kept.body)

    from_bytes, from_path, posted, posted_file, bound = await _in_turns(
        [partial(create, content), partial(create, path), post, post_file, least],
        times=times,
        turns=turns,
    )
    limit = LIMIT if size == 10 * MIB else None
    label = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
    return [
        row
        for source, series, baseline in (
            ("bytes", from_bytes, posted),
            ("a path", from_path, posted_file),
        )
        for row in (
            compared(f"CPU, {label} from {source}", series, baseline, limit=limit, unit="ms"),
            compared("  to the lower bound", series, bound, limit=None, unit="ms"),
        )
    ]


async def _in_turns(works: Sequence[Work], *, times: int, turns: int) -> list[list[float]]:
    """For each work, its CPU time in ms, turn by turn; the first turn is warming up."""
    series = [list[float]() for _ in works]
    for turn in range(turns + 1):
        for work, values in zip(works, series, strict=True):
            start = time.process_time()
            for _ in range(times):
                await work()
            if turn:
                values.append((time.process_time() - start) * 1000 / times)
    return series
