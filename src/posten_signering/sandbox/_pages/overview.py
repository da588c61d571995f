"""The overview: a page for developers that watches the sandbox and acts on it, by the control API.

Its words are those of the wire, in English. Its script asks `/control/overview` whenever
`/control/events` reports a change.
"""

from aiohttp import web

from posten_signering.sandbox._api.faults import ERROR_CODES, TAKES, FaultKind, Operation
from posten_signering.sandbox._pages.application import page
from posten_signering.sandbox._pages.texts import TEXTS, Language


async def show_overview(request: web.Request) -> web.Response:
    """Answers with the overview page."""
    return page(
        request,
        "overview.html",
        texts=TEXTS[Language.ENGLISH],
        kinds=FaultKind,
        takes=TAKES,
        operations=Operation,
        codes=ERROR_CODES,
    )
