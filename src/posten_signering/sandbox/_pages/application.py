"""What every page has around it: template, language, headers and files, and how a refusal looks.

Which pages there are is in `signer`, `overview` and `portal`. All are plain HTTP on loopback.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from jinja2 import Environment, PackageLoader, StrictUndefined

from posten_signering.sandbox._pages.texts import TEXTS, Language
from posten_signering.sandbox._values.refusal import Refusal

logger = logging.getLogger("posten_signering.sandbox")

OVERVIEW = "/overview"
"""The path of the overview page."""

STYLE = "/web/style.css"
"""The path of the style of every page."""

LANGUAGE_COOKIE = "posten-signering-language"
_LANGUAGE_PARAMETER = "lang"
_YEAR = 365 * 24 * 3600

# Nothing from elsewhere, no script or style in a page itself, and no place in anybody's frame.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": _POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

_WEB = Path(__file__).parent / "web"
_CONTENT_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

_TEMPLATES = Environment(
    loader=PackageLoader("posten_signering.sandbox._pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

REASONS = {
    "REDIRECT_URL_UNKNOWN": "unknown",
    "REDIRECT_URL_REPLACED": "replaced",
    "REDIRECT_URL_USED": "used",
    "REDIRECT_URL_OPENED": "opened",
    "DOCUMENTS_DELETED": "deleted",
    "NOT_FOUND": "missing",
}
"""Which notice explains a refusal to a reader, by the code of the refusal."""

# Someone who reads any Norwegian reads bokmål. Sami, Danish and Swedish readers can use the switch.
_LANGUAGES = {
    "nb": Language.BOKMAL,
    "no": Language.BOKMAL,
    "nn": Language.BOKMAL,
    "en": Language.ENGLISH,
}


def application(middlewares: Sequence[Middleware]) -> web.Application:
    """An application that serves the files of `web/`, and sets the headers of pages on every answer."""
    made = web.Application(middlewares=middlewares)
    made.on_response_prepare.append(_add_headers)
    for suffix, content_type in _CONTENT_TYPES.items():
        for path in _WEB.glob(f"*{suffix}"):
            made.router.add_get(f"/web/{path.name}", _file(path, content_type))
    # Browsers ask for this path where a page can't name an icon: a PDF.
    made.router.add_get("/favicon.ico", _file(_WEB / "favicon.svg", _CONTENT_TYPES[".svg"]))
    return made


def page(
    request: web.Request, template: str, *, status: int = 200, **values: object
) -> web.Response:
    """A page as an answer.

    Args:
        request: The request that it answers; the language is taken from it.
        template: The template's file in `templates/`.
        status: The HTTP status.
        values: What the template names. They go before what every template is given.

    Raises:
        jinja2.UndefinedError: The template names a value that is not given.
    """
    given: dict[str, object] = {
        "texts": TEXTS[language_of(request)],
        "overview_address": OVERVIEW,
        "grouped": grouped,
        "shown_size": shown_size,
    }
    content = _TEMPLATES.get_template(template).render(given | values)
    return web.Response(status=status, text=content, content_type="text/html")


def notice(request: web.Request, what: str, *, status: int = 200) -> web.Response:
    """A page that says one thing: the texts `<what>_title` and `<what>_text`."""
    return page(request, "notice.html", status=status, what=what)


def language_of(request: web.Request) -> Language:
    """The language that the reader chose by the switch, now or earlier, or else in the browser."""
    for chosen in (
        request.query.get(_LANGUAGE_PARAMETER, ""),
        request.cookies.get(LANGUAGE_COOKIE, ""),
    ):
        if chosen in TEXTS:
            return Language(chosen)
    return _preferred(request.headers.get("Accept-Language", ""))


def _preferred(accept_language: str) -> Language:
    """The language of the header `Accept-Language` (RFC 9110, section 12.5.4)."""
    best, weight = Language.BOKMAL, 0.0
    for item in accept_language.lower().split(","):
        tag, *parameters = item.split(";")
        pairs = (parameter.partition("=") for parameter in parameters)
        quality = {name.strip(): value for name, _, value in pairs}.get("q", "1")
        language = _LANGUAGES.get(tag.strip().partition("-")[0])
        try:
            given = float(quality)
        except ValueError:
            given = 0.0
        if language is not None and given > weight:
            best, weight = language, given
    return best


def grouped(organization_number: str) -> str:
    """An organisation number as people write it: 123 456 789, on one line."""
    return "\N{NO-BREAK SPACE}".join(
        organization_number[start : start + 3] for start in range(0, len(organization_number), 3)
    )


def shown_size(size: int, language: str) -> str:
    """A number of bytes as people write it, to two figures or so."""
    if size < 1000:
        return f"{size}\N{NO-BREAK SPACE}B"
    if size < 1_000_000:
        return f"{round(size / 1000)}\N{NO-BREAK SPACE}kB"
    shown = f"{size / 1_000_000:.1f}\N{NO-BREAK SPACE}MB"
    return shown.replace(".", ",") if language == Language.BOKMAL else shown


def is_control(request: web.Request) -> bool:
    """Whether a request is for the control API, which answers with JSON also when it refuses."""
    return f"{request.path}/".startswith("/control/")


@web.middleware
async def explain_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers what is refused, or fails, with a page; and remembers the language that was chosen."""
    if is_control(request):
        return await handler(request)
    answer = await _explained(request, handler)
    if _LANGUAGE_PARAMETER in request.query:
        answer.set_cookie(
            LANGUAGE_COOKIE,
            language_of(request).value,
            max_age=_YEAR,
            path="/",
            httponly=True,
            samesite="Lax",
        )
    return answer


async def _explained(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        return notice(request, REASONS[refusal.code], status=refusal.status)
    except web.HTTPException as error:
        what = "missing" if error.status in {404, 405} else "odd"
        return notice(request, what, status=error.status)
    except Exception:
        logger.exception("A page failed at a %s: a mistake in the sandbox", request.method)
        return notice(request, "failure", status=500)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _file(path: Path, content_type: str) -> Handler:
    content = path.read_bytes()

    async def give(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=content_type, charset="utf-8")

    return give
