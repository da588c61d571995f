"""The OpenAPI document of the control API, made of its endpoints (OpenAPI 3.1). Performs no I/O."""

import re
from importlib.metadata import version
from typing import Any

from posten_signering.sandbox._control.control_values import Problem
from posten_signering.sandbox._control.endpoints import ENDPOINTS, JSON, PREFIX, Endpoint
from posten_signering.sandbox._control.json_schema import Schema, Schemas
from posten_signering.sandbox._state.job import Act

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


def openapi_document() -> dict[str, Any]:
    """The document."""
    schemas = Schemas()
    problem = {"description": "Not done.", "content": {JSON: {"schema": schemas.of(Problem)}}}
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in ENDPOINTS:
        item = paths.setdefault(PREFIX + endpoint.path, {})
        item[endpoint.method.lower()] = _operation(endpoint, schemas, problem)
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
        "components": {"schemas": schemas.components},
    }


def _operation(endpoint: Endpoint, schemas: Schemas, problem: Schema) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": endpoint.summary,
        "responses": {"default": problem},
    }
    if endpoint.answer is None:
        operation["responses"]["204"] = {"description": "Done."}
    else:
        content = {endpoint.media_type: {"schema": schemas.of(endpoint.answer)}}
        operation["responses"]["200"] = {"description": "Done.", "content": content}
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
        content = {JSON: {"schema": schemas.of(endpoint.body)}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _plain_operation(name: str, summary: str, description: str, media_type: str) -> dict[str, Any]:
    content = {media_type: {"schema": {"type": "object" if media_type == JSON else "string"}}}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": description, "content": content}},
    }
