"""JSON Schemas of the values that the control API gives and takes. Performs no I/O.

They describe what `_plain` writes and reads; the words are those of the dataclasses' docstrings.
"""

import inspect
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any, cast, get_args, get_origin

from posten_signering.sandbox._state.plain import hints, is_required, without_none

Schema = dict[str, Any]

_SIMPLE: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    datetime: {"type": "string", "format": "date-time"},
}


class Schemas:
    """The schemas of an OpenAPI document: each dataclass has one, to which others refer."""

    def __init__(self) -> None:
        self.components: dict[str, Schema] = {}

    def of(self, kind: object) -> Schema:
        """The schema of a type."""
        kind, optional = without_none(kind)
        schema = self._of(kind)
        return {"anyOf": [schema, {"type": "null"}]} if optional else schema

    def _of(self, kind: object) -> Schema:
        origin = get_origin(kind)
        if origin is tuple:
            return {"type": "array", "items": self.of(get_args(kind)[0])}
        if origin is Mapping:
            return {"type": "object", "additionalProperties": self.of(get_args(kind)[1])}
        return self._of_class(cast("type[Any]", kind))

    def _of_class(self, kind: type[Any]) -> Schema:
        if is_dataclass(kind):
            return self._of_dataclass(kind)
        if issubclass(kind, Enum):
            return {"type": "string", "enum": [each.value for each in kind]}
        if issubclass(kind, bytes):
            return {"type": "string", "contentEncoding": "base64"}
        return _SIMPLE[str if issubclass(kind, str) else kind]

    def _of_dataclass(self, kind: type[Any]) -> Schema:
        name = kind.__name__
        if name not in self.components:
            summary, words = _words(kind)
            self.components[name] = {}  # so that a type may hold itself
            self.components[name] = {
                "type": "object",
                "description": summary,
                "properties": {
                    field.name: {
                        **self.of(hints(kind)[field.name]),
                        "description": words.get(field.name, ""),
                    }
                    for field in fields(kind)
                },
                "required": [field.name for field in fields(kind) if is_required(field)],
                "additionalProperties": False,
            }
        return {"$ref": f"#/components/schemas/{name}"}


def _words(kind: type[Any]) -> tuple[str, Mapping[str, str]]:
    """What a dataclass's docstring says of it, and of each of its attributes."""
    doc = inspect.getdoc(kind) or ""
    summary, _, rest = doc.partition("\n")
    attributes = rest.partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", attributes, re.MULTILINE)
    return summary, {name: " ".join(words.split()) for name, words in found}
