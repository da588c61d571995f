"""The overview page: developers watch the sandbox and act on it, through the control API.

Statuses, error codes and the names of faults are the protocol's own, in every language. The page's script
requests `/overview/data` whenever `/control/events` reports a change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import get_type_hints

from aiohttp import web

from posten_signering.sandbox._api.faults import ERROR_CODES, TAKES, Fault, FaultKind, Operation
from posten_signering.sandbox._pages.application import OVERVIEW, OVERVIEW_DATA, language_of, page
from posten_signering.sandbox._pages.overview_texts import OVERVIEW_TEXTS
from posten_signering.sandbox._state.job import JobStatus
from posten_signering.sandbox._state.storage import to_json

_INPUTS = {bool: "checkbox", int | None: "number", float | None: "number"}


@dataclass(frozen=True, kw_only=True, slots=True)
class OverviewPage:
    """The overview page and the data that it shows.

    Attributes:
        excerpt: Returns the data that the query of the page's URL selects.
    """

    excerpt: Callable[[Mapping[str, str]], object]

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Adds the routes of the page and its data."""
        router.add_get(OVERVIEW, self._show)
        router.add_get(OVERVIEW_DATA, self._data)

    async def _show(self, request: web.Request) -> web.Response:
        return page(
            request,
            "overview.html",
            words=dict(OVERVIEW_TEXTS[language_of(request)]),
            statuses=JobStatus,
            kinds=FaultKind,
            takes=TAKES,
            fields=_fault_fields(),
            operations=Operation,
            codes=ERROR_CODES,
        )

    async def _data(self, request: web.Request) -> web.Response:
        return web.Response(
            text=to_json(self.excerpt(request.query)), content_type="application/json"
        )


def _fault_fields() -> dict[str, str]:
    """The fields that only some kinds of faults take -> the type of their input. Check boxes come last."""
    taken = {name for names in TAKES.values() for name in names}
    types = get_type_hints(Fault)
    inputs = {
        field.name: _INPUTS.get(types[field.name], "text")
        for field in fields(Fault)
        if field.name in taken
    }
    return dict(sorted(inputs.items(), key=lambda item: item[1] == "checkbox"))
