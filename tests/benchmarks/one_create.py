"""`python -m benchmarks.one_create ours|bare bytes|path SIZE FOLDER PORT`: creates one job, prints its memory.

Prints the peak resident memory of the process, in bytes, to standard output.
"""

import asyncio
import re
import sys
from pathlib import Path

from posten_signering import DirectClient

from . import bare
from .place import RunningServer, job


async def _ours(server: RunningServer, content: bytes | Path) -> None:
    async with DirectClient(server.configuration()) as client:
        await client.create(job(content))


async def _bare(server: RunningServer, content: bytes | Path) -> None:
    async with bare.transport(server.folder) as http:
        await bare.post(http, f"{server.service_root}/jobs", {}, content)


def peak_memory() -> int:
    """The peak resident memory of this process in bytes (Linux only)."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024


def _main(side: str, source: str, size: str, folder: str, port: str) -> None:
    server = RunningServer(folder=Path(folder), port=int(port))
    path = server.document(int(size))
    content = path.read_bytes() if source == "bytes" else path
    asyncio.run({"ours": _ours, "bare": _bare}[side](server, content))
    sys.stdout.write(f"{peak_memory()}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
