"""Every message of the direct flow, parsed and rendered with the generated models.

lxml's XMLSchema validates the result. Python's own canonical XML, which shares no code with lxml, compares it.
"""

from __future__ import annotations

import subprocess
import sys
import warnings
from collections.abc import Iterator
from enum import Enum
from importlib.resources import as_file, files
from itertools import product
from pathlib import Path
from xml.etree.ElementTree import canonicalize

import posten_signering_xml as models
import pytest
from lxml import etree
from pydantic import BaseModel
from xsdata.exceptions import ConverterWarning
from xsdata.formats.dataclass.models.elements import XmlMeta
from xsdata.formats.dataclass.parsers.config import ParserConfig
from xsdata.formats.dataclass.parsers.handlers import LxmlEventHandler
from xsdata.formats.dataclass.serializers.config import SerializerConfig
from xsdata.models.datatype import XmlDateTime
from xsdata_pydantic.bindings import XmlContext, XmlParser, XmlSerializer

from posten_signering._values.secret import Secret
from posten_signering._wire import xml
from posten_signering.errors import UnexpectedResponseError

NAMESPACE = "http://signering.posten.no/schema/v1"
EXAMPLES = {
    path.stem: path for path in sorted((Path(__file__).parents[1] / "messages").glob("*.xml"))
}
CLASSES = {
    "request": models.DirectSignatureJobRequest,
    "request-minimal": models.DirectSignatureJobRequest,
    "manifest": models.DirectSignatureJobManifest,
    "manifest-minimal": models.DirectSignatureJobManifest,
    "manifest-legacy": models.DirectSignatureJobManifest,
    "response": models.DirectSignatureJobResponse,
    "response-polling": models.DirectSignatureJobResponse,
    "signer-response": models.DirectSignerResponse,
    "signer-update-request": models.DirectSignerUpdateRequest,
    "status-response": models.DirectSignatureJobStatusResponse,
    "status-response-in-progress": models.DirectSignatureJobStatusResponse,
    "status-response-failed": models.DirectSignatureJobStatusResponse,
    "error": models.Error,
}
CONTEXT = XmlContext()
every_example = pytest.mark.parametrize("name", sorted(CLASSES))


@pytest.fixture(scope="module")
def schema():
    with as_file(files(models) / "schema") as folder:
        return etree.XMLSchema(file=str(folder / "direct.xsd"))


def tree(content: bytes):
    return etree.fromstring(content, etree.XMLParser(remove_comments=True))


def parse(content: bytes, cls: type):
    reader = XmlParser(config=ParserConfig(), context=CONTEXT, handler=LxmlEventHandler)
    return reader.parse(tree(content), cls)


def render(message: object) -> bytes:
    return XmlSerializer(context=CONTEXT).render(message, ns_map={None: NAMESPACE}).encode()


def canonical(content: bytes) -> str:
    return canonicalize(content.decode(), strip_text=True, rewrite_prefixes=True)


def test_every_root_element_of_the_schema_has_an_example():
    declared = {
        f"{{{NAMESPACE}}}{name}"
        for file in (files(models) / "schema").iterdir()
        for name in tree(file.read_bytes()).xpath(
            "/xs:schema/xs:element/@name", namespaces={"xs": "http://www.w3.org/2001/XMLSchema"}
        )
    }
    shown = {tree(path.read_bytes()).tag for path in EXAMPLES.values()}
    assert declared >= shown
    assert {name for name in declared if "direct" in name or name.endswith("}error")} == shown
    assert EXAMPLES.keys() == CLASSES.keys()


@every_example
def test_every_example_is_valid(name, schema):
    assert schema.validate(tree(EXAMPLES[name].read_bytes())), schema.error_log


@every_example
def test_a_message_is_unchanged_after_parsing_and_rendering(name, schema):
    original = EXAMPLES[name].read_bytes()
    message = parse(original, CLASSES[name])
    rendered = render(message)
    assert schema.validate(tree(rendered)), schema.error_log
    assert parse(rendered, CLASSES[name]) == message
    assert canonical(rendered) == canonical(original)


# --- The SDK's own rendering and reading, compared with xsdata's

MODELS = sorted(set(CLASSES.values()), key=lambda cls: cls.__name__)
# Characters that have an escape in XML, or that a parser may change.
TEXT = " <&>'\"]]> \t\r\n\x85\u2028 æ𝄞 "
TIME = "2031-02-03T04:05:06.789+01:00"


def metas(cls: type, namespace: str | None = None) -> Iterator[XmlMeta]:
    """How xsdata describes a model and the models in it."""
    meta = CONTEXT.build(cls, namespace)
    yield meta
    for var in meta.get_all_vars():
        if var.clazz is not None:
            yield from metas(var.clazz, meta.namespace)


