"""The overview: a page for developers that watches the sandbox and acts on it, by the control API.

Its words are those of the wire, in English. Its script asks `/control/overview` whenever
`/control/events` tells of a change.
"""

from aiohttp import web

from posten_signering.sandbox._api.faults import ERROR_CODES, TAKES, FaultKind, Operation
from posten_signering.sandbox._pages.html import OVERVIEW, rendered
from posten_signering.sandbox._pages.language import Language


def add_overview_to(router: web.UrlDispatcher) -> None:
    """Adds the page."""
    page = rendered(
        "overview.html",
        Language.ENGLISH,
        kinds=FaultKind,
        takes=TAKES,
        operations=Operation,
        codes=ERROR_CODES,
    )

    async def show(_: web.Request) -> web.Response:
        return web.Response(text=page, content_type="text/html")

    router.add_get(OVERVIEW, show)
