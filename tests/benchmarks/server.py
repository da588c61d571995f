"""`python -m benchmarks.server FOLDER`: answers requests over mutual TLS, and discards their bodies.

It is a separate process, so that its CPU time is not measured as the client's. It answers every POST as
a successful create, and every GET with an empty response after a short delay. It prints its port to
standard output, and stops when its standard input is closed.
"""

import asyncio
import re
import ssl
import sys
from pathlib import Path

# The delay gives the benchmark time to cancel a call that waits for its response.
SECONDS_FOR_A_GET = 0.005

_CREATED = b"""<?xml version="1.0" encoding="UTF-8"?>
<direct-signature-job-response xmlns="http://signering.posten.no/schema/v1">
  <signature-job-id>1</signature-job-id>
  <redirect-url signer="12345678910">https://signering.example/redirect/token</redirect-url>
  <status-url>https://api.example/api/123456789/direct/signature-jobs/1/status</status-url>
  <signer href="https://api.example/api/123456789/direct/signature-jobs/1/signers/1">
    <personal-identification-number>12345678910</personal-identification-number>
    <redirect-url>https://signering.example/redirect/token</redirect-url>
  </signer>
</direct-signature-job-response>
"""
_TO_POST = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_CREATED),
    _CREATED,
)
_TO_GET = b"HTTP/1.1 204 No Content\r\n\r\n"
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
        is_post, self._head = self._head.startswith(b"POST "), b""
        if is_post:
            self._write(_TO_POST)
        else:
            asyncio.get_running_loop().call_later(SECONDS_FOR_A_GET, self._write, _TO_GET)

    def _write(self, content: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(content)


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
