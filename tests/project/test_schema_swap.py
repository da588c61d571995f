"""The published schema can replace ours, because the SDK depends only on names that both schemas share.

A variant of the files in xsd/ represents the published schema. It has the same types and elements, but the definitions
have a different order and other annotations. It has one more optional element, and one more job status.
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
CONTRADICTION_TESTS = REPOSITORY / "tests" / "wire" / "test_contradictions.py"
# Any of these in the output shows that a test failed because of the renamed element.
SIGNS_OF_THE_RENAME = [
    "'exit-urls'",
    "}exit-urls",
    "cannot import name 'ExitUrls'",
    "has no attribute 'ExitUrls'",
]
PACKAGE = "posten_signering_xml"
XS = {"xs": "http://www.w3.org/2001/XMLSchema"}
INCLUDES = {f"{{{XS['xs']}}}{name}" for name in ("include", "import", "redefine")}

# Prints the classes of a package as JSON: the models with their fields, and the enumerations with their values.
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

# Imports the package from the given folder, before pytest can import another copy, then runs the tests.
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
    """Writes the variant that represents the published schema."""
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
    """The folder that contains posten_signering_xml as generated from the variant."""
    folder = tmp_path_factory.mktemp("variant")
    make_variant(folder / "xsd")
    return generate(folder / "xsd", folder / "generated")


@pytest.fixture(scope="module")
def renamed_package(tmp_path_factory) -> Path:
    """The same, generated from a schema in which one element has another name."""
    folder = tmp_path_factory.mktemp("renamed")
    make_variant(folder / "xsd")
    path = folder / "xsd" / "direct.xsd"
    path.write_bytes(path.read_bytes().replace(b'exit-urls"', b'return-urls"'))
    return generate(folder / "xsd", folder / "generated")


@pytest.fixture(scope="module")
def installed() -> dict[str, dict[str, object]]:
    """The classes of the installed package."""
    return describe(Path(models.__file__).parent.parent)


def test_the_variant_differs_from_our_schema(variant_package, installed):
    variant = describe(variant_package)
    assert variant["DirectSignatureJobStatus"].items() - installed[
        "DirectSignatureJobStatus"
    ].items() == {("WITHDRAWN", "WITHDRAWN")}
    status = variant["DirectSignatureJobStatusResponse"]
    assert status.keys() - installed["DirectSignatureJobStatusResponse"].keys() == {
        "archived_until"
    }
    ours = Path(models.__file__).parent
    for path in ("direct.py", "schema/direct.xsd"):
        assert (variant_package / PACKAGE / path).read_bytes() != (ours / path).read_bytes()


def test_the_variant_has_every_class_field_and_value_of_our_schema(variant_package, installed):
    variant = describe(variant_package)
    assert variant.keys() == installed.keys()
    for name, members in installed.items():
        assert members.items() <= variant[name].items(), name


def test_a_renamed_element_changes_the_package(renamed_package, installed):
    renamed = describe(renamed_package)
    assert "ExitUrls" not in renamed
    assert "exit_urls" not in renamed["DirectSignatureJobRequest"]
    assert installed["ExitUrls"]
    assert installed["DirectSignatureJobRequest"]["exit_urls"]


def test_the_message_tests_pass_with_the_variant(variant_package):
    done = python("-c", RUN_TESTS, variant_package, *MESSAGE_TESTS, CONTRADICTION_TESTS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.parametrize("path", MESSAGE_TESTS, ids=lambda path: path.stem)
def test_the_message_tests_fail_with_a_renamed_element(path, renamed_package):
    done = python("-c", RUN_TESTS, renamed_package, path)
    output = done.stdout + done.stderr
    assert done.returncode != 0, output
    assert any(sign in output for sign in SIGNS_OF_THE_RENAME), output
