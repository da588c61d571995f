"""A sender's web portal, as small as it can be: where the exit URLs of a demo's or a test's jobs lead.

It listens on loopback, thanks everyone who comes, and reports which exit URL a browser came to.
"""

import asyncio
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Self

from aiohttp import web
from aiohttp.typedefs import Handler

from posten_signering.sandbox._api.connection import address_of, listen, serve
from posten_signering.sandbox._pages.application import STYLE, application, page
from posten_signering.sandbox._values import links
from posten_signering.sandbox._values.hidden import Hidden

_EXITS = ("completion", "rejection", "error")


class Portal:
    """Three pages, for the three exit URLs; `async with` starts and stops it.

    Args:
        overview: The address of the sandbox's overview, which its pages link to.
        patience: How many seconds it stays at most, in the end, for a browser that has just come to
            load the page's style.
    """

    def __init__(self, overview: str, *, patience: float = 2.0) -> None:
        self._overview = overview
        self._patience = patience
        self._dressed = asyncio.Event()
        self._dressed.set()
        self._arrivals: asyncio.Queue[Hidden] = asyncio.Queue()
        self._known: set[Hidden] = set()
        self._stack = AsyncExitStack()
        self._root = ""

    async def __aenter__(self) -> Self:
        pages = application([self._watch])
        pages.router.add_get(f"/{{exit:{'|'.join(_EXITS)}}}", self._thank, allow_head=False)
        async with AsyncExitStack() as stack:
            listening = stack.enter_context(listen(0))
            await serve(stack, pages, listening)
            self._root = f"http://{address_of(listening)}"
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._patience):
                await self._dressed.wait()
        await self._stack.aclose()

    @property
    def completion(self) -> str:
        """The exit URL after signing."""
        return f"{self._root}/completion"

    @property
    def rejection(self) -> str:
        """The exit URL after rejecting."""
        return f"{self._root}/rejection"

    @property
    def error(self) -> str:
        """The exit URL after a failure."""
        return f"{self._root}/error"

    async def came_back(self) -> str:
        """Waits for the next browser, and gives the exit URL that it came to, with its token.

        A refresh of the page, and a visit without a token, are not waited for.
        """
        return await self._arrivals.get()

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == STYLE:
            self._dressed.set()
        return await handler(request)

    async def _thank(self, request: web.Request) -> web.Response:
        self._dressed.clear()
        arrival = Hidden(request.url)
        if links.STATUS_QUERY_TOKEN in request.query and arrival not in self._known:
            self._known.add(arrival)
            self._arrivals.put_nowait(arrival)
        return page(
            request,
            "notice.html",
            what=request.match_info["exit"],
            overview_address=self._overview,
        )
