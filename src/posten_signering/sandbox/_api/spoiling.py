"""Spoils messages of the service, as a fault asks for it. Performs no I/O."""

from collections.abc import Callable, Mapping
from copy import deepcopy

from lxml import etree

from posten_signering.sandbox._api.faults import FaultKind
from posten_signering.sandbox._intake.xml import SERVICE_NAMESPACE, Element, local_name

_FOREIGN_NAMESPACE = "urn:posten-signering-sandbox:unknown"
_PLACE = "the-place-of-the-entity"
_STATUSES = {"signature-job-status", "status"}


def spoiled(content: bytes, kind: FaultKind) -> bytes | None:
    """A message with the fault in it; None when the fault finds nothing to spoil."""
    return _SPOILERS[kind](content)


def _malformed(content: bytes) -> bytes:
    return content[: len(content) // 2]


def _with_doctype(content: bytes) -> bytes | None:
    root = _message(content)
    return None if root is None else _prefixed(root, f"<!DOCTYPE {local_name(root)}>")


def _with_entities(content: bytes) -> bytes | None:
    root = _message(content)
    if root is None:
        return None
    first = next(element for element in root.iter(etree.Element) if len(element) == 0)
    first.text = _PLACE
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10)
    )
    spoiled = _prefixed(root, f"<!DOCTYPE {local_name(root)} [{entities}]>")
    return spoiled.replace(_PLACE.encode(), b"&a9;")


def _of_another_kind(content: bytes) -> bytes | None:
    root = _message(content)
    if root is None:
        return None
    # A message of the service, but one that it never answers.
    root.tag = f"{{{SERVICE_NAMESPACE}}}direct-signature-job-manifest"
    return _serialized(root)


def _with_doubles(content: bytes) -> bytes | None:
    root = _message(content)
    if root is None:
        return None
    for parent in [each for each in root.iter(etree.Element) if len(each)]:
        names = [child.tag for child in parent]
        for child in [each for each in parent if names.count(each.tag) == 1]:
            child.addnext(deepcopy(child))
    return _serialized(root)


def _with_unknown_elements(content: bytes) -> bytes | None:
    root = _message(content)
    if root is None:
        return None
    for element in list(root.iter(etree.Element)):
        element.set("unknown-attribute", "unknown")
        if len(element):
            element.insert(0, element.makeelement(f"{{{SERVICE_NAMESPACE}}}unknown-element"))
            etree.SubElement(element, f"{{{_FOREIGN_NAMESPACE}}}unknown").text = "unknown"
    return _serialized(root)


def _with_unknown_statuses(content: bytes) -> bytes | None:
    root = _message(content)
    if root is None:
        return None
    found = [each for each in root.iter(etree.Element) if local_name(each) in _STATUSES]
    for element in found:
        element.text = "NOBODY_KNOWS_THIS"
    return _serialized(root) if found else None


_SPOILERS: Mapping[FaultKind, Callable[[bytes], bytes | None]] = {
    FaultKind.MALFORMED_XML: _malformed,
    FaultKind.DOCTYPE: _with_doctype,
    FaultKind.ENTITIES: _with_entities,
    FaultKind.WRONG_ROOT: _of_another_kind,
    FaultKind.DOUBLED_ELEMENTS: _with_doubles,
    FaultKind.UNKNOWN_ELEMENTS: _with_unknown_elements,
    FaultKind.UNKNOWN_STATUSES: _with_unknown_statuses,
}

SPOILING = frozenset(_SPOILERS)
"""The faults that spoil messages."""


def _message(content: bytes) -> Element | None:
    """The message; None when it is something else, such as a signature."""
    root = etree.fromstring(content)
    return root if etree.QName(root).namespace == SERVICE_NAMESPACE else None


def _serialized(root: Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)


def _prefixed(root: Element, doctype: str) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + doctype.encode() + etree.tostring(root)
