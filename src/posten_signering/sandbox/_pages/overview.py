"""The overview: a page for developers that watches the sandbox and acts on it, by the control API.

Its words are those of the wire, in English. Its script asks `/control/overview` whenever
`/control/events` tells of a change.
"""

from collections.abc import Iterable

from aiohttp import web

from posten_signering.sandbox._api.faults import ERROR_CODES, TAKES, FaultKind, Operation
from posten_signering.sandbox._pages.answers import shown
from posten_signering.sandbox._pages.html import Markup, fill, joined
from posten_signering.sandbox._pages.language import Language
from posten_signering.sandbox._pages.layout import OVERVIEW, whole


def add_overview_to(router: web.UrlDispatcher) -> None:
    """Adds the page."""
    page = _overview_page()

    async def show(_: web.Request) -> web.Response:
        return shown(page)

    router.add_get(OVERVIEW, show)


def _overview_page() -> Markup:
    kinds = joined(
        fill(
            "overview-kind",
            {},
            value=kind.value,
            takes=" ".join(sorted(TAKES.get(kind, ()))),
        )
        for kind in FaultKind
    )
    return whole(
        Language.ENGLISH,
        title="Overview",
        body=fill(
            "overview",
            {},
            kinds=kinds,
            operations=_options(Operation),
            codes=_options(ERROR_CODES),
        ),
        head=fill("overview-head", {}),
        nav=fill("overview-live", {}),
        footer=fill("overview-footer", {}),
    )


def _options(values: Iterable[str]) -> Markup:
    return joined(fill("overview-option", {}, value=value) for value in values)
