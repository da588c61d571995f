"""The control API: the sandbox's hands for tests in any language, as JSON over HTTP on loopback.

Its endpoints are those of `_control_endpoints`, a feed of changes, and the OpenAPI document of both. What
is asked for wrongly is answered with `{"error": "..."}`.
"""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from aiohttp import web

from posten_signering.sandbox._control.control import Control
from posten_signering.sandbox._control.control_values import Problem
from posten_signering.sandbox._control.endpoints import (
    ENDPOINTS,
    JSON,
    PREFIX,
    Asked,
    Endpoint,
)
from posten_signering.sandbox._control.openapi import openapi_document
from posten_signering.sandbox._state.plain import NotPlainError, from_plain, to_plain
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal, SandboxError

logger = logging.getLogger("posten_signering.sandbox")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HEARTBEAT = 15.0
"""After so many seconds without a change the feed sends a line, so that a dead connection is noticed."""

_PATTERNS = {
    "job": "[0-9]{1,18}",
    "signer": "[0-9]{1,2}",
    "change": "[0-9]{1,9}",
    "fault": "[0-9]{1,9}",
    "act": "sign|reject|fail",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ControlApi:
    """The control API.

    Attributes:
        control: What it offers.
        heartbeat: See `HEARTBEAT`.
    """

    control: Control
    heartbeat: float = HEARTBEAT

    def add_to(self, application: web.Application) -> None:
        """Adds every address, and what ends the feeds when the application is shut down."""
        router = application.router
        for endpoint in ENDPOINTS:
            path = re.sub(
                r"{(\w+)}", lambda found: f"{{{found[1]}:{_PATTERNS[found[1]]}}}", endpoint.path
            )
            router.add_route(endpoint.method, PREFIX + path, self._handler(endpoint))
        router.add_route("GET", f"{PREFIX}/events", self._events)
        for path in (PREFIX, f"{PREFIX}/", f"{PREFIX}/openapi.json"):
            router.add_route("GET", path, self._openapi)
        for path in (PREFIX, PREFIX + "/{rest:.*}"):
            router.add_route("*", path, self._unknown)
        application.on_shutdown.append(self._end_feeds)

    def _handler(self, endpoint: Endpoint) -> Handler:
        async def handle(request: web.Request) -> web.Response:
            try:
                return await self._answer(request, endpoint)
            except Refusal as refusal:
                return _problem(refusal.status, refusal.message)
            except SandboxError as error:
                return _problem(500, str(error))
            except web.HTTPRequestEntityTooLarge:
                return _problem(413, "The body is too large.")
            except Exception:
                logger.exception("The control API failed: a mistake in the sandbox")
                return _problem(500, "The sandbox failed; its log tells why.")

        return handle

    async def _answer(self, request: web.Request, endpoint: Endpoint) -> web.Response:
        asked = Asked(path=request.match_info, body=await _body(request, endpoint))
        answer = await endpoint.call(self.control, asked)
        if endpoint.answer is None:
            return web.Response(status=204)
        if isinstance(answer, bytes):
            return web.Response(body=answer, content_type=endpoint.media_type)
        return _json(answer)

    async def _openapi(self, _: web.Request) -> web.Response:
        return _json(openapi_document())

    async def _unknown(self, _: web.Request) -> web.Response:
        return _problem(404, f"The control API has no such address: see {PREFIX}/openapi.json.")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"}
        )
        feed = self.control.feed
        try:
            await response.prepare(request)
            while not feed.closed:
                version = feed.version
                event = f'event: change\ndata: {{"version": {version}}}\n\n'
                await response.write(event.encode())
                while not await self._changes(version):
                    await response.write(b": still there\n\n")
        except ConnectionError:
            # Whoever watched is gone.
            pass
        return response

    async def _changes(self, version: int) -> bool:
        """Whether there was a change before the next heartbeat is due."""
        try:
            async with asyncio.timeout(self.heartbeat):
                await self.control.feed.wait(version)
        except TimeoutError:
            return False
        return True

    async def _end_feeds(self, _: web.Application) -> None:
        self.control.feed.close()


async def _body(request: web.Request, endpoint: Endpoint) -> object:
    if endpoint.body is None:
        return None
    if request.content_type != JSON:
        raise Refusal(415, "UNSUPPORTED_MEDIA_TYPE", f"Send the body as {JSON}.")
    content = Octets(await request.read())
    try:
        return from_plain(endpoint.body, json.loads(content), "the body")
    except NotPlainError as error:
        raise Refusal(400, "BAD_REQUEST", str(error)) from None
    except ValueError:
        raise Refusal(400, "BAD_REQUEST", "The body is not JSON.") from None


def _json(answer: object, status: int = 200) -> web.Response:
    return web.Response(status=status, text=json.dumps(to_plain(answer)), content_type=JSON)


def _problem(status: int, error: str) -> web.Response:
    return _json(Problem(error=error), status)
