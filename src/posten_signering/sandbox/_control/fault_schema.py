"""The schema of a fault: one variant for each kind, with the fields that the kind takes and needs. No I/O.

`_api/faults.py` has the rules. A test compares the schema with them.
"""

import inspect
import re
from copy import deepcopy
from dataclasses import fields
from typing import Any

from posten_signering.sandbox._api.faults import (
    CODE,
    HEADER,
    LONGEST,
    NEEDS,
    OF_CONNECTIONS,
    TAKES,
    Fault,
    FaultKind,
)

Schema = dict[str, Any]

_DEFAULTS = {field.name: field.default for field in fields(Fault)}
_OF_SOME_KINDS = frozenset[str]().union(*TAKES.values())
_RANGES: dict[str, Schema] = {
    "times": {"minimum": 1},
    "probability": {"exclusiveMinimum": 0, "maximum": 1},
    "seconds": {"minimum": -LONGEST, "maximum": LONGEST},
    "status": {"minimum": 400, "maximum": 599},
    "code": {"pattern": f"^{CODE}$"},
    "header": {"pattern": f"^{HEADER}$"},
}


def described_in(kind: type[Any]) -> tuple[str, dict[str, str]]:
    """The first line of a docstring, and the descriptions in its section `Attributes`."""
    summary, _, sections = (inspect.getdoc(kind) or "").partition("\n")
    attributes = sections.partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n      .*)*)", attributes, re.MULTILINE)
    return summary, {name: " ".join(description.split()) for name, description in entries}


def with_fault_kinds(components: Schema) -> Schema:
    """The components, with a variant of the body `Fault` for each kind, and the ranges of its fields."""
    body, answer = components["Fault-Input"], components["Fault-Output"]
    for fault in (body, answer):
        for name, limits in _RANGES.items():
            _value(fault["properties"][name]).update(limits)
    names = {kind.value: f"{kind.title().replace('_', '')}Fault" for kind in FaultKind}
    variants = {names[kind]: _variant(kind, body) for kind in FaultKind}
    references = {kind: f"#/components/schemas/{name}" for kind, name in names.items()}
    one_of: Schema = {
        "description": body["description"],
        "oneOf": [{"$ref": reference} for reference in references.values()],
        "discriminator": {"propertyName": "kind", "mapping": references},
    }
    return {**components, **variants, "Fault-Input": one_of}


def _variant(kind: FaultKind, fault: Schema) -> Schema:
    """The schema of a fault of one kind. A field that the kind does not take has its default."""
    absent = _OF_SOME_KINDS - TAKES.get(kind, frozenset())
    if kind in OF_CONNECTIONS:
        absent |= {"operation", "path"}
    needed = NEEDS.get(kind, frozenset())
    properties = deepcopy(fault["properties"])
    if kind is not FaultKind.CLOCK_SKEW:
        _value(properties["seconds"])["minimum"] = 0
    for name in needed:
        description = properties[name]["description"]
        properties[name] = {**_value(properties[name]), "description": description}
    properties |= {name: {"const": _DEFAULTS[name]} for name in absent}
    properties["kind"] = {"const": kind, "description": properties["kind"]["description"]}
    return {
        **fault,
        "title": kind,
        "description": described_in(FaultKind)[1][kind.name],
        "properties": properties,
        "required": ["kind", *sorted(needed)],
    }


def _value(field: Schema) -> Schema:
    """The schema of the field's values other than null."""
    value: Schema = field.get("anyOf", [field])[0]
    return value
