"""Parses, renders and validates XML messages. The only I/O is reading the packaged schema.

Errors of lxml and xsdata quote values, which may be identity numbers. They are neither chained nor quoted.
"""

import re
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar, cast

from lxml import etree
from xsdata.exceptions import ConverterWarning, ParserError
from xsdata.formats.dataclass.models.elements import XmlMeta
from xsdata.formats.dataclass.parsers.config import ParserConfig
from xsdata.formats.dataclass.parsers.handlers import LxmlEventHandler
from xsdata.formats.dataclass.serializers.config import SerializerConfig
from xsdata.models.datatype import XmlDateTime
from xsdata_pydantic.bindings import XmlContext, XmlParser, XmlSerializer

from posten_signering._values.secret import Secret
from posten_signering.errors import UnexpectedResponseError

NAMESPACE = "http://signering.posten.no/schema/v1"
# libxml2 truncates its messages at 64,000 bytes, and names the rule at their end, after the value.
# Longer texts are cut before validation, so that the rule remains in the message.
_LONGEST_VALIDATED_TEXT = 15_000

# The parser's time grows with the product of their numbers, and it blocks the event loop. The largest
# message that the schema allows has fewer than 100.
_MOST_PARTS = 500

_ADVICE = "Contact Posten signering if this continues."

_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"

Element: TypeAlias = etree._Element  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - lxml has no public name for it

M = TypeVar("M")


