"""Every operation of the client as a call, for tests that go through all of them."""

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
class Following:
    """An operation that follows a URL of the service.

    Attributes:
        call: Calls it with what holds the URL, and a path to write to.
        method: On the wire.
        accept: On the wire.
        answer: The body of a success.
        holding: Makes the response that holds the URL given.
        missing: A response without the URL, and the error that it has; None where it has none.
        token: Whether the URL is sent with the status query token `TOKEN`.
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


def _pades(call: Callable[[DirectClient, object, Path], Awaitable[object]]) -> Following:
    return Following(
        call=call,
        method="GET",
        accept="application/octet-stream, application/xml",
        answer=PADES,
        holding=lambda url: status(pades_url=url),
        missing=_NO_PADES,
        timeout=TimeoutKind.DOWNLOAD,
    )


def _xades(call: Callable[[DirectClient, object, Path], Awaitable[object]]) -> Following:
    return Following(
        call=call,
        method="GET",
        answer=XADES,
        holding=_holding_signature,
        missing=_NO_XADES,
        timeout=TimeoutKind.DOWNLOAD,
    )


FOLLOWING = {
    "get_status": Following(
        call=lambda client, held, _: client.get_status(held, TOKEN),
        method="GET",
        answer=status_xml(),
        holding=lambda url: DirectJobResponse(job_id=7, status_url=url),
        missing=(DirectJobResponse(job_id=7), StatusUrlMissingError),
        token=True,
    ),
    "request_new_redirect_url": Following(
        call=lambda client, held, _: client.request_new_redirect_url(held),
        method="POST",
        answer=signer_xml(),
        holding=lambda url: DirectSignerResponse(
            signer_url=url, redirect_url="https://web.example#/redirect/x"
        ),
    ),
    "confirm": Following(
        call=lambda client, held, _: client.confirm(held),
        method="POST",
        answer=b"",
        holding=lambda url: status(confirmation_url=url),
        missing=(status(), None),
    ),
    "get_pades": _pades(lambda client, held, _: client.get_pades(held)),
    "download_pades": _pades(lambda client, held, path: client.download_pades(held, path)),
    "open_pades": _pades(lambda client, held, _: consumed(client.open_pades(held))),
    "get_xades": _xades(lambda client, held, _: client.get_xades(held)),
    "download_xades": _xades(lambda client, held, path: client.download_xades(held, path)),
    "open_xades": _xades(lambda client, held, _: consumed(client.open_xades(held))),
    "delete_documents": Following(
        call=lambda client, held, _: client.delete_documents(held),
        method="DELETE",
        answer=b"",
        holding=lambda url: status(delete_documents_url=url),
        missing=(status(), DocumentsNotDeletableError),
    ),
}

# Those that take a sender.
ADDRESSED: dict[str, Callable[[DirectClient, Sender | None], Awaitable[object]]] = {
    "check_access": lambda client, sender: client.check_access(sender=sender),
    "get_status_change": lambda client, sender: client.get_status_change(sender=sender),
    "status_changes": lambda client, sender: anext(client.status_changes(sender=sender)),
}


def every(path: Path, url: str = URL) -> dict[str, Callable[[DirectClient], Awaitable[object]]]:
    """A call of each operation; what is downloaded to a file goes to the path."""
    calls: dict[str, Callable[[DirectClient], Awaitable[object]]] = {
        "create": lambda client: client.create(doubles.job())
    }
    for name, each in FOLLOWING.items():
        calls[name] = lambda client, each=each: each.call(client, url, path)
    for name, call in ADDRESSED.items():
        calls[name] = lambda client, call=call: call(client, None)
    return calls


EVERY = list(every(Path()))
