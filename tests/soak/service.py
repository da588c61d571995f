"""`python -m soak.service FOLDER OPTIONS`: a sandbox in a process of its own, and how to talk to it.

It may begin with jobs that are signed already. Its control API (JSON over HTTP) is the witness.
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

import anyio.lowlevel

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
    InMemoryRateLimiter,
    Sender,
    StatusRetrievalMethod,
    TrustAnchors,
)

ORGANIZATION_NUMBER = "123456789"
# Every so manieth job has two signers, and so two status changes.
_TWO_SIGNERS = 5
_AT_ONCE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A sandbox that runs.

    Attributes:
        folder: Holds client.p12, its password, and the root certificate.
        service_root: Of its API.
        control_url: Of its control API.
        changes: How many status changes wait.
    """

    folder: Path
    service_root: str
    control_url: str
    changes: int

    def configuration(self, **fields: Any) -> ClientConfiguration:
        """Of a client of it."""
        given = {
            "environment": Environment(
                name="soak",
                service_root=self.service_root,
                default_poll_wait=timedelta(seconds=2),
            ),
            "certificate": EnterpriseCertificate.from_pkcs12(
                self.folder / "client.p12", password=(self.folder / "password").read_text()
            ),
            "trust_anchors": TrustAnchors().trusting(self.folder / "root.pem"),
            "sender": Sender(organization_number=ORGANIZATION_NUMBER),
        }
        return ClientConfiguration(**{**given, **fields})

    def tells(self, what: str) -> Any:
        """What its control API says, under this address."""
        with urllib.request.urlopen(f"{self.control_url}/{what}", timeout=30) as answer:
            return json.load(answer)

    def does(self, what: str, body: Mapping[str, object]) -> None:
        """Asks its control API to do something."""
        request = urllib.request.Request(
            f"{self.control_url}/{what}",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30):
            pass


@contextmanager
def service(folder: Path, **options: object) -> Generator[Service]:
    """Starts a sandbox, and ends it.

    Args:
        folder: For what a client needs.
        options: As `_main` takes them.
    """
    command = [sys.executable, "-m", "soak.service", str(folder), json.dumps(options)]
    with Popen(command, stdin=PIPE, stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError("The sandbox of the soak did not start.")
        # Leaving closes the sandbox's standard input, which ends it.
        yield Service(folder=folder, **json.loads(line))


def unpaced() -> InMemoryRateLimiter:
    """A rate budget on a clock on which a second holds a million: nobody waits."""
    return InMemoryRateLimiter(
        monotonic=lambda: time.monotonic() * 1e6, sleep=lambda _: anyio.lowlevel.checkpoint()
    )


def job(reference: str, *, signers: int = 1) -> DirectJob:
    """A polled job with a tiny document."""
    return DirectJob(
        title="Lease",
        documents=[
            Document(title="Terms", content=reference.encode(), type=DocumentType.TEXT),
        ],
        signers=[DirectSigner(custom_identifier=f"signer-{each}") for each in range(signers)],
        exit_urls=ExitUrls(
            completion="https://shop.example/done",
            rejection="https://shop.example/rejected",
            error="https://shop.example/error",
        ),
        reference=reference,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )


async def _main(
    folder: Path, *, jobs: int = 0, lease: float = 8.0, empty_wait: float = 1.0, paced: bool = True
) -> None:
    from posten_signering.sandbox import RateLimit, Sandbox  # noqa: PLC0415 - not for the clients

    # The sandbox's clock is moved on, which its own client notices.
    logging.getLogger("posten_signering").setLevel(logging.ERROR)
    sandbox = Sandbox(
        lease=timedelta(seconds=lease),
        empty_queue_wait=timedelta(seconds=empty_wait),
        rate_limit=RateLimit() if paced else None,
    )
    async with sandbox:
        content, password = sandbox.enterprise_pkcs12(ORGANIZATION_NUMBER)
        (folder / "client.p12").write_bytes(content)
        (folder / "password").write_text(password)
        (folder / "root.pem").write_bytes(sandbox.ca_pem)
        told = {
            "service_root": sandbox.service_root,
            "control_url": sandbox.control_url,
            "changes": await _signed_jobs(sandbox, jobs),
        }
        sys.stdout.write(f"{json.dumps(told)}\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


async def _signed_jobs(sandbox: Any, jobs: int) -> int:
    """Creates and signs jobs; gives the number of status changes."""
    numbers = iter(range(jobs))
    changes = 0

    async def make(client: DirectClient) -> None:
        nonlocal changes
        for number in numbers:
            two = number % _TWO_SIGNERS == 0
            created = await client.create(job(f"job-{number}", signers=2 if two else 1))
            for each in created.signers:
                await sandbox.sign(each.redirect_url)
                changes += 1
            # The rate limit counts by the sandbox's clock: nobody waits for it.
            await sandbox.advance(0.2)

    configuration = sandbox.client_configuration(ORGANIZATION_NUMBER, rate_limiter=unpaced())
    async with DirectClient(configuration) as client:
        await asyncio.gather(*(make(client) for _ in range(_AT_ONCE)))
    return changes


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), **json.loads(sys.argv[2])))
