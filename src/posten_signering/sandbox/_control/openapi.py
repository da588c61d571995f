"""Describes the endpoints of the control API, and generates its OpenAPI 3.1 document. Performs no I/O.

pydantic generates the schemas. The descriptions in the document come from the docstrings.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue

from posten_signering.sandbox._control.fault_schema import described_in, with_fault_kinds
from posten_signering.sandbox._state.job import Act

Schema = dict[str, Any]

PREFIX = "/control"
JSON = "application/json"
EVENT_STREAM = "text/event-stream"


def _number(digits: int) -> tuple[str, Schema]:
    """The pattern and the schema of a number from 1 that has at most this many digits."""
    schema = {"type": "integer", "minimum": 1, "maximum": 10**digits - 1}
    return f"[1-9][0-9]{{0,{digits - 1}}}", schema


_PARAMETERS: dict[str, tuple[str, str, Schema]] = {
    "job": ("The job's id.", *_number(15)),
    "signer": ("The signer's number, from 1, in the manifest's order.", *_number(2)),
    "act": ("What the signer does.", "|".join(Act), {"type": "string", "enum": list(Act)}),
    "change": ("The status change's number in its queue.", *_number(9)),
    "fault": ("The fault's number.", *_number(9)),
}
"""Name of a path parameter -> its description, the pattern of its values, its schema."""

_REFUSALS = {
    400: "The body is incomplete, is not JSON, or breaks a rule.",
    403: "The header `Host`, `Origin` or `Sec-Fetch-Site` names another site.",
    404: "There is no such job, signer, leased status change, document or fault.",
    408: "The body did not arrive in time.",
    409: "The state does not allow this: for example, the job has ended or the signer has finished.",
    413: "The body is too large.",
    415: "The body is not of the media type `application/json`.",
    500: "The sandbox can't write to its directory, or it has a bug.",
}
"""HTTP status of a failed request -> the reason."""


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
        refusals: The HTTP statuses of refused requests.
        gives: Name of a path parameter of other endpoints -> the JSON pointer to its value in the
            response.
        example: An example of the body.
    """

    method: str
    path: str
    call: Callable[..., Any]
    parameters: Mapping[str, type[Any]]
    body: Any
    answer: Any
    media_type: str
    refusals: Sequence[int]
    gives: Mapping[str, str]
    example: object

    @classmethod
    def of(
        cls,
        method: str,
        path: str,
        call: Callable[..., Any],
        *,
        media_type: str = JSON,
        refusals: Iterable[int] = (),
        gives: Mapping[str, str] | None = None,
        example: object = None,
    ) -> "Endpoint":
        """The endpoint that calls a function. The types come from the function's annotations.

        Refusals that follow from the parameters and the body need not be given.
        """
        types = get_type_hints(call)
        arguments: list[Any] = [types.get(name) for name in inspect.signature(call).parameters][1:]
        names = re.findall(r"{(\w+)}", path)
        parameters = {name: arguments.pop(0) for name in names}
        body = arguments.pop() if arguments else None
        of_parameters = {404} if parameters else set[int]()
        of_body = {400, 408, 413, 415} if body else set[int]()
        return cls(
            method=method,
            path=path,
            call=call,
            parameters=parameters,
            body=body,
            answer=None if types["return"] is type(None) else types["return"],
            media_type=media_type,
            refusals=sorted({403, 500, *refusals} | of_parameters | of_body),
            gives=gives or {},
            example=example,
        )

    @property
    def name(self) -> str:
        """The `operationId`."""
        return self.call.__name__

    @property
    def route(self) -> str:
        """The path in aiohttp's notation, with a pattern for each parameter."""
        return re.sub(
            r"{(\w+)}", lambda match: f"{{{match[1]}:{_PARAMETERS[match[1]][1]}}}", self.path
        )


