"""Parses XML strictly, and validates it against the packaged schema. Reads no other file.

Document types, entities, processing instructions and large messages are refused. Refusals do not
contain the XML library's own messages, because those quote values.
"""

import re
from collections.abc import Callable
from importlib import resources
from typing import TypeAlias
from xml.parsers import expat

from lxml import etree
from lxml.etree import _Element  # pyright: ignore[reportPrivateUsage] - the type's only name

from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal, broken_schema

__all__ = ["SERVICE_NAMESPACE", "Element", "local_name", "parse", "validate"]

Element: TypeAlias = _Element

SERVICE_NAMESPACE = "http://signering.posten.no/schema/v1"

MAX_XML_BYTES = 128 * 1024
"""The size limit of an XML file. The largest that the schema allows has less than half of it, apart from
the name of its polling queue."""

# The time of several checks grows with the square of their number. The largest file that the profile
# allows has about 250.
_MAX_PARTS = 500
_MAX_SHOWN_VIOLATIONS = 20
_PROLOG_CHUNK = 1024


def parse(content: Octets, *, name: str, refuse: Callable[[str], Refusal]) -> Element:
    """The root element of an XML document.

    Args:
        content: The document.
        name: The name of the document in a refusal, such as "manifest.xml".
        refuse: Creates the refusal from its message.

    Raises:
        Refusal: The document is too large, is not well-formed, or has a DOCTYPE, an entity or a
            processing instruction.
    """
    if len(content) > MAX_XML_BYTES:
        raise refuse(f"{name} is larger than {MAX_XML_BYTES} bytes. Make it smaller.")
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
    )
    try:
        has_doctype = _has_doctype(content)
        root = None if has_doctype else etree.fromstring(content, parser)
    except (expat.ExpatError, etree.XMLSyntaxError, ValueError, LookupError) as error:
        raise refuse(f"{name} is not well-formed XML{_position(error)}. Correct the XML.") from None
    if root is None or root.getroottree().docinfo.internalDTD is not None:
        raise refuse(f"{name} has a DOCTYPE, which is not allowed. Remove it.")
    if _has_too_many_parts(root):
        raise refuse(
            f"{name} has more than {_MAX_PARTS} elements, attributes and namespace declarations. Leave"
            " out what the schema does not need."
        )
    if any(True for _ in root.iter(etree.ProcessingInstruction, etree.Entity)):
        raise refuse(
            f"{name} has a processing instruction or an entity, which is not allowed. Remove it."
        )
    return root


def _has_doctype(content: Octets) -> bool:
    """Whether a DOCTYPE comes before the root element.

    expat says so before it reads the declarations inside. lxml reads them first, and the time that it
    needs grows with the square of their number.

    Raises:
        ExpatError: What comes before the root element is not well-formed.
        ValueError: expat does not support the encoding. LookupError: the same.
    """
    parser = expat.ParserCreate()
    found: list[bool] = []

    def note_doctype(*_: object) -> None:
        found.append(True)

    def note_element(*_: object) -> None:
        found.append(False)

    parser.StartDoctypeDeclHandler = note_doctype
    parser.StartElementHandler = note_element
    for start in range(0, len(content), _PROLOG_CHUNK):
        try:
            parser.Parse(content[start : start + _PROLOG_CHUNK], False)
        except expat.ExpatError:
            # An error behind the root element's start tag is lxml's to report.
            if not found:
                raise
        if found:
            break
    return found[:1] == [True]


def _has_too_many_parts(root: Element) -> bool:
    parts = 0
    for _, part in etree.iterwalk(root, events=("start", "start-ns")):
        parts += 1 + (len(part.attrib) if isinstance(part, Element) else 0)
        if parts > _MAX_PARTS:
            return True
    return False


def _position(error: Exception) -> str:
    if isinstance(error, etree.XMLSyntaxError | expat.ExpatError) and error.lineno:
        return f": line {error.lineno}, column {error.offset}"
    return ""


