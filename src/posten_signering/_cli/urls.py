"""The commands that use one URL of a response: `download`, `confirm`, `delete` and `redirect-url`."""

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from cyclopts import Parameter
from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

from posten_signering import DirectClient
from posten_signering._cli.options import (
    DEFAULT_SERVICE,
    AsJson,
    ServiceOptions,
    at_terminal,
    interruptible,
    secret,
)
from posten_signering._cli.output import Output
from posten_signering.errors import ConfigurationError


async def download(
    url: str | None = None,
    /,
    *,
    file: Annotated[Path, Parameter(name=["--output", "-o"])],
    kind: Literal["pades", "xades"] | None = None,
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> None:
    """Downloads a signed document to a file.

    The file appears only when it is complete, and replaces an existing file.

    Example: posten-signering download "$PADES_URL" --output signed.pdf

    Args:
        url: The PAdES URL (the signed PDF) or a XAdES URL (the signature of one signer). Without it, the command reads it from standard input.
        file: The file to write.
        kind: What the URL is. The default is read from its path.
    """
    output = Output(as_json=as_json)
    address = url or secret("URL")
    kind = kind or _kind_of(address)
    async with DirectClient(service.configuration()) as client:
        fetch = client.download_pades if kind == "pades" else client.download_xades
        with _progress(output) as progress:
            size = await fetch(address, file, progress=progress)
    output.result({"file": str(file), "size": size}, f"{file}: {size:,} bytes")


def _kind_of(url: str) -> Literal["pades", "xades"]:
    with suppress(ValueError):  # of a host that is not valid
        parts = urlsplit(url).path.split("/")
        if "xades" in parts[-2:]:
            return "xades"
        if "pades" in parts[-2:]:
            return "pades"
    raise ConfigurationError(
        "The URL does not say whether it is a PAdES URL or a XAdES URL. Use --kind pades or --kind xades."
    )


@contextmanager
def _progress(output: Output) -> Generator[Callable[[int, int | None], None] | None]:
    """Shows the progress of a download in a terminal, and nothing elsewhere."""
    if not output.errors.is_terminal:
        yield None
        return
    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn()
    with Progress(*columns, console=output.errors, transient=True) as progress:
        bar = progress.add_task("Download", total=None)
        yield lambda written, total: progress.update(bar, completed=written, total=total)


async def confirm(
    confirmation_url: str | None = None,
    /,
    *,
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> None:
    """Confirms a status change, so that the service does not deliver it again.

    Confirm after you have stored the result: then the service may make the documents of a job that has ended unavailable.

    Example: posten-signering confirm "$CONFIRMATION_URL"

    Args:
        confirmation_url: The confirmation URL of the change. Without it, the command reads it from standard input.
    """
    address = confirmation_url or secret("confirmation URL")
    async with DirectClient(service.configuration()) as client:
        await client.confirm(address)
    Output(as_json=as_json).result({"confirmed": True}, "Confirmed.")


async def delete(
    delete_documents_url: str | None = None,
    /,
    *,
    yes: bool = False,
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> None:
    """Deletes the documents of a job from the service.

    The service permits it 24 hours after every signer has signed, at the earliest.

    Example: posten-signering delete "$DELETE_DOCUMENTS_URL" --yes

    Args:
        delete_documents_url: The URL to delete the documents. Without it, the command reads it from standard input.
        yes: Do not ask. Without a terminal, the command deletes nothing without this option.
    """
    address = delete_documents_url or secret("URL to delete the documents")
    configuration = service.configuration()
    if not (yes or _agreed()):
        raise ConfigurationError("Nothing was deleted. Use --yes to delete without a question.")
    async with DirectClient(configuration) as client:
        await client.delete_documents(address)
    Output(as_json=as_json).result({"deleted": True}, "The documents are deleted.")


def _agreed() -> bool:
    if not at_terminal():
        return False
    with interruptible():
        sys.stderr.write(
            "Delete the documents of this job from the service? They can't be restored. [y/N] "
        )
        sys.stderr.flush()
        return sys.stdin.readline().strip().lower() in {"y", "yes"}


async def redirect_url(
    signer_url: str | None = None,
    /,
    *,
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> None:
    """Requests a new redirect URL for a signer, and prints it.

    The URL is a secret of the signer, and works once.

    Example: posten-signering redirect-url "$SIGNER_URL"

    Args:
        signer_url: The signer URL. Without it, the command reads it from standard input.
    """
    address = signer_url or secret("signer URL")
    async with DirectClient(service.configuration()) as client:
        signer = await client.request_new_redirect_url(address)
    Output(as_json=as_json).result(
        {"signer_url": signer.signer_url, "redirect_url": signer.redirect_url},
        signer.redirect_url,
    )
