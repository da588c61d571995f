"""XML in, XML out: strict parse, render, validate. Performs no I/O but reading the packaged schema.

Strict about what breaks, lenient about what the service adds over time. Errors of lxml and xsdata quote
values, identity numbers among them: they are neither chained nor quoted here.
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
# libxml2 cuts its messages off at 64,000 bytes, and the rule stands at their end, behind the value.
_MOST_TO_VALIDATE = 15_000

_XSI_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"

Element: TypeAlias = etree._Element  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - lxml has no public name for it

M = TypeVar("M")


def _construct(cls: Any, params: dict[str, Any]) -> Any:  # noqa: ANN401 - a generated model, which pydantic does not type
    # Without validation: a value or element that is new to us must not break reading, and pydantic's
    # ValidationError quotes values. What is required is checked where it is read.
    return cls.model_construct(**params)


# Building these costs more than using them, and neither holds state between calls.
_CONTEXT = XmlContext()
_PARSER_CONFIG = ParserConfig(fail_on_unknown_properties=False, class_factory=_construct)
_SERIALIZER = XmlSerializer(
    context=_CONTEXT, config=SerializerConfig(xml_declaration=True, encoding="UTF-8")
)


def read(document: Secret[bytes]) -> Element | None:
    """The root element of a well-formed, harmless document; None where it is not.

    Refuses any DOCTYPE, and with it every entity. Comments and processing instructions are left
    out, since one inside a value would cut the value off there.
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
    """The message in an answer of the service, as a generated model.

    Raises:
        UnexpectedResponseError: Not XML, cut off, with a DOCTYPE, another message than expected, or
            a single element given more than once.
    """
    root = read(document)
    meta = _meta(cls)
    expected = etree.QName(meta.qname)
    if root is None:
        raise UnexpectedResponseError(
            f"The service's answer is not a whole XML document; expected {expected.localname}."
        )
    if root.tag != meta.qname:
        raise UnexpectedResponseError(
            f"The service answered with another document than {expected.localname}."
        )
    repeated = next(_repeated(root, meta), None)
    if repeated is not None:
        raise UnexpectedResponseError(
            f"The service's {expected.localname} holds more than one {repeated}."
        )
    # xsi:type would have the parser build another class than the one that is read from.
    etree.strip_attributes(root, _XSI_TYPE)
    parser = XmlParser(config=_PARSER_CONFIG, context=_CONTEXT, handler=LxmlEventHandler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConverterWarning)
            return parser.parse(root, cls)
    except (ParserError, ValueError):
        pass
    raise UnexpectedResponseError(f"The service's {expected.localname} can't be read.")


def text_of_child(document: Secret[bytes], cls: type, name: str) -> str | None:
    """The text of a field that stands once, in a message that `parse` may refuse for something else.

    None where the document is not whole, or not this message, or the field is not there once.
    """
    root, meta = read(document), _meta(cls)
    if root is None or root.tag != meta.qname:
        return None
    [field] = [each for each in meta.get_element_vars() if each.name == name]
    found = root.findall(field.qname)
    return (found[0].text or "").strip() if len(found) == 1 else None


def _meta(cls: type) -> XmlMeta:
    return _CONTEXT.build(cls)  # pyright: ignore[reportUnknownMemberType] - xsdata leaves a dict untyped


def _repeated(element: Element, meta: XmlMeta) -> Iterator[str]:
    """Names of children that the schema knows once and that stand more than once.

    Of such children the parser would take the first in silence.
    """
    for var in meta.get_element_vars():
        children = element.findall(var.qname)
        if len(children) > 1 and not var.list_element:
            yield var.local_name
        if var.clazz is not None:
            for child in children:
                yield from _repeated(child, _meta(var.clazz))


