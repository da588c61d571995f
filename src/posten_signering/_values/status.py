"""The values of the service's responses: a created job, its status, a poll. Frozen, no I/O.

No repr shows a URL, because URLs of the service carry tokens or lead to personal data.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from types import NoneType

from posten_signering._values.arguments import require
from posten_signering._values.secret import Secret
from posten_signering.errors import (
    ArgumentTypeError,
    DocumentsNotDeletableError,
    NotAvailableError,
    SignedDocumentMissingError,
    SignerNotFoundError,
    StatusUrlMissingError,
)


class DirectJobStatus(StrEnum):
    """The status of a whole job (schema type `direct-signature-job-status`).

    Use this status, not those of the signers, to decide what to do with a job.
    """

    IN_PROGRESS = "IN_PROGRESS"
    """At least one signer has not acted yet."""

    COMPLETED_SUCCESSFULLY = "COMPLETED_SUCCESSFULLY"
    """All signers have signed."""

    FAILED = "FAILED"
    """The job has ended, and at least one signer has not signed."""


class SignerStatus(StrEnum):
    """The status of one signer. The service may add values later; an unknown value stays a `str`."""

    WAITING = "WAITING"
    """The signer has not acted yet."""

    REJECTED = "REJECTED"
    """The signer rejected the job."""

    EXPIRED = "EXPIRED"
    """The signer did not act before the job expired, 30 days after it was created."""

    FAILED = "FAILED"
    """The signing failed for a technical reason."""

    SIGNED = "SIGNED"
    """The signer has signed."""

    SIGNERS_NAME_NOT_AVAILABLE = "SIGNERS_NAME_NOT_AVAILABLE"
    """The service could not find the signer's name. Occurs only with `IdentifierInSignedDocuments.NAME`."""

    NOT_APPLICABLE = "NOT_APPLICABLE"
    """Another signer's action ended the job before this signer acted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSignerResponse:
    """A signer of a created job.

    Attributes:
        signer_url: The signer's URL in the API. Store it to request new redirect URLs later.
        redirect_url: URL for the signer's browser. It works once: request a new one for each redirect.
        personal_identification_number: Set if the job names the signer by it.
        custom_identifier: Set if the job names the signer by it.
    """

    signer_url: str = field(repr=False)
    redirect_url: str = field(repr=False)
    personal_identification_number: str | None = field(default=None, repr=False)
    custom_identifier: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJobResponse:
    """A created job.

    Attributes:
        job_id: The service's id of the job, a 64-bit integer.
        reference: The job's reference.
        status_url: The URL that `get_status` uses; None for a polled job.
        signers: The signers. Their order may differ from the order in the job; `signer` finds one.
    """

    job_id: int
    reference: str | None = None
    status_url: str | None = field(default=None, repr=False)
    signers: Sequence[DirectSignerResponse] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "signers", tuple(self.signers))

    def signer(self, identifier: str) -> DirectSignerResponse:
        """The signer with this national identity number or custom identifier.

        White space around the identifier does not matter: a response is read without it.

        Raises:
            ArgumentTypeError: The identifier is not text.
            SignerNotFoundError: No signer of the job has this identifier.
        """
        require("identifier", Secret(identifier), "text", str)
        for signer in self.signers:
            if {identifier, identifier.strip()} & {
                signer.personal_identification_number,
                signer.custom_identifier,
            }:
                return signer
        del identifier  # A traceback with local variables must not show an identity number.
        raise SignerNotFoundError(
            f"Job {self.job_id} has no signer with the given identifier; "
            f"it has {len(self.signers)} signer(s). Use the identifier that the job was created with."
        )

    @property
    def single_signer(self) -> DirectSignerResponse:
        """The job's only signer.

        Raises:
            SignerNotFoundError: The job has several signers, or none.
        """
        if len(self.signers) != 1:
            raise SignerNotFoundError(
                f"Job {self.job_id} has {len(self.signers)} signers, not one. Use signer(identifier)."
            )
        return self.signers[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """The status of one signer of a job, and the URL of the signer's XAdES.

    Attributes:
        signer: The identifier that the job names the signer by; None if the response has none.
        status: A `SignerStatus`, or the service's text if this version does not know the status.
        since: When the signer got this status; None if the response has no time.
        xades_url: The URL that `get_xades` uses; None until the signer has signed.
    """

    signer: str | None = field(default=None, repr=False)
    status: SignerStatus | str
    since: datetime | None = None
    xades_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJobStatusResponse:
    """The status of a job: the result of `get_status`, or a status change from a polling queue.

    Attributes:
        job_id: The service's id of the job, a 64-bit integer.
        reference: The job's reference.
        status: A `DirectJobStatus`, or the service's text if this version does not know the status.
        signatures: The status of each signer.
        confirmation_url: The URL that `confirm` uses; None when there is nothing to confirm.
        delete_documents_url: The URL that `delete_documents` uses; None when the documents can't be
            deleted now.
        pades_url: The URL that `get_pades` uses; None while there is no signed PDF.
    """

    job_id: int
    reference: str | None = None
    status: DirectJobStatus | str
    signatures: Sequence[Signature] = ()
    confirmation_url: str | None = field(default=None, repr=False)
    delete_documents_url: str | None = field(default=None, repr=False)
    pades_url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "signatures", tuple(self.signatures))

    def signature_of(self, identifier: str) -> Signature:
        """The signature of the signer with this national identity number or custom identifier.

        White space around the identifier does not matter: a response is read without it.

        Raises:
            ArgumentTypeError: The identifier is not text.
            SignerNotFoundError: No signature of the response has this identifier.
        """
        require("identifier", Secret(identifier), "text", str)
        for signature in self.signatures:
            if signature.signer in (identifier, identifier.strip()):
                return signature
        del identifier  # A traceback with local variables must not show an identity number.
        raise SignerNotFoundError(
            f"The status of job {self.job_id} names no signer with the given identifier. "
            "Use the identifier that the job was created with."
        )

    @property
    def deduplication_key(self) -> str:
        """A key that is equal for two deliveries of the same status change, and differs otherwise.

        The service redelivers a polled change that is not confirmed within 10 minutes. Store the key
        with your result to detect a change that you have already handled. The key is a SHA-256 digest
        (64 hexadecimal characters) of the job's id and status and each signer's identifier, status and
        time.
        """
        import json  # noqa: PLC0415 - it would be 1 % of the import of the package

        state = [
            self.job_id,
            self.status,
            sorted(
                [
                    signature.signer or "",
                    signature.status,
                    "" if signature.since is None else _instant(signature.since),
                ]
                for signature in self.signatures
            ),
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()


def _instant(time: datetime) -> str:
    """A text that is equal for equal instants, in whatever time zone. A naive time is local time."""
    try:
        return time.astimezone(UTC).isoformat()
    except (OverflowError, ValueError, OSError):
        # In UTC, the time is before the year 1 or after the year 9999. Or it is a naive time that the
        # operating system can't convert.
        offset = time.utcoffset()
        if offset is None:
            return time.isoformat()
        return str(time.replace(tzinfo=UTC) - datetime.min.replace(tzinfo=UTC) - offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPoll:
    """The result of one poll of a queue.

    Attributes:
        change: The status change; None when the queue is empty.
        next_permitted_poll_time: When the service permits the next poll of this queue, by the service's
            clock, in UTC. A time that the service sends without an offset is read as UTC. None if the
            response has no such time, or one that can't be read.
        wait: How long to wait until then, counted from the response; None if there is no such time. It is
            the permitted time minus the response's `Date`, so a wrong local clock does not matter. Only
            if the response has no readable `Date` is it measured by the local clock. Zero if the
            permitted time is not in the future.
    """

    change: DirectJobStatusResponse | None = None
    next_permitted_poll_time: datetime | None = None
    wait: timedelta | None = None


# For each field with the URL of an operation: the error that is raised when the URL is missing.
_MISSING_URLS: dict[str, tuple[type[NotAvailableError], str]] = {
    "status_url": (
        StatusUrlMissingError,
        "The job has no status URL, because it is polled. Use get_status_change or status_changes.",
    ),
    "pades_url": (
        SignedDocumentMissingError,
        "The response has no PAdES URL. Get the status again when all signers have signed.",
    ),
    "xades_url": (
        SignedDocumentMissingError,
        "The response has no XAdES URL for this signer. Get the status again when the signer has signed.",
    ),
    "delete_documents_url": (
        DocumentsNotDeletableError,
        (
            "The documents can't be deleted now. Deletion is possible from 24 hours after all signers have "
            "signed. Get the status again then."
        ),
    ),
}


# For each field with the URL of an operation: the name of the argument, and the response that has the field.
_ARGUMENTS: dict[str, tuple[str, type]] = {
    "signer_url": ("signer", DirectSignerResponse),
    "status_url": ("job", DirectJobResponse),
    "confirmation_url": ("status", DirectJobStatusResponse),
    "pades_url": ("status", DirectJobStatusResponse),
    "xades_url": ("signature", Signature),
    "delete_documents_url": ("status", DirectJobStatusResponse),
}


def optional_url_of(response: Secret[object], field_name: str) -> Secret[str] | None:
    """The URL of an operation: from a response, or the text that the caller stored earlier.

    None if the response has no URL for the operation.

    Raises:
        ArgumentTypeError: The argument is not the response that has this field, and is not text.
    """
    argument, kind = _ARGUMENTS[field_name]
    # A double that has the field is accepted, because a user's tests may pass one.
    if not (isinstance(response.reveal(), str) or hasattr(response.reveal(), field_name)):
        raise ArgumentTypeError(
            argument,
            expected=f"a {kind.__name__} or the stored {field_name} as text",
            found=type(response.reveal()),
        )
    url = Secret(getattr(response.reveal(), field_name, response.reveal()))
    require(f"{argument}.{field_name}", url, "text or None", str, NoneType)
    return None if url.reveal() is None else Secret(str(url.reveal()))


def url_of(response: Secret[object], field_name: str) -> Secret[str]:
    """The same as `optional_url_of`, for an operation that needs the URL.

    Raises:
        ArgumentTypeError: As for `optional_url_of`.
        NotAvailableError: The response has no URL for the operation.
    """
    url = optional_url_of(response, field_name)
    if url is None:
        error_type, message = _MISSING_URLS[field_name]
        raise error_type(message)
    return url
