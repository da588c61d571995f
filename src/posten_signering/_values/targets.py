"""Which URL of the service an operation follows: of a response, or one that the caller stored. Pure.

What leaves here is a secret, and no error shows a URL.
"""

from posten_signering._values.secret import Secret
from posten_signering._values.status import (
    DirectJobResponse,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
)
from posten_signering.errors import (
    DocumentsNotDeletableError,
    SignedDocumentMissingError,
    StatusUrlMissingError,
)


def status_url(job: DirectJobResponse | str) -> Secret[str]:
    """Where a job's status is asked for.

    Raises:
        StatusUrlMissingError: The job has none.
    """
    url = job if isinstance(job, str) else job.status_url
    if url is None:
        raise StatusUrlMissingError(
            "The job has no status URL: it was created with StatusRetrievalMethod.POLLING, and its "
            "status comes through get_status_change or status_changes."
        )
    return Secret(url)


def signer_url(signer: DirectSignerResponse | str) -> Secret[str]:
    """Where a signer's new redirect URL is asked for."""
    return Secret(signer if isinstance(signer, str) else signer.signer_url)


def pades_url(status: DirectJobStatusResponse | str) -> Secret[str]:
    """Where a job's PAdES is downloaded.

    Raises:
        SignedDocumentMissingError: There is none.
    """
    url = status if isinstance(status, str) else status.pades_url
    if url is None:
        raise SignedDocumentMissingError(
            "The job has no PAdES now: the service makes it when everybody has signed."
        )
    return Secret(url)


def xades_url(signature: Signature | str) -> Secret[str]:
    """Where a signer's XAdES is downloaded.

    Raises:
        SignedDocumentMissingError: The signer has none.
    """
    url = signature if isinstance(signature, str) else signature.xades_url
    if url is None:
        raise SignedDocumentMissingError("The signer has no XAdES: they have not signed.")
    return Secret(url)


def confirmation_url(status: DirectJobStatusResponse | str) -> Secret[str] | None:
    """Where a status change is confirmed; None when there is nothing to confirm."""
    url = status if isinstance(status, str) else status.confirmation_url
    return None if url is None else Secret(url)


def delete_documents_url(status: DirectJobStatusResponse | str) -> Secret[str]:
    """Where a job's documents are deleted.

    Raises:
        DocumentsNotDeletableError: The service does not offer it.
    """
    url = status if isinstance(status, str) else status.delete_documents_url
    if url is None:
        raise DocumentsNotDeletableError(
            "The documents can't be deleted now. The service offers it for a job that everybody has "
            "signed, 24 hours later at the earliest: get the status again then."
        )
    return Secret(url)
