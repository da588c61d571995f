"""The sandbox's own exit pages, for senders without a web site: first runs, demos and scripts.

They know no job: what they show is in the URL. So they also work after a restart or a reset.
"""

import re

from aiohttp import web

from posten_signering.sandbox._pages.application import page
from posten_signering.sandbox._values import links
from posten_signering.sandbox._values.hidden import Hidden

COMPLETED = "/exit/completed"
REJECTED = "/exit/rejected"
ERROR = "/exit/error"

# Anything else in the URL is not shown, so that a link from another site can't put its text on the page.
_TOKEN = re.compile(r"[\w.~-]{1,200}", re.ASCII)


def add_exit_pages(router: web.UrlDispatcher) -> None:
    """Adds the routes of the exit pages, for GET and HEAD."""
    for path in (COMPLETED, REJECTED, ERROR):
        router.add_get(path, _show)


async def _show(request: web.Request) -> web.Response:
    token = Hidden(request.query.get(links.STATUS_QUERY_TOKEN, ""))
    return page(
        request,
        "exit.html",
        message=f"exit_{request.path.removeprefix('/exit/')}",
        # The page shows the whole token, as the address bar does: its reader needs it to get the status.
        token=token if _TOKEN.fullmatch(token) else None,
    )
