"""A minimal web portal of a sender, for the demo and for tests: the exit URLs of their jobs lead to it.

It listens on loopback, shows a page at each exit URL, and reports which exit URL a browser opened.
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
    """A server with three pages, one for each exit URL. `async with` starts and stops it.

    Args:
        overview: The URL of the sandbox's overview page, which the pages link to.
        style_timeout: The longest time, in seconds, that the portal waits before it stops, so that a
            browser can load the style sheet of the last page.
    """

    def __init__(self, overview: str, *, style_timeout: float = 2.0) -> None:
        self._overview = overview
        self._style_timeout = style_timeout
        self._style_loaded = asyncio.Event()
        self._style_loaded.set()
        self._arrivals: asyncio.Queue[Hidden] = asyncio.Queue()
        self._known: set[Hidden] = set()
        self._stack = AsyncExitStack()
        self._root = ""

    async def __aenter__(self) -> Self:
        pages = application([self._notice_style])
        pages.router.add_get(
            f"/{{exit:{'|'.join(_EXITS)}}}", self._show_exit_page, allow_head=False
        )
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
            async with asyncio.timeout(self._style_timeout):
                await self._style_loaded.wait()
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

    async def next_exit_url(self) -> str:
        """Waits until a browser opens an exit URL, and returns the URL with its token.

        A reload of the page does not count, and neither does a visit without a token.
        """
        return await self._arrivals.get()

    @web.middleware
    async def _notice_style(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path == STYLE:
            self._style_loaded.set()
        return await handler(request)

    async def _show_exit_page(self, request: web.Request) -> web.Response:
        self._style_loaded.clear()
        arrival = Hidden(request.url)
        if links.STATUS_QUERY_TOKEN in request.query and arrival not in self._known:
            self._known.add(arrival)
            self._arrivals.put_nowait(arrival)
        return page(
            request,
            "notice.html",
            message=request.match_info["exit"],
            overview_address=self._overview,
        )
