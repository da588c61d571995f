"""The whole flow in programs without an event loop of their own, the mistake of sharing a client, and the first calls."""

import asyncio
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import doubles
import pytest
from anyio.from_thread import start_blocking_portal
from example_apps import EXAMPLES, LEASE, variables

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectJobResponse,
    DirectJobStatus,
    DirectSigner,
    Document,
    ExitUrls,
    status_query_token_in,
)
from posten_signering.errors import ClientStateError
from posten_signering.sandbox import ThreadedSandbox


@pytest.fixture(scope="module")
def _sandbox():
    with ThreadedSandbox(rate_limit=None, empty_queue_wait=timedelta(seconds=2)) as started:
        yield started


@pytest.fixture
def sandbox(_sandbox):
    _sandbox.reset()
    return _sandbox


def job() -> DirectJob:
    page = "https://shop.example/contracts/1"
    return DirectJob(
        title="Lease",
        documents=[Document(title="Lease", content=LEASE)],
        signers=[DirectSigner(custom_identifier="tenant")],
        exit_urls=ExitUrls(completion=page, rejection=page, error=page),
    )


async def finish(client: DirectClient, created: DirectJobResponse, exit_url: str) -> bytes:
    """Gets the status by token, downloads the signed PDF and confirms."""
    status = await client.get_status(created, status_query_token_in(exit_url))
    assert status.status == DirectJobStatus.COMPLETED_SUCCESSFULLY
    pdf = await client.get_pades(status)
    await client.confirm(status)
    return pdf


async def whole_flow(sandbox: ThreadedSandbox) -> bytes:
    async with DirectClient(sandbox.client_configuration()) as client:
        created = await client.create(job())
        exit_url = await asyncio.to_thread(sandbox.sign, created.single_signer.redirect_url)
        return await finish(client, created, exit_url)


def test_two_event_loops_in_turn_work_with_a_client_each(sandbox):
    for _ in range(2):
        assert asyncio.run(whole_flow(sandbox)).startswith(b"%PDF-")
    assert len(sandbox.received) == 2


def test_threads_share_one_client_through_a_portal(sandbox):
    configuration = sandbox.client_configuration()
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(DirectClient(configuration)) as client,
        ThreadPoolExecutor(3) as threads,
    ):

        def sign_one(_: int) -> bytes:
            created = portal.call(client.create, job())
            exit_url = sandbox.sign(created.single_signer.redirect_url)
            return portal.call(finish, client, created, exit_url)

        pdfs = list(threads.map(sign_one, range(3)))
    assert all(pdf.startswith(b"%PDF-") for pdf in pdfs)
    assert len(sandbox.received) == 3


@contextmanager
def in_a_second_thread(runner):
    """Calls `create` in an event loop of a second thread, while the client's own loop is open."""
    with start_blocking_portal() as portal:
        yield lambda client: portal.call(client.create, job())


@contextmanager
def in_a_second_run(runner):
    """Calls `create` in a second `asyncio.run`, while the client's own loop is open."""
    yield lambda client: asyncio.run(client.create(job()))


@contextmanager
def after_the_loop_was_closed(runner):
    """Calls `create` in a second `asyncio.run`, after the first has ended."""
    runner.close()
    yield lambda client: asyncio.run(client.create(job()))


@contextmanager
def in_its_own_loop(runner):
    yield lambda client: runner.run(client.create(job()))


@pytest.mark.parametrize(
    ("place", "jobs"),
    [
        (in_a_second_thread, 0),
        (in_a_second_run, 0),
        (after_the_loop_was_closed, 0),
        (in_its_own_loop, 1),
    ],
)
def test_a_client_creates_jobs_only_in_the_event_loop_that_entered_it(sandbox, place, jobs):
    client = DirectClient(sandbox.client_configuration())
    runner = asyncio.Runner()
    try:
        runner.run(client.__aenter__())
        if place is not after_the_loop_was_closed:  # which would leave this connection open
            runner.run(client.check_access())
        with place(runner) as create:
            if jobs:
                create(client)
            else:
                with pytest.raises(ClientStateError, match="nothing was sent"):
                    create(client)
        if place is not after_the_loop_was_closed:
            runner.run(client.aclose())
    finally:
        runner.close()
    assert len(sandbox.received) == jobs


