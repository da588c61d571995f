"""The OpenAPI document of the control API, made of its endpoints (OpenAPI 3.1). Performs no I/O.

The schemas are pydantic's; the words in them are those of the dataclasses' docstrings.
"""

import inspect
import re
from functools import cache
from importlib.metadata import version
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from posten_signering.sandbox._control.control_values import Problem
from posten_signering.sandbox._control.endpoints import ENDPOINTS, JSON, PREFIX, Endpoint
from posten_signering.sandbox._state.job import Act

Schema = dict[str, Any]

_NUMBER: Schema = {"type": "integer", "minimum": 0}
_PARAMETERS: dict[str, tuple[str, Schema]] = {
    "job": ("The job's id.", _NUMBER),
    "signer": ("The signer's number, from 1, in the manifest's order.", _NUMBER),
    "act": ("What the signer does.", {"type": "string", "enum": [act.value for act in Act]}),
    "change": ("The status change's number in its queue.", _NUMBER),
    "fault": ("The fault's number.", _NUMBER),
}
_EVENTS = (
    'Server-Sent Events: `change`, with `{"version": N}`, at once and whenever something has changed;'
    " in between lines of comment, so that a dead connection is noticed."
)


@cache
def openapi_document() -> dict[str, Any]:
    """The document."""
    schemas, components = _schemas()
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
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


def _schemas() -> tuple[dict[Any, Schema], Schema]:
    """The schema of each type that is given or taken, and the components that they refer to."""
    kinds = {Problem}
    for endpoint in ENDPOINTS:
        kinds |= {endpoint.body, endpoint.answer} - {None}
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
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": {"default": {"description": "Not done.", **content(JSON, Problem)}},
    }
    if endpoint.answer is None:
        operation["responses"]["204"] = {"description": "Done."}
    else:
        answer = content(endpoint.media_type, endpoint.answer)
        operation["responses"]["200"] = {"description": "Done.", **answer}
    names = re.findall(r"{(\w+)}", endpoint.path)
    if names:
        operation["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": _PARAMETERS[name][0],
                "schema": _PARAMETERS[name][1],
            }
            for name in names
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
