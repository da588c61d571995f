"""`python -m soak.service FOLDER OPTIONS`: a sandbox in a separate process, and a client of its control API.

The sandbox may start with jobs that are signed already. Its control API (JSON over HTTP) reports what
reached it.
"""

import asyncio
import json
import logging
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    DocumentType,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    InMemoryFleet,
    Sender,
    StatusRetrievalMethod,
    TrustAnchors,
)

ORGANIZATION_NUMBER = "123456789"
# Every fifth job has two signers, and therefore two status changes.
_TWO_SIGNERS_EVERY = 5
_CONCURRENCY = 4
_ARRIVALS = "arrivals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A running sandbox.

    Attributes:
        folder: Holds client.p12, its password, and the root certificate.
        service_root: The URL of its API.
        control_url: The URL of its control API.
        changes: The number of status changes in its queue at the start.
        default_poll_wait: The default wait between two polls, in seconds.
    """

    folder: Path
    service_root: str
    control_url: str
    changes: int
    default_poll_wait: float

    def configuration(self, **fields: Any) -> ClientConfiguration:
        """The configuration of a client; `fields` replace the defaults."""
        defaults = {
            "environment": Environment(
                name="soak",
                service_root=self.service_root,
                default_poll_wait=timedelta(seconds=self.default_poll_wait),
            ),
            "certificate": EnterpriseCertificate.from_pkcs12(
                self.folder / "client.p12", password=(self.folder / "password").read_text()
            ),
            "trust_anchors": TrustAnchors().trusting(self.folder / "root.pem"),
            "sender": Sender(organization_number=ORGANIZATION_NUMBER),
        }
        return ClientConfiguration(**{**defaults, **fields})

    def get(self, path: str) -> Any:
        """Gets a path of the control API. Returns the JSON of the response."""
        with urllib.request.urlopen(f"{self.control_url}/{path}", timeout=30) as response:
            return json.load(response)

    def waiting(self) -> int:
        """The number of unconfirmed changes, leased or not."""
        return sum(len(queue["changes"]) for queue in self.get("queues"))

    def arrivals(self, client: str) -> list[float]:
        """The times at which requests arrived, by the system clock, in seconds.

        Args:
            client: A part of the User-Agent of the clients whose requests count.
        """
        lines = (self.folder / _ARRIVALS).read_text().splitlines(keepends=True)
        # The sandbox may be writing the last line.
        arrivals = [json.loads(line) for line in lines if line.endswith("\n")]
        return [arrival["time"] for arrival in arrivals if client in arrival["client"]]

    def post(self, path: str, body: Mapping[str, object]) -> None:
        request = urllib.request.Request(
            f"{self.control_url}/{path}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def service(folder: Path, **options: object) -> Generator[Service]:
    """Starts a sandbox, and stops it when the context exits.

    Args:
        folder: The folder for the files that a client needs.
        options: The keyword arguments of `_main`.
    """
    command = [sys.executable, "-m", "soak.service", str(folder), json.dumps(options)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("The sandbox of the soak did not start; its error is printed above.")
        # At the end, `Popen` closes the sandbox's standard input, which stops the sandbox.
        yield Service(folder=folder, **json.loads(line))


def job(reference: str, *, signers: int = 1) -> DirectJob:
    """A polled job with a tiny document."""
    return DirectJob(
        title="Lease",
        documents=[
            Document(title="Terms", content=reference.encode(), type=DocumentType.TEXT),
        ],
        signers=[DirectSigner(custom_identifier=f"signer-{number}") for number in range(signers)],
        exit_urls=ExitUrls(
            completion="https://shop.example/done",
            rejection="https://shop.example/rejected",
            error="https://shop.example/error",
        ),
        reference=reference,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )


async def _main(
    folder: Path,
    *,
    jobs: int = 0,
    lease: float = 8.0,
    empty_wait: float = 1.0,
    early_poll_penalty: float = 0.0,
    paced: bool = True,
) -> None:
    from posten_signering.sandbox import RateLimit, Sandbox  # noqa: PLC0415 - the clients do not need it

    _record_arrivals(folder / _ARRIVALS)
    # The jobs are created with an advanced clock, and the client would log a warning about it.
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    sandbox = Sandbox(
        lease=timedelta(seconds=lease),
        empty_queue_wait=timedelta(seconds=empty_wait),
        early_poll_penalty=timedelta(seconds=early_poll_penalty),
        rate_limit=RateLimit() if paced else None,
    )
    async with sandbox:
        content, password = sandbox.enterprise_pkcs12(ORGANIZATION_NUMBER)
        (folder / "client.p12").write_bytes(content)
        (folder / "password").write_text(password)
        (folder / "root.pem").write_bytes(sandbox.ca_pem)
        report = {
            "service_root": sandbox.service_root,
            "control_url": sandbox.control_url,
            "changes": await _signed_jobs(sandbox, jobs),
            "default_poll_wait": max(2.0, empty_wait),
        }
        sys.stdout.write(f"{json.dumps(report)}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


def _record_arrivals(path: Path) -> None:
    """Writes a line for each request when it arrives: before a fault delays it, or it is judged."""
    from posten_signering.sandbox._api.exchange import Exchange  # noqa: PLC0415 - as in `_main`

    run = Exchange.run
    # Line by line, so that the other processes can read each arrival at once.
    file = path.open("w", buffering=1)

    async def recorded_run(exchange: Exchange, handler: Any) -> Any:
        arrival = {"time": time.time(), "client": exchange.client, "operation": exchange.operation}
        file.write(f"{json.dumps(arrival)}\n")
        return await run(exchange, handler)

    Exchange.run = recorded_run


async def _signed_jobs(sandbox: Any, jobs: int) -> int:
    """Creates and signs jobs. Returns the number of their status changes."""
    numbers = iter(range(jobs))
    changes = 0

    async def make(client: DirectClient) -> None:
        nonlocal changes
        for number in numbers:
            signers = 2 if number % _TWO_SIGNERS_EVERY == 0 else 1
            created = await client.create(job(f"job-{number}", signers=signers))
            for signer in created.signers:
                await sandbox.sign(signer.redirect_url)
                changes += 1
            # The rate limit uses the sandbox's clock. Advancing the clock avoids waiting for it.
            await sandbox.advance(0.2)

    configuration = sandbox.client_configuration(
        ORGANIZATION_NUMBER, fleet=InMemoryFleet(share=None)
    )
    async with DirectClient(configuration) as client:
        await asyncio.gather(*(make(client) for _ in range(_CONCURRENCY)))
    return changes


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), **json.loads(sys.argv[2])))
