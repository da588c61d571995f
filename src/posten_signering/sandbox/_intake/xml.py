"""Parses XML strictly, and validates it against the packaged schema. Reads no other file.

Document types, entities, processing instructions and huge trees are refused. Refusals never contain
messages of the XML library, because these quote values.
"""

import re
from collections.abc import Callable
from importlib import resources
from typing import TypeAlias

from lxml import etree
from lxml.etree import _Element  # pyright: ignore[reportPrivateUsage] - the type's only name

from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal, broken_schema

__all__ = ["SERVICE_NAMESPACE", "Element", "local_name", "parse", "validate"]

Element: TypeAlias = _Element

SERVICE_NAMESPACE = "http://signering.posten.no/schema/v1"

MESSAGE_BYTES = 1024 * 1024
"""A message of the direct flow is far smaller. A larger one is an attack or a mistake."""


def parse(content: Octets, *, name: str, refuse: Callable[[str], Refusal]) -> Element:
    """The root element of an XML document.

    Args:
        content: The document.
        name: What to call it in a refusal, such as "manifest.xml".
        refuse: Makes the refusal of a document that breaks a rule.

    Raises:
        Refusal: The document is not well-formed, or holds what it must not.
    """
    if len(content) > MESSAGE_BYTES:
        raise refuse(f"{name} is larger than {MESSAGE_BYTES} bytes")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        root = etree.fromstring(content, parser)
    except (etree.XMLSyntaxError, ValueError) as error:
        raise refuse(f"{name} is not well-formed XML{_position(error)}") from None
    if root.getroottree().docinfo.internalDTD is not None:
        raise refuse(f"{name} has a document type (DOCTYPE), which is not allowed")
    if any(True for _ in root.iter(etree.ProcessingInstruction, etree.Entity)):
        raise refuse(f"{name} has a processing instruction or an entity, which is not allowed")
    return root


def _position(error: Exception) -> str:
    if isinstance(error, etree.XMLSyntaxError) and error.lineno:
        return f": line {error.lineno}, column {error.offset}"
    return ""


def validate(root: Element, *, name: str, root_name: str) -> None:
    """Validates a message against `direct.xsd`.

    Args:
        root: The root element of the message.
        name: What to call the message in a refusal.
        root_name: The local name that the root must have.

    Raises:
        Refusal: The message breaks the schema. The refusal names the path and rule of every violation.
    """
    if root.tag != f"{{{SERVICE_NAMESPACE}}}{root_name}":
        raise broken_schema(
            f"{name}: the root element is {local_name(root)},"
            f" but {root_name} in the namespace {SERVICE_NAMESPACE} is expected"
        )
    schema = _packaged_schema()
    if schema.validate(root):
        return
    found: dict[str, None] = {}
    for entry in schema.error_log:
        where = _path_in_words(root, entry.path)
        found.setdefault(f"{where} {_rule_in_words(entry.type_name, entry.message)}")
    raise broken_schema(f"{name}: " + "; ".join(found))


def local_name(element: Element) -> str:
    """The name of an element without its namespace."""
    return etree.QName(element).localname


def _packaged_schema() -> etree.XMLSchema:
    # Not kept: a schema object holds the errors of its last validation, and threads share modules.
    with resources.as_file(resources.files("posten_signering_xml") / "schema") as folder:
        return etree.XMLSchema(file=str(folder / "direct.xsd"))


def _path_in_words(root: Element, path: str | None) -> str:
    steps: list[str] = []
    element = root
    for found in _STEP.finditer((path or "").removeprefix("/").partition("/")[2]):
        name, position = found.groups()
        children = [child for child in element if name in {"*", local_name(child)}]
        if len(children) < int(position or 1):
            break
        element = children[int(position or 1) - 1]
        twins = [child for child in children if child.tag == element.tag]
        index = f"[{twins.index(element)}]" if len(twins) > 1 else ""
        steps.append(local_name(element) + index)
    return "/".join(steps) or local_name(root)


_STEP = re.compile(r"(?:[^/:\[]+:)?([^/:\[]+)(?:\[([0-9]+)\])?(?:/|$)")
"""A step of the path that the validator gives: `*[2]`, `signer`, `p:signer[1]`."""

_RULES = {
    "SCHEMAV_CVC_PATTERN_VALID": "does not match the pattern of its type",
    "SCHEMAV_CVC_MAXLENGTH_VALID": "is longer than its type allows",
    "SCHEMAV_CVC_MINLENGTH_VALID": "is shorter than its type allows",
    "SCHEMAV_CVC_ENUMERATION_VALID": "is not one of the values of its type",
    "SCHEMAV_CVC_COMPLEX_TYPE_4": "lacks a required attribute",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1": "has an attribute that the schema does not know",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_2": "has an attribute that the schema does not know",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_1": "must be empty",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_2": "must hold text only",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_3": "must hold elements only",
    "SCHEMAV_CVC_TYPE_3_1_2": "must hold text only",
}
"""The rule that was broken, by the name the validator gives it. What else it says of such a
violation is not used: it quotes the value."""


def _rule_in_words(rule: str, message: str | None) -> str:
    if rule == "SCHEMAV_ELEMENT_CONTENT":
        expected = re.search(r"Expected is (?:one of )?\(([^()]*)\)", message or "")
        lacks = "Missing child" in (message or "")
        said = "lacks a child element" if lacks else "is not expected here"
        if expected is None:
            return said
        names = re.sub(r"\{[^{}]*\}", "", expected[1])
        return f"{said}; expected: {' '.join(names.split()).replace(' ,', ',')}"
    # Names end where the first value is quoted.
    attribute = re.match(
        r"Element '[^']*'(?:, attribute '|: The attribute ')([^']*)'", message or ""
    )
    where = f"(attribute {attribute[1]}) " if attribute is not None else ""
    return where + _RULES.get(rule, "does not fit its type")
