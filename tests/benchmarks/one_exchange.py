"""`python -m benchmarks.one_exchange WHAT SIZE FOLDER PORT`: makes one call, prints the memory of the process.

WHAT is a create, `ours-bytes`, `ours-path`, `bare-bytes` or `bare-path`, or a download to a file: `ours-file` or
`bare-file`. Prints the peak resident memory of the process, in bytes.
"""

import asyncio
import re
import sys
from pathlib import Path

from posten_signering import DirectClient

from . import bare
from .place import RunningServer, job


async def _create(server: RunningServer, content: bytes | Path) -> None:
    async with DirectClient(server.configuration()) as client:
        await client.create(job(content))


async def _bare_create(server: RunningServer, content: bytes | Path) -> None:
    async with bare.transport(server.folder) as http:
        await bare.post(http, f"{server.service_root}/jobs", {}, content)


async def _download(server: RunningServer, size: int) -> None:
    async with DirectClient(server.configuration()) as client:
        await client.download_pades(
            server.job_url(f"{size}/pades"), server.folder / "downloaded.pdf"
        )


async def _bare_download(server: RunningServer, size: int) -> None:
    async with bare.transport(server.folder) as http:
        await bare.stream(http, server.job_url(f"{size}/pades"), {})


def peak_memory() -> int:
    """The peak resident memory of this process in bytes (Linux only)."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024


async def _main(what: str, size: int, folder: str, port: str) -> None:
    server = RunningServer(folder=Path(folder), port=int(port))
    path = server.document(size)
    match what.split("-"):
        case "ours", "file":
            await _download(server, size)
        case "bare", "file":
            await _bare_download(server, size)
        case side, source:
            create = _create if side == "ours" else _bare_create
            await create(server, path.read_bytes() if source == "bytes" else path)
        case _:
            raise ValueError(what)


if __name__ == "__main__":
    _what, _size, _folder, _port = sys.argv[1:]
    asyncio.run(_main(_what, int(_size), _folder, _port))
    sys.stdout.write(f"{peak_memory()}\n")
