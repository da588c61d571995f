"""The worker in the lifespan of an app that uvicorn runs, against the sandbox, in a separate process."""

import asyncio
import signal
import sys
from datetime import UTC, datetime, timedelta

import pytest
from example_apps import LEASE, variables

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

PROGRAM = """
import asyncio, contextlib, sys
import uvicorn
from posten_signering import ClientConfiguration, DirectClient
from posten_signering.worker import StatusChangeWorker

async def handle(change):
    print("handling", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)

@contextlib.asynccontextmanager
async def lifespan():
    async with DirectClient(ClientConfiguration.from_env()) as client:
        worker = StatusChangeWorker(client, handle, handle_signals=sys.argv[1] == "True")
        task = asyncio.create_task(worker.run())
        yield
        print("stopping", flush=True)
        worker.stop()
        await asyncio.wait([task])
        print(repr(task.exception()), worker.counts, flush=True)

async def app(scope, receive, send):
    assert scope["type"] == "lifespan"
    async with lifespan():
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
    await send({"type": "lifespan.shutdown.complete"})

uvicorn.run(app, host="127.0.0.1", port=0, loop=sys.argv[2], lifespan="on", log_level="info")
"""


class Server:
    """The process, with its output so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.output = ""

    async def wait_for_output(self, text: str) -> None:
        while text not in self.output:
            line = await self.process.stdout.readline()
            assert line, f"the server ended without printing {text}:\n{self.output}"
            self.output += line.decode()

    async def wait_for_end(self) -> int:
        self.output += (await self.process.stdout.read()).decode()
        return await self.process.wait()


@pytest.fixture
async def start(tmp_path):
    """A function that starts the server. It ends with the test at the latest."""
    servers = []

    async def start(sandbox: Sandbox, *, handle_signals: bool, loop: str) -> Server:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, str(handle_signals), loop),
            env=variables(sandbox, tmp_path),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        servers.append(process)
        return Server(process)

    yield start
    for process in servers:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def rejected_job(client: DirectClient, sandbox: Sandbox) -> None:
    """Creates a job with a status change."""
    job = DirectJob(
        title="Lease",
        documents=[Document(title="Lease", content=LEASE)],
        signers=[DirectSigner(custom_identifier="tenant")],
        exit_urls=ExitUrls(completion=EXIT_URL, rejection=EXIT_URL, error=EXIT_URL),
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    created = await client.create(job)
    await sandbox.reject(created.signers[0].redirect_url)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_one_sigterm_ends_uvicorn_after_the_handled_change_is_confirmed(start, loop):
    ahead = timedelta(0)
    async with (
        Sandbox(rate_limit=None, clock=lambda: datetime.now(UTC) + ahead) as sandbox,
        DirectClient(sandbox.client_configuration()) as client,
    ):
        await rejected_job(client, sandbox)
        server = await start(sandbox, handle_signals=False, loop=loop)
        await server.wait_for_output("handling")
        await server.wait_for_output("Uvicorn running")
        server.process.send_signal(signal.SIGTERM)
        await server.wait_for_output("stopping")
        server.process.stdin.write(b"\n")
        # After an orderly shutdown, uvicorn sends itself the signal that it received.
        assert await server.wait_for_end() == -signal.SIGTERM
        assert "None WorkCounts(handled=1, confirmed=1, failed=0" in server.output
        ahead = timedelta(minutes=11)
        assert (await client.get_status_change()).change is None


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_with_handle_signals_the_worker_refuses_to_run_and_one_sigterm_ends_uvicorn(
    start, loop
):
    async with Sandbox() as sandbox:
        server = await start(sandbox, handle_signals=True, loop=loop)
        await server.wait_for_output("Uvicorn running")
        server.process.send_signal(signal.SIGTERM)
        assert await server.wait_for_end() == -signal.SIGTERM
        assert "ConfigurationError" in server.output
        assert "Set handle_signals=False" in server.output
