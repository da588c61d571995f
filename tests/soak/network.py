"""A proxy on loopback that resets connections at random: at the start, or during a request or a response.

It forwards bytes, and does not decrypt TLS.
"""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

# Ranges of bytes after which a connection is reset. A TLS handshake has a few thousand bytes, a response a
# few hundred, a request ten thousand.
_REQUEST_BYTES = (1, 16_000)
_RESPONSE_BYTES = (1, 6_000)


@dataclass
class Proxy:
    """The settings and counts of a proxy.

    Attributes:
        port: The port that it listens on.
        reset_probability: The probability of a reset at the start, then of one during the request, then during the response.
        resets: The number of resets.
        open: The number of open connections.
    """

    port: int = 0
    reset_probability: float = 0.0
    resets: int = 0
    open: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(7))


@asynccontextmanager
async def proxy_to(target: int) -> AsyncGenerator[Proxy]:
    """Starts a proxy to a port on loopback."""
    proxy = Proxy()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        proxy.open += 1
        try:
            await _forward(proxy, target, reader, writer)
        finally:
            proxy.open -= 1

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()


async def _forward(
    proxy: Proxy, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if proxy.rng.random() < proxy.reset_probability:
        proxy.resets += 1
        _reset(writer)
        return
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
    request_bytes, response_bytes = None, None
    if proxy.rng.random() < proxy.reset_probability:
        request_bytes = proxy.rng.randint(*_REQUEST_BYTES)
    elif proxy.rng.random() < proxy.reset_probability:
        response_bytes = proxy.rng.randint(*_RESPONSE_BYTES)
    directions = [
        asyncio.ensure_future(_copy(reader, far_writer, request_bytes)),
        asyncio.ensure_future(_copy(far_reader, writer, response_bytes)),
    ]
    try:
        done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        if any(direction.result() for direction in done):
            proxy.resets += 1
            _reset(writer)
            # The server receives the bytes up to the reset, and then the end of the connection.
            with suppress(ConnectionError):
                await far_writer.drain()
    finally:
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        writer.close()
        far_writer.close()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None
) -> bool:
    """Copies bytes until the end. With `most`, stops after this many bytes and returns True."""
    copied = 0
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if most is not None and copied + len(data) >= most:
                writer.write(data[: most - copied])
                return True
            writer.write(data)
            await writer.drain()
            copied += len(data)
    return False


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
    writer.transport.abort()
