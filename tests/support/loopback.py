"""Small servers on loopback: HTTP/1.1 with or without TLS, a CONNECT proxy, a port that never responds.

They record what they receive, and send the bytes that a test gives them, whether valid or not.
"""

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from redis_process import free_port


@dataclass
class Received:
    """A request. `peer` is the client's certificate in its TLS connection, in DER form; None without one."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    peer: bytes | None = None


@dataclass
class Server:
    port: int = 0
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    server_names: list[str | None] = field(default_factory=list)
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    open: int = 0

    def url(self, path: str = "", host: str = "localhost", scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


Answer = bytes | None
"""The bytes to send. None: reset the connection."""

Handler = Callable[[Received], Awaitable[Answer]]


def answer(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Reason"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + body


def always(content: Answer) -> Handler:
    async def handler(received: Received) -> Answer:
        return content

    return handler


def reset(writer: asyncio.StreamWriter) -> None:
    """Resets a TCP connection without a TLS alert."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    writer.transport.abort()


async def read_head(reader: asyncio.StreamReader) -> tuple[str, str, dict[str, str]] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if line)
    return method, target, {name.lower(): value.strip() for name, value in pairs}


@contextlib.asynccontextmanager
async def serving(
    connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
    context: ssl.SSLContext | None = None,
) -> AsyncIterator[Server]:
    """Serves connections. Closes all open ones at the end."""
    server = Server()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.connections += 1
        server.open += 1
        try:
            await connected(reader, writer)
        finally:
            server.open -= 1
            server.writers.discard(writer)
            writer.transport.abort()

    tasks: set[asyncio.Task[None]] = set()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.writers.add(writer)
        task = asyncio.get_running_loop().create_task(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if context is not None:
        context.sni_callback = lambda _, name, __: server.server_names.append(name)
    listener = await asyncio.start_server(start, "127.0.0.1", 0, ssl=context)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        # As many steps as asyncio needs to open a connection that it has accepted.
        for _ in range(3):
            await asyncio.sleep(0)
        listener.close()
        for task in tuple(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for writer in server.writers:  # of tasks that were cancelled before their first step
            writer.transport.abort()
        await asyncio.sleep(0)  # the transports close in the next step of the event loop


def peer_of(writer: asyncio.StreamWriter) -> bytes | None:
    """The client's certificate in a TLS connection, in DER form; None without one."""
    connection = writer.get_extra_info("ssl_object")
    return None if connection is None else connection.getpeercert(binary_form=True)


@contextlib.asynccontextmanager
async def http_server(
    handler: Handler, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """Responds to each request with the bytes that the handler returns."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (head := await read_head(reader)) is not None:
            method, target, headers = head
            try:
                body = await reader.readexactly(int(headers.get("content-length", "0")))
            except (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError):
                return
            received = Received(method, target, headers, body, peer_of(writer))
            server.received.append(received)
            content = await handler(received)
            if content is None:
                reset(writer)
                return
            writer.write(content)
            try:
                await writer.drain()
            except (ConnectionError, ssl.SSLError):
                return
            if b"connection: close" in content.lower():
                return

    async with serving(connected, context) as server:
        yield server


async def forward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: str,
    port: int,
    greeting: bytes = b"",
) -> None:
    """Connects a connection to a different server, and sends the greeting to the client first."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.close()

    target_reader, target_writer = await asyncio.open_connection(host, port)
    writer.write(greeting)
    try:
        await asyncio.gather(pump(reader, target_writer), pump(target_reader, writer))
    finally:
        target_writer.transport.abort()


@contextlib.asynccontextmanager
async def connect_proxy(
    refusal: bytes | None = None, *, silent: bool = False, context: ssl.SSLContext | None = None
) -> AsyncIterator[Server]:
    """A proxy that opens tunnels. With `refusal` it sends those bytes instead; if `silent`, it sends nothing."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if head is None:
            return
        method, target, headers = head
        server.received.append(Received(method, target, headers, b""))
        if silent:
            await reader.read()
            return
        if refusal is not None:
            writer.write(refusal)
            await writer.drain()
            return
        host, port = target.split(":")
        await forward(
            reader, writer, host, int(port), b"HTTP/1.1 200 Connection established\r\n\r\n"
        )

    async with serving(connected, context) as server:
        yield server


@contextlib.asynccontextmanager
async def silent_port() -> AsyncIterator[Server]:
    """A server that accepts connections and never sends a byte."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                server.received.append(Received("", "", {}, data))

    async with serving(connected) as server:
        yield server


async def plain_refusal(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Responds to a TLS handshake as a plain HTTP server does, with status 400."""
    await reader.read(1)
    writer.write(answer(400, Connection="close"))
    await writer.drain()
    with contextlib.suppress(ConnectionError):
        await reader.read()


@contextlib.asynccontextmanager
async def alerting_server(content: bytes, context: ssl.SSLContext) -> AsyncIterator[Server]:
    """A server that sends a TLS alert when it rejects a handshake, as OpenSSL's own servers do.

    asyncio's server closes the connection without an alert, so this one runs blocking sockets in a thread.
    """
    server = Server()
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]

    plain_recv = socket.socket.recv

    def handle(plain: socket.socket) -> None:
        with plain, contextlib.suppress(OSError):
            plain.settimeout(5)
            wrapped = context.wrap_socket(plain, server_side=True, do_handshake_on_connect=False)
            with wrapped:
                try:
                    wrapped.do_handshake()
                except ssl.SSLError:
                    # Read all remaining bytes. Closing a socket with unread bytes sends a reset, and the client may
                    # see the reset before the alert.
                    wrapped.shutdown(socket.SHUT_WR)
                    while plain_recv(wrapped, 65536):
                        pass
                    return
                head = b""
                while not head.endswith(b"\r\n\r\n") and (data := wrapped.recv(65536)):
                    head += data
                server.received.append(Received("", "", {}, head))
                wrapped.sendall(content)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                handle(listener.accept()[0])

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        await asyncio.to_thread(thread.join)


def closed_port() -> int:
    """A port that no server listens on, now and during the test."""
    return free_port()


async def until(condition: Callable[[], bool]) -> None:
    """Runs the event loop until the condition is true."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - the servers of the tests count, and set no events
            await asyncio.sleep(0)