def moment(value: object) -> datetime | None:
    """A field of type xs:dateTime as an aware datetime: without an offset it is taken for UTC.

    None where the field was absent, or held what no datetime can.
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


@cache
def schema() -> etree.XMLSchema:
    """The packaged schema, ready to validate. Costs some milliseconds the first time."""
    folder = files("posten_signering_xml") / "schema"

    class Packaged(etree.Resolver):
        def resolve(self, system_url: str | None, public_id: str | None, context: Any) -> Any:  # noqa: ANN401, ARG002 - the base's signature, with lxml's opaque types
            name = (system_url or "").rpartition("/")[2]
            return self.resolve_string((folder / name).read_bytes(), context, base_url=name)

    parser = etree.XMLParser(no_network=True, load_dtd=False)
    parser.resolvers.add(Packaged())
    root = etree.fromstring((folder / "direct.xsd").read_bytes(), parser, base_url="direct.xsd")
    return etree.XMLSchema(root)


# A schema has one error log, and jobs are checked in several threads.
_VALIDATING = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFault:
    """One rule of the schema that a document breaks.

    Attributes:
        path: From below the root: local names, each with its index among siblings of its name;
            None where all of that name are meant.
        rule: The rule in words, without the offending value.
    """

    path: tuple[tuple[str, int | None], ...]
    rule: str


def faults(document: Secret[bytes]) -> tuple[SchemaFault, ...]:
    """Every rule of the packaged schema that a rendered message breaks."""
    # It is ours, and as large as the caller's texts: what is too long is for the schema to say.
    root = etree.fromstring(document.reveal(), etree.XMLParser(huge_tree=True))
    paths = {element: _path(element) for element in root.iter()}
    for element in paths:
        element.text = element.text and element.text[:_MOST_TO_VALIDATE]
    found = list[SchemaFault]()
    while True:
        surplus: Element | None = None
        for entry in _schema_errors(root):
            (element,) = cast("list[Element]", root.xpath(entry.path or "."))
            if entry.type_name == "SCHEMAV_ELEMENT_CONTENT" and "not expected" in entry.message:
                # The first one: what stands behind it has not been checked yet.
                surplus = element if surplus is None else surplus
                continue
            rule = _rule(entry.type_name, entry.message)
            found.append(SchemaFault(path=paths[element], rule=rule))
        if surplus is None:
            return tuple(dict.fromkeys(found))
        # The validator checks nothing behind an element that is one too many. Without those before it,
        # which have been checked, the element is one of those that are allowed.
        parent = cast("Element", surplus.getparent())
        alike = list(surplus.itersiblings(etree.QName(surplus), preceding=True))
        name, _ = paths[surplus][-1]
        if alike:
            path = (*paths[surplus][:-1], (name, None))
            found.append(SchemaFault(path=path, rule=f"at most {len(alike)}"))
        # With none alike it is the second of two elements that exclude each other.
        previous = surplus.getprevious()
        for checked in alike or [surplus if previous is None else previous]:
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
    """The rule behind a validator's message, which quotes the value before it tells the rule."""
    match type_name:
        case "SCHEMAV_CVC_MAXLENGTH_VALID":
            most = _last(r"maximum length of .(\d+).", message)
            return f"at most {most} characters"
        case "SCHEMAV_CVC_MINLENGTH_VALID":
            least = _last(r"minimum length of .(\d+).", message)
            return f"at least {least} character{'' if least == '1' else 's'}"
        case "SCHEMAV_CVC_PATTERN_VALID":
            pattern = _last(r"accepted by the pattern '(.*?)'\.$", message)
            digits = re.fullmatch(r"\[0-9\]\{(\d+)\}", pattern)
            return f"exactly {digits[1]} digits" if digits else f"must match {pattern}"
        case "SCHEMAV_CVC_ENUMERATION_VALID":
            return "one of " + _last(r"of the set \{(.*?)\}\.$", message).replace("'", "")
        case "SCHEMAV_ELEMENT_CONTENT":
            return "at least one is required"
        case _:
            return "must keep to the schema"


def _last(pattern: str, message: str) -> str:
    """The last match: what a value holds of the same words stands before it."""
    return cast("re.Match[str]", re.match(f".*{pattern}", message.strip(), re.DOTALL))[1]
