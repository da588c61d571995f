"""Records the requests of the package, so that a bare client can send the same ones."""

import platform
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from posten_signering import DirectClient, Request, ResponseStream, __version__

from .place import RunningServer, job
from .server import ANSWERS

# The package's own transport adds headers with these names. The values are as long as its values.
_ADDED_HEADERS = {
    "user-agent": f"posten-signering/{__version__} (Python {platform.python_version()})",
    "accept-encoding": "identity",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A request as it is sent. httpx adds only Host, and Content-Length to a POST."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes


class RecordingTransport:
    """A transport that stores each request instead of sending it. It responds as the server does."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []

    @asynccontextmanager
    async def exchange(self, request: Request) -> AsyncGenerator[ResponseStream]:
        body = b""
        if request.body is not None:
            body = b"".join([chunk async for chunk in request.body.chunks()])
        recorded = Recorded(
            method=request.method,
            url=request.url.reveal(),
            headers={**_ADDED_HEADERS, **request.headers},
            body=body,
        )
        self.requests.append(recorded)
        yield _Response(recorded)

    async def aclose(self) -> None:
        pass


class _Response:
    headers: dict[str, str] = {}

    def __init__(self, request: Recorded) -> None:
        answer = next(answer for answer in ANSWERS if answer.is_for(request.method, request.url))
        self.status = answer.status
        self._content = answer.content

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._content


@asynccontextmanager
async def recording_client(
    server: RunningServer,
) -> AsyncGenerator[tuple[DirectClient, list[Recorded]]]:
    """A client that sends nothing, and the list of its requests."""
    transport = RecordingTransport()
    async with DirectClient(replace(server.configuration(), transport=transport)) as client:
        yield client, transport.requests


async def recorded_create(server: RunningServer, content: bytes | Path) -> Recorded:
    """The request with which the package creates a job of this document."""
    async with recording_client(server) as (client, requests):
        await client.create(job(content))
    return requests[0]
