"""`python -m benchmarks.server FOLDER`: takes requests over mutual TLS, and throws bodies away.

A process of its own, so that its CPU time is not the client's. Answers every POST as a create that
succeeded, and every GET, after a moment, with nothing. Writes its port to standard
output, and ends with its standard input.
"""

import asyncio
import re
import ssl
import sys
from pathlib import Path

# So that a cancellation may fall into the wait for an answer.
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

# One for all connections: what is in it is looked at before the next read.
_buffer = memoryview(bytearray(256 * 1024))


class Sink(asyncio.BufferedProtocol):
    """A connection: a head is read, its body counted, an answer sent, and so on."""

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
        # Requests come one after the other: what follows a head is its body, and no more.
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
            self._answer()

    def _answer(self) -> None:
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
    # Clients that break off in a handshake are what one of the bars is about.
    loop.set_exception_handler(lambda _loop, _context: None)
    server = await loop.create_server(Sink, "127.0.0.1", 0, ssl=_context(folder))
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    server.close()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
