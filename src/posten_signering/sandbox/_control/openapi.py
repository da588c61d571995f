"""Describes the endpoints of the control API, and generates its OpenAPI 3.1 document. Performs no I/O.

pydantic generates the schemas. The descriptions in the document come from the docstrings.
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
"""Name of a path parameter -> its description, the pattern of its values, its schema."""

_EVENTS = (
    'Server-Sent Events: an event `change` with `{"version": N}`, first when the client connects and then after'
    " every change. Between events it sends comment lines, so that a client notices a dead connection."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """The reason why a request failed.

    Attributes:
        error: The reason, as a sentence in English.
    """

    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Endpoint:
    """One endpoint; see `of`.

    Attributes:
        method: The HTTP method.
        path: The path below `PREFIX`, with its parameters in braces.
        call: The function to call with the `Control`, the path's parameters in their order, and the
            body. Its name and docstring become those of the operation.
        parameters: Name of a path parameter -> its type.
        body: The type of the request body; None without a body.
        answer: The type of the response; None without a response body.
        media_type: The media type of the response.
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
        """The endpoint that calls a function. The types come from the function's annotations."""
        types = get_type_hints(call)
        arguments: list[Any] = [types.get(name) for name in inspect.signature(call).parameters][1:]
        names = re.findall(r"{(\w+)}", path)
        return cls(
            method=method,
            path=path,
            call=call,
            parameters={name: arguments.pop(0) for name in names},
            body=arguments.pop() if arguments else None,
            answer=None if types["return"] is type(None) else types["return"],
            media_type=media_type,
        )

    @property
    def route(self) -> str:
        """The full path in aiohttp's notation, with a pattern for each parameter."""
        return PREFIX + re.sub(
            r"{(\w+)}", lambda match: f"{{{match[1]}:{_PARAMETERS[match[1]][1]}}}", self.path
        )


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of these endpoints, of the feed of changes, and of the document itself."""
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        item = paths.setdefault(PREFIX + endpoint.path, {})
        item[endpoint.method.lower()] = _operation(endpoint, schemas)
    paths[f"{PREFIX}/events"] = {
        "get": _plain_operation("events", "Reports every change.", _EVENTS, "text/event-stream")
    }
    for path, name in ((PREFIX, "control"), (f"{PREFIX}/openapi.json", "openapi")):
        paths[path] = {
            "get": _plain_operation(name, "This document.", "The OpenAPI document.", JSON)
        }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Control API of the posten-signering sandbox",
            "description": (
                "Reads and changes the state of the sandbox. It listens on loopback only, for programs"
                " on this machine and the sandbox's own pages. Identity numbers are masked."
            ),
            "version": version("posten-signering"),
        },
        "paths": paths,
        "components": {"schemas": components},
    }


class _SchemaGenerator(GenerateJsonSchema):
    """Takes the descriptions of a dataclass and its fields from its docstring."""

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401 - a type of pydantic_core
        described = super().dataclass_schema(schema)
        summary, _, sections = (inspect.getdoc(schema["cls"]) or "").partition("\n")
        attributes = sections.partition("Attributes:\n")[2].partition("\n\n")[0]
        entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", attributes, re.MULTILINE)
        for name, description in entries:
            described["properties"][name]["description"] = " ".join(description.split())
        return {**described, "description": summary, "additionalProperties": False}


def _schemas(endpoints: Sequence[Endpoint]) -> tuple[dict[Any, Schema], Schema]:
    """The schema of each type of a body or response, and the components that the schemas refer to."""
    kinds = {
        Problem,
        *(kind for endpoint in endpoints for kind in (endpoint.body, endpoint.answer) if kind),
    }
    schemas, definitions = TypeAdapter.json_schemas(
        [(kind, "validation", TypeAdapter(kind)) for kind in kinds],
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    return {kind: schema for (kind, _), schema in schemas.items()}, definitions["$defs"]


def _operation(endpoint: Endpoint, schemas: dict[Any, Schema]) -> dict[str, Any]:
    def content(media_type: str, kind: object) -> dict[str, Any]:
        return {"content": {media_type: {"schema": schemas[kind]}}}

    operation: dict[str, Any] = {
        "operationId": endpoint.call.__name__,
        "summary": " ".join((endpoint.call.__doc__ or "").split()),
        "responses": {"default": {"description": "The request failed.", **content(JSON, Problem)}},
    }
    if endpoint.answer is None:
        operation["responses"]["204"] = {"description": "The request succeeded."}
    else:
        answer = content(endpoint.media_type, endpoint.answer)
        operation["responses"]["200"] = {"description": "The request succeeded.", **answer}
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
