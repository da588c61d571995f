"""Converts between the public values and the generated models. The only module that imports them. Pure.

Readers ignore elements that the schema does not have, and check that required ones are there.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import TypeVar

import posten_signering_xml as generated

from posten_signering._values.job import (
    AuthenticationLevel,
    DirectJob,
    DirectSigner,
    IdentifierInSignedDocuments,
    OnBehalfOf,
    Sender,
    SignatureType,
    StatusRetrievalMethod,
)
from posten_signering._values.secret import Secret
from posten_signering._values.status import (
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Signature,
    SignerStatus,
)
from posten_signering._wire import rules, xml
from posten_signering.errors import UnexpectedResponseError

T = TypeVar("T")
W = TypeVar("W")


class _Missing(Exception):  # noqa: N818 - never leaves this module
    """A required field is missing. The traceback's frames hold models, whose repr shows identity numbers."""


def _reader(read: Callable[[Secret[bytes]], T]) -> Callable[[Secret[bytes]], T]:
    """Makes a reader raise errors whose traceback has no frame that holds a generated model."""

    @wraps(read)
    def read_without_frames(document: Secret[bytes]) -> T:
        try:
            return read(document)
        except _Missing as missing:
            message = str(missing)
        # Raised outside `except`, so that the new error does not refer to the first one.
        raise UnexpectedResponseError(message)

    return read_without_frames


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessages:
    """The two XML messages of a create.

    Attributes:
        request: `direct-signature-job-request`, the first part of the request's body.
        manifest: `direct-signature-job-manifest`, a file of the container.
    """

    request: Secret[bytes]
    manifest: Secret[bytes]


def job_messages(job: DirectJob, sender: Sender, names: Sequence[str]) -> JobMessages:
    """Renders a job as its two messages.

    A job that breaks rules is rendered too, with stand-ins, so that the schema can check the other fields.

    Args:
        job: The job.
        sender: The sender of the job.
        names: The names of the job's documents in the container, in order.
    """
    return JobMessages(
        request=xml.render(_request(job, sender)),
        manifest=xml.render(_manifest(job, sender, names)),
    )


def _request(job: DirectJob, sender: Sender) -> generated.DirectSignatureJobRequest:
    return generated.DirectSignatureJobRequest(
        reference=_optional_text(job.reference),
        exit_urls=generated.ExitUrls(
            completion_url=rules.text(job.exit_urls.completion),
            rejection_url=rules.text(job.exit_urls.rejection),
            error_url=rules.text(job.exit_urls.error),
        ),
        status_retrieval_method=_member(
            StatusRetrievalMethod, job.status_retrieval_method, generated.StatusRetrievalMethod
        ),
        polling_queue=_optional_text(sender.polling_queue),
    )


def _manifest(
    job: DirectJob, sender: Sender, names: Sequence[str]
) -> generated.DirectSignatureJobManifest:
    # A job without signers gets one in the message, so that the schema checks the other fields.
    signers = job.signers or [DirectSigner()]
    return generated.DirectSignatureJobManifest(
        signer=[_signer(signer) for signer in signers],
        sender=generated.Sender(
            organization_number=rules.text(sender.organization_number, stand_in="0" * 9)
        ),
        title=rules.text(job.title),
        description=_optional_text(job.description),
        documents=generated.DirectSignatureJobManifest.Documents(
            document=[
                generated.DirectDocument(
                    title=rules.text(document.title), href=name, mime=document.type
                )
                for document, name in zip(job.documents, names, strict=True)
            ]
        ),
        required_authentication=_member(
            AuthenticationLevel,
            job.authentication_level,
            # By name, because the schema decides whether the value is a number or text.
            lambda level: generated.AuthenticationLevel[f"VALUE_{level}"],
        ),
        identifier_in_signed_documents=_member(
            IdentifierInSignedDocuments,
            job.identifier_in_signed_documents,
            generated.IdentifierInSignedDocuments,
        ),
    )


def _signer(signer: DirectSigner) -> generated.DirectSigner:
    number = signer.personal_identification_number
    custom = _optional_text(signer.custom_identifier)
    return generated.DirectSigner(
        personal_identification_number=None
        if number is None
        else rules.text(number, stand_in="0" * 11),
        # A signer without an identifier gets one, so that the schema checks the other fields.
        signer_identifier="-" if number is None and custom is None else custom,
        signature_type=_member(SignatureType, signer.signature_type, generated.SignatureType),
        on_behalf_of=_member(OnBehalfOf, signer.on_behalf_of, generated.SigningOnBehalfOf),
    )


def _optional_text(value: object) -> str | None:
    return None if value is None else rules.text(value)


def _member(public: type[StrEnum], value: object, wire: Callable[[str], W]) -> W | None:
    return wire(public(str(value))) if value in list(public) else None


