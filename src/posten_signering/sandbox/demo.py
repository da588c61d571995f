"""`python -m posten_signering.sandbox.demo`: the whole direct flow, step by step."""

import argparse
import asyncio
import io
import re
import shlex
import shutil
import sys
import webbrowser
import zipfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSigner,
    Document,
    DocumentType,
    ExitUrls,
    StatusRetrievalMethod,
)
from posten_signering.errors import SigningError
from posten_signering.sandbox import Sandbox, SandboxError
from posten_signering.sandbox._pages.portal import Portal

OUTPUT = Path("demo-output")
SIGNED = "signed.pdf"
XADES = "signature-{}.xades.xml"
ROOT_CERTIFICATE = "sandbox-root.pem"
CONTAINER = "container"
# How messages name a document: by its place in the job, or by its entry in the container.
NAMED = re.compile(r"documents\[(\d+)\](?:\.content)?|(?<!\w)(\d{4})_document\.\w+")

# Synthetic: the eighties in the month mark a person who does not exist.
IDENTITY_NUMBER = "17885599999"
CUSTOM_IDENTIFIER = "customer-42"
IDENTIFIERS = (IDENTITY_NUMBER, CUSTOM_IDENTIFIER)

TERMS = """Terms of the lease

1. The tenant pays on the first of every month.
2. Either party may end the lease with three months' notice.
3. Æ, ø and å are welcome here.
"""

Print = Callable[[str], None]
Follow = Callable[[str], Awaitable[str]]


def open_window(address: str) -> None:
    """Opens an address in this machine's browser, if it has one with a window of its own."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    # Exactly this class: a browser for terminals, which would take this one over.
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(address)


def main(arguments: Sequence[str] | None = None, *, print_line: Print = print) -> int:
    """Runs the demo, and gives its exit status.

    Args:
        arguments: Those of the command line.
        print_line: Says what happens.
    """
    parser = argparse.ArgumentParser(
        prog="python -m posten_signering.sandbox.demo",
        description="Creates, signs, downloads and confirms a job against a sandbox of its own.",
    )
    parser.add_argument(
        "documents",
        nargs="*",
        type=Path,
        help="PDFs or .txt files of your own, instead of a sample",
    )
    parser.add_argument(
        "--output", type=Path, default=OUTPUT, help="where results go (%(default)s)"
    )
    parser.add_argument(
        "--browser", action="store_true", help="let a person do the signing, in a browser"
    )
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(options.documents, options.output, print_line, by_person=options.browser))
    except (SigningError, SandboxError, OSError) as error:
        print_line(f"\nThe demo failed: {by_file_names(str(error), options.documents)}")
        return 1
    return 0


def by_file_names(message: str, paths: Sequence[Path]) -> str:
    """A message in which documents are named as they were given.

    Args:
        message: What the client or the sandbox says of a job.
        paths: The job's documents; none, and the message stays as it is.
    """

    def name(found: re.Match[str]) -> str:
        index = int(found[1] or found[2])
        return str(paths[index]) if index < len(paths) else found[0]

    return NAMED.sub(name, message)


async def _run(paths: Sequence[Path], output: Path, say: Print, *, by_person: bool) -> None:
    """Starts a sandbox and a client of it, and goes through the flow in the order of the service's guide."""
    _make_room(output)
    say("Starting a sandbox: a local service that behaves as Posten signering does.")
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(rate_limit=None))
        client = await stack.enter_async_context(DirectClient(sandbox.client_configuration()))
        say(f"  API with mutual TLS at {sandbox.service_root}")
        say(f"  It says: {await client.check_access()}")
        if by_person:
            portal = await stack.enter_async_context(Portal(sandbox.overview_url))
            exit_urls, follow = _followed_by_person(portal, say)
            say(f"  Watch all of it at {sandbox.overview_url}")
        else:
            exit_urls, follow = _followed_by_sandbox(sandbox, say)
        demo = _Demo(
            client=client,
            documents=_documents(paths),
            exit_urls=exit_urls,
            follow=follow,
            output=output,
            say=say,
        )
        await demo.by_token()
        await demo.by_polling()
        _keep_container(sandbox, output, say)


