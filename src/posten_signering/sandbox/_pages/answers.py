"""How the pages answer over HTTP: headers, redirects, and what a reader is told when something is refused."""

import logging
from collections.abc import Awaitable, Callable
from urllib.parse import quote

from aiohttp import web

from posten_signering.sandbox._pages import language
from posten_signering.sandbox._pages.html import rendered
from posten_signering.sandbox._pages.language import Language, language_of
from posten_signering.sandbox._values.refusal import Refusal

logger = logging.getLogger("posten_signering.sandbox")

_CONTROL = "/control/"
_YEAR = 365 * 24 * 3600

# Nothing from elsewhere, no script or style in a page itself, and no place in anybody's frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

REASONS = {
    "REDIRECT_URL_UNKNOWN": "unknown",
    "REDIRECT_URL_REPLACED": "replaced",
    "REDIRECT_URL_USED": "used",
    "REDIRECT_URL_OPENED": "opened",
    "DOCUMENTS_DELETED": "deleted",
    "NOT_FOUND": "missing",
}
"""Which texts tell a reader of a refusal, by its code."""

_FAULTS = {404: "missing", 405: "missing"}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def language_of_request(request: web.Request) -> Language:
    """The language to answer in."""
    return language_of(request.query, request.cookies, request.headers.get("Accept-Language", ""))


def page(
    request: web.Request, template: str, *, status: int = 200, **values: object
) -> web.Response:
    """A page as an answer, in the language to answer in. See `rendered`."""
    content = rendered(template, language_of_request(request), **values)
    return web.Response(status=status, text=content, content_type="text/html")


def led_to(address: str) -> web.Response:
    """Leads the browser to a path, which it gets (HTTP 303)."""
    return web.Response(status=303, headers={"Location": address})


def notice(request: web.Request, what: str, *, status: int = 200) -> web.Response:
    """A page that says one thing: the texts `<what>_title` and `<what>_text`."""
    return page(request, "notice.html", status=status, what=what)


def inline(content_type: str, title: str) -> dict[str, str]:
    """The headers of a document that a browser shows itself, under its title."""
    return {
        "Content-Type": content_type,
        "Content-Disposition": f"inline; filename*=UTF-8''{quote(title, safe='')}",
    }


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Gives an answer what every answer of the pages' server has, unless it brings its own."""
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


@web.middleware
async def told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turns what is refused or fails into a page, and keeps the language that was switched to.

    The control API tells of its refusals itself.
    """
    if request.path.startswith(_CONTROL):
        return await handler(request)
    answer = await _told(request, handler)
    if language.PARAMETER in request.query:
        answer.set_cookie(
            language.COOKIE,
            language_of_request(request).value,
            max_age=_YEAR,
            path="/",
            httponly=True,
            samesite="Lax",
        )
    return answer


async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return notice(request, REASONS[refusal.code], status=refusal.status)
    except web.HTTPException as error:
        return notice(request, _FAULTS.get(error.status, "odd"), status=error.status)
    except Exception:
        logger.exception("A page failed at a %s: a mistake in the sandbox", request.method)
        return notice(request, "failure", status=500)
