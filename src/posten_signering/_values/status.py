"""What the service answers: a created job, its status, a change from a queue. Frozen, no I/O.

URLs of the API and of the signer's browser carry tokens or lead to personal data: no repr shows one.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum

from posten_signering._values.secret import Secret
from posten_signering.errors import (
    DocumentsNotDeletableError,
    NotAvailableError,
    SignedDocumentMissingError,
    SignerNotFoundError,
    StatusUrlMissingError,
)


class DirectJobStatus(StrEnum):
    """The state of a whole job (schema type `direct-signature-job-status`): decide by this one."""

    IN_PROGRESS = "IN_PROGRESS"
    """Somebody has not acted yet."""

    COMPLETED_SUCCESSFULLY = "COMPLETED_SUCCESSFULLY"
    """Everybody has signed."""

    FAILED = "FAILED"
    """Nobody can act any more, and at least one has not signed."""


class SignerStatus(StrEnum):
    """The state of one signer. The service adds values over time: unknown ones stay plain text."""

    WAITING = "WAITING"
    """Has not acted yet."""

    REJECTED = "REJECTED"
    """Chose not to sign."""

    EXPIRED = "EXPIRED"
    """Did not act within the job's life of 30 days."""

    FAILED = "FAILED"
    """A technical failure."""

    SIGNED = "SIGNED"
    """Has signed."""

    SIGNERS_NAME_NOT_AVAILABLE = "SIGNERS_NAME_NOT_AVAILABLE"
    """The name could not be looked up; only with `IdentifierInSignedDocuments.NAME`."""

    NOT_APPLICABLE = "NOT_APPLICABLE"
    """Another signer's action ended the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectSignerResponse:
    """A signer as the service knows them.

    Attributes:
        signer_url: The signer's URL in the API; store it to ask for new redirect URLs later.
        redirect_url: One-time URL for the signer's browser. Ask for a fresh one for every redirect.
        personal_identification_number: Set when the signer was identified by it.
        custom_identifier: Set when the signer was identified by it.
    """

    signer_url: str = field(repr=False)
    redirect_url: str = field(repr=False)
    personal_identification_number: str | None = field(default=None, repr=False)
    custom_identifier: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJobResponse:
    """A created job.

    Attributes:
        job_id: The service's id of the job, 64 bits.
        reference: The job's reference.
        status_url: For `get_status`; None for a polled job.
        signers: In the service's order, which may differ from the job's: look up with `signer`.
    """

    job_id: int
    reference: str | None = None
    status_url: str | None = field(default=None, repr=False)
    signers: Sequence[DirectSignerResponse] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "signers", tuple(self.signers))

    def signer(self, identifier: str) -> DirectSignerResponse:
        """The signer with this national identity number or custom identifier.

        Raises:
            SignerNotFoundError: No signer of the job has it.
        """
        for each in self.signers:
            if identifier in (each.personal_identification_number, each.custom_identifier):
                return each
        del identifier  # An identity number must not show in a traceback with locals.
        raise SignerNotFoundError(
            f"Job {self.job_id} has no signer with the identifier that was given; "
            f"it has {len(self.signers)} signer(s)."
        )

    @property
    def single_signer(self) -> DirectSignerResponse:
        """The job's only signer.

        Raises:
            SignerNotFoundError: The job has not exactly one signer.
        """
        if len(self.signers) != 1:
            raise SignerNotFoundError(
                f"Job {self.job_id} has {len(self.signers)} signers, not one: use signer(identifier)."
            )
        return self.signers[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """What one signer has done.

    Attributes:
        signer: The signer's identifier, of whichever kind; None where the service left it out.
        status: A `SignerStatus` where known, the service's own text otherwise.
        since: When this status came about; None where the service left it out.
        xades_url: For `get_xades`; None while the signer has not signed.
    """

    signer: str | None = field(default=None, repr=False)
    status: SignerStatus | str
    since: datetime | None = None
    xades_url: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectJobStatusResponse:
    """The status of a job: the answer to `get_status`, or a status change from a polling queue.

    Attributes:
        job_id: The service's id of the job, 64 bits.
        reference: The job's reference.
        status: A `DirectJobStatus` where known, the service's own text otherwise.
        signatures: One for each signer.
        confirmation_url: For `confirm`; None when there is nothing to confirm.
        delete_documents_url: For `delete_documents`; None when they can't be deleted now.
        pades_url: For `get_pades`; None while there is no signed PDF.
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

        Raises:
            SignerNotFoundError: The response tells nothing of such a signer.
        """
        for each in self.signatures:
            if each.signer == identifier:
                return each
        del identifier  # An identity number must not show in a traceback with locals.
        raise SignerNotFoundError(
            f"The status of job {self.job_id} names no signer with the identifier that was given."
        )

    @property
    def deduplication_key(self) -> str:
        """Text that is equal for two deliveries of the same status change, and only for those.

        A polled change comes back when it is not confirmed within 10 minutes: store this key with
        your result to see that a change was handled before. A digest (64 hexadecimal characters)
        over the job's id and status and every signer's identifier, status and time.
        """
        state = [
            self.job_id,
            self.status,
            sorted(
                [
                    each.signer or "",
                    each.status,
                    "" if each.since is None else each.since.astimezone(UTC).isoformat(),
                ]
                for each in self.signatures
            ),
        ]
        return hashlib.sha256(json.dumps(state).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusPoll:
    """The answer to one poll of a queue.

    Attributes:
        change: The status change; None when the queue is empty.
        next_permitted_poll_time: When the service permits the next poll of this queue, by its own
            clock; None where it did not say.
        wait: How long to wait from the answer on until then, reckoned by the service's own clock
            (the permitted time minus the answer's `Date`), so that it holds whatever the local clock
            shows; None where it did not say.
    """

    change: DirectJobStatusResponse | None = None
    next_permitted_poll_time: datetime | None = None
    wait: timedelta | None = None


# The field that holds the URL of an operation -> the error when the service offers none, and its text.
_MISSING_URLS: dict[str, tuple[type[NotAvailableError], str]] = {
    "status_url": (
        StatusUrlMissingError,
        "The job has no status URL, because it is polled: use get_status_change or status_changes.",
    ),
    "pades_url": (
        SignedDocumentMissingError,
        "The job has no PAdES now: the service makes it when every signer has signed.",
    ),
    "xades_url": (
        SignedDocumentMissingError,
        "The signer has no XAdES, because they have not signed.",
    ),
    "delete_documents_url": (
        DocumentsNotDeletableError,
        "The documents can't be deleted now. The service permits it 24 hours after every signer has signed.",
    ),
}


def url_of(response: object, field_name: str) -> Secret[str]:
    """The URL that an operation follows: of a response, or the one that the caller stored, as text.

    Raises:
        NotAvailableError: The response has none.
    """
    url = response if isinstance(response, str) else getattr(response, field_name)
    if url is None:
        kind, text = _MISSING_URLS[field_name]
        raise kind(text)
    return Secret(url)
