"""What the two web apps remember of a contract, in SQLite. Knows no web framework.

Every method is one transaction in a worker thread, so that a disk never holds up the event loop.
"""

import asyncio
import json
import secrets
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from posten_signering import DirectJobResponse, DirectJobStatus, DirectJobStatusResponse

T = TypeVar("T")

# Beside these, a contract's state is the status of its job.
DRAFT = "DRAFT"
CREATING = "CREATING"
DOUBTFUL = "DOUBTFUL"

_TABLE = """
create table if not exists contract (
    id text primary key,
    key text not null unique,
    signers text not null,
    state text not null,
    tries integer not null default 0,
    status_url text,
    signer_urls text not null default '{}',
    signer_statuses text not null default '{}',
    pades_url text,
    confirmation_url text
) strict
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A contract, and how far its signing has come.

    Attributes:
        id: Its order number, which is no secret: it stands in logs, references and exit URLs.
        key: Nobody can guess it: whoever has it may see the contract's page.
        signers: Who is to sign.
        state: DRAFT, CREATING, DOUBTFUL (nobody knows whether there is a job), or the job's status.
        tries: How often a job was asked for.
        status_url: Of the job, likewise the rest.
        signer_urls: By signer.
        signer_statuses: By signer, as last heard.
        pades_url: None while there is no signed PDF.
        confirmation_url: None when there is nothing to confirm, or no more.
    """

    id: str
    key: str
    signers: Sequence[str]
    state: str
    tries: int
    status_url: str | None
    signer_urls: Mapping[str, str]
    signer_statuses: Mapping[str, str]
    pades_url: str | None
    confirmation_url: str | None


class Contracts:
    """All contracts of the shop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> None:
        """Makes the table. A creation that a crash cut off is in doubt from now on."""
        await self._write(_TABLE)
        await self._write(
            "update contract set state = :doubtful where state = :creating",
            doubtful=DOUBTFUL,
            creating=CREATING,
        )

    async def add(self, signers: Sequence[str]) -> str:
        """Adds a draft, and gives its key."""
        key = secrets.token_urlsafe(16)
        await self._write(
            "insert into contract (id, key, signers, state)"
            " select 'order-' || (count(*) + 1), :key, :signers, :draft from contract",
            key=key,
            signers=json.dumps(signers),
            draft=DRAFT,
        )
        return key

    async def get(self, contract_id: str) -> Contract | None:
        """The contract with this id."""
        found = await self._read("select * from contract where id = :id", id=contract_id)
        return next(iter(found), None)

    async def with_key(self, key: str) -> Contract | None:
        """The contract with this key."""
        found = await self._read("select * from contract where key = :key", key=key)
        return next(iter(found), None)

    async def unconfirmed(self) -> Sequence[Contract]:
        """Those with an outcome that was not confirmed."""
        return await self._read("select * from contract where confirmation_url is not null")

    async def claim(self, contract_id: str) -> Contract | None:
        """The contract, if the caller is the one who creates its job now: of two clicks, one is."""
        claimed = await self._read(
            "update contract set state = :creating, tries = tries + 1"
            " where id = :id and state in (:draft, :doubtful) returning *",
            id=contract_id,
            creating=CREATING,
            draft=DRAFT,
            doubtful=DOUBTFUL,
        )
        return next(iter(claimed), None)

    async def created(self, contract_id: str, job: DirectJobResponse) -> None:
        """There is a job."""
        await self._write(
            "update contract set state = :state, status_url = :status_url, signer_urls = :urls"
            " where id = :id",
            id=contract_id,
            state=DirectJobStatus.IN_PROGRESS,
            status_url=job.status_url,
            urls=json.dumps({str(each.custom_identifier): each.signer_url for each in job.signers}),
        )

    async def not_created(self, contract_id: str, state: str) -> None:
        """There is no job (DRAFT), or nobody knows (DOUBTFUL)."""
        await self._write(
            "update contract set state = :state where id = :id", id=contract_id, state=state
        )

    async def learned(self, contract_id: str, status: DirectJobStatusResponse) -> bool:
        """The service told a status. An outcome is never replaced: then the answer is False."""
        changed = await self._write(
            "update contract set state = :state, signer_statuses = :statuses,"
            " pades_url = :pades_url, confirmation_url = :confirmation_url"
            " where id = :id and state = :in_progress",
            id=contract_id,
            state=status.status,
            statuses=json.dumps({str(each.signer): each.status for each in status.signatures}),
            pades_url=status.pades_url,
            confirmation_url=status.confirmation_url,
            in_progress=DirectJobStatus.IN_PROGRESS,
        )
        return changed == 1

    async def confirmed(self, contract_id: str) -> None:
        """The outcome was confirmed."""
        await self._write(
            "update contract set confirmation_url = null where id = :id", id=contract_id
        )

    async def _read(self, statement: str, **values: str) -> list[Contract]:
        def read(database: sqlite3.Connection) -> list[Contract]:
            database.row_factory = sqlite3.Row
            return [_contract(row) for row in database.execute(statement, values)]

        return await self._run(read)

    async def _write(self, statement: str, **values: str | None) -> int:
        return await self._run(lambda database: database.execute(statement, values).rowcount)

    async def _run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def run() -> T:
            with closing(sqlite3.connect(self._path, timeout=30)) as database, database:
                return work(database)

        return await asyncio.to_thread(run)


def _contract(row: sqlite3.Row) -> Contract:
    values = dict(row)
    for name in ("signers", "signer_urls", "signer_statuses"):
        values[name] = json.loads(values[name])
    return Contract(**values)
