"""Every message of the direct flow, parsed and rendered with the generated models.

lxml's XMLSchema validates the result. Python's own canonical XML, which shares no code with lxml, compares it.
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


def test_importing_the_generated_package_gives_no_warning():
    folder = str(Path(models.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import posten_signering_xml"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
