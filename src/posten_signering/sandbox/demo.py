"""`python -m posten_signering.sandbox.demo`: the whole direct flow, told step by step."""

import argparse
import io
import re
import shlex
import shutil
import sys
import webbrowser
import zipfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol
from urllib.parse import parse_qs

import anyio
import anyio.to_thread

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

Print = Callable[[str], None]
Open = Callable[[str], object]


def open_window(address: str) -> None:
    """Opens an address in this machine's browser, if it has one with a window of its own."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    # Exactly this class: a browser for terminals, which would take this one over.
    if type(browser) is not webbrowser.GenericBrowser:
        browser.open(address)


def main(
    arguments: Sequence[str] | None = None,
    *,
    print_line: Print = print,
    open_address: Open = open_window,
) -> int:
    """Runs the demo, and gives its exit status.

    Args:
        arguments: Those of the command line.
        print_line: Says what happens.
        open_address: Shows a redirect URL to a person; only with `--browser`.
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
    demo = _Demo(
        paths=options.documents,
        output=options.output,
        say=print_line,
        open_address=open_address if options.browser else None,
    )
    try:
        anyio.run(demo.run)
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


class _Signers(Protocol):
    """Those who follow redirect URLs."""

    @property
    def exit_urls(self) -> ExitUrls:
        """Where they are to come back to."""
        ...

    async def follow(self, redirect_url: str) -> str:
        """Does what a signer does, and gives the exit URL that the browser came to."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class _SandboxSigners:
    """They are played by the sandbox, and always sign."""

    sandbox: Sandbox
    say: Print

    @property
    def exit_urls(self) -> ExitUrls:
        return ExitUrls(
            completion="https://shop.example/signed",
            rejection="https://shop.example/rejected",
            error="https://shop.example/failed",
        )

    async def follow(self, redirect_url: str) -> str:
        self.say("  The signer follows it and signs.")
        return await self.sandbox.sign(redirect_url)


@dataclass(frozen=True, kw_only=True, slots=True)
class _PersonAtBrowser:
    """They are played by whoever runs the demo."""

    portal: Portal
    say: Print
    open_address: Open

    @property
    def exit_urls(self) -> ExitUrls:
        return ExitUrls(
            completion=self.portal.completion,
            rejection=self.portal.rejection,
            error=self.portal.error,
        )

    async def follow(self, redirect_url: str) -> str:
        self.say(f"  You are the signer. Open this in a browser, and choose:\n\n{redirect_url}\n")
        await anyio.to_thread.run_sync(self.open_address, redirect_url)
        return await self.portal.came_back()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Demo:
    paths: Sequence[Path]
    output: Path
    say: Print
    open_address: Open | None

    @property
    def signed(self) -> Path:
        """Where the signed PDF goes."""
        return self.output / SIGNED

    async def run(self) -> None:
        """The flow, in the order of the service's own guide."""
        self.output.mkdir(parents=True, exist_ok=True)
        self.remove_results()
        self.say("Starting a sandbox: a local service that behaves as Posten signering does.")
        async with AsyncExitStack() as stack:
            sandbox = await stack.enter_async_context(Sandbox(rate_limit=None))
            client = await stack.enter_async_context(DirectClient(sandbox.client_configuration()))
            signers: _Signers = _SandboxSigners(sandbox=sandbox, say=self.say)
            self.say(f"  API with mutual TLS at {sandbox.service_root}")
            self.say(f"  It says: {await client.check_access()}")
            if self.open_address is not None:
                overview = f"{sandbox.signing_pages_url}overview"
                portal = await stack.enter_async_context(Portal(overview))
                signers = _PersonAtBrowser(
                    portal=portal, say=self.say, open_address=self.open_address
                )
                self.say(f"  Watch all of it at {overview}")
            await self.by_token(client, signers)
            await self.by_polling(client, signers)
            self.keep_container(sandbox)

    def remove_results(self) -> None:
        """Removes what an earlier run made, and nothing else: a run that fails leaves none of it."""
        for path in (
            self.signed,
            self.output / ROOT_CERTIFICATE,
            *(self.output / XADES.format(number) for number in range(1, len(IDENTIFIERS) + 1)),
        ):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.output / CONTAINER, ignore_errors=True)

    async def by_token(self, client: DirectClient, signers: _Signers) -> None:
        """A job whose status is asked for when a signer comes back."""
        self.say("\n1. A job whose status you learn by token")
        created = await self.create(client, self.job("demo-by-token", signers))
        for identifier in IDENTIFIERS:
            exit_url = await self.sign(client, signers, created, identifier)
            address, _, query = exit_url.partition("?")
            (token,) = parse_qs(query)["status_query_token"]
            del exit_url, query
            self.say(f"  The browser came back to {address} with a status query token.")
            status = await client.get_status(created, token)
            self.tell(status)
            if status.status == DirectJobStatus.FAILED:
                break

    async def by_polling(self, client: DirectClient, signers: _Signers) -> None:
        """A job whose status changes arrive in a polling queue."""
        self.say("\n2. A job whose status changes you poll for")
        job = replace(
            self.job("demo-by-polling", signers),
            status_retrieval_method=StatusRetrievalMethod.POLLING,
        )
        created = await self.create(client, job)
        for identifier in IDENTIFIERS:
            exit_url = await self.sign(client, signers, created, identifier)
            if not exit_url.startswith(job.exit_urls.completion):
                break
        async for change in client.status_changes():
            self.say("  The polling queue holds a status change.")
            self.tell(change)
            if change.status == DirectJobStatus.COMPLETED_SUCCESSFULLY:
                await self.download(client, change)
            await client.confirm(change)
            self.say("  Confirmed: this change will not come back.")
            if change.status != DirectJobStatus.IN_PROGRESS:
                break

    def job(self, reference: str, signers: _Signers) -> DirectJob:
        """What is to be signed, and by whom."""
        return DirectJob(
            title="Lease of a flat",
            description="Please read it all before you sign.",
            documents=self.documents(),
            signers=[
                DirectSigner(personal_identification_number=IDENTITY_NUMBER),
                DirectSigner(custom_identifier=CUSTOM_IDENTIFIER),
            ],
            exit_urls=signers.exit_urls,
            reference=reference,
        )

    def documents(self) -> list[Document]:
        """The files given, or a sample."""
        if not self.paths:
            from posten_signering.sandbox._sandbox import sample  # noqa: PLC0415 - heavy, and only the sample's

            return [
                Document(title="Lease", content=sample.contract()),
                Document(title="Terms", content=sample.TERMS.encode(), type=DocumentType.TEXT),
            ]
        return [
            Document(
                title=path.stem[:80] or "Document",
                content=path,
                type=DocumentType.TEXT if path.suffix.lower() == ".txt" else DocumentType.PDF,
            )
            for path in self.paths
        ]

    async def create(self, client: DirectClient, job: DirectJob) -> DirectJobResponse:
        self.say(f"  Signing the container of {len(job.documents)} document(s) and sending it …")
        created = await client.create(job)
        self.say(f"  Created job {created.job_id} with {len(created.signers)} signers.")
        return created

    async def sign(
        self, client: DirectClient, signers: _Signers, created: DirectJobResponse, identifier: str
    ) -> str:
        signer = await client.request_new_redirect_url(created.signer(identifier))
        kind = (
            "national identity number" if identifier == IDENTITY_NUMBER else "your own identifier"
        )
        self.say(f"  The signer known by {kind} gets a fresh redirect URL.")
        return await signers.follow(signer.redirect_url)

    def tell(self, status: DirectJobStatusResponse) -> None:
        signers = ", ".join(str(each.status) for each in status.signatures)
        self.say(f"  Job {status.job_id} is {status.status}; its signers: {signers}.")

    async def download(self, client: DirectClient, change: DirectJobStatusResponse) -> None:
        size = await client.download_pades(change, self.signed, progress=self.progress)
        self.say(f"  PAdES, the signed PDF: {self.signed} ({size:,} bytes)")
        for number, signature in enumerate(change.signatures, start=1):
            path = self.output / XADES.format(number)
            size = await client.download_xades(signature, path)
            self.say(f"  XAdES of signer {number}: {path} ({size:,} bytes)")

    def progress(self, received: int, expected: int | None) -> None:
        of = "" if expected is None else f" of {expected:,}"
        self.say(f"  … {received:,}{of} bytes")

    def keep_container(self, sandbox: Sandbox) -> None:
        """What was sent, for everyone to verify."""
        folder = self.output / CONTAINER
        with zipfile.ZipFile(io.BytesIO(sandbox.received[-1].container)) as container:
            container.extractall(folder)
        (self.output / ROOT_CERTIFICATE).write_bytes(sandbox.ca_pem)
        self.say(
            f"\n3. What was sent is in {folder}. Verify its signature with a tool that is not ours:\n\n"
            f"cd {shlex.quote(str(folder))} && xmlsec1 --verify --trusted-pem ../{ROOT_CERTIFICATE} "
            "--id-attr:Id http://uri.etsi.org/01903/v1.3.2#:SignedProperties META-INF/signatures.xml\n"
        )
        if self.signed.exists():
            self.say(f"and the signed PDF with\n\npdfsig {shlex.quote(str(self.signed))}\n")
        self.say(
            "Read on in README.md; docs/official-guide.md maps the official guide to this package."
        )


if __name__ == "__main__":
    sys.exit(main())
