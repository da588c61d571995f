"""The example worker as a separate process: stopped, killed, and with redelivered changes."""

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

EXIT_URL = "https://shop.example"
JOB = DirectJob(
    title="Lease",
    documents=[Document(title="Lease", content=LEASE)],
    signers=[DirectSigner(custom_identifier="tenant"), DirectSigner(custom_identifier="landlord")],
    exit_urls=ExitUrls(completion=EXIT_URL, rejection=EXIT_URL, error=EXIT_URL),
    reference="order-77",
    status_retrieval_method=StatusRetrievalMethod.POLLING,
)


class Clock:
    """The sandbox's clock, which a test can advance."""

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
    """A process of the worker, and its output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def wait_for_output(self, pattern: str) -> None:
        """Waits until the output matches the pattern."""
        while not re.search(pattern, self.output):
            line = await self.process.stderr.readline()
            assert line, f"the worker ended without printing {pattern}:\n{self.output}"
            self.output += line.decode()

    async def wait_for_end(self) -> int:
        """Waits for the end of the process. Returns its exit status."""
        self.output += (await self.process.stderr.read()).decode()
        return await self.process.wait()


@pytest.fixture
async def start(sandbox, tmp_path, database):
    """A function that starts a process of the worker. All of them end with the test."""
    environment = variables(sandbox, tmp_path) | {"WORKER_DATABASE": str(database)}
    processes = []

    async def start() -> Worker:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", EXAMPLES / "worker.py"),
            env=environment,
            stderr=asyncio.subprocess.PIPE,
        )
        processes.append(process)
        return Worker(process)

    yield start
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def job_signed_by(client, sandbox, *signers):
    """Creates a job that these signers sign one after the other, with a change for each."""
    created = await client.create(JOB)
    for signer in signers:
        await sandbox.sign(created.signer(signer).redirect_url)
    return created


def rows(database, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(database)) as connection:
        return connection.execute(statement).fetchall()


@contextlib.contextmanager
def locked(database):
    """Locks the worker's database: no other connection can write to it."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("begin immediate")
        yield
        connection.rollback()


async def test_the_worker_stores_signed_documents_confirms_and_stops_at_sigterm(
    client, sandbox, start, database
):
    created = await job_signed_by(client, sandbox, "tenant", "landlord")
    rejected = await client.create(JOB)
    await sandbox.reject(rejected.signers[0].redirect_url)
    worker = await start()
    for _ in range(3):
        await worker.wait_for_output(r"Job \d+: ([A-Z_]+), \d documents")
        worker.output = worker.output.partition(" documents\n")[2]
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.wait_for_end() == 0
    assert "Handled 3, confirmed 3, failed 0" in worker.output
    assert rows(database, "select * from job order by id") == [
        (created.job_id, "order-77", "COMPLETED_SUCCESSFULLY"),
        (rejected.job_id, "order-77", "FAILED"),
    ]
    documents = rows(database, "select job, kind, signer, substr(content, 1, 5) from document")
    assert sorted(documents) == [
        (created.job_id, "pades", "", b"%PDF-"),
        (created.job_id, "xades", "landlord", b"<?xml"),
        (created.job_id, "xades", "tenant", b"<?xml"),
    ]
    assert rows(database, "select count(*) from handled") == [(3,)]


async def test_at_sigterm_running_handlers_finish_first(client, sandbox, start, database, clock):
    created = await job_signed_by(client, sandbox, "tenant", "landlord")
    module("worker").Store(database)
    with locked(database):
        worker = await start()
        await worker.wait_for_output("COMPLETED_SUCCESSFULLY, 3 documents")
        # The worker now waits for the lock.
        worker.process.send_signal(signal.SIGTERM)
        await worker.wait_for_output("Received SIGTERM, stopping")
        assert rows(database, "select * from handled") == []
    assert await worker.wait_for_end() == 0
    assert "Handled 2, confirmed 2, failed 0" in worker.output
    assert rows(database, "select id, status from job") == [
        (created.job_id, "COMPLETED_SUCCESSFULLY")
    ]
    assert rows(database, "select count(*) from document") == [(3,)]
    clock.ahead += timedelta(minutes=11)
    assert (await client.get_status_change()).change is None  # all changes were confirmed


async def test_a_change_whose_handler_ran_when_the_worker_was_killed_is_redelivered(
    client, sandbox, start, database, clock
):
    """The first process stores nothing and confirms nothing. The second handles both changes once."""
    created = await job_signed_by(client, sandbox, "tenant", "landlord")
    module("worker").Store(database)
    with locked(database):
        worker = await start()
        await worker.wait_for_output("COMPLETED_SUCCESSFULLY, 3 documents")
        worker.process.kill()
        assert await worker.wait_for_end() == -signal.SIGKILL
    assert rows(database, "select * from handled") == []
    clock.ahead += timedelta(minutes=11)
    worker = await start()
    await worker.wait_for_output("COMPLETED_SUCCESSFULLY, 3 documents")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.wait_for_end() == 0
    assert rows(database, "select id, status from job") == [
        (created.job_id, "COMPLETED_SUCCESSFULLY")
    ]
    assert rows(database, "select count(*) from handled") == [(2,)]
    clock.ahead += timedelta(minutes=11)
    assert (await client.get_status_change()).change is None


async def test_a_change_that_is_redelivered_after_it_was_stored_is_only_confirmed(
    client, sandbox, start, database, clock
):
    """The worker was killed between transaction and confirmation, or the confirmation was lost."""
    created = await job_signed_by(client, sandbox, "tenant")
    change = (await client.get_status_change()).change
    await module("worker").Store(database).save(change, [("xades", "tenant", b"first")])
    clock.ahead += timedelta(minutes=11)
    worker = await start()
    await worker.wait_for_output(f"Job {created.job_id}: this change is stored already")
    worker.process.send_signal(signal.SIGTERM)
    assert await worker.wait_for_end() == 0
    assert "Handled 1, confirmed 1" in worker.output
    assert rows(database, "select content from document") == [(b"first",)]
    clock.ahead += timedelta(minutes=11)
    assert (await client.get_status_change()).change is None


async def test_the_store_saves_a_whole_change_or_nothing_and_never_replaces_an_outcome(
    client, sandbox, database
):
    await job_signed_by(client, sandbox, "tenant")
    change = (await client.get_status_change()).change
    outcome = replace(change, status="COMPLETED_SUCCESSFULLY")
    store = module("worker").Store(database)
    with pytest.raises(sqlite3.IntegrityError):
        await store.save(change, [("xades", "tenant", b"a"), ("xades", "landlord", None)])
    assert [rows(database, f"select * from {table}") for table in ("job", "document")] == [[], []]
    assert not await store.was_handled(change)
    for delivery in (outcome, change, change):  # the older change comes last, and twice
        await store.save(delivery, [("xades", "tenant", b"a")])
        assert await store.was_handled(delivery)
    assert rows(database, "select status from job") == [("COMPLETED_SUCCESSFULLY",)]
    assert rows(database, "select count(*) from handled") == [(2,)]
    assert rows(database, "select count(*) from document") == [(1,)]
