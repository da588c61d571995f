"""What all pages share: templates, language, headers, static files and error pages.

The pages are in `signer`, `overview` and `portal`. All are served as plain HTTP on loopback.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from jinja2 import Environment, PackageLoader, StrictUndefined

from posten_signering.sandbox._pages.texts import TEXTS, Language
from posten_signering.sandbox._values.masking import masked
from posten_signering.sandbox._values.refusal import Refusal

logger = logging.getLogger("posten_signering.sandbox")

OVERVIEW = "/overview"
"""The path of the overview page."""

OVERVIEW_DATA = "/overview/data"
"""The path of what the overview page shows, as JSON for its script."""

STYLE = "/web/style.css"
"""The path of the style sheet that every page loads."""

LANGUAGE_COOKIE = "posten-signering-language"
_LANGUAGE_PARAMETER = "lang"
_YEAR = 365 * 24 * 3600

# A larger body than any form or any body of the control API. It is read and parsed without a noticeable delay.
_LARGEST_BODY = 64 * 1024

# A page loads only from the sandbox, runs no inline script or style, and can't be shown in a frame.
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
"""Code of a refusal -> the notice that explains it to the reader."""

# Readers of nynorsk also read bokmål. Other languages get the default, bokmål; the reader can switch.
_LANGUAGES = {
    "nb": Language.BOKMAL,
    "no": Language.BOKMAL,
    "nn": Language.BOKMAL,
    "en": Language.ENGLISH,
}


def application(middlewares: Sequence[Middleware]) -> web.Application:
    """An application that serves the files in `web/`, and adds the security headers to every response."""
    pages = web.Application(middlewares=middlewares, client_max_size=_LARGEST_BODY)
    pages.on_response_prepare.append(_add_headers)
    for suffix, content_type in _CONTENT_TYPES.items():
        for path in _WEB.glob(f"*{suffix}"):
            pages.router.add_get(f"/web/{path.name}", _file(path, content_type))
    # Browsers request this path when they show a PDF, because a PDF can't name an icon.
    pages.router.add_get("/favicon.ico", _file(_WEB / "favicon.svg", _CONTENT_TYPES[".svg"]))
    return pages


def page(
    request: web.Request, template: str, *, status: int = 200, **values: object
) -> web.Response:
    """A response with a page.

    Args:
        request: The request. It determines the language of the page.
        template: The template's file name in `templates/`.
        status: The HTTP status.
        values: The values for the template. They override the values that every template gets.
    """
    # A change of the language keeps the rest of the query, such as the token of an exit URL.
    language_links = {
        language: f"?{request.rel_url.update_query({_LANGUAGE_PARAMETER: language}).raw_query_string}"
        for language in Language
    }
    common: dict[str, object] = {
        "texts": TEXTS[language_of(request)],
        "language_links": language_links,
        "overview_address": OVERVIEW,
        "grouped": grouped,
        "masked": masked,
        "shown_size": shown_size,
    }
    content = _TEMPLATES.get_template(template).render(common | values)
    return web.Response(status=status, text=content, content_type="text/html")


def notice(request: web.Request, message: str, *, status: int = 200) -> web.Response:
    """A response with a page of one message: the texts `<message>_title` and `<message>_text`."""
    return page(request, "notice.html", status=status, message=message)


async def form_of(request: web.Request) -> Mapping[str, object]:
    """The fields of a form that a page sends.

    Raises:
        HTTPException: The body is not a form in the encoding that pages use, or is malformed.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise web.HTTPUnsupportedMediaType
    try:
        return await request.post()
    except (ValueError, LookupError, web.RequestPayloadError, ConnectionError):
        raise web.HTTPBadRequest from None


def language_of(request: web.Request) -> Language:
    """The language that the reader chose on a page, now or earlier, else the browser's language."""
    for chosen in (
        request.query.get(_LANGUAGE_PARAMETER, ""),
        request.cookies.get(LANGUAGE_COOKIE, ""),
    ):
        if chosen in TEXTS:
            return Language(chosen)
    return _preferred(request.headers.get("Accept-Language", ""))


def _preferred(accept_language: str) -> Language:
    """The preferred language in the header `Accept-Language` (RFC 9110, section 12.5.4)."""
    best, weight = Language.BOKMAL, 0.0
    for item in accept_language.lower().split(","):
        tag, *parameters = item.split(";")
        pairs = (parameter.partition("=") for parameter in parameters)
        quality = {name.strip(): value for name, _, value in pairs}.get("q", "1")
        language = _LANGUAGES.get(tag.strip().partition("-")[0])
        try:
            item_weight = float(quality)
        except ValueError:
            item_weight = 0.0
        if language is not None and item_weight > weight:
            best, weight = language, item_weight
    return best


def grouped(organization_number: str) -> str:
    """An organisation number in groups of three, with no-break spaces: 123 456 789."""
    return "\N{NO-BREAK SPACE}".join(
        organization_number[start : start + 3] for start in range(0, len(organization_number), 3)
    )


def shown_size(size: int, language: str) -> str:
    """A number of bytes as a short text with a unit, such as `2 kB` or `10.5 MB`."""
    if size < 1000:
        return f"{size}\N{NO-BREAK SPACE}B"
    if size < 1_000_000:
        return f"{round(size / 1000)}\N{NO-BREAK SPACE}kB"
    shown = f"{size / 1_000_000:.1f}\N{NO-BREAK SPACE}MB"
    return shown.replace(".", ",") if language == Language.BOKMAL else shown


def is_control(request: web.Request) -> bool:
    """Whether a request is for the control API, whose errors are JSON and not pages."""
    # The router compares this form of the path too: it does not decode `%2F`.
    return f"{request.rel_url.raw_path}/".startswith("/control/")


@web.middleware
async def explain_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Shows a page for every error, and stores the chosen language in a cookie."""
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
        message = "missing" if error.status in {404, 405} else "odd"
        return notice(request, message, status=error.status)
    except Exception:
        logger.exception("A %s request for a page failed: a bug in the sandbox", request.method)
        return notice(request, "failure", status=500)


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)


def _file(path: Path, content_type: str) -> Handler:
    content = path.read_bytes()

    async def respond(_: web.Request) -> web.Response:
        return web.Response(body=content, content_type=content_type, charset="utf-8")

    return respond
