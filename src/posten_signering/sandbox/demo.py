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
from typing import TYPE_CHECKING
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
from posten_signering.sandbox._values.refusal import SandboxError

if TYPE_CHECKING:
    from posten_signering.sandbox import Sandbox
    from posten_signering.sandbox._pages.portal import Portal

PROGRAM = "python -m posten_signering.sandbox.demo"
OUTPUT = Path("demo-output")
SIGNED = "signed.pdf"
XADES = "signature-{}.xades.xml"
ROOT_CERTIFICATE = "sandbox-root.pem"
CONTAINER = "container"
# How error messages name a document: by its index in the job, or by its entry in the container.
DOCUMENT_NAME = re.compile(r"documents\[(\d+)\](?:\.content)?|(?<!\w)(\d{4})_document\.\w+")

# A synthetic identity number: 80 is added to the month, so no real person has it.
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
    """Opens a URL in a browser on this machine, if there is one that opens a window."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    # Exactly this class, no subclass: a text browser, which would take over the terminal.
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(address)


def main(
    arguments: Sequence[str] | None = None, *, print_line: Print = print, program: str = PROGRAM
) -> int:
    """Runs the demo, and returns its exit status.

    Args:
        arguments: The command line arguments; None takes them from `sys.argv`.
        print_line: Prints a line.
        program: How the user started the program, for the help.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        description="Create, sign, download and confirm jobs against a sandbox that the demo starts.",
        epilog=f"Example: {program} contract.pdf terms.txt",
    )
    parser.add_argument(
        "documents",
        nargs="*",
        type=Path,
        help="your own PDF or .txt files (default: sample documents)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=OUTPUT,
        help="directory for the results (default: %(default)s)",
    )
    parser.add_argument(
        "--browser",
        action="store_true",
        help="sign as a person in a browser (default: the demo signs for you)",
    )
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_run(options.documents, options.output, print_line, by_person=options.browser))
    except ImportError as error:
        sys.stderr.write(f"{error.msg}\n")
        return 1
    except (SigningError, SandboxError, OSError) as error:
        print_line(f"\nThe demo failed: {by_file_names(str(error), options.documents)}")
        return 1
    return 0


def by_file_names(message: str, paths: Sequence[Path]) -> str:
    """An error message that names documents by their file names.

    Args:
        message: An error message of the client or the sandbox about a job.
        paths: The files of the job's documents; empty leaves the message unchanged.
    """

    def file_name(match: re.Match[str]) -> str:
        index = int(match[1] or match[2])
        return str(paths[index]) if index < len(paths) else match[0]

    return DOCUMENT_NAME.sub(file_name, message)


async def _run(paths: Sequence[Path], output: Path, say: Print, *, by_person: bool) -> None:
    """Starts a sandbox and a client, and runs the flow in the order of the service's guide.

    Raises:
        ImportError: The extra `sandbox` is not installed.
    """
    from posten_signering.sandbox import Sandbox  # noqa: PLC0415 - fails without the extra

    _remove_old_results(output)
    say("Starting a sandbox: a local service that behaves like Posten signering.")
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(Sandbox(rate_limit=None))
        client = await stack.enter_async_context(DirectClient(sandbox.client_configuration()))
        say(f"  The API uses mutual TLS and is at {sandbox.service_root}")
        say(f"  The API responds: {await client.check_access()}")
        if by_person:
            from posten_signering.sandbox._pages.portal import Portal  # noqa: PLC0415 - as above

            portal = await stack.enter_async_context(Portal(sandbox.overview_url))
            exit_urls, follow = _signers_in_a_browser(portal, say)
            say(f"  Watch the jobs at {sandbox.overview_url}")
        else:
            exit_urls, follow = _simulated_signers(sandbox, say)
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


def _remove_old_results(output: Path) -> None:
    """Removes the results of an earlier run, so that they do not look like results of this run."""
    output.mkdir(parents=True, exist_ok=True)
    for path in (
        output / SIGNED,
        output / ROOT_CERTIFICATE,
        *(output / XADES.format(number) for number in range(1, len(IDENTIFIERS) + 1)),
    ):
        path.unlink(missing_ok=True)
    shutil.rmtree(output / CONTAINER, ignore_errors=True)


def _simulated_signers(sandbox: "Sandbox", say: Print) -> tuple[ExitUrls, Follow]:
    """Exit URLs and signers for a run without a browser: the sandbox signs for each signer."""

    async def follow(redirect_url: str) -> str:
        say("  The signer opens it and signs.")
        return await sandbox.sign(redirect_url)

    return sandbox.exit_urls, follow


def _signers_in_a_browser(portal: "Portal", say: Print) -> tuple[ExitUrls, Follow]:
    """Exit URLs and signers for a run with a browser: the person who runs the demo signs."""

    async def follow(redirect_url: str) -> str:
        say(
            f"  You are the signer. Open this URL in a browser, and sign or reject there:\n\n{redirect_url}\n"
        )
        await asyncio.to_thread(open_window, redirect_url)
        return await portal.next_exit_url()

    exit_urls = ExitUrls(
        completion=portal.completion, rejection=portal.rejection, error=portal.error
    )
    return exit_urls, follow


