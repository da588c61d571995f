"""The contracts of the two web apps, stored in SQLite. Independent of the web framework.

Each method runs one transaction in a worker thread, so that a slow disk never blocks the event loop.
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

from posten_signering import (
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    SignerStatus,
)

T = TypeVar("T")

# States of a contract without a known job. A contract with a job has the status of the job as its state.
DRAFT = "DRAFT"
CREATING = "CREATING"
OUTCOME_UNKNOWN = "OUTCOME_UNKNOWN"

_TABLE = """
create table if not exists contract (
    id text primary key,
    key text not null unique,
    signers text not null,
    state text not null,
    attempts integer not null default 0,
    status_url text,
    signer_urls text not null default '{}',
    signer_statuses text not null default '{}',
    pades_url text,
    confirmation_url text
) strict
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A contract and the state of its signing.

    Attributes:
        id: The order number. It is not secret: logs, references and exit URLs contain it.
        key: A random secret. Anyone who knows it may see the contract's page.
        signers: The roles of the signers, such as "tenant".
        state: DRAFT, CREATING, OUTCOME_UNKNOWN (the job may exist), or the job's status.
        attempts: How often the shop tried to create the job.
        status_url: The status URL of the job.
        signer_urls: The signer URL of each signer.
        signer_statuses: The last known status of each signer.
        pades_url: The URL of the signed PDF; None while there is none.
        confirmation_url: The URL to confirm the outcome; None if there is nothing left to confirm.
    """

    id: str
    key: str
    signers: Sequence[str]
    state: str
    attempts: int
    status_url: str | None
    signer_urls: Mapping[str, str]
    signer_statuses: Mapping[str, str]
    pades_url: str | None
    confirmation_url: str | None

    def awaits(self, signer: str) -> bool:
        """Whether this signer can still sign, as far as the shop knows."""
        status = self.signer_statuses.get(signer, SignerStatus.WAITING)
        return self.state == DirectJobStatus.IN_PROGRESS and status == SignerStatus.WAITING


class Contracts:
    """All contracts of the shop."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self) -> None:
        """Creates the table. If a crash interrupted the creation of a job, its outcome is now unknown."""
        await self._write(_TABLE)
        await self._write(
            "update contract set state = :unknown where state = :creating",
            unknown=OUTCOME_UNKNOWN,
            creating=CREATING,
        )

    async def add(self, signers: Sequence[str]) -> str:
        """Adds a draft, and returns its key."""
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
        """The contract with this id, or None."""
        contracts = await self._read("select * from contract where id = :id", id=contract_id)
        return contracts[0] if contracts else None

    async def with_key(self, key: str) -> Contract | None:
        """The contract with this key, or None."""
        contracts = await self._read("select * from contract where key = :key", key=key)
        return contracts[0] if contracts else None

    async def unconfirmed(self) -> Sequence[Contract]:
        """The contracts whose outcome is not confirmed yet."""
        return await self._read("select * from contract where confirmation_url is not null")

    async def claim(self, contract_id: str) -> Contract | None:
        """Reserves the creation of the job. Of several callers, only one gets the contract."""
        claimed = await self._read(
            "update contract set state = :creating, attempts = attempts + 1"
            " where id = :id and state in (:draft, :unknown) returning *",
            id=contract_id,
            creating=CREATING,
            draft=DRAFT,
            unknown=OUTCOME_UNKNOWN,
        )
        return claimed[0] if claimed else None

    async def record_job(self, contract_id: str, job: DirectJobResponse) -> None:
        """Records that the job was created."""
        await self._write(
            "update contract set state = :state, status_url = :status_url, signer_urls = :urls"
            " where id = :id",
            id=contract_id,
            state=DirectJobStatus.IN_PROGRESS,
            status_url=job.status_url,
            urls=json.dumps(
                {str(signer.custom_identifier): signer.signer_url for signer in job.signers}
            ),
        )

    async def record_no_job(self, contract_id: str, state: str) -> None:
        """Records that there is no job (DRAFT), or that the job may exist (OUTCOME_UNKNOWN)."""
        await self._write(
            "update contract set state = :state where id = :id", id=contract_id, state=state
        )

    async def record_status(self, contract_id: str, status: DirectJobStatusResponse) -> bool:
        """Records the job's status. Returns False if an outcome is recorded, which is never replaced."""
        changed = await self._write(
            "update contract set state = :state, signer_statuses = :statuses,"
            " pades_url = :pades_url, confirmation_url = :confirmation_url"
            " where id = :id and state = :in_progress",
            id=contract_id,
            state=status.status,
            statuses=json.dumps(
                {str(signature.signer): signature.status for signature in status.signatures}
            ),
            pades_url=status.pades_url,
            confirmation_url=status.confirmation_url,
            in_progress=DirectJobStatus.IN_PROGRESS,
        )
        return changed == 1

    async def record_confirmation(self, contract_id: str) -> None:
        """Records that the outcome was confirmed."""
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
