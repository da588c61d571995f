"""The command `create`."""

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from posten_signering import (
    ClientConfiguration,
    DirectClient,
    DirectJob,
    DirectJobResponse,
    Sender,
    StatusRetrievalMethod,
)
from posten_signering._cli.job import JobOptions, job_of
from posten_signering._cli.options import DEFAULT_SERVICE, AsJson, ServiceOptions
from posten_signering._cli.output import Output
from posten_signering._cli.responses import created_text, created_value
from posten_signering.errors import ConfigurationError, CreateOutcomeUnknownError, InvalidJobError

_NO_OPTIONS = JobOptions()


async def create(
    *documents: Path,
    job: JobOptions = _NO_OPTIONS,
    dry_run: bool = False,
    container: Path = Path("job.asice"),
    as_json: AsJson = False,
    service: ServiceOptions = DEFAULT_SERVICE,
) -> None:
    """Creates a signature job, and prints its URLs.

    Each redirect URL is a secret of one signer. Exit status 7 means that the job may exist although no clear response came.

    Example: posten-signering create contract.pdf --title Lease --signer customer-42 --exit-url https://shop.example/signed

    Args:
        documents: The documents: PDF files, and text files whose names end in .txt.
        dry_run: Check everything and write the signed container to a file, but send nothing.
        container: The file that --dry-run writes. It must not exist. It contains the documents and the identifiers of the signers.
    """
    described = job_of(documents, job)
    configuration = service.configuration()
    described = replace(described, sender=_sender(described, configuration, service))
    try:
        if dry_run:
            value: dict[str, object] = {"container": str(container)}
            text = f"The job is valid. Nothing was sent. The container is in {container}."
            await _write_container(configuration, described, container)
        else:
            created = await _create(configuration, described)
            value, text = created_value(created), created_text(created, described)
    except InvalidJobError as error:
        for index, document in enumerate(described.documents):
            place = f"documents[{index}]"
            broken = any(violation.path.startswith(place) for violation in error.violations)
            if broken and isinstance(document.content, Path):
                error.add_note(f"{place} is {document.content}.")
        raise
    Output(as_json=as_json).result(value, text)


def _sender(
    job: DirectJob, configuration: ClientConfiguration, service: ServiceOptions
) -> Sender | None:
    """The sender of a job: from an option, else from the job file, else from a variable."""
    if job.sender is None or configuration.sender is None:
        return job.sender or configuration.sender
    number, queue = service.organization_number, service.polling_queue
    return Sender(
        organization_number=job.sender.organization_number if number is None else number,
        polling_queue=job.sender.polling_queue if queue is None else queue,
    )


async def _create(configuration: ClientConfiguration, job: DirectJob) -> DirectJobResponse:
    async with DirectClient(configuration) as client:
        try:
            return await client.create(job)
        except CreateOutcomeUnknownError as error:
            error.add_note(
                "What to look for: if the job exists, its only sign is a status change with this reference "
                "in the polling queue, at the latest when the job expires after 30 days."
                if job.status_retrieval_method is StatusRetrievalMethod.POLLING
                else "A job that is not polled can't be looked up: its status URL was in the lost response."
            )
            error.add_note(
                "Nobody can sign it, because its redirect URLs were in the lost response. If you create "
                "the job again, use a different --reference, so that you can tell the two apart."
            )
            raise


class _ContainerWrittenError(Exception):
    """Ends a create before anything is sent."""


async def _write_container(configuration: ClientConfiguration, job: DirectJob, path: Path) -> None:
    """Writes the container that `create` would send."""

    def write_and_stop(_job: DirectJob, open_container: Callable[[], BinaryIO]) -> None:
        # Only this user may read it.
        try:
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            raise ConfigurationError(
                f"--container={path}: the file exists. Name a different file, or remove it."
            ) from None
        with os.fdopen(descriptor, "wb") as file, open_container() as content:
            file.write(content.read())
        raise _ContainerWrittenError

    # A create whose bundle processor raises an error sends nothing.
    configuration = replace(configuration, bundle_processors=[write_and_stop], fleet=None)
    async with DirectClient(configuration) as client:
        with suppress(_ContainerWrittenError):
            await client.create(job)
