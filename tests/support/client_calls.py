"""A call of every operation of the client, for tests that check all operations."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import doubles
from doubles import PADES, ROOT, XADES, signer_xml, status_xml

from posten_signering import (
    DirectClient,
    DirectJobResponse,
    DirectJobStatus,
    DirectJobStatusResponse,
    DirectSignerResponse,
    Sender,
    Signature,
    SignerStatus,
    TimeoutKind,
)
from posten_signering.errors import (
    DocumentsNotDeletableError,
    SignedDocumentMissingError,
    StatusUrlMissingError,
)

URL = f"{ROOT}/stored"


def status(**urls: str) -> DirectJobStatusResponse:
    return DirectJobStatusResponse(job_id=7, status=DirectJobStatus.IN_PROGRESS, **urls)


async def consumed(opening: AbstractAsyncContextManager) -> bytes:
    async with opening as stream:
        return b"".join([chunk async for chunk in stream])


@dataclass(frozen=True, kw_only=True)
class UrlOperation:
    """An operation that sends a request to a URL from an earlier response.

    Attributes:
        call: Calls the operation with the URL, or the response that has it, and a path to write to.
        method: The HTTP method.
        accept: The `Accept` header.
        answer: The body of a successful HTTP response.
        holding: Creates a response value with the given URL.
        missing: A response value without the URL, and the error that the call raises (None if it raises
            none). None if every response has the URL.
        token: Whether the operation adds the status query token `TOKEN` to the URL.
        timeout: The timeout that applies.
    """

    call: Callable[[DirectClient, object, Path], Awaitable[object]]
    method: str
    answer: bytes
    holding: Callable[[str], object]
    accept: str = "application/xml"
    missing: tuple[object, type[Exception] | None] | None = None
    token: bool = False
    timeout: TimeoutKind = TimeoutKind.API


TOKEN = "canary-status-query-token"

_NO_PADES = (status(), SignedDocumentMissingError)
_NO_XADES = (Signature(status="WAITING"), SignedDocumentMissingError)


def _holding_signature(url: str) -> Signature:
    return Signature(status=SignerStatus.SIGNED, xades_url=url)


def _pades(call: Callable[[DirectClient, object, Path], Awaitable[object]]) -> UrlOperation:
    return UrlOperation(
        call=call,
        method="GET",
        accept="application/octet-stream, application/xml",
        answer=PADES,
        holding=lambda url: status(pades_url=url),
        missing=_NO_PADES,
        timeout=TimeoutKind.DOWNLOAD,
    )


def _xades(call: Callable[[DirectClient, object, Path], Awaitable[object]]) -> UrlOperation:
    return UrlOperation(
        call=call,
        method="GET",
        answer=XADES,
        holding=_holding_signature,
        missing=_NO_XADES,
        timeout=TimeoutKind.DOWNLOAD,
    )


URL_OPERATIONS = {
    "get_status": UrlOperation(
        call=lambda client, target, _: client.get_status(target, TOKEN),
        method="GET",
        answer=status_xml(),
        holding=lambda url: DirectJobResponse(job_id=7, status_url=url),
        missing=(DirectJobResponse(job_id=7), StatusUrlMissingError),
        token=True,
    ),
    "request_new_redirect_url": UrlOperation(
        call=lambda client, target, _: client.request_new_redirect_url(target),
        method="POST",
        answer=signer_xml(),
        holding=lambda url: DirectSignerResponse(
            signer_url=url, redirect_url="https://web.example#/redirect/x"
        ),
    ),
    "confirm": UrlOperation(
        call=lambda client, target, _: client.confirm(target),
        method="POST",
        answer=b"",
        holding=lambda url: status(confirmation_url=url),
        missing=(status(), None),
    ),
    "get_pades": _pades(lambda client, target, _: client.get_pades(target)),
    "download_pades": _pades(lambda client, target, path: client.download_pades(target, path)),
    "open_pades": _pades(lambda client, target, _: consumed(client.open_pades(target))),
    "get_xades": _xades(lambda client, target, _: client.get_xades(target)),
    "download_xades": _xades(lambda client, target, path: client.download_xades(target, path)),
    "open_xades": _xades(lambda client, target, _: consumed(client.open_xades(target))),
    "delete_documents": UrlOperation(
        call=lambda client, target, _: client.delete_documents(target),
        method="DELETE",
        answer=b"",
        holding=lambda url: status(delete_documents_url=url),
        missing=(status(), DocumentsNotDeletableError),
    ),
}

# The operations that take a sender
SENDER_OPERATIONS: dict[str, Callable[[DirectClient, Sender | None], Awaitable[object]]] = {
    "check_access": lambda client, sender: client.check_access(sender=sender),
    "get_status_change": lambda client, sender: client.get_status_change(sender=sender),
    "status_changes": lambda client, sender: anext(client.status_changes(sender=sender)),
}


def all_calls(path: Path, url: str = URL) -> dict[str, Callable[[DirectClient], Awaitable[object]]]:
    """A call of each operation, by its name. Downloads to a file go to this path."""
    calls: dict[str, Callable[[DirectClient], Awaitable[object]]] = {
        "create": lambda client: client.create(doubles.job())
    }
    for name, operation in URL_OPERATIONS.items():
        calls[name] = lambda client, operation=operation: operation.call(client, url, path)
    for name, call in SENDER_OPERATIONS.items():
        calls[name] = lambda client, call=call: call(client, None)
    return calls


OPERATIONS = list(all_calls(Path()))
