"""One operation for each endpoint: the request, and how to understand the answer. Pure.

Methods, Accept headers and bodies as the direct flow of the service's documentation has them. URLs
that come from the service are used verbatim, and only on its own origin.
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
from posten_signering._wire import messages, refusals, urls
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

_XML = "application/xml"


class Retryable(Enum):
    """Whether an operation may be sent a second time."""

    ALWAYS = "always"
    """Asking twice is asking once."""

    UNTIL_SENT = "until sent"
    """Only while it is certain that nothing reached the service: create."""

    NEVER = "never"
    """A poll: its lost answer may have held a change, or a time to wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation(Generic[T]):
    """A request, and what its answer says.

    Attributes:
        name: What is asked, in words that follow "to".
        request: What is sent.
        decode: The value in an answer, or the error that the answer stands for.
        retryable: Whether it may be sent again when it fails in passing.
        done_when_gone: Whether 404 and 410 mean success to a repetition: an earlier try did it.
        organization_number: Whose rate budget it uses; None where its URL does not tell.
        form: What kind of document it downloads; None where it downloads none.
    """

    name: str
    request: Request
    decode: Callable[[Response], T] = field(repr=False)
    retryable: Retryable = Retryable.ALWAYS
    done_when_gone: bool = False
    organization_number: str | None = None
    form: Form | None = None

    def decode_again(self, response: Response) -> T:
        """As `decode`, for the answer to a repetition."""
        gone = self.done_when_gone and response.status in (404, 410)
        return self.decode(replace(response, status=204) if gone else response)


def succeeded(status: int) -> bool:
    """Whether an HTTP status means success: any of 2xx, since the service varies among them."""
    return 200 <= status < 300


def create(root: str, sender: Sender, *, reference: str | None) -> Operation[DirectJobResponse]:
    """Creates a job. What can't be told from the answer is told as such, by type.

    The request is without its body, which is signed when the request is about to leave.
    """
    name = "create the job"

    def decode(response: Response) -> DirectJobResponse:
        if not succeeded(response.status):
            refused = refusals.refusal(name, response)
            # Only 4xx says that it was not done: a redirect often follows what was.
            if not 400 <= response.status < 500 and type(refused) is ApiError:
                raise CreateOutcomeUnknownError(
                    reference=reference, reason=f"the service answered HTTP {response.status}"
                ) from refused
            raise refused
        try:
            return messages.job_response(response.content())
        except UnexpectedResponseError as error:
            raise CreateOutcomeUnknownError(
                reference=reference,
                reason="the service took the request, but its answer can't be read",
                job_id=messages.created_job_id(response.body),
            ) from error

    return Operation(
        name=name,
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
    """Asks a polling queue for a status change."""
    name = "tell a status change"

    def decode(response: Response) -> StatusPoll:
        if not succeeded(response.status):
            raise refusals.refusal(name, response, polling=True)
        permitted = next_permitted_poll_time(response.headers)
        wait = permitted_wait(response.headers)
        empty = response.status == 204
        try:
            change = None if empty else messages.job_status_response(response.content())
        except UnexpectedResponseError as error:
            # Its head was read: what it says of the next poll holds.
            raise UnexpectedResponseError(
                str(error), next_permitted_poll_time=permitted, wait=wait
            ) from None
        return StatusPoll(change=change, next_permitted_poll_time=permitted, wait=wait)

    url = urls.polling_queue(root, sender.organization_number, sender.polling_queue)
    return Operation(
        name=name,
        request=_get(url, _XML),
        decode=decode,
        retryable=Retryable.NEVER,
        organization_number=sender.organization_number,
    )


def status(root: str, url: Secret[str], token: Secret[str]) -> Operation[DirectJobStatusResponse]:
    """Asks for a job's status with the token of an exit URL."""
    request = _get(urls.with_token(_own(url, root), token), _XML)
    return _following(root, "tell the job's status", request, messages.job_status_response, token)


def new_redirect_url(root: str, signer_url: Secret[str]) -> Operation[DirectSignerResponse]:
    """Asks for a new one-time redirect URL."""
    request = Request(
        method="POST",
        url=_own(signer_url, root),
        headers={"Accept": _XML, "Content-Type": _XML},
        body=Message(messages.signer_update_request()),
    )
    return _following(root, "make a new redirect URL", request, messages.signer_response)


def xades(root: str, url: Secret[str]) -> Operation[bytes]:
    """Downloads a signer's XAdES."""
    request = _get(_own(url, root), _XML, TimeoutKind.DOWNLOAD)
    operation = _following(root, "hand out the XAdES", request, Secret[bytes].reveal)
    return replace(operation, form=Form.XADES)


def pades(root: str, url: Secret[str]) -> Operation[bytes]:
    """Downloads a job's PAdES. XML is accepted beside it for the sake of error documents."""
    accept = f"application/octet-stream, {_XML}"
    request = _get(_own(url, root), accept, TimeoutKind.DOWNLOAD)
    operation = _following(root, "hand out the PAdES", request, Secret[bytes].reveal)
    return replace(operation, form=Form.PADES)


def confirm(root: str, url: Secret[str]) -> Operation[None]:
    """Confirms that a status change has been dealt with."""
    return _doing(root, "confirm the status change", "POST", url)


def delete_documents(root: str, url: Secret[str]) -> Operation[None]:
    """Deletes a job's documents."""
    return _doing(root, "delete the documents", "DELETE", url)


def access(root: str, sender: Sender) -> Operation[str]:
    """Asks the service who it takes the certificate's holder for."""

    def text(body: Secret[bytes]) -> str:
        return body.reveal().decode(errors="replace").strip()

    request = _get(urls.organization(root, sender.organization_number), f"text/plain, {_XML}")
    return _following(root, "grant access", request, text)


def _own(url: Secret[str], root: str) -> Secret[str]:
    """A URL that the service gave, unless it leads elsewhere."""
    stripped = Secret(url.reveal().strip())
    check_origin(stripped, root)
    return stripped


def _get(url: Secret[str], accept: str, timeout: TimeoutKind = TimeoutKind.API) -> Request:
    return Request(method="GET", url=url, headers={"Accept": accept}, timeout=timeout)


def _following(
    root: str,
    name: str,
    request: Request,
    read: Callable[[Secret[bytes]], T],
    token: Secret[str] | None = None,
) -> Operation[T]:
    """An operation on a URL of the service whose response is read."""

    def decode(response: Response) -> T:
        if not succeeded(response.status):
            raise refusals.refusal(name, response, token=token)
        return read(response.content())

    return Operation(
        name=name,
        request=request,
        decode=decode,
        organization_number=urls.organization_in(request.url, root),
    )


def _doing(
    root: str, name: str, method: Literal["POST", "DELETE"], url: Secret[str]
) -> Operation[None]:
    """An operation that is done or not: the body of a success means nothing, whatever it holds."""

    def decode(response: Response) -> None:
        if not succeeded(response.status):
            raise refusals.refusal(name, response)

    return Operation(
        name=name,
        request=Request(method=method, url=_own(url, root), headers={"Accept": _XML}),
        decode=decode,
        done_when_gone=True,
        organization_number=urls.organization_in(url, root),
    )
