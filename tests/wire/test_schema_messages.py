"""Every message of the direct flow through the generated models and the packaged schema.

The judges are lxml's XMLSchema, and Python's own canonical XML (which shares no code with either).
"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import as_file, files
from pathlib import Path
from xml.etree.ElementTree import canonicalize

import posten_signering_xml as models
import pytest
from lxml import etree
from xsdata.formats.dataclass.parsers.config import ParserConfig
from xsdata.formats.dataclass.parsers.handlers import LxmlEventHandler
from xsdata_pydantic.bindings import XmlContext, XmlParser, XmlSerializer

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


def test_there_is_an_example_of_every_root_element_of_the_schema():
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
def test_the_example_is_valid(name, schema):
    assert schema.validate(tree(EXAMPLES[name].read_bytes())), schema.error_log


@every_example
def test_a_message_is_parsed_rendered_validated_and_parsed_equal(name, schema):
    original = EXAMPLES[name].read_bytes()
    message = parse(original, CLASSES[name])
    rendered = render(message)
    assert schema.validate(tree(rendered)), schema.error_log
    assert parse(rendered, CLASSES[name]) == message
    assert canonical(rendered) == canonical(original)


def test_the_generated_package_is_imported_without_a_warning():
    folder = str(Path(models.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import posten_signering_xml"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
