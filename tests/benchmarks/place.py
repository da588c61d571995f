"""The set-up of the benchmarks: temporary certificates, a server process, a client's configuration."""

import random
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from posten_signering import (
    ClientConfiguration,
    DirectJob,
    DirectSigner,
    Document,
    EnterpriseCertificate,
    Environment,
    ExitUrls,
    Fleet,
    InMemoryFleet,
    Sender,
    TrustAnchors,
)

KIB = 1024
MIB = 1024 * KIB


def label(size: int) -> str:
    """A size in bytes in words."""
    return f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningServer:
    """A running server, and the folder with the files that a client needs.

    Attributes:
        folder: Holds root.pem, sender.pem (with its key), and documents.
        port: The server's port on loopback.
    """

    folder: Path
    port: int

    @property
    def service_root(self) -> str:
        return f"https://127.0.0.1:{self.port}/api"

    def job_url(self, end: str) -> str:
        """A URL of a job, for example of its status."""
        return f"{self.service_root}/123456789/direct/signature-jobs/1/{end}"

    def configuration(
        self, *, max_connections: int = 8, fleet: Fleet | None = None
    ) -> ClientConfiguration:
        """A client's configuration, with the default settings but by default without a rate limit."""
        sender = self.folder / "sender.pem"
        return ClientConfiguration(
            environment=Environment(name="benchmark", service_root=self.service_root),
            certificate=EnterpriseCertificate.from_pem(sender, sender),
            trust_anchors=TrustAnchors().trusting(self.folder / "root.pem"),
            sender=Sender(organization_number="123456789"),
            max_connections=max_connections,
            fleet=fleet or InMemoryFleet(share=None),
        )

    def document(self, size: int) -> Path:
        """A file of this size that begins like a PDF. Its random bytes can't be compressed."""
        path = self.folder / f"{size}.pdf"
        if not path.exists():
            start = b"%PDF-1.7\n"
            path.write_bytes(start + random.Random(size).randbytes(size - len(start)))
        return path


def job(content: bytes | Path) -> DirectJob:
    """A job of one document and one signer."""
    return DirectJob(
        title="Lease",
        documents=[Document(title="Contract", content=content)],
        signers=[DirectSigner(personal_identification_number="12345678910")],
        exit_urls=ExitUrls(
            completion="https://shop.example/done",
            rejection="https://shop.example/rejected",
            error="https://shop.example/error",
        ),
        reference="benchmark",
    )


@contextmanager
def running_server() -> Generator[RunningServer]:
    """Creates certificates and starts a server. Stops it and deletes the files when the context exits."""
    with tempfile.TemporaryDirectory(prefix="posten-signering-benchmark-") as name:
        folder = Path(name)
        _write_certificates(folder)
        with subprocess.Popen(
            [sys.executable, "-m", "benchmarks.server", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout is not None
            port = server.stdout.readline()
            if not port:
                raise RuntimeError(
                    "The benchmark server did not start; its error is printed above."
                )
            # At the end, `Popen` closes the server's standard input, which stops the server.
            yield RunningServer(folder=folder, port=int(port))


def _write_certificates(folder: Path) -> None:
    import pki  # noqa: PLC0415 - creates keys, which the measured processes must not do

    for name, issued in (("sender", pki.sender()), ("service", pki.service())):
        intermediates = issued.issuers[:-1]
        (folder / f"{name}.pem").write_bytes(
            issued.key_pem + issued.pem + b"".join(issuer.pem for issuer in intermediates)
        )
    (folder / "root.pem").write_bytes(pki.root().pem)
