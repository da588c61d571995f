"""Parses, renders and validates XML messages. The only I/O is reading the packaged schema.

Errors of lxml and xsdata quote values, which may be identity numbers. They are neither chained nor quoted.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias, TypeVar, cast

from lxml import etree
from xsdata.formats.converter import converter
from xsdata.formats.dataclass.context import XmlContext
from xsdata.formats.dataclass.models.elements import XmlMeta, XmlVar
from xsdata.models.datatype import XmlDateTime

from posten_signering._values.secret import Secret
from posten_signering.errors import UnexpectedResponseError

NAMESPACE = "http://signering.posten.no/schema/v1"
# libxml2 truncates its messages at 64,000 bytes, and names the rule at their end, after the value.
# Longer texts are cut before validation, so that the rule remains in the message.
_LONGEST_VALIDATED_TEXT = 15_000

# Reading blocks the event loop. The largest message that the schema allows has fewer than 100.
_MOST_PARTS = 500

_DECLARATION = b'<?xml version="1.0" encoding="UTF-8"?>\n'
_XSI_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"

# How XML Schema writes a whole number and a time (1.0, part 2, 3.2.7 and 3.3.13). Python and xsdata
# accept more, for example 1_000 and digits outside ASCII.
_INTEGER = re.compile(r"[ \t\r\n]*[+-]?[0-9]+[ \t\r\n]*")
_TIME = re.compile(
    r"[ \t\r\n]*[0-9]{4}-[0-9]{2}-[0-9]{2}"
    r"T(?:(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]+)?|24:00:00(?:\.0+)?)"
    r"(?:Z|[+-](?:(?:0[0-9]|1[0-3]):[0-5][0-9]|14:00))?[ \t\r\n]*"
)
_WRITTEN_AS: dict[type, re.Pattern[str]] = {int: _INTEGER, XmlDateTime: _TIME}

Element: TypeAlias = etree._Element  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - lxml has no public name for it

M = TypeVar("M")

_Path: TypeAlias = tuple[tuple[str, int | None], ...]


# Builds the XmlMeta of a generated model: the names, order and types of its elements and attributes.
_CONTEXT = XmlContext(class_type="pydantic")

# Without a DOCTYPE there are no entities. Comments and processing instructions are removed, because a value
# with one inside would be read only up to there. There is one parser for all threads, because creating one takes
# as long as reading a response. lxml locks it while it is in use.
_PARSER = etree.XMLParser(
    resolve_entities=False,
    no_network=True,
    load_dtd=False,
    huge_tree=False,
    remove_comments=True,
    remove_pis=True,
)


def read(document: Secret[bytes]) -> Element | None:
    """The root element of a document; None if it is not well-formed or has a DOCTYPE."""
    try:
        root = etree.fromstring(document.reveal(), _PARSER)
    except (etree.XMLSyntaxError, ValueError):
        return None
    return None if root.getroottree().docinfo.doctype else root


def parse(
    document: Secret[bytes],
    cls: type[M],
    *,
    known: tuple[type, ...],
    may_be_empty: frozenset[str] = frozenset(),
) -> M:
    """The message in a response of the service, as a generated model.

    Elements and attributes that the schema does not have are ignored, with everything in them.

    Args:
        document: The response.
        cls: The model of the expected message.
        known: The models whose elements are known. A known element in a place or a namespace that the
            schema does not give it is an error.
        may_be_empty: The names of the elements whose text may be empty.

    Raises:
        UnexpectedResponseError: The document is not complete XML, has a DOCTYPE, is a different
            message, has far more parts than the schema allows, or does not have the values of its known
            elements as the schema writes them.
    """
    root = read(document)
    meta = _meta(cls)
    expected = meta.qname.rpartition("}")[2]
    if root is None:
        raise UnexpectedResponseError(
            f"The response is not a complete XML document, or has a DOCTYPE; expected "
            f"{expected}. A proxy may have responded instead of the service."
        )
    if root.tag != meta.qname:
        raise UnexpectedResponseError(
            f"The response is a different document; expected {expected}. A proxy may have "
            "responded instead of the service."
        )
    # Each part has at least four bytes, so most responses need not be counted.
    if len(document.reveal()) > 4 * _MOST_PARTS and _has_too_many_parts(root):
        too_many = f"has more than {_MOST_PARTS} elements, attributes and namespace declarations"
        raise UnexpectedResponseError(problem_text(cls, too_many))
    reader = _Reader(known_names=_known_names(known), may_be_empty=may_be_empty)
    try:
        return cast("M", reader.model(root, expected, meta))
    except _ProblemError as error:
        problem = str(error)
    # Raised outside `except`, because the frames of the first error hold values.
    raise UnexpectedResponseError(problem_text(cls, problem))


def problem_text(cls: type, problem: str) -> str:
    """The message of the error for a problem of the service's message with this model.

    Args:
        cls: The model of the message.
        problem: The problem, in words that follow the name of the message.
    """
    name = etree.QName(_meta(cls).qname).localname
    return f"The service's {name} {problem}. Contact Posten signering if this continues."


def text_of_child(document: Secret[bytes], cls: type, name: str) -> str | None:
    """The text of one field, in a message that `parse` may refuse because of a different field.

    None if the document is not complete XML or not this message, if the message has no field of this
    name, or if its element is not there exactly once with a text.
    """
    root, meta = read(document), _meta(cls)
    if root is None or root.tag != meta.qname:
        return None
    children = [
        child
        for var in meta.get_element_vars()
        if var.name == name
        for child in root.iterfind(var.qname)
    ]
    if len(children) != 1 or len(children[0]) or _is_nil(children[0]):
        return None
    return children[0].text


def _has_too_many_parts(root: Element) -> bool:
    parts = 0
    for _, part in etree.iterwalk(root, events=("start", "start-ns")):
        parts += 1 + (len(part.attrib) if isinstance(part, Element) else 0)
        if parts > _MOST_PARTS:
            return True
    return False


def _meta(cls: type, parent_namespace: str | None = None) -> XmlMeta:
    return _CONTEXT.build(cls, parent_namespace)  # pyright: ignore[reportUnknownMemberType] - xsdata leaves a dict untyped


@cache
def _known_names(models: tuple[type, ...]) -> frozenset[str]:
    """The local names of these messages and of their elements, at every depth."""
    roots = (etree.QName(_meta(model).qname).localname for model in models)
    return frozenset(roots).union(*(_names_below(_meta(model)) for model in models))


def _names_below(meta: XmlMeta) -> Iterator[str]:
    for var in meta.get_element_vars():
        if var.is_element:
            yield var.local_name
        if var.clazz is not None:
            yield from _names_below(_meta(var.clazz, meta.namespace))


class _ProblemError(Exception):
    """What is wrong with a message, in words that follow its name and quote no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reader:
    """Reads elements as generated models. An element that would lose or change a value is a problem.

    The models are not validated: a new value or element must not break reading, and pydantic's errors
    quote values. The readers in `messages` check that required fields are there.
    """

    known_names: frozenset[str]
    may_be_empty: frozenset[str]

    def model(self, element: Element, name: str, meta: XmlMeta) -> Any:  # noqa: ANN401 - a generated model
        """The model of an element: of a message, or of a part with elements or attributes."""
        fields = _attributes(element, name, meta)
        if meta.text is not None:
            fields[meta.text.name] = self._value(element, name, meta.text)
        else:
            self._add_elements(fields, element, meta)
            if _is_nil(element):
                raise _ProblemError(f"has {name} without a value (xsi:nil)")
        return cast("Any", meta.clazz).model_construct(**fields)

    def _add_elements(self, fields: dict[str, Any], element: Element, meta: XmlMeta) -> None:
        for (var,) in meta.elements.values():
            if var.list_element:
                # If it were missing, pydantic would inspect the signature of `list`, which costs 0.05 ms.
                fields[var.name] = []
        for child in element:
            tag = cast("str", child.tag)  # Comments, whose tag is a function, are removed.
            if tag not in meta.elements:
                local_name = tag.rpartition("}")[2]
                if local_name in self.known_names:
                    raise _ProblemError(f"has {local_name} in the wrong place or namespace")
                continue
            (var,) = meta.elements[tag]
            if var.name in fields and not var.list_element:
                raise _ProblemError(f"has more than one {var.local_name}")
            if var.clazz is None:
                value = self._value(child, var.local_name, var)
            else:
                value = self.model(child, var.local_name, _meta(var.clazz, meta.namespace))
            if var.list_element:
                fields[var.name].append(value)
            else:
                fields[var.name] = value

    def _value(self, element: Element, name: str, var: XmlVar) -> object:
        text = element.text or ""
        if len(element):
            raise _ProblemError(f"has an element inside the text of {name}")
        if _is_nil(element):
            raise _ProblemError(f"has {name} without a value (xsi:nil)")
        if not text.strip():
            if name not in self.may_be_empty:
                raise _ProblemError(f"has an empty {name}")
        elif not _is_written_as(var, text):
            raise _ProblemError(f"has no readable {name}")
        return _converted(var, text)


