"""CPU time of one small call, compared with a bare call that sends and receives the same bytes."""

from functools import partial

from posten_signering import DirectClient

from . import bare
from .measuring import Action, cpu_in_turns
from .place import RunningServer
from .recording import Recorded, recording_client
from .table import Limit, Row

LIMIT = Limit(value=1.6)
_TIMES = 40


async def measure(server: RunningServer, *, turns: int) -> list[Row]:
    """The table's rows: a status by token, and a confirm."""

    def calls(client: DirectClient) -> dict[str, Action]:
        return {
            "status by token": partial(
                client.get_status, server.job_url("status"), status_query_token="token"
            ),
            "confirm": partial(client.confirm, server.job_url("complete")),
        }

    requests = dict[str, Recorded]()
    async with recording_client(server) as (client, recorded):
        for name, call in calls(client).items():
            await call()
            requests[name] = recorded[-1]
    rows = list[Row]()
    async with (
        DirectClient(server.configuration()) as client,
        bare.transport(server.folder) as http,
    ):
        for name, call in calls(client).items():
            request = requests[name]
            sent = partial(bare.send, http, request.method, request.url, request.headers)
            ours, theirs = await cpu_in_turns([call, sent], times=_TIMES, turns=turns)
            rows.append(
                Row(
                    name=f"CPU of a {name}",
                    measured=ours,
                    baseline=theirs,
                    unit="ms",
                    limit=LIMIT,
                )
            )
    return rows
