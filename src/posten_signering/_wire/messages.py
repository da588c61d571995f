"""Converts between the public values and the generated models. The only module that imports them. Pure.

Readers ignore elements that the schema does not have, and check that required ones are there.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

M = TypeVar("M")
T = TypeVar("T")
W = TypeVar("W")


# The largest value of the schema's type xs:long.
_LARGEST_JOB_ID = 2**63 - 1

# The messages that the service sends. Their elements are known in each of them.
_RESPONSES = (
    generated.DirectSignatureJobResponse,
    generated.DirectSignatureJobStatusResponse,
    generated.DirectSignerResponse,
    generated.Error,
)
# The service repeats the caller's own reference, and the schema allows an empty one.
_MAY_BE_EMPTY = frozenset({"reference"})


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """A value is missing or contradicts another. The traceback's frames hold models, whose repr shows identity numbers.

    The text is the problem, in words that follow "has".
    """


def _reader(model: type[M]) -> Callable[[Callable[[M], T]], Callable[[Secret[bytes]], T]]:
    """Makes a function that reads a model a reader of the document.

    Its errors have the id of the job where that can be read, and no frame with a generated model.
    """

    def decorate(read: Callable[[M], T]) -> Callable[[Secret[bytes]], T]:
        @wraps(read)
        def read_document(document: Secret[bytes]) -> T:
            try:
                return read(
                    xml.parse(document, model, known=_RESPONSES, may_be_empty=_MAY_BE_EMPTY)
                )
            except UnexpectedResponseError as error:
                message = str(error)
            except _Unreadable as error:
                message = xml.problem_text(model, f"has {error}")
            job_id = _job_id(document, model)
            if job_id is not None:
                message += f" The response names job id {job_id}."
            # Raised outside `except`, so that the new error does not refer to the first one.
            raise UnexpectedResponseError(message, job_id=job_id)

        return read_document

    return decorate


def _job_id(document: Secret[bytes], model: type) -> int | None:
    """The job's id in a message that may be unreadable otherwise."""
    text = xml.text_of_child(document, model, "signature_job_id") or ""
    digits = re.fullmatch(r"[ \t\r\n]*\+?0*([1-9][0-9]{0,18})[ \t\r\n]*", text)
    job_id = int(digits[1]) if digits else 0
    return job_id if 0 < job_id <= _LARGEST_JOB_ID else None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMessages:
    """The two XML messages of a create.

    Attributes:
        request: `direct-signature-job-request`, the first part of the request's body.
        manifest: `direct-signature-job-manifest`, a file of the container.
        faults: Every rule of the packaged schema that the messages break.
    """

    request: Secret[bytes]
    manifest: Secret[bytes]
    faults: tuple[xml.SchemaFault, ...]


