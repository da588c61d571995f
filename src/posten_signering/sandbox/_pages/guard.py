"""Keeps other sites out of what is served to browsers on loopback.

A name that resolves to this machine (DNS rebinding) shows in `Host`, a page of another site that posts
here (CSRF) in `Origin` and `Sec-Fetch-Site`: browsers write these, pages can't.
"""

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from posten_signering.sandbox._api.activity import Feed
from posten_signering.sandbox._pages.application import is_control
from posten_signering.sandbox._state.storage import Storage
from posten_signering.sandbox._values.refusal import SandboxError

_SAFE = frozenset({"GET", "HEAD"})


def guard(*, port: int, storage: Storage, feed: Feed) -> Middleware:
    """Refuses requests of other sites, and answers only when the changes are stored.

    Args:
        port: Of the server.
        storage: Where changes must be before they are answered.
        feed: Reports requests that may have changed something.
    """
    hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}
    origins = {f"http://{host}" for host in hosts}

    @web.middleware
    async def through(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Host") not in hosts:
            return _refusal(
                request, 403, "This is not the address of the sandbox: use 127.0.0.1 or localhost."
            )
        changes = request.method not in _SAFE
        if (changes or is_control(request)) and _is_foreign(request, origins):
            return _refusal(request, 403, "Another site may not do this.")
        answer = await handler(request)
        try:
            await storage.commit()
        except SandboxError as error:
            return _refusal(request, 500, str(error))
        if changes:
            feed.touch()
        return answer

    return through


def _is_foreign(request: web.Request, origins: set[str]) -> bool:
    site = request.headers.get("Sec-Fetch-Site", "none")
    if site not in {"same-origin", "none"}:
        return True
    origin = request.headers.get("Origin")
    # A page that sends no referrer sends the origin `null`: then `site` decides.
    return (
        origin is not None and origin not in origins and (origin, site) != ("null", "same-origin")
    )


def _refusal(request: web.Request, status: int, text: str) -> web.Response:
    if is_control(request):
        return web.json_response({"error": text}, status=status)
    return web.Response(status=status, text=text)
