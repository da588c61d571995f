"""The files that pages name: styles, scripts, the icon. All are package data."""

from aiohttp import web

from posten_signering.sandbox._pages.answers import Handler
from posten_signering.sandbox._pages.html import asset

STYLE = "/web/style.css"
"""The style of every page."""

_ASSETS = {
    "favicon.svg": "image/svg+xml",
    "style.css": "text/css",
    "entry.js": "text/javascript",
    "overview.css": "text/css",
    "overview.js": "text/javascript",
    "overview-dom.js": "text/javascript",
    "overview-parts.js": "text/javascript",
}


def add_assets_to(router: web.UrlDispatcher) -> None:
    """Adds the files that pages name."""
    for name, content_type in _ASSETS.items():
        router.add_get(f"/web/{name}", _asset(name, content_type))
    # A browser asks for it by itself where a page can't name another, such as a PDF.
    router.add_get("/favicon.ico", _asset("favicon.svg", _ASSETS["favicon.svg"]))


def _asset(name: str, content_type: str) -> Handler:
    async def give(_: web.Request) -> web.Response:
        return web.Response(body=asset(name), content_type=content_type, charset="utf-8")

    return give
