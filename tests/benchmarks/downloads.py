"""CPU time of a download of 10 MiB, compared with bare httpx, which receives the same bytes and keeps none."""

from functools import partial

from posten_signering import DirectClient

from . import bare
from .measuring import cpu_in_turns
from .place import MIB, RunningServer
from .recording import recording_client
from .table import Limit, Row

LIMIT = Limit(value=1.25)
_SIZE = 10 * MIB


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows: to memory and to a file."""
    url = server.job_url(f"{_SIZE}/pades")
    async with recording_client(server) as (client, requests):
        await client.check_access()
    request = requests[0]
    async with (
        DirectClient(server.configuration()) as client,
        bare.transport(server.folder) as http,
    ):
        to_memory, to_file, streamed = await cpu_in_turns(
            [
                partial(client.get_pades, url),
                partial(client.download_pades, url, server.folder / "downloaded.pdf"),
                partial(bare.stream, http, url, request.headers),
            ],
            times=1,
            turns=turns,
        )
    return [
        Row(
            name=f"CPU of a download, 10 MiB to {target}",
            measured=series,
            baseline=streamed,
            unit="ms",
            limit=LIMIT,
        )
        for target, series in (("memory", to_memory), ("a file", to_file))
    ]