def job_messages(job: DirectJob, sender: Sender, names: Sequence[str]) -> JobMessages:
    """Renders a job as its two messages.

    A job that breaks rules is rendered too, with stand-ins, so that the schema can check the other fields.

    Args:
        job: The job.
        sender: The sender of the job.
        names: The names of the job's documents in the container, in order.
    """
    request, manifest = xml.tree(_request(job, sender)), xml.tree(_manifest(job, sender, names))
    return JobMessages(
        request=xml.render(request),
        manifest=xml.render(manifest),
        faults=(*xml.faults(request), *xml.faults(manifest)),
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
    message = generated.DirectSignerUpdateRequest(redirect_url=generated.EmptyElement())
    return xml.render(xml.tree(message))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceError:
    """An `error` document, in which the service explains a refusal."""

    code: str
    message: str
    type: str


def service_error(document: Secret[bytes]) -> ServiceError | None:
    """The error document in a response; None if the response contains no readable one."""
    try:
        error = xml.parse(
            document,
            generated.Error,
            # The document may get elements that other messages have: they must not hide the refusal.
            known=(generated.Error,),
            may_be_empty=frozenset({"error-message", "error-type"}),
        )
        return ServiceError(
            code=_required(error, "error_code"),
            message=_text(error, "error_message") or "",
            type=_text(error, "error_type") or "",
        )
    except (UnexpectedResponseError, _Unreadable):
        return None


@_reader(generated.DirectSignatureJobResponse)
def job_response(message: generated.DirectSignatureJobResponse) -> DirectJobResponse:
    """Reads the response to a create.

    Raises:
        UnexpectedResponseError: The response can't be read, lacks a required field, or contradicts itself.
    """
    return DirectJobResponse(
        job_id=_required_job_id(message),
        reference=_text(message, "reference"),
        status_url=_text(message, "status_url"),
        signers=_signers(message),
    )


def _signers(message: generated.DirectSignatureJobResponse) -> list[DirectSignerResponse]:
    signers = list(dict.fromkeys(_signer_response(signer) for signer in message.signer))
    if not signers:
        raise _missing("signer")
    names = [
        name
        for signer in signers
        for name in {signer.personal_identification_number, signer.custom_identifier} - {None}
    ]
    if len(names) > len(set(names)):
        raise _Unreadable("two different signers with the same identifier")
    return signers


@_reader(generated.DirectSignerResponse)
def signer_response(message: generated.DirectSignerResponse) -> DirectSignerResponse:
    """Reads the response to a request for a new redirect URL.

    Raises:
        UnexpectedResponseError: The response can't be read, or lacks a required field.
    """
    return _signer_response(message)


def _signer_response(message: generated.DirectSignerResponse) -> DirectSignerResponse:
    return DirectSignerResponse(
        signer_url=_required(message, "href"),
        redirect_url=_required(message, "redirect_url"),
        personal_identification_number=_text(message, "personal_identification_number"),
        custom_identifier=_text(message, "signer_identifier"),
    )


@_reader(generated.DirectSignatureJobStatusResponse)
def job_status_response(
    message: generated.DirectSignatureJobStatusResponse,
) -> DirectJobStatusResponse:
    """Reads a job's status.

    Raises:
        UnexpectedResponseError: The response can't be read, lacks a required field, or contradicts itself.
    """
    return DirectJobStatusResponse(
        job_id=_required_job_id(message),
        reference=_text(message, "reference"),
        status=_job_status(message),
        signatures=_signatures(message),
        confirmation_url=_text(message, "confirmation_url"),
        delete_documents_url=_text(message, "delete_documents_url"),
        pades_url=_text(message, "pades_url"),
    )


def _job_status(message: generated.DirectSignatureJobStatusResponse) -> DirectJobStatus | str:
    # A status that is not in the schema stays text.
    status: object = getattr(message, "signature_job_status", None)
    if isinstance(status, generated.DirectSignatureJobStatus):
        status = status.value
    if not isinstance(status, str):
        raise _missing("signature_job_status")
    return _member_or_text(DirectJobStatus, status.strip(), status.strip())


def _signatures(message: generated.DirectSignatureJobStatusResponse) -> list[Signature]:
    """The signature of each signer. Equal repetitions for one named signer are the same signature."""
    statuses = dict[str | int | None, Signature]()
    for index, status in enumerate(message.status):
        signature = _signature(status)
        # Statuses without a name may belong to different signers: the index tells them apart.
        if statuses.setdefault(signature.signer or index, signature) != signature:
            raise _Unreadable("two different statuses for the same signer")
    if not statuses:
        raise _missing("status")
    xades = [(_text(url, "signer") or None, _required(url, "value")) for url in message.xades_url]
    if len(statuses) == 1:
        # With one signer, the service may leave out the attribute `signer`.
        (signature,) = statuses.values()
        name = signature.signer or next((signer for signer, _ in xades if signer), None)
        statuses = {name: signature if signature.signer else replace(signature, signer=name)}
        xades = [(signer or name, url) for signer, url in xades]
    urls = dict[str | None, str]()
    for signer, url in xades:
        if signer not in statuses:
            raise _Unreadable("an xades-url that belongs to no status")
        if urls.setdefault(signer, url) != url:
            raise _Unreadable("two different xades-urls for the same signer")
    return [
        replace(signature, xades_url=urls[signature.signer])
        if signature.signer in urls
        else signature
        for signature in statuses.values()
    ]


def _signature(message: generated.SignerStatus) -> Signature:
    text = message.value.strip()
    since = _text(message, "since")
    time = None if since is None else xml.moment(since)
    if since is not None and time is None:
        raise _missing("since")
    return Signature(
        signer=_text(message, "signer") or None,
        status=_member_or_text(SignerStatus, text.upper(), text),
        since=time,
    )


S = TypeVar("S", DirectJobStatus, SignerStatus)


def _member_or_text(kind: type[S], value: str, text: str) -> S | str:
    """The member with this value; `text` if there is none."""
    try:
        return kind(value)
    except ValueError:
        return text


def _text(message: object, name: str) -> str | None:
    # The service puts white space around values, and the schema's types keep it.
    value: object = getattr(message, name, None)
    return value.strip() if isinstance(value, str) else None


def _required(message: object, name: str) -> str:
    value = _text(message, name)
    if not value:
        raise _missing(name)
    return value


def _required_job_id(
    message: generated.DirectSignatureJobResponse | generated.DirectSignatureJobStatusResponse,
) -> int:
    job_id: object = getattr(message, "signature_job_id", None)
    if not isinstance(job_id, int) or not 0 < job_id <= _LARGEST_JOB_ID:
        raise _missing("signature_job_id")
    return job_id


def _missing(name: str) -> _Unreadable:
    return _Unreadable(f"no readable {name.replace('_', '-')}")
