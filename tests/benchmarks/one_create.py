"""`python -m benchmarks.one_create ours|bare bytes|path SIZE FOLDER PORT`: one create, and its peak memory.

Writes the largest resident memory that the process ever had, in bytes, to standard output.
"""

import asyncio
import re
import sys
from pathlib import Path

from posten_signering import DirectClient

from . import bare
from .place import Place, job


async def _ours(where: Place, content: bytes | Path) -> None:
    async with DirectClient(where.configuration()) as client:
        await client.create(job(content))


async def _bare(where: Place, content: bytes | Path) -> None:
    async with bare.transport(where.folder) as http:
        await bare.post(http, f"{where.service_root}/jobs", {}, content)


def peak_memory() -> int:
    """The high-water mark of this process's resident memory, in bytes (Linux)."""
    match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert match is not None
    return int(match[1]) * 1024


def _main(side: str, source: str, size: str, folder: str, port: str) -> None:
    where = Place(folder=Path(folder), port=int(port))
    path = where.document(int(size))
    content = path.read_bytes() if source == "bytes" else path
    asyncio.run({"ours": _ours, "bare": _bare}[side](where, content))
    sys.stdout.write(f"{peak_memory()}\n")


if __name__ == "__main__":
    _main(*sys.argv[1:])