def _attributes(element: Element, name: str, meta: XmlMeta) -> dict[str, Any]:
    fields = dict[str, Any]()
    # With `items`, lxml would search for the value of each attribute from the first one on.
    for attribute in element.keys():  # noqa: SIM118 - an element iterates over its children
        var = meta.attributes.get(attribute)
        if var is None:
            # An attribute of a different namespace is an error only in place of the schema's.
            local_name = attribute.rpartition("}")[2]
            if any(
                known.local_name == local_name and element.get(key) is None
                for key, known in meta.attributes.items()
            ):
                raise _ProblemError(
                    f"has the attribute {local_name} of {name} in the wrong namespace"
                )
            continue
        text = element.get(attribute, "")
        if not _is_written_as(var, text):
            raise _ProblemError(f"has no readable {var.local_name} of {name}")
        fields[var.name] = _converted(var, text)
    return fields


def _is_nil(element: Element) -> bool:
    nil = element.get(_XSI_NIL)
    return nil is not None and nil.strip() not in ("false", "0")


def _is_written_as(var: XmlVar, text: str) -> bool:
    """Whether the schema writes a value of the field's type like this."""
    pattern = _WRITTEN_AS.get(var.types[0])
    return pattern is None or pattern.fullmatch(text) is not None


def _converted(var: XmlVar, text: str) -> object:
    """The text as a value of the field's type; the text itself if the type lacks it, as for a new status."""
    kind = var.types[0]
    # `moment` reads the text of a time. As xsdata's XmlDateTime, each time would cost 0.02 ms more.
    if kind is str or kind is XmlDateTime:
        return text
    try:
        return kind(text.strip())  # a whole number, or the member of an enumeration
    except ValueError:
        return text


