"""Faults that change the message in a response. Performs no I/O."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial

from lxml import etree

from posten_signering.sandbox._api.faults import FaultKind
from posten_signering.sandbox._intake.xml import SERVICE_NAMESPACE, Element, local_name

_FOREIGN_NAMESPACE = "urn:posten-signering-sandbox:unknown"
_PLACE = "the-place-of-the-entity"


def corrupted(content: bytes, kind: FaultKind) -> bytes | None:
    """A message that the fault has changed; None when the fault does not apply to this message."""
    if kind is FaultKind.MALFORMED_XML:
        return content[: len(content) // 2]
    root = etree.fromstring(content)
    # A XAdES signature is XML too, but not a message of the service.
    if etree.QName(root).namespace != SERVICE_NAMESPACE:
        return None
    return _CORRUPTERS[kind](root)


def _with_doctype(root: Element) -> bytes:
    return _with_prefix(root, f"<!DOCTYPE {local_name(root)}>")


def _with_entities(root: Element) -> bytes:
    first = next(element for element in root.iter(etree.Element) if len(element) == 0)
    first.text = _PLACE
    entities = '<!ENTITY a0 "ha">' + "".join(
        f'<!ENTITY a{number} "{f"&a{number - 1};" * 10}">' for number in range(1, 10)
    )
    message = _with_prefix(root, f"<!DOCTYPE {local_name(root)} [{entities}]>")
    return message.replace(_PLACE.encode(), b"&a9;")


def _with_wrong_root(root: Element) -> bytes:
    # This root element is in the schema, but the service never sends it.
    root.tag = f"{{{SERVICE_NAMESPACE}}}direct-signature-job-manifest"
    return _serialized(root)


def _with_doubles(root: Element) -> bytes:
    for parent in [element for element in root.iter(etree.Element) if len(element)]:
        names = [child.tag for child in parent]
        for child in [child for child in parent if names.count(child.tag) == 1]:
            child.addnext(deepcopy(child))
    return _serialized(root)


def _with_unknown_elements(root: Element) -> bytes:
    for element in list(root.iter(etree.Element)):
        element.set("unknown-attribute", "unknown")
        if len(element):
            element.insert(0, element.makeelement(f"{{{SERVICE_NAMESPACE}}}unknown-element"))
            etree.SubElement(element, f"{{{_FOREIGN_NAMESPACE}}}unknown").text = "unknown"
    return _serialized(root)


def _with_unknown_status(root: Element, name: str) -> bytes | None:
    statuses = [element for element in root.iter(etree.Element) if local_name(element) == name]
    for element in statuses:
        element.text = "NOBODY_KNOWS_THIS"
    return _serialized(root) if statuses else None


_CORRUPTERS: Mapping[FaultKind, Callable[[Element], bytes | None]] = {
    FaultKind.DOCTYPE: _with_doctype,
    FaultKind.ENTITIES: _with_entities,
    FaultKind.WRONG_ROOT: _with_wrong_root,
    FaultKind.DOUBLED_ELEMENTS: _with_doubles,
    FaultKind.UNKNOWN_ELEMENTS: _with_unknown_elements,
    FaultKind.UNKNOWN_SIGNER_STATUS: partial(_with_unknown_status, name="status"),
    FaultKind.UNKNOWN_JOB_STATUS: partial(_with_unknown_status, name="signature-job-status"),
}

STATUS_CHANGING = frozenset({FaultKind.UNKNOWN_SIGNER_STATUS, FaultKind.UNKNOWN_JOB_STATUS})
"""The kinds of faults that change a status in a message. Both can happen to one message."""

CORRUPTING = frozenset({FaultKind.MALFORMED_XML, *_CORRUPTERS}) - STATUS_CHANGING
"""The kinds of faults that corrupt messages. One of them can happen to a message."""


def _serialized(root: Element) -> bytes:
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8", standalone=True)


def _with_prefix(root: Element, doctype: str) -> bytes:
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + doctype.encode() + etree.tostring(root)