def openapi_document(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """The OpenAPI document of these endpoints."""
    schemas, components = _schemas(endpoints)
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        item = paths.setdefault(PREFIX + endpoint.path, {})
        item[endpoint.method.lower()] = _operation(endpoint, schemas, _links(endpoint, endpoints))
    problem = schemas[Problem, "serialization"]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Control API of the posten-signering sandbox",
            "description": (
                "Reads and changes the state of the sandbox. It listens on loopback only, for programs"
                " on this machine and the sandbox's own pages. Identity numbers are masked. The response"
                ' to a failed request is `{"error": "..."}`, also for a path that is not listed here'
                " (404) and for a method that its path does not support (405)."
            ),
            "version": version("posten-signering"),
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "responses": {
                str(status): {"description": reason, "content": {JSON: {"schema": problem}}}
                for status, reason in _REFUSALS.items()
            },
        },
    }


class _SchemaGenerator(GenerateJsonSchema):
    """Takes the descriptions of a dataclass and its fields from its docstring."""

    def field_is_required(self, field: Any, total: bool) -> bool:  # noqa: ANN401, FBT001 - as pydantic calls it
        """A response has every field."""
        return self.mode == "serialization" or super().field_is_required(field, total)

    def dataclass_schema(self, schema: Any) -> JsonSchemaValue:  # noqa: ANN401 - a type of pydantic_core
        described = super().dataclass_schema(schema)
        summary, descriptions = described_in(schema["cls"])
        for name, description in descriptions.items():
            described["properties"][name]["description"] = description
        return {**described, "description": summary, "additionalProperties": False}


def _mode(endpoint: Endpoint) -> JsonSchemaMode:
    # pydantic describes the text of `Json` in this mode, and the value in the text in the other one.
    return "validation" if endpoint.media_type == EVENT_STREAM else "serialization"


def _schemas(
    endpoints: Sequence[Endpoint],
) -> tuple[dict[tuple[Any, JsonSchemaMode], Schema], Schema]:
    """The schema of each type of a body or response, and the components that the schemas refer to."""
    kinds: list[tuple[Any, JsonSchemaMode]] = [
        (Problem, "serialization"),
        *((endpoint.body, "validation") for endpoint in endpoints if endpoint.body),
        *((endpoint.answer, _mode(endpoint)) for endpoint in endpoints if endpoint.answer),
    ]
    schemas, definitions = TypeAdapter.json_schemas(
        [(kind, mode, TypeAdapter(kind)) for kind, mode in dict.fromkeys(kinds)],
        ref_template="#/components/schemas/{model}",
        schema_generator=_SchemaGenerator,
    )
    return schemas, with_fault_kinds(definitions["$defs"])


def _links(endpoint: Endpoint, endpoints: Sequence[Endpoint]) -> Schema:
    """The operations whose path parameters are known after a call of this endpoint."""
    known = {name: f"$request.path.{name}" for name in endpoint.parameters}
    known |= {name: f"$response.body#{pointer}" for name, pointer in endpoint.gives.items()}
    return {
        target.name: {
            "operationId": target.name,
            "parameters": {name: known[name] for name in target.parameters if name in known},
        }
        for target in endpoints
        # The client chooses the act.
        if target.parameters and target.parameters.keys() - {"act"} <= known.keys()
    }


def _operation(
    endpoint: Endpoint, schemas: Mapping[tuple[Any, JsonSchemaMode], Schema], links: Schema
) -> dict[str, Any]:
    succeeded: Schema = {"description": "The request succeeded."}
    if endpoint.answer is not None:
        schema = schemas[endpoint.answer, _mode(endpoint)]
        succeeded["content"] = {endpoint.media_type: {"schema": schema}}
    if links:
        succeeded["links"] = links
    operation: dict[str, Any] = {
        "operationId": endpoint.name,
        "summary": " ".join((endpoint.call.__doc__ or "").split()),
        "responses": {
            "204" if endpoint.answer is None else "200": succeeded,
            **{
                str(status): {"$ref": f"#/components/responses/{status}"}
                for status in endpoint.refusals
            },
        },
    }
    if endpoint.parameters:
        operation["parameters"] = [
            {
                "name": name,
                "in": "path",
                "required": True,
                "description": _PARAMETERS[name][0],
                "schema": _PARAMETERS[name][2],
                "example": next(iter(Act)) if name == "act" else 1,
            }
            for name in endpoint.parameters
        ]
    if endpoint.body is not None:
        schema = schemas[endpoint.body, "validation"]
        content = {JSON: {"schema": schema, "example": endpoint.example}}
        operation["requestBody"] = {"required": True, "content": content}
    return operation