def validate(root: Element, *, name: str, root_name: str) -> None:
    """Validates a message against `direct.xsd`.

    Args:
        root: The root element of the message.
        name: The name of the message in a refusal.
        root_name: The local name that the root element must have.

    Raises:
        Refusal: The message breaks the schema. The refusal lists the path and the rule of each
            violation, of the first 20 if there are more.
    """
    if root.tag != f"{{{SERVICE_NAMESPACE}}}{root_name}":
        raise broken_schema(
            f"{name}: the root element {local_name(root)} is not the expected one. Use {root_name} in"
            f" the namespace {SERVICE_NAMESPACE}."
        )
    schema = _packaged_schema()
    if schema.validate(root):
        return
    # A dictionary, because it keeps the order and drops duplicates.
    violations: dict[str, None] = {}
    for entry in schema.error_log:
        path = _path_in_words(root, entry.path)
        violations.setdefault(f"{path} {_rule_in_words(entry.type_name, entry.message)}")
        if len(violations) == _MAX_SHOWN_VIOLATIONS:
            break
    raise broken_schema(
        f"{name} breaks the schema. Correct these elements: {'; '.join(violations)}."
    )


def local_name(element: Element) -> str:
    """The name of an element without its namespace."""
    return etree.QName(element).localname


def _packaged_schema() -> etree.XMLSchema:
    # Loaded for every validation: a schema object holds the errors of its last validation, so threads
    # must not share it.
    with resources.as_file(resources.files("posten_signering_xml") / "schema") as folder:
        return etree.XMLSchema(file=str(folder / "direct.xsd"))


def _path_in_words(root: Element, path: str | None) -> str:
    steps: list[str] = []
    element = root
    for step in _STEP.finditer((path or "").removeprefix("/").partition("/")[2]):
        name, position = step.groups()
        children = [child for child in element if name in {"*", local_name(child)}]
        if len(children) < int(position or 1):
            break
        element = children[int(position or 1) - 1]
        same_name = [child for child in children if child.tag == element.tag]
        index = f"[{same_name.index(element)}]" if len(same_name) > 1 else ""
        steps.append(local_name(element) + index)
    return "/".join(steps) or local_name(root)


_STEP = re.compile(r"(?:[^/:\[]+:)?([^/:\[]+)(?:\[([0-9]+)\])?(?:/|$)")
"""A step of a path in the validator's error log: `*[2]`, `signer`, `p:signer[1]`."""

_RULES = {
    "SCHEMAV_CVC_PATTERN_VALID": "does not match the pattern of its type",
    "SCHEMAV_CVC_MAXLENGTH_VALID": "is longer than its type allows",
    "SCHEMAV_CVC_MINLENGTH_VALID": "is shorter than its type allows",
    "SCHEMAV_CVC_ENUMERATION_VALID": "is not one of the values of its type",
    "SCHEMAV_CVC_COMPLEX_TYPE_4": "does not have a required attribute",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1": "has an attribute that the schema does not allow",
    "SCHEMAV_CVC_COMPLEX_TYPE_3_2_2": "has an attribute that the schema does not allow",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_1": "must be empty",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_2": "must contain text only",
    "SCHEMAV_CVC_COMPLEX_TYPE_2_3": "must contain elements only",
    "SCHEMAV_CVC_TYPE_3_1_2": "must contain text only",
}
"""The violated rule in words, by the validator's name of the rule. The validator's own message is not
shown, because it quotes the value."""


def _rule_in_words(rule: str, message: str | None) -> str:
    if rule == "SCHEMAV_ELEMENT_CONTENT":
        expected = re.search(r"Expected is (?:one of )?\(([^()]*)\)", message or "")
        is_missing = "Missing child" in (message or "")
        rule_text = "has a missing child element" if is_missing else "is not expected here"
        if expected is None:
            return rule_text
        names = re.sub(r"\{[^{}]*\}", "", expected[1])
        return f"{rule_text} (expected: {' '.join(names.split()).replace(' ,', ',')})"
    # The message begins with the names of the element and the attribute. The values follow.
    attribute = re.match(
        r"Element '[^']*'(?:, attribute '|: The attribute ')([^']*)'", message or ""
    )
    prefix = f"(attribute {attribute[1]}) " if attribute is not None else ""
    return prefix + _RULES.get(rule, "is not valid for its type")