FORK = """
import asyncio, os, sys
import doubles
from posten_signering import ClientConfiguration, DirectClient
from posten_signering.errors import ClientStateError

runner = asyncio.Runner()
shared = DirectClient(ClientConfiguration.from_env())
runner.run(shared.__aenter__())
runner.run(shared.check_access())

async def create_with_own_client():
    async with DirectClient(shared.configuration) as client:
        await client.create(doubles.job())

if os.fork() == 0:
    for run in (runner.run, asyncio.run):
        try:
            run(shared.create(doubles.job()))
        except ClientStateError as error:
            print(error)
    if "own" in sys.argv:
        asyncio.run(create_with_own_client())
    sys.stdout.flush()
    os._exit(0)
_, status = os.wait()
runner.run(shared.aclose())
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize(("arguments", "jobs"), [((), 0), (("own",), 1)])
def test_after_a_fork_only_a_client_of_the_new_process_creates_a_job(
    sandbox, tmp_path, arguments, jobs
):
    path = {"PYTHONPATH": str(Path(doubles.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "-c", FORK, *arguments],
        env=os.environ | variables(sandbox, tmp_path) | path,
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.stdout.count("entered before this process was forked") == 2
    assert len(sandbox.received) == jobs


def test_the_script_waits_for_the_signer_and_stores_the_signed_pdf(sandbox, tmp_path):
    signed = tmp_path / "signed.pdf"
    with subprocess.Popen(
        [sys.executable, EXAMPLES / "script.py", LEASE, signed],
        env=os.environ | variables(sandbox, tmp_path),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        killing = threading.Timer(60, process.kill)
        killing.start()
        sandbox.sign(process.stdout.readline().split()[-1])
        # The script's first poll may have found an empty queue.
        assert "COMPLETED_SUCCESSFULLY" in process.stdout.read()
        killing.cancel()
    assert process.returncode == 0
    assert signed.read_bytes().startswith(b"%PDF-")
    assert len(sandbox.received) == 1


FIRST_CALLS = """
import asyncio, sys, threading
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from anyio import to_thread

from posten_signering import *
from posten_signering.errors import *

imported = []
page = "https://shop.example/contracts/1"
job = DirectJob(
    title="Lease",
    documents=[Document(title="Lease", content=Path(sys.argv[1]))],
    signers=[DirectSigner(custom_identifier="tenant")],
    exit_urls=ExitUrls(completion=page, rejection=page, error=page),
    status_retrieval_method=StatusRetrievalMethod.POLLING,
)

def note(event, arguments):
    if event == "import" and threading.current_thread() is threading.main_thread():
        imported.append(arguments[0])

async def main(configuration):
    await to_thread.run_sync(int)  # anyio imports its backend with its first call
    sys.addaudithook(note)
    with suppress(ConfigurationError):
        await TrustAnchors.fetch(Environment(name="none", service_root="https://127.0.0.1:1"))
    async with DirectClient(replace(configuration, fleet=RedisFleet("redis://127.0.0.1:1"))):
        pass
    nowhere = replace(configuration.environment, service_root="https://127.0.0.1:1")
    async with DirectClient(replace(configuration, environment=nowhere)) as client:
        with suppress(TransportError):
            await client.get_status_change()
    async with DirectClient(configuration) as client:
        await client.check_access()
        created = await client.create(job)
        signer = await client.request_new_redirect_url(created.single_signer)
        print(signer.redirect_url, flush=True)
        sys.stdin.readline()
        change = (await client.get_status_change()).change
        await client.get_xades(change.signatures[0])
        await client.download_pades(change, sys.argv[2])
        await client.confirm(change)
        with suppress(ApiError):
            await client.confirm(configuration.environment.service_root + "/nothing")
        with suppress(InvalidJobError):
            await client.create(replace(job, title=""))
    import sched
    print(*imported)

asyncio.run(main(ClientConfiguration.from_env()))
"""


def test_entering_a_client_and_its_first_calls_import_nothing_in_the_event_loop(sandbox, tmp_path):
    """An import in the event loop would block every other task. The program's own last import is seen."""
    with subprocess.Popen(
        [sys.executable, "-c", FIRST_CALLS, LEASE, tmp_path / "signed.pdf"],
        env=os.environ | variables(sandbox, tmp_path),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        sandbox.sign(process.stdout.readline().strip())
        imported, _ = process.communicate("\n", timeout=60)
    assert imported.split() == ["sched"]
