"""A network on loopback that resets connections at random: before the first byte, or amid a request or an answer.

It passes bytes on and knows nothing of TLS.
"""

import asyncio
import random
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

# An answer has a few hundred bytes beyond the handshake's few thousand, a request ten thousand.
_SENT = (1, 16_000)
_ANSWERED = (1, 6_000)


@dataclass
class Network:
    """The way to a port.

    Attributes:
        port: Where it begins.
        harm: How likely a new connection is reset at its beginning, and how likely somewhere later.
        resets: How many there were.
        open: How many connections stand.
    """

    port: int = 0
    harm: float = 0.0
    resets: int = 0
    open: int = 0
    dice: random.Random = field(default_factory=lambda: random.Random(7))


@asynccontextmanager
async def network(target: int) -> AsyncGenerator[Network]:
    """Opens a way to a port of loopback."""
    way = Network()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way.open += 1
        try:
            await _passed_on(way, target, reader, writer)
        finally:
            way.open -= 1

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    way.port = server.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        server.close()


async def _passed_on(
    way: Network, target: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    if way.dice.random() < way.harm:
        way.resets += 1
        _reset(writer)
        return
    far_reader, far_writer = await asyncio.open_connection("127.0.0.1", target)
    sent, answered = None, None
    if way.dice.random() < way.harm:
        sent = way.dice.randint(*_SENT)
    elif way.dice.random() < way.harm:
        answered = way.dice.randint(*_ANSWERED)
    ways = [
        asyncio.ensure_future(_pump(reader, far_writer, sent)),
        asyncio.ensure_future(_pump(far_reader, writer, answered)),
    ]
    try:
        done, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        if any(each.result() for each in done):
            way.resets += 1
            _reset(writer)
            # What had come through reaches the other side, and then the end.
            with suppress(ConnectionError):
                await far_writer.drain()
    finally:
        for each in ways:
            each.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        writer.close()
        far_writer.close()


async def _pump(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, most: int | None
) -> bool:
    """Passes bytes on until the end; True when it is to be broken off after so many."""
    passed = 0
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            if most is not None and passed + len(data) >= most:
                writer.write(data[: most - passed])
                return True
            writer.write(data)
            await writer.drain()
            passed += len(data)
    return False


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0"
        )
    writer.transport.abort()