def _make_room(output: Path) -> None:
    """Removes what an earlier run made, and nothing else: a run that fails leaves none of it."""
    output.mkdir(parents=True, exist_ok=True)
    for path in (
        output / SIGNED,
        output / ROOT_CERTIFICATE,
        *(output / XADES.format(number) for number in range(1, len(IDENTIFIERS) + 1)),
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(output / CONTAINER, ignore_errors=True)


def _followed_by_sandbox(sandbox: Sandbox, say: Print) -> tuple[ExitUrls, Follow]:
    """Signers that the sandbox plays; they always sign."""

    async def follow(redirect_url: str) -> str:
        say("  The signer follows it and signs.")
        return await sandbox.sign(redirect_url)

    exit_urls = ExitUrls(
        completion="https://shop.example/signed",
        rejection="https://shop.example/rejected",
        error="https://shop.example/failed",
    )
    return exit_urls, follow


def _followed_by_person(portal: Portal, say: Print) -> tuple[ExitUrls, Follow]:
    """Signers that the person who runs the demo plays, in a browser."""

    async def follow(redirect_url: str) -> str:
        say(f"  You are the signer. Open this in a browser, and choose:\n\n{redirect_url}\n")
        await asyncio.to_thread(open_window, redirect_url)
        return await portal.came_back()

    exit_urls = ExitUrls(
        completion=portal.completion, rejection=portal.rejection, error=portal.error
    )
    return exit_urls, follow


def _documents(paths: Sequence[Path]) -> list[Document]:
    """The files that were given, or a sample."""
    if not paths:
        return [
            Document(title="Lease", content=contract()),
            Document(title="Terms", content=TERMS.encode(), type=DocumentType.TEXT),
        ]
    return [
        Document(
            title=path.stem[:80] or "Document",
            content=path,
            type=DocumentType.TEXT if path.suffix.lower() == ".txt" else DocumentType.PDF,
        )
        for path in paths
    ]


def contract() -> bytes:
    """A PDF of one page."""
    from reportlab.lib.pagesizes import A4  # noqa: PLC0415 - heavy, and only the sample's
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415 - as above

    file = io.BytesIO()
    canvas = Canvas(file, pagesize=A4, invariant=True)
    canvas.setTitle("Lease")
    _width, height = A4
    canvas.setFont("Helvetica-Bold", 22)
    canvas.drawString(72, height - 110, "Lease")
    canvas.setFont("Helvetica", 12)
    for number, line in enumerate(
        (
            "Between Utleieren AS (the landlord) and the undersigned (the tenants)",
            "on the flat at Storgata 1, 0001 Oslo.",
            "",
            "The rent is 12,000 kroner a month. The terms are in the second document.",
        )
    ):
        canvas.drawString(72, height - 150 - 18 * number, line)
    canvas.showPage()
    canvas.save()
    return file.getvalue()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Demo:
    """The two ways to learn a job's status, each with a job of its own.

    Attributes:
        client: Of the sandbox.
        documents: What is signed.
        exit_urls: Where signers are to come back to.
        follow: Does what a signer does at a redirect URL, and gives the exit URL that the browser came to.
        output: Where signed documents go.
        say: Says what happens.
    """

    client: DirectClient
    documents: Sequence[Document]
    exit_urls: ExitUrls
    follow: Follow
    output: Path
    say: Print

    async def by_token(self) -> None:
        """A job whose status is asked for when a signer comes back."""
        self.say("\n1. A job whose status you learn by token")
        created = await self.create("demo-by-token", None)
        for identifier in IDENTIFIERS:
            exit_url = await self.sign(created, identifier)
            address, _, query = exit_url.partition("?")
            (token,) = parse_qs(query)["status_query_token"]
            del exit_url, query
            self.say(f"  The browser came back to {address} with a status query token.")
            status = await self.client.get_status(created, token)
            self.say_status(status)
            if status.status == DirectJobStatus.FAILED:
                break

    async def by_polling(self) -> None:
        """A job whose status changes arrive in a polling queue."""
        self.say("\n2. A job whose status changes you poll for")
        created = await self.create("demo-by-polling", StatusRetrievalMethod.POLLING)
        for identifier in IDENTIFIERS:
            exit_url = await self.sign(created, identifier)
            if not exit_url.startswith(self.exit_urls.completion):
                break
        async for change in self.client.status_changes():
            self.say("  The polling queue holds a status change.")
            self.say_status(change)
            if change.status == DirectJobStatus.COMPLETED_SUCCESSFULLY:
                await self.download(change)
            await self.client.confirm(change)
            self.say("  Confirmed: this change will not come back.")
            if change.status != DirectJobStatus.IN_PROGRESS:
                break

    async def create(
        self, reference: str, status_retrieval_method: StatusRetrievalMethod | None
    ) -> DirectJobResponse:
        """Creates a job: what is to be signed, and by whom."""
        job = DirectJob(
            title="Lease of a flat",
            description="Please read it all before you sign.",
            documents=self.documents,
            signers=[
                DirectSigner(personal_identification_number=IDENTITY_NUMBER),
                DirectSigner(custom_identifier=CUSTOM_IDENTIFIER),
            ],
            exit_urls=self.exit_urls,
            reference=reference,
            status_retrieval_method=status_retrieval_method,
        )
        self.say(f"  Signing the container of {len(job.documents)} document(s) and sending it …")
        created = await self.client.create(job)
        self.say(f"  Created job {created.job_id} with {len(created.signers)} signers.")
        return created

    async def sign(self, created: DirectJobResponse, identifier: str) -> str:
        """Sends a signer to a fresh redirect URL, and gives the exit URL."""
        signer = await self.client.request_new_redirect_url(created.signer(identifier))
        kind = (
            "national identity number" if identifier == IDENTITY_NUMBER else "your own identifier"
        )
        self.say(f"  The signer known by {kind} gets a fresh redirect URL.")
        return await self.follow(signer.redirect_url)

    def say_status(self, status: DirectJobStatusResponse) -> None:
        """Says what has become of a job."""
        signers = ", ".join(str(signature.status) for signature in status.signatures)
        self.say(f"  Job {status.job_id} is {status.status}; its signers: {signers}.")

    async def download(self, change: DirectJobStatusResponse) -> None:
        """Downloads the signed PDF and the signers' signatures."""
        path = self.output / SIGNED
        size = await self.client.download_pades(change, path, progress=self.progress)
        self.say(f"  PAdES, the signed PDF: {path} ({size:,} bytes)")
        for number, signature in enumerate(change.signatures, start=1):
            path = self.output / XADES.format(number)
            size = await self.client.download_xades(signature, path)
            self.say(f"  XAdES of signer {number}: {path} ({size:,} bytes)")

    def progress(self, received: int, expected: int | None) -> None:
        """Says how far a download has come."""
        of = "" if expected is None else f" of {expected:,}"
        self.say(f"  … {received:,}{of} bytes")


def _keep_container(sandbox: Sandbox, output: Path, say: Print) -> None:
    """Keeps what was sent, for everyone to verify."""
    folder = output / CONTAINER
    with zipfile.ZipFile(io.BytesIO(sandbox.received[-1].container)) as container:
        container.extractall(folder)
    (output / ROOT_CERTIFICATE).write_bytes(sandbox.ca_pem)
    say(
        f"\n3. What was sent is in {folder}. Verify its signature with a tool that is not ours:\n\n"
        f"cd {shlex.quote(str(folder))} && xmlsec1 --verify --trusted-pem ../{ROOT_CERTIFICATE} "
        "--id-attr:Id http://uri.etsi.org/01903/v1.3.2#:SignedProperties META-INF/signatures.xml\n"
    )
    signed = output / SIGNED
    if signed.exists():
        say(f"and the signed PDF with\n\npdfsig {shlex.quote(str(signed))}\n")
    say("Read on in README.md; docs/official-guide.md maps the official guide to this package.")


if __name__ == "__main__":
    sys.exit(main())
