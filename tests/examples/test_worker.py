"""The worker as a program of its own, with its store in SQLite: stopped, killed, and given things twice."""

import asyncio
import contextlib
import re
import signal
import sqlite3
import sys
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from example_apps import EXAMPLES, LEASE, module, variables

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    ExitUrls,
    StatusRetrievalMethod,
)
from posten_signering.sandbox import Sandbox

pytestmark = pytest.mark.anyio

SHOP = "https://shop.example"
JOB = DirectJob(
    title="Lease",
    documents=[Document(title="Lease", content=LEASE)],
    signers=[DirectSigner(custom_identifier="tenant"), DirectSigner(custom_identifier="landlord")],
    exit_urls=ExitUrls(completion=SHOP, rejection=SHOP, error=SHOP),
    reference="order-77",
    status_retrieval_method=StatusRetrievalMethod.POLLING,
)


class Clock:
    """The sandbox's time, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def __call__(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def sandbox(clock):
    async with Sandbox(rate_limit=None, clock=clock) as started:
        yield started


@pytest.fixture
async def client(sandbox):
    async with DirectClient(sandbox.client_configuration()) as started:
        yield started


@pytest.fixture
def database(tmp_path):
    return tmp_path / "worker.sqlite3"


class Worker:
    """The program, and what it says."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.said = ""

    async def says(self, pattern: str) -> str:
        """Waits for a line, and gives what its first group matches."""
        while not (found := re.search(pattern, self.said)):
            line = await self.process.stderr.readline()
            assert line, f"it ended without saying {pattern}:\n{self.said}"
            self.said += line.decode()
        return found[found.re.groups and 1]

    async def ends(self) -> int:
        self.said += (await self.process.stderr.read()).decode()
        return await self.process.wait()


@pytest.fixture
async def start(sandbox, tmp_path, database):
    """Starts the program, as often as it is called; none of them outlives the test."""
    environment = variables(sandbox, tmp_path) | {"WORKER_DATABASE": str(database)}
    started = []

    async def start() -> Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", EXAMPLES / "worker.py"),
            env=environment,
            stderr=asyncio.subprocess.PIPE,
        )
        started.append(process)
        return Worker(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def job_signed_by(client, sandbox, *signers):
    """A job, signed by these one after the other: a change for each."""
    created = await client.create(JOB)
    for signer in signers:
        await sandbox.sign(created.signer(signer).redirect_url)
    return created


def rows(database, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()


@contextlib.contextmanager
def locked(database):
    """Nobody else can write to the worker's database meanwhile."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("begin immediate")
        yield
        connection.rollback()


async def test_it_keeps_what_was_signed_confirms_and_stops_at_sigterm(
    client, sandbox, start, database
):
    created = await job_signed_by(client, sandbox, "tenant", "landlord")
    rejected = await client.create(JOB)
    await sandbox.reject(rejected.signers[0].redirect_url)
    worker = await start()
    for _ in range(3):
        await worker.says(r"Job \d+: ([A-Z_]+), \d documents")
        worker.said = worker.said.partition(" documents\n")[2]
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert "Handled 3, confirmed 3, failed 0" in worker.said
    assert rows(database, "select * from job order by id") == [
        (created.job_id, "order-77", "COMPLETED_SUCCESSFULLY"),
        (rejected.job_id, "order-77", "FAILED"),
    ]
    kept = rows(database, "select job, kind, signer, substr(content, 1, 5) from document")
    assert sorted(kept) == [
        (created.job_id, "pades", "", b"%PDF-"),
        (created.job_id, "xades", "landlord", b"<?xml"),
        (created.job_id, "xades", "tenant", b"<?xml"),
    ]
    assert rows(database, "select count(*) from handled") == [(3,)]


async def test_at_sigterm_what_is_in_hand_is_finished_first(
    client, sandbox, start, database, clock
):
    created = await job_signed_by(client, sandbox, "tenant", "landlord")
    module("worker").Store(database)
    with locked(database):
        worker = await start()
        await worker.says("COMPLETED_SUCCESSFULLY, 3 documents")  # and waits to store it
        worker.process.send_signal(signal.SIGTERM)
        await worker.says("Received SIGTERM, stopping")
        assert rows(database, "select * from handled") == []
    assert await worker.ends() == 0
    assert "Handled 2, confirmed 2, failed 0" in worker.said
    assert rows(database, "select id, status from job") == [
        (created.job_id, "COMPLETED_SUCCESSFULLY")
    ]
    assert rows(database, "select count(*) from document") == [(3,)]
    clock.ahead += timedelta(minutes=11)
    assert (await client.get_status_change()).change is None  # all of it was confirmed


async def test_what_was_in_hand_when_it_was_killed_comes_back_and_is_handled_once(
    client, sandbox, start, database, clock
):
    """The twin: nothing is stored, nothing confirmed, and nothing lost."""
    created = await job_signed_by(client, sandbox, "tenant", "landlord")
    module("worker").Store(database)
    with locked(database):
        worker = await start()
        await worker.says("COMPLETED_SUCCESSFULLY, 3 documents")
        worker.process.kill()
        assert await worker.ends() == -signal.SIGKILL
    assert rows(database, "select * from handled") == []
    clock.ahead += timedelta(minutes=11)
    worker = await start()
    await worker.says("COMPLETED_SUCCESSFULLY, 3 documents")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert rows(database, "select id, status from job") == [
        (created.job_id, "COMPLETED_SUCCESSFULLY")
    ]
    assert rows(database, "select count(*) from handled") == [(2,)]
    clock.ahead += timedelta(minutes=11)
    assert (await client.get_status_change()).change is None


async def test_a_change_that_comes_back_after_it_was_stored_is_only_confirmed(
    client, sandbox, start, database, clock
):
    """Killed after the transaction and before the confirmation, or the confirmation was lost."""
    created = await job_signed_by(client, sandbox, "tenant")
    change = (await client.get_status_change()).change
    await module("worker").Store(database).save(change, [("xades", "tenant", b"the first")])
    clock.ahead += timedelta(minutes=11)
    worker = await start()
    await worker.says(f"Job {created.job_id}: this change came before")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.ends() == 0
    assert "Handled 1, confirmed 1" in worker.said
    assert rows(database, "select content from document") == [(b"the first",)]
    clock.ahead += timedelta(minutes=11)
    assert (await client.get_status_change()).change is None


async def test_the_store_keeps_all_of_a_change_or_nothing_and_an_outcome_stays(
    client, sandbox, database
):
    await job_signed_by(client, sandbox, "tenant")
    change = (await client.get_status_change()).change
    done = replace(change, status="COMPLETED_SUCCESSFULLY")
    store = module("worker").Store(database)
    with pytest.raises(sqlite3.IntegrityError):
        await store.save(change, [("xades", "tenant", b"a"), ("xades", "landlord", None)])
    assert [rows(database, f"select * from {table}") for table in ("job", "document")] == [[], []]
    assert not await store.has(change)
    for each in (done, change, change):  # the older one last, and twice
        await store.save(each, [("xades", "tenant", b"a")])
        assert await store.has(each)
    assert rows(database, "select status from job") == [("COMPLETED_SUCCESSFULLY",)]
    assert rows(database, "select count(*) from handled") == [(2,)]
    assert rows(database, "select count(*) from document") == [(1,)]
