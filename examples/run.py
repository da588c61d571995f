"""Starts a sandbox and one of the examples. Ctrl-C stops both.

    python run.py fastapi|aiohttp|django|worker|worker-in-fastapi|celery|script [--port 8000]

The example runs as it would with the real service. Only its environment variables differ.
"""

import argparse
import asyncio
import os
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    StatusRetrievalMethod,
)
from posten_signering.sandbox import Sandbox

HERE = Path(__file__).parent
WEB_APPS = ("fastapi", "aiohttp", "django")
WORKERS = ("worker", "worker-in-fastapi", "celery")
EXAMPLES = (*WEB_APPS, *WORKERS, "script")
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ORGANIZATION_NUMBER = "123456789"
EMPTY_QUEUE_WAIT = timedelta(seconds=5)


async def run(example: str, port: int) -> int:
    """Runs the sandbox and the example until the example ends. Returns its exit status, as `run_program`."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Sandbox(empty_queue_wait=EMPTY_QUEUE_WAIT) as sandbox:
            variables = write_files(sandbox, folder) | {
                "SHOP_URL": f"http://127.0.0.1:{port}",
                "SHOP_FOLDER": name,
                "WORKER_DATABASE": str(folder / "worker.sqlite3"),
                "CELERY_FOLDER": name,
                "EXIT_URL": f"{sandbox.signing_pages_url}exit",
            }
            if example in WEB_APPS:
                print(f"Open http://127.0.0.1:{port}/ in a browser. Ctrl-C stops it.", flush=True)
            elif example in WORKERS:
                await create_jobs(sandbox)
            environment = os.environ | variables
            if example != "celery":
                return await run_program(command(example, port, folder), environment)
            async with redis(folder) as environment["CELERY_BROKER"]:
                order = [sys.executable, "celery_app.py", "order-1"]
                status = await run_program(order, environment)
                return status or await run_program(command(example, port, folder), environment)


def command(example: str, port: int, folder: Path) -> list[str]:
    """The command that starts an example. It runs in the folder of the examples."""
    if example == "django":
        server = ["-m", "gunicorn", "--no-control-socket", "--config", "django_gunicorn.py"]
        server += ["--bind", f"127.0.0.1:{port}"]
        return [sys.executable, *server, "django_app:application"]
    if example == "celery":
        worker = [
            "worker",
            "--beat",
            "--concurrency",
            "2",
            "--loglevel",
            "INFO",
            "--without-mingle",
        ]
        return [sys.executable, "-m", "celery", "--app", "celery_app", *worker]
    if example == "script":
        return [sys.executable, "script.py", "lease.pdf", str(folder / "signed.pdf")]
    programs = {
        "fastapi": "fastapi_app.py",
        "aiohttp": "aiohttp_app.py",
        "worker": "worker.py",
        "worker-in-fastapi": "worker_in_fastapi.py",
    }
    return [sys.executable, programs[example]]


async def run_program(arguments: Sequence[str], environment: dict[str, str]) -> int:
    """Runs a program until it ends. Returns its exit status: negative if a signal ended it."""
    # In its own process group, so that Ctrl-C signals only this process, which sends it one SIGTERM.
    program = await asyncio.create_subprocess_exec(
        *arguments, cwd=HERE, env=environment, process_group=0
    )
    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, stop, program)
    return await program.wait()


@asynccontextmanager
async def redis(folder: Path) -> AsyncGenerator[str]:
    """Runs a Redis server, the broker of Celery. Returns its URL."""
    server = shutil.which("redis-server")
    if server is None:
        sys.exit(
            "redis-server is not installed. On Debian and Ubuntu: apt-get install redis-server"
        )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""]
    process = await asyncio.create_subprocess_exec(
        server, *options, stdout=asyncio.subprocess.DEVNULL, process_group=0
    )
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def write_files(sandbox: Sandbox, folder: Path) -> dict[str, str]:
    """Writes the client's certificate files. Returns the environment variables for the client."""
    content, password = sandbox.enterprise_pkcs12(ORGANIZATION_NUMBER)
    (folder / "client.p12").write_bytes(content)
    (folder / "ca.pem").write_bytes(sandbox.ca_pem)
    return {
        "POSTEN_SIGNERING_ENVIRONMENT": "Sandbox",
        "POSTEN_SIGNERING_SERVICE_ROOT": sandbox.service_root,
        "POSTEN_SIGNERING_CERTIFICATE": str(folder / "client.p12"),
        "POSTEN_SIGNERING_CERTIFICATE_PASSWORD": password,
        "POSTEN_SIGNERING_TRUST_ANCHORS": str(folder / "ca.pem"),
        "POSTEN_SIGNERING_ORGANIZATION_NUMBER": ORGANIZATION_NUMBER,
        "POSTEN_SIGNERING_DEFAULT_POLL_WAIT": f"{EMPTY_QUEUE_WAIT.total_seconds():g}",
    }


async def create_jobs(sandbox: Sandbox) -> None:
    """Creates three polled jobs. One is signed, one is rejected, and the signing of one fails."""
    lease = Document(title="Lease of a flat", content=HERE / "lease.pdf")
    async with DirectClient(sandbox.client_configuration(ORGANIZATION_NUMBER)) as client:
        for act in (sandbox.sign, sandbox.reject, sandbox.fail):
            job = DirectJob(
                title="Lease of a flat",
                documents=[lease],
                signers=[DirectSigner(custom_identifier="tenant")],
                exit_urls=sandbox.exit_urls,
                status_retrieval_method=StatusRetrievalMethod.POLLING,
            )
            await act((await client.create(job)).single_signer.redirect_url)
    print("Three jobs are waiting for the worker. Ctrl-C stops it.", flush=True)


def stop(program: asyncio.subprocess.Process) -> None:
    """Asks the example to stop. The sandbox runs until the example has ended."""
    if program.returncode is None:
        program.terminate()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Starts a sandbox and an example that uses it.")
    parser.add_argument("example", choices=EXAMPLES)
    parser.add_argument("--port", type=int, default=8000, help="port of the web app (%(default)s)")
    options = parser.parse_args(arguments)
    status = asyncio.run(run(options.example, options.port))
    return 0 if -status in STOP_SIGNALS else status


if __name__ == "__main__":
    sys.exit(main())
