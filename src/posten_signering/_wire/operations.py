"""One operation for each endpoint: its request, and how to decode the response. Pure.

Methods, Accept headers and bodies follow the service's documentation of the direct flow. A URL from the
service is used unchanged, except for white space around it, and only if its origin is the service root's.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Generic, Literal, TypeVar

from posten_signering._values.job import Sender
from posten_signering._values.secret import Secret
from posten_signering._values.status import (
    DirectJobResponse,
    DirectJobStatusResponse,
    DirectSignerResponse,
    StatusPoll,
)
from posten_signering._wire import refusals, urls
from posten_signering._wire.exchange import (
    Message,
    Request,
    Response,
    TimeoutKind,
    next_permitted_poll_time,
    permitted_wait,
)
from posten_signering._wire.form import Form
from posten_signering._wire.urls import check_origin
from posten_signering.errors import ApiError, CreateOutcomeUnknownError, UnexpectedResponseError

T = TypeVar("T")

_ORGANIZATION = "/{organization-number}"
_JOBS = f"{_ORGANIZATION}/direct/signature-jobs"
_JOB = f"{_JOBS}/{{job-id}}"

_XML = "application/xml"


class Retryable(Enum):
    """When an operation may be retried."""

    ALWAYS = "always"
    """The operation is idempotent, or a second result does no harm (a new redirect URL)."""

    UNTIL_SENT = "until sent"
    """Only if it is certain that no byte reached the service: create."""

    NEVER = "never"
    """A poll: a lost response may have contained a status change, or the next permitted poll time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[T]):
    """A request, and how to decode its response.

    Attributes:
        name: What the caller wants, in words that follow "the request to".
        path: The path of its URL below the service root, with names in place of values, such as
            `/{organization-number}/direct/signature-jobs`. The service chooses most URLs itself: then it is
            the path that the service's documentation shows. Only for logs and metrics.
        request: The request. A create is still without its body.
        decode: Returns the value in a response, or raises the error that the response means.
        retryable: When the operation may be retried after a transient failure.
        done_when_gone: Whether 404 and 410 mean success after an earlier attempt that may have reached
            the service: it succeeded, and its response was lost.
        organization_number: The organisation whose rate budget is used; None if the URL does not name it.
        form: The format of the document that is downloaded; None if the operation is not a download.
    """

    name: str
    path: str
    request: Request
    decode: Callable[[Response], T] = field(repr=False)
    retryable: Retryable = Retryable.ALWAYS
    done_when_gone: bool = False
    organization_number: str | None = None
    form: Form | None = None

    def decode_again(self, response: Response) -> T:
        """The same as `decode`, for a response after an attempt that may have reached the service."""
        already_done = self.done_when_gone and response.status in (404, 410)
        return self.decode(replace(response, status=204) if already_done else response)


def succeeded(status: int) -> bool:
    """Whether an HTTP status means success: any 2xx, because the service uses several of them."""
    return 200 <= status < 300


def create(root: str, sender: Sender, *, reference: str | None) -> Operation[DirectJobResponse]:
    """Creates a job. A response that leaves the outcome open is a `CreateOutcomeUnknownError`.

    The request has no body yet: the container is signed just before the request is sent.
    """
    name = "create the job"

    def decode(response: Response) -> DirectJobResponse:
        if not succeeded(response.status):
            refused = refusals.refusal(name, response)
            # Only 4xx or a known error code means that no job was created. A redirect may follow a success.
            if not 400 <= response.status < 500 and type(refused) is ApiError:
                raise CreateOutcomeUnknownError(
                    reference=reference, reason=f"the service responded with HTTP {response.status}"
                ) from refused
            raise refused
        from posten_signering._wire import messages  # noqa: PLC0415 - slow: a worker thread does it when a client opens

        try:
            return messages.job_response(response.content())
        except UnexpectedResponseError as error:
            raise CreateOutcomeUnknownError(
                reference=reference,
                reason="the service accepted the request, but its response can't be read",
                job_id=error.job_id,
            ) from error

    return Operation(
        name=name,
        path=_JOBS,
        request=Request(
            method="POST",
            url=urls.signature_jobs(root, sender.organization_number),
            headers={"Accept": _XML},
        ),
        decode=decode,
        retryable=Retryable.UNTIL_SENT,
        organization_number=sender.organization_number,
    )


def poll(root: str, sender: Sender) -> Operation[StatusPoll]:
    """Gets a status change from a polling queue."""
    name = "get a status change"

    def decode(response: Response) -> StatusPoll:
        permitted = next_permitted_poll_time(response.headers)
        wait = permitted_wait(response)
        if not succeeded(response.status):
            refused = refusals.refusal(name, response, polling=True)
            refused.next_permitted_poll_time, refused.poll_wait = permitted, wait
            raise refused
        empty = response.status == 204
        try:
            change = None if empty else _job_status(response.content())
        except UnexpectedResponseError as error:
            # The headers were read, so the next permitted poll time in them is valid.
            raise UnexpectedResponseError(
                str(error), job_id=error.job_id, next_permitted_poll_time=permitted, wait=wait
            ) from None
        return StatusPoll(change=change, next_permitted_poll_time=permitted, wait=wait)

    url = urls.polling_queue(root, sender.organization_number, sender.polling_queue)
    return Operation(
        name=name,
        path=_JOBS,
        request=_get(url, _XML),
        decode=decode,
        retryable=Retryable.NEVER,
        organization_number=sender.organization_number,
    )