def moment(text: str) -> datetime | None:
    """A field of type xs:dateTime as an aware datetime. A time without an offset is read as UTC.

    None if a datetime can't represent the time, in its own offset or in UTC.

    Args:
        text: A time that `parse` has accepted, without white space around it.
    """
    try:
        # 24:00:00 is the next day's midnight (XML Schema 1.0, part 2, 3.2.7).
        time = datetime.fromisoformat(text.replace("T24", "T00"))
        time += timedelta(days="T24" in text)
        time = time if time.tzinfo else time.replace(tzinfo=UTC)
        # Comparing and sorting convert to UTC.
        time.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return time


def tree(message: object) -> Element:
    """A generated model as a tree of elements, which `render` and `faults` take."""
    meta = _meta(type(message))
    root = etree.Element(meta.qname, nsmap={None: NAMESPACE})
    _fill(root, message, meta)
    return root


def _fill(element: Element, model: object, meta: XmlMeta) -> None:
    # xsdata's own TreeSerializer takes five times as long.
    for var in meta.attributes.values():
        value = getattr(model, var.name)
        if value is not None:
            element.set(var.qname, _as_text(value))
    if meta.text is not None:
        element.text = _as_text(getattr(model, meta.text.name)) or None
    for (var,) in meta.elements.values():
        value = getattr(model, var.name)
        values: list[object] = value if var.list_element else [] if value is None else [value]
        for item in values:
            child = etree.SubElement(element, var.qname)
            if var.clazz is None:
                # None instead of an empty text makes it <name/> instead of <name></name>.
                child.text = _as_text(item) or None
            else:
                _fill(child, item, _meta(var.clazz, meta.namespace))


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else converter.serialize(value)


def render(root: Element) -> Secret[bytes]:
    """A tree as an XML document in UTF-8."""
    return Secret(_DECLARATION + etree.tostring(root, encoding="UTF-8", xml_declaration=False))


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

    path: _Path
    rule: str


def faults(root: Element) -> tuple[SchemaFault, ...]:
    """Every rule of the packaged schema that a message breaks."""
    if not _schema_errors(root):
        return ()
    root = deepcopy(root)  # because texts are cut, and elements removed
    paths = _paths(root)
    counts = Counter(_of_all_siblings(path) for path in paths.values())
    lengths = {path: len(element.text or "") for element, path in paths.items()}
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
            rule = _rule(entry.type_name, entry.message, lengths[paths[element]])
            schema_faults.append(SchemaFault(path=paths[element], rule=rule))
        if surplus is None:
            return tuple(dict.fromkeys(schema_faults))
        # The validator checks nothing after a surplus element. Remove the siblings before it, which
        # have been checked: the element is then within the limit, and the next run gets further.
        parent = cast("Element", surplus.getparent())
        siblings = list(surplus.itersiblings(etree.QName(surplus), preceding=True))
        if siblings:
            path = _of_all_siblings(paths[surplus])
            rule = f"at most {len(siblings)}, but there are {counts[path]}"
            schema_faults.append(SchemaFault(path=path, rule=rule))
        # Without siblings it is the second of two elements that exclude each other.
        previous = surplus.getprevious()
        for checked in siblings or [surplus if previous is None else previous]:
            parent.remove(checked)


def _schema_errors(root: Element) -> list[etree._LogEntry]:  # pyright: ignore[reportPrivateUsage] - lxml has no public name for it
    with _VALIDATING:
        return [] if schema().validate(root) else list(schema().error_log)


def _paths(root: Element) -> dict[Element, _Path]:
    """The path of each element."""
    paths: dict[Element, _Path] = {root: ()}
    for parent in root.iter():
        indexes = Counter[str]()
        for child in parent:
            name = etree.QName(child).localname
            paths[child] = (*paths[parent], (name, indexes[name]))
            indexes[name] += 1
    return paths


def _of_all_siblings(path: _Path) -> _Path:
    """The path that names an element and its siblings with the same name."""
    return (*path[:-1], *((name, None) for name, _ in path[-1:]))


def _rule(type_name: str, message: str, length: int) -> str:
    """The rule in a validator's message, with the length of the value where the rule limits it.

    The message quotes the value first, and then names the rule.
    """
    match type_name:
        case "SCHEMAV_CVC_MAXLENGTH_VALID":
            longest = _last(r"maximum length of .(\d+).", message)
            return f"at most {longest} characters, but it has {length}"
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
