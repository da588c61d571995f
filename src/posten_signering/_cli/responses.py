"""The service's responses as JSON and as text. Both may have secrets, so they go to standard output only."""

import re
from collections.abc import Sequence

from posten_signering import (
    DirectJob,
    DirectJobResponse,
    DirectJobStatusResponse,
    DirectSigner,
    StatusPoll,
)


def created_value(created: DirectJobResponse) -> dict[str, object]:
    """A created job as a value of JSON."""
    return {
        "job_id": created.job_id,
        "reference": created.reference,
        "status_url": created.status_url,
        "signers": [
            {
                "personal_identification_number": signer.personal_identification_number,
                "custom_identifier": signer.custom_identifier,
                "signer_url": signer.signer_url,
                "redirect_url": signer.redirect_url,
            }
            for signer in created.signers
        ],
    }


def created_text(created: DirectJobResponse, job: DirectJob) -> str:
    """A created job as text, with the signers in the order of the job."""
    lines = [
        f"Created job {created.job_id}",
        *_given(("Reference", created.reference), ("Status URL", created.status_url)),
    ]
    for index, signer in enumerate(job.signers, start=1):
        answered = created.signer(_identifier(signer))
        lines += [
            f"Signer {index}: {_shown(_identifier(signer))}",
            f"  Redirect URL (works once): {answered.redirect_url}",
            f"  Signer URL (for new redirect URLs): {answered.signer_url}",
        ]
    return "\n".join(lines)


def status_value(status: DirectJobStatusResponse) -> dict[str, object]:
    """The status of a job as a value of JSON."""
    return {
        "job_id": status.job_id,
        "reference": status.reference,
        "status": str(status.status),
        "signatures": [
            {
                "signer": signature.signer,
                "status": str(signature.status),
                "since": None if signature.since is None else signature.since.isoformat(),
                "xades_url": signature.xades_url,
            }
            for signature in status.signatures
        ],
        "confirmation_url": status.confirmation_url,
        "delete_documents_url": status.delete_documents_url,
        "pades_url": status.pades_url,
    }


def status_text(status: DirectJobStatusResponse) -> str:
    """The status of a job as text."""
    lines = [
        f"Job {status.job_id}: {status.status}",
        *_given(("Reference", status.reference)),
    ]
    for index, signature in enumerate(status.signatures, start=1):
        since = "" if signature.since is None else f" since {signature.since.isoformat()}"
        lines += [
            f"Signer {index}: {_shown(signature.signer)}: {signature.status}{since}",
            *_given(("  XAdES URL", signature.xades_url)),
        ]
    lines += _given(
        ("PAdES URL", status.pades_url),
        ("Confirmation URL", status.confirmation_url),
        ("URL to delete the documents", status.delete_documents_url),
    )
    return "\n".join(lines)


def poll_value(poll: StatusPoll) -> dict[str, object]:
    """The result of a poll as a value of JSON."""
    permitted, wait = poll.next_permitted_poll_time, poll.wait
    return {
        "change": None if poll.change is None else status_value(poll.change),
        "next_permitted_poll_time": None if permitted is None else permitted.isoformat(),
        "wait_seconds": None if wait is None else wait.total_seconds(),
    }


def poll_text(poll: StatusPoll) -> str:
    """The result of a poll as text."""
    lines = ["The queue is empty." if poll.change is None else status_text(poll.change)]
    permitted = poll.next_permitted_poll_time
    if permitted is not None:
        lines.append(f"The next poll is permitted at {permitted.isoformat()}.")
    return "\n".join(lines)


def _given(*values: tuple[str, str | None]) -> Sequence[str]:
    return [f"{name}: {value}" for name, value in values if value is not None]


def _identifier(signer: DirectSigner) -> str:
    return signer.personal_identification_number or signer.custom_identifier or ""


def _shown(identifier: str | None) -> str:
    """An identifier for a screen, which others may see. JSON has the number."""
    if identifier is None:
        return "(no identifier)"
    is_number = re.fullmatch("[0-9]{11}", identifier)
    return "(national identity number)" if is_number else identifier
