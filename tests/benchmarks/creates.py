"""CPU time of one create, compared with a bare POST of the same bytes, their hashes and one signature.

A job from a path is compared with a POST that also reads the file. The lower bound has the hashes, the
signature and the encryption, but no HTTP, no socket and no event loop.
"""

from functools import partial
from pathlib import Path

import httpx

from posten_signering import DirectClient

from . import bare
from .measuring import cpu_in_turns
from .place import KIB, MIB, RunningServer, job, label
from .recording import recorded_create
from .table import Limit, Row

# For each size, the limits from bytes and from a path. For a small document, a third of the baseline is the RSA
# signature. The rest is Python code, of which the package runs about 0.5 ms more (docs/explanation/performance.md).
LIMITS = {
    10 * KIB: (Limit(value=1.65), Limit(value=1.8)),
    100 * KIB: (None, None),
    MIB: (Limit(value=1.4), Limit(value=1.5)),
    10 * MIB: (Limit(value=1.25), Limit(value=1.4)),
}
# For each size, the number of runs in one turn. A turn takes a few hundredths of a second.
_TIMES = {10 * KIB: 20, 100 * KIB: 15, MIB: 6, 10 * MIB: 1}


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows for every size, from bytes and from a path."""
    rows = list[Row]()
    async with (
        DirectClient(server.configuration()) as client,
        bare.transport(server.folder) as http,
    ):
        for size in LIMITS:
            rows += await _measure(server, client, http, size, turns=turns)
    return rows


async def _measure(
    server: RunningServer,
    client: DirectClient,
    http: httpx.AsyncHTTPTransport,
    size: int,
    *,
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

    from_bytes, from_path, posted, posted_file, bound = await cpu_in_turns(
        [partial(create, content), partial(create, path), post, post_file, lower_bound],
        times=_TIMES[size],
        turns=turns,
    )
    return [
        row
        for source, series, baseline, limit in (
            ("bytes", from_bytes, posted, LIMITS[size][0]),
            ("a path", from_path, posted_file, LIMITS[size][1]),
        )
        for row in (
            Row(
                name=f"CPU of a create, {label(size)} from {source}",
                measured=series,
                baseline=baseline,
                unit="ms",
                limit=limit,
                size=size,
                curve=f"create from {source}",
                baseline_curve=f"bare httpx from {source}",
            ),
            Row(
                name="  compared with the lower bound",
                measured=series,
                baseline=bound,
                unit="ms",
                size=size,
                baseline_curve="lower bound",
            ),
        )
    ]
