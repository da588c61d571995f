"""Between public values and generated models. The only module that knows the generated names. Pure.

Reading ignores what the service added since, and checks what is required where it is read.
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
    """A required part is not there. Its frames hold models, whose repr shows identity numbers."""


def _reader(read: Callable[[Secret[bytes]], T]) -> Callable[[Secret[bytes]], T]:
    """Lets no frame out that holds a generated model."""

    @wraps(read)
    def reading(document: Secret[bytes]) -> T:
        try:
            return read(document)
        except _Missing as missing:
            told = str(missing)
        raise UnexpectedResponseError(told)

    return reading


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessages:
    """The two messages that tell the service of a job.

    Attributes:
        request: `direct-signature-job-request`, the first part of the request's body.
        manifest: `direct-signature-job-manifest`, a file of the container.
    """

    request: Secret[bytes]
    manifest: Secret[bytes]


def job_messages(job: DirectJob, sender: Sender, names: Sequence[str]) -> JobMessages:
    """Renders a job. One that breaks rules is rendered too, so that the schema can check the rest of it.

    Args:
        job: The job.
        sender: The sender that was resolved for it.
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
    # A job without signers gets one in the message, so that the schema checks the rest as well.
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
            # By name: whether its value is a number or text is the schema's affair.
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
        # One without an identifier gets one in the message, so that the schema checks the rest.
        signer_identifier="-" if number is None and custom is None else custom,
        signature_type=_member(SignatureType, signer.signature_type, generated.SignatureType),
        on_behalf_of=_member(OnBehalfOf, signer.on_behalf_of, generated.SigningOnBehalfOf),
    )


def _optional_text(value: object) -> str | None:
    return None if value is None else rules.text(value)


def _member(public: type[StrEnum], value: object, wire: Callable[[str], W]) -> W | None:
    return wire(public(str(value))) if value in list(public) else None


def signer_update_request() -> Secret[bytes]:
    """`direct-signer-update-request`: asks for a new redirect URL."""
    return xml.render(generated.DirectSignerUpdateRequest(redirect_url=generated.EmptyElement()))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceError:
    """An `error` document: the service's own account of a refusal."""

    code: str
    message: str
    type: str


def service_error(document: Secret[bytes]) -> ServiceError | None:
    """The error document in an answer; None where the answer holds no readable one."""
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
    """Reads the answer to create.

    Raises:
        UnexpectedResponseError: It can't be read, or lacks a required part.
    """
    message = xml.parse(document, generated.DirectSignatureJobResponse)
    return DirectJobResponse(
        job_id=_required(message, "signature_job_id", int),
        reference=_optional(message, "reference", str),
        status_url=_url(message, "status_url"),
        signers=[_signer_response(each) for each in message.signer],
    )


def created_job_id(document: Secret[bytes]) -> int | None:
    """The job's id in an answer to create that can't be read whole; None where it isn't there once."""
    text = xml.text_of_child(document, generated.DirectSignatureJobResponse, "signature_job_id")
    return int(text) if text is not None and re.fullmatch("[0-9]{1,19}", text) else None


@_reader
def signer_response(document: Secret[bytes]) -> DirectSignerResponse:
    """Reads the answer to a request for a new redirect URL.

    Raises:
        UnexpectedResponseError: It can't be read, or lacks a required part.
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
        UnexpectedResponseError: It can't be read, or lacks a required part.
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
    # A status that the schema does not know yet stays text.
    status: object = getattr(message, "signature_job_status", None)
    if isinstance(status, generated.DirectSignatureJobStatus):
        status = status.value
    if not isinstance(status, str) or not status.strip():
        raise _missing(message, "signature_job_status")
    return _known(DirectJobStatus, status.strip(), status.strip())


def _signatures(message: generated.DirectSignatureJobStatusResponse) -> list[Signature]:
    if len(message.status) == len(message.xades_url) == 1:
        # With one signer the service may leave out whose status or XAdES it is.
        (status,), (xades,) = message.status, message.xades_url
        status = status.model_copy(update={"signer": status.signer or xades.signer})
        return [_signature(status, _url(xades, "value"))]
    urls = {each.signer: _url(each, "value") for each in message.xades_url if each.signer}
    return [_signature(each, urls.get(each.signer or "")) for each in message.status]


def _signature(message: generated.SignerStatus, xades_url: str | None) -> Signature:
    text = message.value.strip()
    return Signature(
        signer=message.signer,
        status=_known(SignerStatus, text.upper(), text),
        since=xml.moment(getattr(message, "since", None)),
        xades_url=xades_url,
    )


S = TypeVar("S", DirectJobStatus, SignerStatus)


def _known(kind: type[S], value: str, text: str) -> S | str:
    return kind(value) if value in list(kind) else text


def _optional(message: object, name: str, kind: type[T]) -> T | None:
    value: object = getattr(message, name, None)
    return value if isinstance(value, kind) else None


def _required(message: object, name: str, kind: type[T]) -> T:
    found = _optional(message, name, kind)
    if found is None:
        raise _missing(message, name)
    return found


def _url(message: object, name: str) -> str | None:
    # The schema's url keeps white space, and the service pads URLs with it.
    return (_optional(message, name, str) or "").strip() or None


def _required_url(message: object, name: str) -> str:
    found = _url(message, name)
    if found is None:
        raise _missing(message, name)
    return found


def _missing(message: object, name: str) -> _Missing:
    return _Missing(f"The service's {type(message).__name__} lacks a readable {name}.")
