"""`python -m benchmarks.server FOLDER`: answers requests over mutual TLS, and discards their bodies.

It is a separate process, so that its CPU time is not measured as the client's. `ANSWERS` lists what it
answers. It prints its port to standard output, and stops when its standard input is closed.
"""

import asyncio
import re
import ssl
import sys
from dataclasses import dataclass
from pathlib import Path

# A benchmark that cancels calls needs time to cancel one that waits for its response.
SECONDS_FOR_AN_ACCESS_CHECK = 0.005

_JOB = "https://api.example/api/123456789/direct/signature-jobs/1"
_CREATED = f"""<?xml version="1.0" encoding="UTF-8"?>
<direct-signature-job-response xmlns="http://signering.posten.no/schema/v1">
  <signature-job-id>1</signature-job-id>
  <redirect-url signer="12345678910">https://signering.example/redirect/token</redirect-url>
  <status-url>{_JOB}/status</status-url>
  <signer href="{_JOB}/signers/1">
    <personal-identification-number>12345678910</personal-identification-number>
    <redirect-url>https://signering.example/redirect/token</redirect-url>
  </signer>
</direct-signature-job-response>
""".encode()
_STATUS = f"""<?xml version="1.0" encoding="UTF-8"?>
<direct-signature-job-status-response xmlns="http://signering.posten.no/schema/v1">
  <signature-job-id>1</signature-job-id>
  <signature-job-status>COMPLETED_SUCCESSFULLY</signature-job-status>
  <status signer="12345678910" since="2026-01-01T12:00:00.000+01:00">SIGNED</status>
  <confirmation-url>{_JOB}/complete</confirmation-url>
  <delete-documents-url>{_JOB}</delete-documents-url>
  <xades-url signer="12345678910">{_JOB}/xades/1</xades-url>
  <pades-url>{_JOB}/pades</pades-url>
</direct-signature-job-status-response>
""".encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A response to each request with this method and this end of its path.

    Attributes:
        method: The request's method.
        path_end: The end of the request's path.
        status: The status.
        content: The content. For a download it is repeated up to the size in the path.
        content_type: The media type of the content.
        delay: The time before the response in seconds.
    """

    method: str
    path_end: str = ""
    status: int = 200
    content: bytes = b""
    content_type: str = "application/xml"
    delay: float = 0

    def is_for(self, method: str, url: str) -> bool:
        """Whether this is the response to a request with this method and this URL or path."""
        return method == self.method and url.partition("?")[0].endswith(self.path_end)

    def encoded(self, path: str) -> bytes:
        """The whole response."""
        if self.status == 204:
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        content = self.content
        if size := re.search("/([0-9]+)/pades", path):
            content = document(int(size[1]))
        return (
            f"HTTP/1.1 {self.status} OK\r\nContent-Type: {self.content_type}\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        ).encode("ascii") + content


def document(size: int) -> bytes:
    """A signed PDF of this size, as far as a client looks at it."""
    start, end = b"%PDF-1.7\n", b"\n%%EOF\n"
    return start + bytes(size - len(start) - len(end)) + end


# The first that applies is the response.
ANSWERS = (
    Answer(method="GET", path_end="/status", content=_STATUS),
    Answer(method="GET", path_end="/pades", content_type="application/octet-stream"),
    Answer(method="GET", status=204, delay=SECONDS_FOR_AN_ACCESS_CHECK),
    Answer(method="POST", path_end="/complete", status=204),
    Answer(method="POST", content=_CREATED),
)

_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")
_END = b"\r\n\r\n"

# All connections share this buffer: `buffer_updated` uses its content before the next read.
_buffer = memoryview(bytearray(256 * 1024))


class Sink(asyncio.BufferedProtocol):
    """A connection: for each request it reads the head, counts the bytes of the body, and responds."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._head = b""
        self._left = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return _buffer

    def buffer_updated(self, nbytes: int) -> None:
        # The client sends one request at a time, so only the body of a request follows its head.
        if self._left:
            self._left -= nbytes
        else:
            self._head += _buffer[:nbytes]
            if _END not in self._head:
                return
            self._head, _, body = self._head.partition(_END)
            length = _LENGTH.search(self._head + b"\r\n")
            self._left = (int(length[1]) if length else 0) - len(body)
        if not self._left:
            self._respond()

    def _respond(self) -> None:
        method, target, _ = self._head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
        self._head, path = b"", target.partition("?")[0]
        answer = next(answer for answer in ANSWERS if answer.is_for(method, path))
        response = _encoded(answer, path)
        if answer.delay:
            asyncio.get_running_loop().call_later(answer.delay, self._write, response)
        else:
            self._write(response)

    def _write(self, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(content)


_responses = dict[tuple[Answer, str], bytes]()


def _encoded(answer: Answer, path: str) -> bytes:
    """The response. It is made only once, so that a large document costs no time."""
    if (answer, path) not in _responses:
        _responses[answer, path] = answer.encoded(path)
    return _responses[answer, path]


def _context(folder: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "service.pem")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(folder / "root.pem")
    return context


async def _main(folder: Path) -> None:
    loop = asyncio.get_running_loop()
    # One benchmark cancels calls during the handshake: these errors are expected, so they are not logged.
    loop.set_exception_handler(lambda _loop, _context: None)
    server = await loop.create_server(Sink, "127.0.0.1", 0, ssl=_context(folder))
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