def _documents(paths: Sequence[Path]) -> list[Document]:
    """The given files, or the sample documents."""
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
    """The sample contract, a PDF with one page."""
    from reportlab.lib.pagesizes import A4  # noqa: PLC0415 - slow to import, needed here only
    from reportlab.pdfgen.canvas import Canvas  # noqa: PLC0415 - slow to import, needed here only

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
    """Two jobs that show the two ways to get a job's status: by token and by polling.

    Attributes:
        client: The client of the sandbox.
        documents: The documents of both jobs.
        exit_urls: The exit URLs of both jobs.
        follow: Opens a redirect URL as a signer, acts, and returns the exit URL of the browser.
        output: The directory for the signed documents.
        say: Prints a line.
    """

    client: DirectClient
    documents: Sequence[Document]
    exit_urls: ExitUrls
    follow: Follow
    output: Path
    say: Print

    async def by_token(self) -> None:
        """Gets the status of a job each time that a signer returns."""
        self.say("\n1. A job whose status you get by token")
        created = await self.create("demo-by-token", None)
        for identifier in IDENTIFIERS:
            exit_url = await self.sign(created, identifier)
            address, _, query = exit_url.partition("?")
            (token,) = parse_qs(query)["status_query_token"]
            del exit_url, query
            self.say(f"  The browser returned to {address} with a status query token.")
            status = await self.client.get_status(created, token)
            self.say_status(status)
            if status.status == DirectJobStatus.FAILED:
                break

    async def by_polling(self) -> None:
        """Gets the status changes of a job from a polling queue."""
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
            self.say("  Confirmed: the queue will not deliver this change again.")
            if change.status != DirectJobStatus.IN_PROGRESS:
                break

    async def create(
        self, reference: str, status_retrieval_method: StatusRetrievalMethod | None
    ) -> DirectJobResponse:
        """Creates a job with two signers."""
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
        self.say(f"  Signing the container of {len(job.documents)} document(s) and sending it ...")
        created = await self.client.create(job)
        self.say(f"  Created job {created.job_id} with {len(created.signers)} signers.")
        return created

    async def sign(self, created: DirectJobResponse, identifier: str) -> str:
        """Sends a signer to a new redirect URL, and returns the exit URL."""
        signer = await self.client.request_new_redirect_url(created.signer(identifier))
        kind = (
            "national identity number" if identifier == IDENTITY_NUMBER else "your own identifier"
        )
        self.say(f"  The signer identified by {kind} gets a new redirect URL.")
        return await self.follow(signer.redirect_url)

    def say_status(self, status: DirectJobStatusResponse) -> None:
        """Prints the status of a job."""
        signers = ", ".join(str(signature.status) for signature in status.signatures)
        self.say(f"  Job {status.job_id} is {status.status}; its signers: {signers}.")

    async def download(self, change: DirectJobStatusResponse) -> None:
        """Downloads the signed PDF (PAdES) and each signer's signature (XAdES)."""
        path = self.output / SIGNED
        size = await self.client.download_pades(change, path, progress=self.progress)
        self.say(f"  PAdES, the signed PDF: {path} ({size:,} bytes)")
        for number, signature in enumerate(change.signatures, start=1):
            path = self.output / XADES.format(number)
            size = await self.client.download_xades(signature, path)
            self.say(f"  XAdES of signer {number}: {path} ({size:,} bytes)")

    def progress(self, received: int, expected: int | None) -> None:
        """Prints the progress of a download."""
        total = "" if expected is None else f" of {expected:,}"
        self.say(f"  ... {received:,}{total} bytes")


def _keep_container(sandbox: "Sandbox", output: Path, say: Print) -> None:
    """Extracts the container as it was sent, and prints how to verify it with other tools."""
    folder = output / CONTAINER
    with zipfile.ZipFile(io.BytesIO(sandbox.received[-1].container)) as container:
        container.extractall(folder)
    (output / ROOT_CERTIFICATE).write_bytes(sandbox.ca_pem)
    say(
        f"\n3. The extracted container is in {folder}. Verify its signature with xmlsec1:\n\n"
        f"cd {shlex.quote(str(folder))} && xmlsec1 --verify --trusted-pem ../{ROOT_CERTIFICATE} "
        "--id-attr:Id http://uri.etsi.org/01903/v1.3.2#:SignedProperties META-INF/signatures.xml\n"
    )
    signed = output / SIGNED
    if signed.exists():
        say(f"Verify the signed PDF with pdfsig:\n\npdfsig {shlex.quote(str(signed))}\n")
    say(
        "Next: `python -m posten_signering.sandbox` starts a sandbox for a program of yours, such as\n"
        "the one in docs/tutorial.md, in the repository of this package."
    )


if __name__ == "__main__":
    sys.exit(main())