def full(cls: type, text: str = TEXT) -> BaseModel:
    """A message with a value in every field, and two in every list."""
    fields = {}
    for var in CONTEXT.build(cls, NAMESPACE).get_all_vars():
        [kind] = var.types
        if var.clazz is not None:
            values = [full(kind, text), full(kind, text)]
        elif issubclass(kind, Enum):
            values = list(kind)
        else:
            values = {str: [text], int: [-7], XmlDateTime: [XmlDateTime.from_string(TIME)]}[kind]
        fields[var.name] = values if var.list_element else values[-1]
    return cls.model_construct(**fields)


def with_times_as_text(cls: type, fields: dict[str, object]) -> BaseModel:
    # `xml.parse` leaves a time as its text, and `xml.moment` reads that.
    return cls.model_construct(
        **{
            name: str(value) if isinstance(value, XmlDateTime) else value
            for name, value in fields.items()
        }
    )


def read_by_xsdata(document: bytes, cls: type) -> BaseModel:
    config = ParserConfig(fail_on_unknown_properties=False, class_factory=with_times_as_text)
    reader = XmlParser(config=config, context=CONTEXT, handler=LxmlEventHandler)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConverterWarning)
        return reader.parse(tree(document), cls)


def read(document: bytes, cls: type) -> BaseModel:
    return xml.parse(Secret(document), cls, known=(), may_be_empty=frozenset({"reference"}))


@pytest.mark.parametrize("cls", MODELS)
def test_the_models_have_only_the_kinds_of_fields_that_are_rendered_and_read(cls):
    """A schema with any others, such as xs:any, lists of tokens or xsi:nil, needs an extended `xml`."""
    for meta in metas(cls):
        kinds = [*meta.attributes.values(), *(var for [var] in meta.elements.values())]
        kinds += [] if meta.text is None else [meta.text]
        assert kinds == sorted(
            meta.get_all_vars(), key=lambda var: (not var.is_attribute, var.index)
        )
        assert meta.text is None or not meta.elements
        assert not meta.nillable
        for var in kinds:
            assert (var.nillable, var.tokens, var.wrapper, var.sequence, var.format) == (
                *(False, False),
                *(None, None, None),
            )
            assert var.default in (None, "", list)
            assert len(var.types) == 1
            # As functions, these read the schema's texts. `bool("false")`, for example, would be True.
            assert var.clazz or issubclass(var.types[0], (str, int, XmlDateTime, Enum))
            assert var.types[0] is not bool


@pytest.mark.parametrize("cls", MODELS)
@pytest.mark.parametrize("text", [TEXT, "", "x" * 20_000])
def test_a_message_with_every_field_is_rendered_as_by_xsdata(cls, text):
    config = SerializerConfig(xml_declaration=True, encoding="UTF-8")
    message = full(cls, text)
    by_xsdata = XmlSerializer(context=CONTEXT, config=config).render(message, {None: NAMESPACE})
    assert xml.render(xml.tree(message)).reveal() == by_xsdata.encode()


@every_example
def test_an_example_is_rendered_as_by_xsdata(name):
    message = parse(EXAMPLES[name].read_bytes(), CLASSES[name])
    config = SerializerConfig(xml_declaration=True, encoding="UTF-8")
    by_xsdata = XmlSerializer(context=CONTEXT, config=config).render(message, {None: NAMESPACE})
    assert xml.render(xml.tree(message)).reveal() == by_xsdata.encode()


@pytest.mark.parametrize("cls", MODELS)
def test_a_message_with_every_field_is_read_as_by_xsdata(cls):
    document = xml.render(xml.tree(full(cls))).reveal()
    message = read(document, cls)
    assert message == read_by_xsdata(document, cls)
    assert xml.render(xml.tree(message)).reveal() == document


@every_example
def test_an_example_with_changed_texts_is_read_as_by_xsdata(name):
    cls, original = CLASSES[name], EXAMPLES[name].read_bytes()
    assert read(original, cls) == read_by_xsdata(original, cls)
    count = len(list(tree(original).iter()))
    read_changed = 0
    for index, change in product(range(count), ["  {}\n", "new {}", "+0{}", "9" * 5000, "", None]):
        root = tree(original)
        element = list(root.iter())[index]
        if change is None:
            element.append(etree.Element("{urn:new}unknown", unknown="x"))
            element.set("unknown", "x")
        elif element.text and element.text.strip():
            element.text = change.format(element.text)
        document = etree.tostring(root)
        try:
            message = read(document, cls)
        except UnexpectedResponseError:
            continue
        assert message == read_by_xsdata(document, cls)
        read_changed += 1
    assert read_changed > count


def test_importing_the_generated_package_gives_no_warning():
    folder = str(Path(models.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import posten_signering_xml"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
