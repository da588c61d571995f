"""CPU time of one create, compared with a bare POST of the same bytes, their hashes and one signature.

The limit is 1.25 times for 10 MiB, the largest job. Smaller jobs have no limit: most of
their time goes to rendering, validating and parsing the messages, which the baseline does not do.
A job from a path is compared with a POST that also reads a file.
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
from .place import KIB, MIB, RunningServer, job
from .table import Row, compared

LIMIT = 1.25

# For each size, the number of runs in one turn. A turn takes a few hundredths of a second.
SIZES = {10 * KIB: 20, MIB: 6, 10 * MIB: 1}

Action = Callable[[], Awaitable[None]]


class RecordingTransport:
    """A transport that stores the request instead of sending it."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.url = ""
        self.body = b""

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator[ResponseStream]:
        assert request.body is not None
        self.body = b"".join([chunk async for chunk in request.body.chunks()])
        self.headers, self.url = dict(request.headers), request.url.reveal()
        yield _CreatedResponse()

    async def aclose(self) -> None:
        pass


class _CreatedResponse:
    status = 200
    headers: dict[str, str] = {}

    async def chunks(self) -> AsyncIterator[bytes]:
        yield (
            b'<direct-signature-job-response xmlns="http://signering.posten.no/schema/v1">'
            b"<signature-job-id>1</signature-job-id>"
            b'<signer href="https://api.example/1"><redirect-url>https://web.example/1</redirect-url>'
            b"</signer></direct-signature-job-response>"
        )


async def recorded_create(server: RunningServer, content: bytes | Path) -> RecordingTransport:
    """The request with which the package creates a job of this document."""
    recorded = RecordingTransport()
    async with DirectClient(replace(server.configuration(), transport=recorded)) as client:
        await client.create(job(content))
    return recorded


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows for every size, from bytes and from a path."""
    rows = list[Row]()
    async with (
        DirectClient(server.configuration()) as client,
        bare.transport(server.folder) as http,
    ):
        for size, times in SIZES.items():
            rows += await _measure(server, client, http, size, times=times, turns=turns)
    return rows


async def _measure(
    server: RunningServer,
    client: DirectClient,
    http: httpx.AsyncHTTPTransport,
    size: int,
    *,
    times: int,
    turns: int,
) -> list[Row]:
    path = server.document(size)
    content = path.read_bytes()
    recorded = await recorded_create(server, content)
    sign, encrypt = bare.Signing(server.folder), bare.Encryption()

    async def create(content: bytes | Path) -> None:
        await client.create(job(content))

    async def post() -> None:
        sign(content)
        await bare.post(http, recorded.url, recorded.headers, recorded.body)

    body_file = server.folder / f"{size}.body"
    body_file.write_bytes(recorded.body)

    async def post_file() -> None:
        sign(path.read_bytes())
        await bare.post(http, recorded.url, recorded.headers, body_file)

    async def lower_bound() -> None:
        sign(content)
        encrypt(recorded.body)

    from_bytes, from_path, posted, posted_file, bound = await _in_turns(
        [partial(create, content), partial(create, path), post, post_file, lower_bound],
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
            compared(
                f"CPU of a create, {label} from {source}", series, baseline, limit=limit, unit="ms"
            ),
            compared("  compared with the lower bound", series, bound, limit=None, unit="ms"),
        )
    ]


async def _in_turns(actions: Sequence[Action], *, times: int, turns: int) -> list[list[float]]:
    """For each action, the CPU time of one run in ms, for each turn after the first (a warm-up)."""
    series = [list[float]() for _ in actions]
    for turn in range(turns + 1):
        for action, values in zip(actions, series, strict=True):
            start = time.process_time()
            for _ in range(times):
                await action()
            if turn:
                values.append((time.process_time() - start) * 1000 / times)
    return series
