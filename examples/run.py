"""Starts a sandbox and one of the examples. Ctrl-C stops both.

    python run.py fastapi|aiohttp|worker [--port 8000]

The example runs as it would with the real service. Only its environment variables differ.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    ExitUrls,
    StatusRetrievalMethod,
)
from posten_signering.sandbox import Sandbox

HERE = Path(__file__).parent
PROGRAMS = {"fastapi": "fastapi_app.py", "aiohttp": "aiohttp_app.py", "worker": "worker.py"}
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
EXIT_URL = "https://shop.example"
ORGANIZATION_NUMBER = "123456789"


async def run(example: str, port: int) -> int:
    """Runs the sandbox and the example until the example ends. Returns the example's exit status."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with Sandbox(empty_queue_wait=timedelta(seconds=5)) as sandbox:
            variables = write_files(sandbox, folder) | {
                "SHOP_URL": f"http://127.0.0.1:{port}",
                "SHOP_FOLDER": name,
                "WORKER_DATABASE": str(folder / "worker.sqlite3"),
            }
            if example == "worker":
                await create_jobs(sandbox)
            else:
                print(f"Open http://127.0.0.1:{port}/ in a browser. Ctrl-C stops it.", flush=True)
            # In its own process group, so that Ctrl-C signals only this process, which forwards it once.
            program = await asyncio.create_subprocess_exec(
                sys.executable,
                HERE / PROGRAMS[example],
                env=os.environ | variables,
                process_group=0,
            )
            for number in STOP_SIGNALS:
                asyncio.get_running_loop().add_signal_handler(number, forward, program, number)
            status = await program.wait()
    return 0 if -status in STOP_SIGNALS else status


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
                exit_urls=ExitUrls(completion=EXIT_URL, rejection=EXIT_URL, error=EXIT_URL),
                status_retrieval_method=StatusRetrievalMethod.POLLING,
            )
            await act((await client.create(job)).single_signer.redirect_url)
    print("Three jobs are waiting for the worker. Ctrl-C stops it.", flush=True)


def forward(program: asyncio.subprocess.Process, number: int) -> None:
    """Forwards a signal to the example. The sandbox runs until the example has ended."""
    if program.returncode is None:
        program.send_signal(number)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit status."""
    parser = argparse.ArgumentParser(description="Starts a sandbox and an example that uses it.")
    parser.add_argument("example", choices=PROGRAMS)
    parser.add_argument("--port", type=int, default=8000, help="port of the web app (%(default)s)")
    options = parser.parse_args(arguments)
    return asyncio.run(run(options.example, options.port))


if __name__ == "__main__":
    sys.exit(main())
