"""Protects the sandbox's pages and control API from other web sites.

DNS rebinding shows in the header `Host`; a cross-site request (CSRF) shows in `Origin` and `Sec-Fetch-Site`.
The browser sets these headers, and a page can't change them.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from posten_signering.sandbox._api.activity import Feed
from posten_signering.sandbox._pages.application import OVERVIEW_DATA, is_control
from posten_signering.sandbox._state.storage import Storage
from posten_signering.sandbox._values.refusal import SandboxError

_SAFE = frozenset({"GET", "HEAD"})


def guard(*, port: int, storage: Storage, feed: Feed) -> Middleware:
    """A middleware that refuses requests from other sites, and stores changes before it responds.

    Args:
        port: The port of the server.
        storage: Stores the changes.
        feed: Reports requests that may have changed something.
    """
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    origins = {f"http://{host}" for host in hosts}

    @web.middleware
    async def check(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Host") not in hosts:
            return _refusal(
                request,
                403,
                "The Host header is not an address of the sandbox: use 127.0.0.1 or localhost.",
            )
        changes = request.method not in _SAFE
        private = is_control(request) or request.path == OVERVIEW_DATA
        if (changes or private) and _is_foreign(request, origins):
            return _refusal(
                request,
                403,
                "The header Origin or Sec-Fetch-Site names another site: send the request from a page of"
                " the sandbox, or from a program.",
            )
        answer = await handler(request)
        try:
            await storage.commit()
        except SandboxError as error:
            return _refusal(request, 500, str(error))
        if changes:
            feed.touch()
        return answer

    return check


def _is_foreign(request: web.Request, origins: set[str]) -> bool:
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in {"same-origin", "none"}:
        return True
    origin = request.headers.get("Origin")
    # A page with the policy `no-referrer` sends the origin `null`. Then `site` decides.
    return (
        origin is not None and origin not in origins and (origin, site) != ("null", "same-origin")
    )


def _refusal(request: web.Request, status: int, text: str) -> web.Response:
    if is_control(request):
        return web.json_response({"error": text}, status=status)
    return web.Response(status=status, text=text)
