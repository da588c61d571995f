"""The overview page: developers watch the sandbox and act on it, through the control API.

The page is in English and uses the protocol's own terms. Its script requests `/control/overview` whenever
`/control/events` reports a change.
"""

from aiohttp import web

from posten_signering.sandbox._api.faults import ERROR_CODES, TAKES, FaultKind, Operation
from posten_signering.sandbox._pages.application import page
from posten_signering.sandbox._pages.texts import TEXTS, Language


async def show_overview(request: web.Request) -> web.Response:
    """The response with the overview page."""
    return page(
        request,
        "overview.html",
        texts=TEXTS[Language.ENGLISH],
        kinds=FaultKind,
        takes=TAKES,
        operations=Operation,
        codes=ERROR_CODES,
    )
