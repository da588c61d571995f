"""CPU time of a download of 10 MiB, compared with bare httpx, which receives the same bytes and keeps none.

Writing and flushing a file takes a third of that time by itself. So a download to a file has a higher limit, and is
also compared with a bare one that writes and flushes a file.
"""

from functools import partial

from posten_signering import DirectClient

from . import bare
from .measuring import cpu_in_turns
from .place import MIB, RunningServer
from .recording import recording_client
from .table import Limit, Row

_SIZE = 10 * MIB


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows: to memory and to a file."""
    url = server.job_url(f"{_SIZE}/pades")
    async with recording_client(server) as (client, requests):
        await client.check_access()
    headers = requests[0].headers
    async with (
        DirectClient(server.configuration()) as client,
        bare.transport(server.folder) as http,
    ):
        to_memory, to_file, streamed, streamed_to_file = await cpu_in_turns(
            [
                partial(client.get_pades, url),
                partial(client.download_pades, url, server.folder / "downloaded.pdf"),
                partial(bare.stream, http, url, headers),
                partial(bare.stream_to_file, http, url, headers, server.folder / "bare.pdf"),
            ],
            times=1,
            turns=turns,
        )
    return [
        Row(name=name, measured=measured, baseline=baseline, unit="ms", limit=Limit(value=limit))
        for name, measured, baseline, limit in (
            ("CPU of a download, 10 MiB to memory", to_memory, streamed, 1.25),
            ("CPU of a download, 10 MiB to a file", to_file, streamed, 1.5),
            ("  compared with a bare one to a file", to_file, streamed_to_file, 1.25),
        )
    ]
