"""Every message of the direct flow through the generated models and the packaged schema.

The judges are lxml's XMLSchema, and Python's own canonical XML (which shares no code with either).
"""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
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
STRICT = {
    "resolve_entities": False,
    "no_network": True,
    "load_dtd": False,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}
every_example = pytest.mark.parametrize("name", sorted(CLASSES))


class PackagedSchema(etree.Resolver):
    """Finds included schemas in the package and nowhere else."""

    def resolve(self, system_url, public_id, context):
        name = system_url.removeprefix("package:/")
        content = (files(models) / "schema" / name).read_bytes()
        return self.resolve_string(content, context, base_url=system_url)


@pytest.fixture(scope="module")
def schema():
    parser = etree.XMLParser(**STRICT)
    parser.resolvers.add(PackagedSchema())
    main = (files(models) / "schema" / "direct.xsd").read_bytes()
    return etree.XMLSchema(etree.fromstring(main, parser, base_url="package:/direct.xsd"))


def tree(content: bytes):
    return etree.fromstring(content, etree.XMLParser(**STRICT))


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


@every_example
def test_every_text_and_attribute_counts(name):
    """A message that differs in one text or attribute is not equal, so equality above says much."""
    original = EXAMPLES[name].read_bytes()
    message = parse(original, CLASSES[name])
    changes = 0
    count = len(list(tree(original).iter()))
    for position in range(count):
        changed = tree(original)
        element = list(changed.iter())[position]
        for attribute, value in element.attrib.items():
            element.set(attribute, another(value))
            assert parse(etree.tostring(changed), CLASSES[name]) != message
            element.set(attribute, value)
            changes += 1
        if element.text and element.text.strip():
            element.text = another(element.text)
            assert parse(etree.tostring(changed), CLASSES[name]) != message
            changes += 1
    assert changes or name == "signer-update-request"


def another(value: str) -> str:
    """Another value of the same type, so that the models accept it."""
    swaps = {
        "3": "4",
        "4": "3",
        "POLLING": "WAIT_FOR_CALLBACK",
        "SELF": "OTHER",
        "OTHER": "SELF",
        "ADVANCED_ELECTRONIC_SIGNATURE": "AUTHENTICATED_ELECTRONIC_SIGNATURE",
        "AUTHENTICATED_ELECTRONIC_SIGNATURE": "ADVANCED_ELECTRONIC_SIGNATURE",
        "DATE_OF_BIRTH_AND_NAME": "NAME",
        "PERSONAL_IDENTIFICATION_NUMBER_AND_NAME": "NAME",
        "IN_PROGRESS": "FAILED",
        "COMPLETED_SUCCESSFULLY": "FAILED",
        "FAILED": "IN_PROGRESS",
    }
    return swaps.get(value, value.replace("2031-", "2032-") if "T0" in value else f"{value}1")


@every_example
def test_a_message_that_is_cut_off_anywhere_is_refused(name):
    content = EXAMPLES[name].read_bytes().rstrip()
    for end in range(len(content)):
        with pytest.raises(etree.XMLSyntaxError):
            tree(content[:end])


def test_what_the_models_hold_is_what_the_message_says():
    """Read by hand from the example, so that a mix-up of two fields shows."""
    status = parse(EXAMPLES["status-response"].read_bytes(), CLASSES["status-response"])
    assert status.signature_job_id == 9007199254740993
    assert status.signature_job_status is models.DirectSignatureJobStatus.COMPLETED_SUCCESSFULLY
    assert [(s.signer, s.value, str(s.since)) for s in status.status] == [
        ("01817099921", "SIGNED", "2031-02-03T04:05:06.789+01:00"),
        ("tenant-2", "SIGNED", "2031-02-03T04:07:00Z"),
    ]
    assert [u.signer for u in status.xades_url] == ["01817099921", "tenant-2"]
    assert status.confirmation_url.endswith("/complete")
    assert status.delete_documents_url.endswith("/documents")
    assert status.pades_url.endswith("/pades")

    manifest = parse(EXAMPLES["manifest"].read_bytes(), CLASSES["manifest"])
    assert manifest.document is None
    assert [d.href for d in manifest.documents.document] == [
        "0000_document.pdf",
        "0001_document.txt",
    ]
    legacy = parse(EXAMPLES["manifest-legacy"].read_bytes(), CLASSES["manifest-legacy"])
    assert (legacy.title, legacy.documents) == (None, None)
    assert legacy.document.title == "Lease"

    created = parse(EXAMPLES["response"].read_bytes(), CLASSES["response"])
    assert [s.signer_identifier for s in created.signer] == ["tenant-2", None]
    assert created.signer[0].redirect_url.strip() == "https://web.example#/redirect/kB7"
    assert created.signer[0].redirect_url != created.signer[0].redirect_url.strip()


def test_the_schema_is_read_from_the_package_alone(schema):
    """The twin: without the package's own resolver the included schemas are not found."""
    assert schema is not None
    main = (files(models) / "schema" / "direct.xsd").read_bytes()
    with pytest.raises(etree.XMLSchemaParseError):
        etree.XMLSchema(etree.fromstring(main, base_url="package:/direct.xsd"))


def test_the_generated_package_is_imported_without_a_warning():
    folder = str(Path(models.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {folder!r}); import posten_signering_xml"
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