def signer_update_request() -> Secret[bytes]:
    """The message `direct-signer-update-request`, which requests a new redirect URL."""
    return xml.render(generated.DirectSignerUpdateRequest(redirect_url=generated.EmptyElement()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceError:
    """An `error` document, in which the service explains a refusal."""

    code: str
    message: str
    type: str


def service_error(document: Secret[bytes]) -> ServiceError | None:
    """The error document in a response; None if the response contains no readable one."""
    try:
        error = xml.parse(document, generated.Error)
        return ServiceError(
            code=_required(error, "error_code", str).strip(),
            message=(_optional(error, "error_message", str) or "").strip(),
            type=(_optional(error, "error_type", str) or "").strip(),
        )
    except (UnexpectedResponseError, _Missing):
        return None


@_reader
def job_response(document: Secret[bytes]) -> DirectJobResponse:
    """Reads the response to a create.

    Raises:
        UnexpectedResponseError: The response can't be read, or a required field is missing.
    """
    message = xml.parse(document, generated.DirectSignatureJobResponse)
    return DirectJobResponse(
        job_id=_required(message, "signature_job_id", int),
        reference=_optional(message, "reference", str),
        status_url=_url(message, "status_url"),
        signers=[_signer_response(signer) for signer in message.signer],
    )


def created_job_id(document: Secret[bytes]) -> int | None:
    """The job's id in a response to a create that `job_response` can't read.

    None unless the response has exactly one id.
    """
    text = xml.text_of_child(document, generated.DirectSignatureJobResponse, "signature_job_id")
    return int(text) if text is not None and re.fullmatch("[0-9]{1,19}", text) else None


@_reader
def signer_response(document: Secret[bytes]) -> DirectSignerResponse:
    """Reads the response to a request for a new redirect URL.

    Raises:
        UnexpectedResponseError: The response can't be read, or a required field is missing.
    """
    return _signer_response(xml.parse(document, generated.DirectSignerResponse))


def _signer_response(message: generated.DirectSignerResponse) -> DirectSignerResponse:
    return DirectSignerResponse(
        signer_url=_required_url(message, "href"),
        redirect_url=_required_url(message, "redirect_url"),
        personal_identification_number=_optional(message, "personal_identification_number", str),
        custom_identifier=_optional(message, "signer_identifier", str),
    )


@_reader
def job_status_response(document: Secret[bytes]) -> DirectJobStatusResponse:
    """Reads a job's status.

    Raises:
        UnexpectedResponseError: The response can't be read, or a required field is missing.
    """
    message = xml.parse(document, generated.DirectSignatureJobStatusResponse)
    return DirectJobStatusResponse(
        job_id=_required(message, "signature_job_id", int),
        reference=_optional(message, "reference", str),
        status=_job_status(message),
        signatures=_signatures(message),
        confirmation_url=_url(message, "confirmation_url"),
        delete_documents_url=_url(message, "delete_documents_url"),
        pades_url=_url(message, "pades_url"),
    )


def _job_status(message: generated.DirectSignatureJobStatusResponse) -> DirectJobStatus | str:
    # A status that is not in the schema stays text.
    status: object = getattr(message, "signature_job_status", None)
    if isinstance(status, generated.DirectSignatureJobStatus):
        status = status.value
    if not isinstance(status, str) or not status.strip():
        raise _missing(message, "signature_job_status")
    return _member_or_text(DirectJobStatus, status.strip(), status.strip())


def _signatures(message: generated.DirectSignatureJobStatusResponse) -> list[Signature]:
    if len(message.status) == len(message.xades_url) == 1:
        # With one signer, the service may leave out the attribute `signer`.
        (status,), (xades,) = message.status, message.xades_url
        status = status.model_copy(update={"signer": status.signer or xades.signer})
        return [_signature(status, _url(xades, "value"))]
    urls = {xades.signer: _url(xades, "value") for xades in message.xades_url if xades.signer}
    return [_signature(status, urls.get(status.signer or "")) for status in message.status]


def _signature(message: generated.SignerStatus, xades_url: str | None) -> Signature:
    text = message.value.strip()
    return Signature(
        signer=message.signer,
        status=_member_or_text(SignerStatus, text.upper(), text),
        since=xml.moment(getattr(message, "since", None)),
        xades_url=xades_url,
    )


S = TypeVar("S", DirectJobStatus, SignerStatus)


def _member_or_text(kind: type[S], value: str, text: str) -> S | str:
    """The member with this value; `text` if there is none."""
    return kind(value) if value in list(kind) else text


def _optional(message: object, name: str, kind: type[T]) -> T | None:
    value: object = getattr(message, name, None)
    return value if isinstance(value, kind) else None


def _required(message: object, name: str, kind: type[T]) -> T:
    value = _optional(message, name, kind)
    if value is None:
        raise _missing(message, name)
    return value


def _url(message: object, name: str) -> str | None:
    # The service puts white space around URLs, and the schema's type `url` keeps it.
    return (_optional(message, name, str) or "").strip() or None


def _required_url(message: object, name: str) -> str:
    url = _url(message, name)
    if url is None:
        raise _missing(message, name)
    return url


def _missing(message: object, name: str) -> _Missing:
    return _Missing(
        f"The service's {type(message).__name__} has no readable {name}. "
        "Contact Posten signering if this continues."
    )
