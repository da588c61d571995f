"""Runs the unchanged example apps in this process, on loopback.

`gate` is a CONNECT proxy between an app and the service. It can hold back the service's responses, so that a test can act
while a call is in flight.
"""

import asyncio
import contextlib
import importlib
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import httpx
import pytest
import uvicorn
from aiohttp import web

from posten_signering.sandbox import Sandbox

EXAMPLES = Path(__file__).parents[2] / "examples"
LEASE = EXAMPLES / "lease.pdf"
APPS = ("fastapi", "aiohttp")


@contextlib.contextmanager
def importable() -> Iterator[None]:
    """Makes the examples importable by name, because they import each other by name."""
    sys.path.insert(0, str(EXAMPLES))
    try:
        yield
    finally:
        sys.path.remove(str(EXAMPLES))


def module(name: str) -> ModuleType:
    """Imports a module of the examples."""
    with importable():
        return importlib.import_module(name)


def variables(sandbox: Sandbox, folder: Path) -> dict[str, str]:
    """Environment variables for a client of this sandbox."""
    return module("run").write_files(sandbox, folder)


@dataclass
class Running:
    """An app that runs in this process.

    `shop` is the state that its requests share.
    """

    url: str
    shop: object

    @contextlib.asynccontextmanager
    async def customer(self) -> AsyncIterator[httpx.AsyncClient]:
        """A customer's HTTP client. It does not follow redirects."""
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as client:
            yield client


@contextlib.asynccontextmanager
async def running(
    name: str, sandbox: Sandbox, folder: Path, patch: pytest.MonkeyPatch, **more: str
) -> AsyncIterator[Running]:
    """Runs an app on a free port of loopback, with a client of the sandbox."""
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    environment = variables(sandbox, folder) | {"SHOP_URL": url, "SHOP_FOLDER": str(folder)} | more
    for variable, value in environment.items():
        patch.setenv(variable, value)
    serve = {"fastapi": _fastapi, "aiohttp": _aiohttp}[name]
    with listening:
        async with serve(listening) as shop:
            yield Running(url, shop)


@contextlib.asynccontextmanager
async def _fastapi(listening: socket.socket) -> AsyncIterator[object]:
    app = module("fastapi_app").app
    server = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_level="warning"))
    # The same steps as uvicorn's start and stop, but without its signal handlers, which would replace pytest's.
    async with app.router.lifespan_context(app):
        server.config.load()
        server.lifespan = server.config.lifespan_class(server.config)
        await server.startup(sockets=[listening])
        yield app.state.shop
        await server.shutdown(sockets=[listening])


@contextlib.asynccontextmanager
async def _aiohttp(listening: socket.socket) -> AsyncIterator[object]:
    program = module("aiohttp_app")
    app = program.application()
    # With handler_cancellation, a customer who disconnects cancels the handler. This is the harder case.
    runner = web.AppRunner(app, handle_signals=False, access_log=None, handler_cancellation=True)
    await runner.setup()
    await web.SockSite(runner, listening).start()
    try:
        yield app[program.SHOP]
    finally:
        await runner.cleanup()


@dataclass
class Gate:
    """A proxy that can hold back the service's responses.

    `withheld` is set when the gate holds back a response.
    """

    url: str = ""
    withheld: asyncio.Event = field(default_factory=asyncio.Event)
    is_down: bool = False
    _open: asyncio.Event = field(default_factory=asyncio.Event)
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def shut(self) -> None:
        """Holds back the service's responses from now on."""
        self.withheld.clear()
        self._open.clear()

    def release(self) -> None:
        """Forwards the withheld responses and all later ones."""
        self._open.set()

    def cut(self) -> None:
        """Breaks every connection. The withheld responses are lost."""
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()

    def down(self) -> None:
        """Breaks every connection, and refuses new ones."""
        self.is_down = True
        self.cut()

    def up(self) -> None:
        """Accepts new connections again."""
        self.is_down = False

    async def pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, gated: bool
    ) -> None:
        """Forwards bytes until the connection ends. If `gated`, waits while the gate is shut."""
        with contextlib.suppress(OSError):
            while content := await reader.read(65536):
                if gated and not self._open.is_set():
                    self.withheld.set()
                    await self._open.wait()
                writer.write(content)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.close()


@contextlib.asynccontextmanager
async def gate() -> AsyncIterator[Gate]:
    """Runs an open gate. Set `POSTEN_SIGNERING_PROXY` to its URL."""
    proxy = Gate()
    proxy.release()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if proxy.is_down:
            writer.transport.abort()
            return
        host, _, port = head.split()[1].decode().rpartition(":")
        from_service, to_service = await asyncio.open_connection(host, int(port))
        proxy._writers |= {writer, to_service}
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        async with asyncio.TaskGroup() as both:
            both.create_task(proxy.pump(reader, to_service, gated=False))
            both.create_task(proxy.pump(from_service, writer, gated=True))
        proxy._writers -= {writer, to_service}

    tasks = set[asyncio.Task[None]]()

    def start(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(connected(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(start, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        proxy.cut()
        await asyncio.gather(*tasks)