def status(root: str, url: Secret[str], token: Secret[str]) -> Operation[DirectJobStatusResponse]:
    """Gets a job's status with the token from an exit URL."""
    request = _get(urls.with_token(_trusted(url, root), token), _XML)
    name, path = "get the job's status", f"{_JOB}/status"
    return _with_result(root, name, path, request, _job_status, token=token)


def _job_status(document: Secret[bytes]) -> DirectJobStatusResponse:
    from posten_signering._wire import messages  # noqa: PLC0415 - as in create

    return messages.job_status_response(document)


def new_redirect_url(root: str, signer_url: Secret[str]) -> Operation[DirectSignerResponse]:
    """Gets a new redirect URL, which works once."""
    from posten_signering._wire import messages  # noqa: PLC0415 - as in create

    request = Request(
        method="POST",
        url=_trusted(signer_url, root),
        headers={"Accept": _XML, "Content-Type": _XML},
        body=Message(messages.signer_update_request()),
    )
    name, path = "get a new redirect URL", f"{_JOB}/signers/{{signer-id}}"
    return _with_result(root, name, path, request, messages.signer_response)


def xades(root: str, url: Secret[str]) -> Operation[bytes]:
    """Downloads a signer's XAdES."""
    request = _get(_trusted(url, root), _XML, TimeoutKind.DOWNLOAD)
    name, path = "download the XAdES", f"{_JOB}/xades/{{signer-id}}"
    operation = _with_result(root, name, path, request, Secret[bytes].reveal)
    return replace(operation, form=Form.XADES)


def pades(root: str, url: Secret[str]) -> Operation[bytes]:
    """Downloads a job's PAdES. The request also accepts XML, the format of error documents."""
    accept = f"application/octet-stream, {_XML}"
    request = _get(_trusted(url, root), accept, TimeoutKind.DOWNLOAD)
    name, path = "download the PAdES", f"{_JOB}/pades"
    operation = _with_result(root, name, path, request, Secret[bytes].reveal)
    return replace(operation, form=Form.PADES)


def confirm(root: str, url: Secret[str]) -> Operation[None]:
    """Confirms that a status change has been handled."""
    return _without_result(root, "confirm the status change", f"{_JOB}/complete", "POST", url)


def delete_documents(root: str, url: Secret[str]) -> Operation[None]:
    """Deletes a job's documents."""
    return _without_result(root, "delete the documents", f"{_JOB}/documents", "DELETE", url)


def access(root: str, sender: Sender) -> Operation[str]:
    """Gets the service's description of the organisation that the client certificate belongs to."""

    def text(body: Secret[bytes]) -> str:
        return body.reveal().decode(errors="replace").strip()

    request = _get(urls.organization(root, sender.organization_number), f"text/plain, {_XML}")
    return _with_result(root, "check the access", _ORGANIZATION, request, text)


def _trusted(url: Secret[str], root: str) -> Secret[str]:
    """The URL without white space around it, after a check that its origin is the service's."""
    stripped = Secret(url.reveal().strip())
    check_origin(stripped, root)
    return stripped


def _get(url: Secret[str], accept: str, timeout: TimeoutKind = TimeoutKind.API) -> Request:
    return Request(method="GET", url=url, headers={"Accept": accept}, timeout=timeout)


def _with_result(
    root: str,
    name: str,
    path: str,
    request: Request,
    read: Callable[[Secret[bytes]], T],
    *,
    token: Secret[str] | None = None,
) -> Operation[T]:
    """An operation whose response contains a value."""

    def decode(response: Response) -> T:
        if not succeeded(response.status):
            raise refusals.refusal(name, response, token=token)
        return read(response.content())

    return Operation(
        name=name,
        path=path,
        request=request,
        decode=decode,
        organization_number=urls.organization_in(request.url, root),
    )


def _without_result(
    root: str, name: str, path: str, method: Literal["POST", "DELETE"], url: Secret[str]
) -> Operation[None]:
    """An operation without a result. The body of a successful response is ignored."""

    def decode(response: Response) -> None:
        if not succeeded(response.status):
            raise refusals.refusal(name, response)

    return Operation(
        name=name,
        path=path,
        request=Request(method=method, url=_trusted(url, root), headers={"Accept": _XML}),
        decode=decode,
        done_when_gone=True,
        organization_number=urls.organization_in(url, root),
    )