def _construct(cls: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401 - a generated model, which pydantic does not type
    # Without validation, because a new value or element must not break reading, and pydantic's
    # ValidationError quotes values. The readers in `messages` check that required fields are there.
    return cls.model_construct(**params)


# These are expensive to build, and hold no state between calls.
_CONTEXT = XmlContext()
_PARSER_CONFIG = ParserConfig(fail_on_unknown_properties=False, class_factory=_construct)
_SERIALIZER = XmlSerializer(
    context=_CONTEXT, config=SerializerConfig(xml_declaration=True, encoding="UTF-8")
)


def read(document: Secret[bytes]) -> Element | None:
    """The root element of a document; None if it is not well-formed or has a DOCTYPE.

    Without a DOCTYPE there are no entities. Comments and processing instructions are removed, because
    a value with one inside would be read only up to there.
    """
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(document.reveal(), parser)
    except (etree.XMLSyntaxError, ValueError):
        return None
    return None if root.getroottree().docinfo.doctype else root


def parse(document: Secret[bytes], cls: type[M]) -> M:
    """The message in a response of the service, as a generated model.

    Raises:
        UnexpectedResponseError: The document is not complete XML, has a DOCTYPE, is a different
            message, has far more parts than the schema allows, or several elements where the schema
            allows one.
    """
    root = read(document)
    meta = _meta(cls)
    expected = etree.QName(meta.qname)
    if root is None:
        raise UnexpectedResponseError(
            f"The response is not a complete XML document, or has a DOCTYPE; expected "
            f"{expected.localname}. A proxy may have responded instead of the service."
        )
    if root.tag != meta.qname:
        raise UnexpectedResponseError(
            f"The response is a different document; expected {expected.localname}. A proxy may have "
            "responded instead of the service."
        )
    if _has_too_many_parts(root):
        raise UnexpectedResponseError(
            f"The service's {expected.localname} has more than {_MOST_PARTS} elements, attributes and "
            f"namespace declarations. {_ADVICE}"
        )
    repeated = next(_repeated(root, meta), None)
    if repeated is not None:
        raise UnexpectedResponseError(
            f"The service's {expected.localname} has more than one {repeated}. {_ADVICE}"
        )
    # With xsi:type, a response could choose which class the parser builds.
    etree.strip_attributes(root, _XSI_TYPE)
    parser = XmlParser(config=_PARSER_CONFIG, context=_CONTEXT, handler=LxmlEventHandler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConverterWarning)
            return parser.parse(root, cls)
    except (ParserError, ValueError):
        pass
    raise UnexpectedResponseError(f"The service's {expected.localname} can't be read. {_ADVICE}")


def text_of_child(document: Secret[bytes], cls: type, name: str) -> str | None:
    """The text of one field, in a message that `parse` may refuse because of a different field.

    None if the document is not complete XML or not this message, or if the field is not there exactly
    once.
    """
    root, meta = read(document), _meta(cls)
    if root is None or root.tag != meta.qname:
        return None
    [field] = [var for var in meta.get_element_vars() if var.name == name]
    children = root.findall(field.qname)
    return (children[0].text or "").strip() if len(children) == 1 else None


def _has_too_many_parts(root: Element) -> bool:
    parts = 0
    for _, part in etree.iterwalk(root, events=("start", "start-ns")):
        parts += 1 + (len(part.attrib) if isinstance(part, Element) else 0)
        if parts > _MOST_PARTS:
            return True
    return False


def _meta(cls: type) -> XmlMeta:
    return _CONTEXT.build(cls)  # pyright: ignore[reportUnknownMemberType] - xsdata leaves a dict untyped


def _repeated(element: Element, meta: XmlMeta) -> Iterator[str]:
    """The names of elements of which the schema allows one and the document has several.

    The parser would take the first one without an error.
    """
    for var in meta.get_element_vars():
        children = element.findall(var.qname)
        if len(children) > 1 and not var.list_element:
            yield var.local_name
        if var.clazz is not None:
            for child in children:
                yield from _repeated(child, _meta(var.clazz))


def moment(value: object) -> datetime | None:
    """A field of type xs:dateTime as an aware datetime. A time without an offset is read as UTC.

    None if the field is missing, or if a datetime can't represent its value.
    """
    if not isinstance(value, XmlDateTime):
        return None
    try:
        # 24:00:00 is the next day's midnight (XML Schema 1.0, part 2, 3.2.7).
        time = value.replace(hour=value.hour % 24).to_datetime() + timedelta(days=value.hour // 24)
    except (ValueError, OverflowError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def render(message: object) -> Secret[bytes]:
    """A generated model as an XML document in UTF-8."""
    text = _SERIALIZER.render(message, ns_map={None: NAMESPACE})  # pyright: ignore[reportUnknownMemberType] - xsdata leaves a dict untyped
    return Secret(text.encode())


# While lxml loads a schema whose files come from a resolver, libxml2 has global state.
_LOADING = threading.Lock()


def schema() -> etree.XMLSchema:
    """The packaged schema for validation. The first call takes some milliseconds."""
    with _LOADING:
        return _loaded_schema()


@cache
def _loaded_schema() -> etree.XMLSchema:
    folder = files("posten_signering_xml") / "schema"

    class Packaged(etree.Resolver):
        def resolve(self, system_url: str | None, public_id: str | None, context: Any) -> Any:  # noqa: ANN401, ARG002 - the base's signature, with lxml's opaque types
            name = (system_url or "").rpartition("/")[2]
            return self.resolve_string((folder / name).read_bytes(), context, base_url=name)

    parser = etree.XMLParser(no_network=True, load_dtd=False)
    parser.resolvers.add(Packaged())
    root = etree.fromstring((folder / "direct.xsd").read_bytes(), parser, base_url="direct.xsd")
    return etree.XMLSchema(root)


# Jobs are checked in several worker threads, and the schema has only one error log.
_VALIDATING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFault:
    """One rule of the schema that a document breaks.

    Attributes:
        path: The elements from below the root to the one at fault: the local name of each, and its
            index among siblings with the same name. None means all siblings with that name.
        rule: The rule in words, without the offending value.
    """

    path: tuple[tuple[str, int | None], ...]
    rule: str


def faults(document: Secret[bytes]) -> tuple[SchemaFault, ...]:
    """Every rule of the packaged schema that a rendered message breaks."""
    # The document was rendered here, so a large tree is safe. The caller's texts may be very long.
    root = etree.fromstring(document.reveal(), etree.XMLParser(huge_tree=True))
    paths = {element: _path(element) for element in root.iter()}
    for element in paths:
        element.text = element.text and element.text[:_LONGEST_VALIDATED_TEXT]
    schema_faults = list[SchemaFault]()
    while True:
        surplus: Element | None = None
        for entry in _schema_errors(root):
            (element,) = cast("list[Element]", root.xpath(entry.path or "."))
            if entry.type_name == "SCHEMAV_ELEMENT_CONTENT" and "not expected" in entry.message:
                # Keep the first surplus element: the elements after it have not been checked yet.
                surplus = element if surplus is None else surplus
                continue
            rule = _rule(entry.type_name, entry.message)
            schema_faults.append(SchemaFault(path=paths[element], rule=rule))
        if surplus is None:
            return tuple(dict.fromkeys(schema_faults))
        # The validator checks nothing after a surplus element. Remove the siblings before it, which
        # have been checked: the element is then within the limit, and the next run gets further.
        parent = cast("Element", surplus.getparent())
        siblings = list(surplus.itersiblings(etree.QName(surplus), preceding=True))
        name, _ = paths[surplus][-1]
        if siblings:
            path = (*paths[surplus][:-1], (name, None))
            schema_faults.append(SchemaFault(path=path, rule=f"at most {len(siblings)}"))
        # Without siblings it is the second of two elements that exclude each other.
        previous = surplus.getprevious()
        for checked in siblings or [surplus if previous is None else previous]:
            parent.remove(checked)


def _schema_errors(root: Element) -> list[etree._LogEntry]:  # pyright: ignore[reportPrivateUsage] - lxml has no public name for it
    with _VALIDATING:
        return [] if schema().validate(root) else list(schema().error_log)


def _path(element: Element) -> tuple[tuple[str, int | None], ...]:
    parent = element.getparent()
    if parent is None:
        return ()
    name = etree.QName(element)
    index = len(list(element.itersiblings(name, preceding=True)))
    return (*_path(parent), (name.localname, index))


def _rule(type_name: str, message: str) -> str:
    """The rule in a validator's message. The message quotes the value first, and then names the rule."""
    match type_name:
        case "SCHEMAV_CVC_MAXLENGTH_VALID":
            longest = _last(r"maximum length of .(\d+).", message)
            return f"at most {longest} characters"
        case "SCHEMAV_CVC_MINLENGTH_VALID":
            shortest = _last(r"minimum length of .(\d+).", message)
            return f"at least {shortest} character{'' if shortest == '1' else 's'}"
        case "SCHEMAV_CVC_PATTERN_VALID":
            pattern = _last(r"accepted by the pattern '(.*?)'\.$", message)
            digits = re.fullmatch(r"\[0-9\]\{(\d+)\}", pattern)
            return f"exactly {digits[1]} digits" if digits else f"must match {pattern}"
        case "SCHEMAV_CVC_ENUMERATION_VALID":
            return "one of " + _last(r"of the set \{(.*?)\}\.$", message).replace("'", "")
        case "SCHEMAV_ELEMENT_CONTENT":
            return "at least one is required"
        case _:
            return "must conform to the schema"


def _last(pattern: str, message: str) -> str:
    """The last match. A value that imitates the validator's words is quoted before the rule."""
    return cast("re.Match[str]", re.match(f".*{pattern}", message.strip(), re.DOTALL))[1]
