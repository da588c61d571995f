"""The published schema can take the place of ours: no name that the SDK uses depends on the rest.

The stand-in is made from xsd/ as it is: the same files, types and elements, but the definitions in
another order, other annotations and layout, and an optional element and a job status more.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import posten_signering_xml as models
import pytest
from lxml import etree

REPOSITORY = Path(__file__).resolve().parents[2]
MESSAGE_TESTS = [
    REPOSITORY / "tests" / "wire" / "test_schema_messages.py",
    REPOSITORY / "tests" / "wire" / "test_messages.py",
]
SIGNS_OF_THE_OTHER_NAME = [
    "'exit-urls'",
    "}exit-urls",
    "cannot import name 'ExitUrls'",
    "has no attribute 'ExitUrls'",
]
PACKAGE = "posten_signering_xml"
XS = {"xs": "http://www.w3.org/2001/XMLSchema"}
INCLUDES = {f"{{{XS['xs']}}}{name}" for name in ("include", "import", "redefine")}

# Prints the classes of a package: fields of models with their names in XML, values of enumerations.
DESCRIBE = """
import enum, json, sys
sys.path.insert(0, sys.argv[1])
import posten_signering_xml as package

def members(cls):
    if issubclass(cls, enum.Enum):
        return {member.name: member.value for member in cls}
    names = {name: str(field.annotation) for name, field in cls.model_fields.items()}
    for name, value in vars(cls).items():
        if isinstance(value, type) and name not in ("Meta", "Config"):
            names[name] = members(value)
    return names

print(json.dumps({name: members(getattr(package, name)) for name in package.__all__}))
"""

# Imports the package from the given folder before pytest can find another, then runs the tests.
RUN_TESTS = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import posten_signering_xml, pytest
assert pathlib.Path(posten_signering_xml.__file__).is_relative_to(sys.argv[1])
sys.exit(pytest.main(["-q", "-x", "-p", "no:xdist", *sys.argv[2:]]))
"""


def python(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )


def make_variant(folder: Path) -> None:
    """Writes the stand-in for the published schema."""
    folder.mkdir()
    for path in (REPOSITORY / "xsd").glob("*.xsd"):
        root = etree.parse(path, etree.XMLParser(remove_comments=True)).getroot()
        for annotation in root.xpath("//xs:annotation", namespaces=XS):
            annotation.getparent().remove(annotation)
        includes = [child for child in root if child.tag in INCLUDES]
        definitions = [child for child in root if child.tag not in INCLUDES]
        root[:] = [*includes[::-1], *definitions[::-1]]
        for number, definition in enumerate(definitions):
            annotation = etree.Element(f"{{{XS['xs']}}}annotation")
            documentation = etree.SubElement(annotation, f"{{{XS['xs']}}}documentation")
            documentation.text = (
                f"  Definition {number},\n\tin other words: \"quoted\", 'æøå', \\n. "
            )
            definition.insert(0, annotation)
        for status in root.xpath(
            "xs:simpleType[@name='direct-signature-job-status']/xs:restriction", namespaces=XS
        ):
            status.insert(0, etree.Element(f"{{{XS['xs']}}}enumeration", value="WITHDRAWN"))
        for sequence in root.xpath(
            "xs:element[@name='direct-signature-job-status-response']/xs:complexType/xs:sequence",
            namespaces=XS,
        ):
            builtin = f"{root.prefix}:dateTime" if root.prefix else "dateTime"
            attributes = {"name": "archived-until", "type": builtin, "minOccurs": "0"}
            sequence.append(etree.Element(f"{{{XS['xs']}}}element", attributes))
        etree.indent(root, space="\t")
        (folder / path.name).write_bytes(etree.tostring(root, encoding="UTF-8"))


def generate(xsd: Path, output: Path) -> Path:
    done = python("tools/generate.py", "--xsd", xsd, "--output", output)
    assert done.returncode == 0, done.stderr
    return output


def describe(folder: Path) -> dict[str, dict[str, object]]:
    done = python("-W", "error", "-c", DESCRIBE, folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def variant_package(tmp_path_factory) -> Path:
    """The folder that holds posten_signering_xml as the variant of the schema makes it."""
    folder = tmp_path_factory.mktemp("variant")
    make_variant(folder / "xsd")
    return generate(folder / "xsd", folder / "generated")


@pytest.fixture(scope="module")
def renamed_package(tmp_path_factory) -> Path:
    """The twin: a schema that does differ in a name."""
    folder = tmp_path_factory.mktemp("renamed")
    make_variant(folder / "xsd")
    path = folder / "xsd" / "direct.xsd"
    path.write_bytes(path.read_bytes().replace(b'exit-urls"', b'ways-out"'))
    return generate(folder / "xsd", folder / "generated")


@pytest.fixture(scope="module")
def present() -> dict[str, dict[str, object]]:
    return describe(Path(models.__file__).parent.parent)


def test_the_variant_is_another_schema(variant_package, present):
    variant = describe(variant_package)
    assert variant["DirectSignatureJobStatus"].items() - present[
        "DirectSignatureJobStatus"
    ].items() == {("WITHDRAWN", "WITHDRAWN")}
    status = variant["DirectSignatureJobStatusResponse"]
    assert status.keys() - present["DirectSignatureJobStatusResponse"].keys() == {"archived_until"}
    ours = Path(models.__file__).parent
    for path in ("direct.py", "schema/direct.xsd"):
        assert (variant_package / PACKAGE / path).read_bytes() != (ours / path).read_bytes()


def test_the_variant_has_every_class_field_and_value_of_ours(variant_package, present):
    variant = describe(variant_package)
    assert variant.keys() == present.keys()
    for name, members in present.items():
        assert members.items() <= variant[name].items(), name


def test_a_renamed_element_is_noticed(renamed_package, present):
    renamed = describe(renamed_package)
    assert "ExitUrls" not in renamed
    assert "exit_urls" not in renamed["DirectSignatureJobRequest"]
    assert present["ExitUrls"]
    assert present["DirectSignatureJobRequest"]["exit_urls"]


def test_the_tests_of_the_messages_pass_with_the_variant(variant_package):
    done = python("-c", RUN_TESTS, variant_package, *MESSAGE_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("path", MESSAGE_TESTS, ids=lambda path: path.stem)
def test_the_tests_of_the_messages_fail_with_a_renamed_element(path, renamed_package):
    done = python("-c", RUN_TESTS, renamed_package, path)
    told = done.stdout + done.stderr
    assert done.returncode != 0, told
    assert any(sign in told for sign in SIGNS_OF_THE_OTHER_NAME), told
