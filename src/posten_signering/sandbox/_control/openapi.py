"""Describes the endpoints of the control API, and makes its OpenAPI document (3.1). Performs no I/O.

pydantic makes the schemas; the words in the document are those of the docstrings.
"""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from posten_signering.sandbox._state.job import Act

Schema = dict[str, Any]

PREFIX = "/control"
JSON = "application/json"

_NUMBER: Schema = {"type": "integer", "minimum": 0}
_PARAMETERS: dict[str, tuple[str, str, Schema]] = {
    "job": ("The job's id.", "[0-9]{1,18}", _NUMBER),
    "signer": ("The signer's number, from 1, in the manifest's order.", "[0-9]{1,2}", _NUMBER),
    "act": ("What the signer does.", "|".join(Act), {"type": "string", "enum": list(Act)}),
    "change": ("The status change's number in its queue.", "[0-9]{1,9}", _NUMBER),
    "fault": ("The fault's number.", "[0-9]{1,9}", _NUMBER),
}
"""For each parameter of a path: its description, the pattern that it matches, its schema."""

_EVENTS = (
    'Server-Sent Events: `change`, with `{"version": N}`, at once and whenever something has changed;'
    " in between lines of comment, so that a dead connection is noticed."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """Why something was not done.

    Attributes:
        error: In words.
    """

    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One endpoint; see `of`.

    Attributes:
        method: The HTTP method.
        path: Below `PREFIX`; its parameters stand in braces.
        call: The function. Its arguments are the `Control`, the parameters in the order of the path, and
            the body. Its name and docstring are those of the operation.
        parameters: The types of the parameters of the path.
        body: The type of the body; None: it takes none.
        answer: The type of the answer; None: it has none.
        media_type: The media type of the answer.
    """

    method: str
    path: str
    call: Callable[..., Any]
    parameters: Mapping[str, type[Any]]
    body: Any
    answer: Any
    media_type: str

    @classmethod
    def of(
        cls, method: str, path: str, call: Callable[..., Any], *, media_type: str = JSON
    ) -> "Endpoint":
        """The endpoint of a function, whose annotations give the types."""
        types = get_type_hints(call)
        taken: list[Any] = [types.get(name) for name in inspect.signature(call).parameters][1:]
        names = re.findall(r"{(\w+)}", path)
        return cls(
            method=method,
            path=path,
            call=call,
            parameters={name: taken.pop(0) for name in names},
            body=taken.pop() if taken else None,
            answer=None if types["return"] is type(None) else types["return"],
            media_type=media_type,
        )

    @property
    def route(self) -> str:
        """The whole path, with a pattern for each parameter, as aiohttp takes it."""
        return PREFIX + re.sub(
            r"{(\w+)}", lambda found: f"{{{found[1]}:{_PARAMETERS[found[1]][1]}}}", self.path
        )


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The document of these endpoints, of the feed, and of itself."""
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        item = paths.setdefault(PREFIX + endpoint.path, {})
        item[endpoint.method.lower()] = _operation(endpoint, schemas)
    paths[f"{PREFIX}/events"] = {
        "get": _plain_operation("events", "Tells of every change.", _EVENTS, "text/event-stream")
    }
    for path, name in ((PREFIX, "control"), (f"{PREFIX}/openapi.json", "openapi")):
        paths[path] = {"get": _plain_operation(name, "This document.", "The document.", JSON)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Control API of the posten-signering sandbox",
            "description": (
                "What a test does to the sandbox from outside. Served on loopback only, to this"
                " machine's own programs and pages. Identity numbers are masked."
            ),
            "version": version("posten-signering"),
        },
        "paths": paths,
        "components": {"schemas": components},
    }


class _Words(GenerateJsonSchema):
    """Describes a dataclass and its fields in the words of its docstring."""

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401 - a type of pydantic_core
        described = super().dataclass_schema(schema)
        summary, _, rest = (inspect.getdoc(schema["cls"]) or "").partition("\n")
        attributes = rest.partition("Attributes:\n")[2].partition("\n\n")[0]
        found = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", attributes, re.MULTILINE)
        for name, words in found:
            described["properties"][name]["description"] = " ".join(words.split())
        return {**described, "description": summary, "additionalProperties": False}


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[dict[Any, Schema], Schema]:
    """The schema of each type that is taken or given, and the components that they refer to."""
    kinds = {Problem, *(kind for each in endpoints for kind in (each.body, each.answer) if kind)}
    schemas, definitions = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in kinds],
        ref_template="#/components/schemas/{model}",
        schema_generator=_Words,
    )
    return {kind: schema for (kind, _), schema in schemas.items()}, definitions["$defs"]


def _operation(endpoint: Endpoint, schemas: dict[Any, Schema]) -> dict[str, Any]:
    def content(media_type: str, kind: object) -> dict[str, Any]:
        return {"content": {media_type: {"schema": schemas[kind]}}}

    operation: dict[str, Any] = {
        "operationId": endpoint.call.__name__,
        "summary": " ".join((endpoint.call.__doc__ or "").split()),
        "responses": {"default": {"description": "Not done.", **content(JSON, Problem)}},
    }
    if endpoint.answer is None:
        operation["responses"]["204"] = {"description": "Done."}
    else:
        answer = content(endpoint.media_type, endpoint.answer)
        operation["responses"]["200"] = {"description": "Done.", **answer}
    if endpoint.parameters:
        operation["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": _PARAMETERS[name][0],
                "schema": _PARAMETERS[name][2],
            }
            for name in endpoint.parameters
        ]
    if endpoint.body is not None:
        operation["requestBody"] = {"required": True, **content(JSON, endpoint.body)}
    return operation


def _plain_operation(name: str, summary: str, description: str, media_type: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "object" if media_type == JSON else "string"}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": description, "content": content}},
    }
