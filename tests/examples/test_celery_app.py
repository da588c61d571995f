"""The example's Celery tasks in real prefork worker processes, with a real Redis server as the broker."""

import asyncio
import os
import re
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from types import SimpleNamespace

import pytest
import redis_process
from celery import Celery
from example_apps import EXAMPLES, LEASE, module, variables

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectJobResponse,
    DirectSigner,
    Document,
    ExitUrls,
    StatusRetrievalMethod,
)
from posten_signering.errors import SignerNotFoundError
from posten_signering.sandbox import Fault, FaultKind, Operation, ThreadedSandbox


@pytest.fixture
def sandbox():
    with ThreadedSandbox(rate_limit=None) as started:
        yield started


@pytest.fixture
def environment(sandbox, redis_server, tmp_path):
    with redis_process.running(redis_server, tmp_path) as redis:
        yield (
            os.environ
            | variables(sandbox, tmp_path)
            | {"CELERY_BROKER": redis.uri, "CELERY_FOLDER": str(tmp_path)}
        )


class Worker:
    """A Celery worker with two processes, and its output so far."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        options = ["--concurrency", "2", "--loglevel", "INFO", "--without-mingle"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "celery", "--app", "celery_app", "worker", *options],
            cwd=EXAMPLES,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, task: str, *arguments: str, until: str) -> str:
        """Sends a task to the worker, and returns its output until a line matches a pattern."""
        with Celery(broker=self._environment["CELERY_BROKER"]) as sender:
            sender.send_task(f"celery_app.{task}", arguments)
        output = ""
        for line in self.process.stdout:
            output += line
            if re.search(until, line):
                return output
        raise AssertionError(f"the worker ended without printing {until}:\n{output}")


@pytest.fixture
def worker(environment):
    started = Worker(environment)
    with started.process:
        yield started
        started.process.kill()


async def create(configuration: ClientConfiguration) -> DirectJobResponse:
    exit_url = "https://shop.example"
    job = DirectJob(
        title="Lease",
        documents=[Document(title="Lease", content=LEASE)],
        signers=[DirectSigner(custom_identifier="tenant")],
        exit_urls=ExitUrls(completion=exit_url, rejection=exit_url, error=exit_url),
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    async with DirectClient(configuration) as client:
        return await client.create(job)


def rows(folder, statement: str) -> list[tuple]:
    with closing(sqlite3.connect(folder / "celery.sqlite3")) as database:
        return database.execute(statement).fetchall()


def test_a_job_is_created_at_most_once_and_its_outcome_is_handled_once(worker, sandbox, tmp_path):
    sandbox.faults.add(Fault(kind=FaultKind.RESET, operation=Operation.CREATE, after=True, times=1))
    worker.run("create_job", "order-1", until="order-1: OUTCOME_UNKNOWN")
    worker.run("create_job", "order-1", until="order-1: was created before")
    assert len(sandbox.received) == 1
    worker.run("create_job", "order-2", until="order-2: CREATED")
    assert rows(tmp_path, "select reference, state, job_id from job order by reference") == [
        ("order-1", "OUTCOME_UNKNOWN", None),
        ("order-2", "CREATED", sandbox.received[1].job_id),
    ]
    created = asyncio.run(create(sandbox.client_configuration()))
    sandbox.sign(created.single_signer.redirect_url)
    # The change is stored but not confirmed, so that the service delivers it again.
    refusal = Fault(
        kind=FaultKind.ERROR_DOCUMENT, operation=Operation.CONFIRM, status=400, code="X", times=1
    )
    sandbox.faults.add(refusal)
    worker.run("poll", until="A call to the signing service failed")
    sandbox.advance(660)
    worker.run("poll", until=f"Job {created.job_id}: COMPLETED_SUCCESSFULLY")
    assert rows(tmp_path, "select count(*) from handled") == [(1,)]
    [(job_id, start)] = rows(tmp_path, "select job_id, substr(pdf, 1, 5) from signed")
    assert (job_id, start) == (created.job_id, b"%PDF-")
    sandbox.advance(660)
    output = worker.run("poll", until=r"celery_app\.poll\[.*succeeded")
    assert "Job " not in output  # the change was confirmed
    worker.process.send_signal(signal.SIGTERM)
    output, _ = worker.process.communicate(timeout=30)
    assert worker.process.returncode == 0
    assert "Traceback" not in output


FORK = """
import os, sys
import celery_app
celery_app.open_client()
if os.fork() == 0:
    try:
        celery_app.create_job("order-1")
    except RuntimeError as error:
        print(error, flush=True)
    celery_app.close_client()  # does nothing, because the parent opened it
    os._exit(0)
os.wait()
"""


def test_a_client_that_was_opened_before_the_fork_raises_and_creates_no_job(sandbox, tmp_path):
    environment = os.environ | variables(sandbox, tmp_path) | {"CELERY_FOLDER": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-c", FORK],
        cwd=EXAMPLES,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Open it after the fork" in result.stdout
    assert len(sandbox.received) == 0


def test_an_error_after_the_job_was_created_does_not_say_that_it_was_not(tmp_path, monkeypatch):
    tasks = module("celery_app")
    portal = SimpleNamespace(call=lambda *_: DirectJobResponse(job_id=7, signers=()))
    opened = (portal, SimpleNamespace(create=None))
    monkeypatch.setattr(tasks, "FOLDER", tmp_path)
    monkeypatch.setattr(tasks, "signing", SimpleNamespace(open=lambda: opened))
    with tasks.transaction() as database:
        database.executescript(tasks.TABLES)
    with pytest.raises(SignerNotFoundError):
        tasks.create_job("order-1")
    assert rows(tmp_path, "select state from job") == [("CREATING",)]
