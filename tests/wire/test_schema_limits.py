"""The limits in the packaged schema, for each part of each message.

The tests take an example in `tests/messages` and change one part. A value at the limit must be valid, and a value just
beyond it must break the expected rule. lxml's XMLSchema validates.
"""

from copy import deepcopy
from importlib.resources import as_file, files
from pathlib import Path

import posten_signering_xml as models
import pytest
from lxml import etree

NAMESPACE = "http://signering.posten.no/schema/v1"
REQUEST, MANIFEST, LEGACY, UPDATE, RESPONSE, SIGNER, STATUS, ERROR = (
    (Path(__file__).parents[1] / "messages" / f"{name}.xml").read_bytes()
    for name in (
        *("request", "manifest", "manifest-legacy", "signer-update-request"),
        *("response", "signer-response", "status-response", "error"),
    )
)

# The names that libxml2 gives to the rules.
TOO_LONG = "SCHEMAV_CVC_MAXLENGTH_VALID"
TOO_SHORT = "SCHEMAV_CVC_MINLENGTH_VALID"
PATTERN = "SCHEMAV_CVC_PATTERN_VALID"
VALUES = "SCHEMAV_CVC_ENUMERATION_VALID"
DATATYPE = "SCHEMAV_CVC_DATATYPE_VALID_1_2_1"
ELEMENTS = "SCHEMAV_ELEMENT_CONTENT"
TEXT_ONLY = "SCHEMAV_CVC_TYPE_3_1_2 SCHEMAV_CVC_COMPLEX_TYPE_2_2"
NO_TEXT = "SCHEMAV_CVC_COMPLEX_TYPE_2_3"
EMPTY = "SCHEMAV_CVC_COMPLEX_TYPE_2_1"
MISSING_ATTRIBUTE = "SCHEMAV_CVC_COMPLEX_TYPE_4"
STRAY_ATTRIBUTE = "SCHEMAV_CVC_COMPLEX_TYPE_3_2_1"
UNKNOWN_ROOT = "SCHEMAV_CVC_ELT_1"


@pytest.fixture(scope="module")
def broken_rule():
    """A function that returns the rule that a message breaks, or None."""
    with as_file(files(models) / "schema") as folder:
        schema = etree.XMLSchema(file=str(folder / "direct.xsd"))
    return lambda part: (
        None if schema.validate(part.getroottree()) else schema.error_log[0].type_name
    )


def part_of(message: bytes, path: str) -> etree._Element:
    """The last part with this path, in a newly parsed message."""
    parts = etree.fromstring(message).findall(path, namespaces={None: NAMESPACE})
    return parts[-1]


def with_text(message: bytes, path: str, text: str) -> etree._Element:
    """A part whose text is replaced. `path@name` stands for an attribute."""
    path, _, attribute = path.partition("@")
    part = part_of(message, path)
    if attribute:
        part.set(attribute, text)
    else:
        part.text = text
    return part


def repeated(message: bytes, path: str, times: int) -> etree._Element:
    """The root of a message in which the part occurs `times` times."""
    part = part_of(message, path)
    parent, root = part.getparent(), part.getroottree().getroot()
    for other in parent.findall(part.tag):
        if other is not part:
            parent.remove(other)
    for _ in range(times - 1):
        part.addnext(deepcopy(part))
    if not times:
        parent.remove(part)
    return root


@pytest.mark.parametrize(
    ("message", "path", "least", "most"),
    [
        (REQUEST, "reference", 0, 50),
        (REQUEST, "exit-urls/completion-url", 0, 500),
        (REQUEST, "exit-urls/rejection-url", 0, 500),
        (REQUEST, "exit-urls/error-url", 0, 500),
        (REQUEST, "polling-queue", 0, None),
        (MANIFEST, "signer/signer-identifier", 1, 80),
        (MANIFEST, "title", 1, 80),
        (MANIFEST, "description", 0, 220),
        (MANIFEST, "documents/document/title", 1, 80),
        (MANIFEST, "documents/document@href", 4, 100),
        (MANIFEST, "documents/document@mime", 1, 100),
        (LEGACY, "document/title", 1, 80),
        (LEGACY, "document/description", 0, 220),
        (LEGACY, "document@href", 4, 100),
        (LEGACY, "document@mime", 1, 100),
        (RESPONSE, "signer@href", 0, 500),
        (SIGNER, "redirect-url", 0, 500),
        (STATUS, "xades-url", 0, 500),
        (STATUS, "status", 0, None),
    ],
)
def test_the_length_of_a_text_is_limited(broken_rule, message, path, least, most):
    """The length is counted in characters, not bytes. White space counts."""
    inside = ["x" * least, " " * least, *(letter * (most or 10_000) for letter in "xÆ𝄞")]
    assert [broken_rule(with_text(message, path, text)) for text in inside] == [None] * 5
    if least:
        assert broken_rule(with_text(message, path, "x" * (least - 1))) == TOO_SHORT
    if most:
        assert broken_rule(with_text(message, path, " " + "x" * most)) == TOO_LONG
    if "@" not in path:
        part = with_text(message, path, "")
        etree.SubElement(part, part.tag)
        assert broken_rule(part) in TEXT_ONLY


@pytest.mark.parametrize(
    ("path", "count"),
    [("signer/personal-identification-number", 11), ("sender/organization-number", 9)],
)
def test_a_number_has_a_fixed_count_of_ascii_digits(broken_rule, path, count):
    ones = "1" * count
    for text in ("0" * count, "9" * count):
        assert broken_rule(with_text(MANIFEST, path, text)) is None
    for text in ("", ones[1:], ones + "1", ones[1:] + "a", ones[1:] + "٣", " " + ones, ones + "\n"):
        assert broken_rule(with_text(MANIFEST, path, text)) == PATTERN


@pytest.mark.parametrize(
    ("message", "path", "values"),
    [
        (REQUEST, "status-retrieval-method", ["WAIT_FOR_CALLBACK", "POLLING"]),
        (STATUS, "signature-job-status", ["IN_PROGRESS", "COMPLETED_SUCCESSFULLY", "FAILED"]),
        (
            MANIFEST,
            "signer/signature-type",
            ["ADVANCED_ELECTRONIC_SIGNATURE", "AUTHENTICATED_ELECTRONIC_SIGNATURE"],
        ),
        (MANIFEST, "signer/on-behalf-of", ["SELF", "OTHER"]),
        (MANIFEST, "required-authentication", ["3", "4"]),
        (
            MANIFEST,
            "identifier-in-signed-documents",
            ["PERSONAL_IDENTIFICATION_NUMBER_AND_NAME", "DATE_OF_BIRTH_AND_NAME", "NAME"],
        ),
    ],
)
def test_only_the_values_of_the_enumeration_are_valid(broken_rule, message, path, values):
    for value in values:
        assert broken_rule(with_text(message, path, value)) is None
        for other in ("", f" {value}", f"{value}0"):
            assert broken_rule(with_text(message, path, other)) == VALUES


@pytest.mark.parametrize(
    ("message", "path", "inside", "outside"),
    [
        (RESPONSE, "signature-job-id", [str(2**63 - 1), "-1"], [str(2**63), "1.0", "x", ""]),
        (STATUS, "signature-job-id", [str(2**63 - 1), "-1"], [str(2**63), "1.0", "x", ""]),
        (
            STATUS,
            "status@since",
            ["2031-02-03T04:05:06", "2031-02-03T04:05:06.123456789+14:00"],
            ["", "2031-02-03", "2031-02-03 04:05:06Z", "2031-02-29T00:00:00Z"],
        ),
    ],
)
def test_ids_have_64_bits_and_times_are_complete(broken_rule, message, path, inside, outside):
    assert {broken_rule(with_text(message, path, text)) for text in inside} == {None}
    assert {broken_rule(with_text(message, path, text)) for text in outside} == {DATATYPE}


@pytest.mark.parametrize(
    ("message", "path", "least", "most"),
    [
        (REQUEST, "reference", 0, 1),
        (REQUEST, "exit-urls", 1, 1),
        (REQUEST, "exit-urls/completion-url", 1, 1),
        (REQUEST, "exit-urls/rejection-url", 1, 1),
        (REQUEST, "exit-urls/error-url", 1, 1),
        (REQUEST, "status-retrieval-method", 0, 1),
        (REQUEST, "polling-queue", 0, 1),
        (MANIFEST, "signer", 1, 10),
        (MANIFEST, "signer/signer-identifier", 1, 1),
        (MANIFEST, "signer/personal-identification-number", 1, 1),
        (MANIFEST, "signer/signature-type", 0, 1),
        (MANIFEST, "signer/on-behalf-of", 0, 1),
        (MANIFEST, "sender", 1, 1),
        (MANIFEST, "sender/organization-number", 1, 1),
        (MANIFEST, "title", 1, 1),
        (MANIFEST, "description", 0, 1),
        (MANIFEST, "documents", 1, 1),
        (MANIFEST, "documents/document", 1, 20),
        (MANIFEST, "documents/document/title", 1, 1),
        (MANIFEST, "required-authentication", 0, 1),
        (MANIFEST, "identifier-in-signed-documents", 0, 1),
        (LEGACY, "document", 1, 1),
        (LEGACY, "document/title", 1, 1),
        (LEGACY, "document/description", 0, 1),
        (UPDATE, "redirect-url", 1, 1),
        (RESPONSE, "reference", 0, 1),
        (RESPONSE, "signature-job-id", 1, 1),
        (RESPONSE, "redirect-url", 1, 10),
        (RESPONSE, "status-url", 0, 1),
        (RESPONSE, "signer", 1, 10),
        (RESPONSE, "signer/personal-identification-number", 1, 1),
        (SIGNER, "signer-identifier", 1, 1),
        (SIGNER, "redirect-url", 1, 1),
        (STATUS, "reference", 0, 1),
        (STATUS, "signature-job-id", 1, 1),
        (STATUS, "signature-job-status", 1, 1),
        (STATUS, "status", 1, 10),
        (STATUS, "confirmation-url", 0, 1),
        (STATUS, "delete-documents-url", 0, 1),
        (STATUS, "xades-url", 0, 10),
        (STATUS, "pades-url", 0, 1),
        (ERROR, "error-code", 1, 1),
        (ERROR, "error-message", 1, 1),
        (ERROR, "error-type", 1, 1),
    ],
)
def test_the_count_of_a_part_is_limited(broken_rule, message, path, least, most):
    assert broken_rule(repeated(message, path, least)) is None
    assert broken_rule(repeated(message, path, most)) is None
    assert broken_rule(repeated(message, path, most + 1)) == ELEMENTS
    if least:
        assert broken_rule(repeated(message, path, least - 1)) == ELEMENTS


def test_a_signer_with_both_identifiers_is_invalid(broken_rule):
    both = part_of(MANIFEST, "signer/personal-identification-number")
    both.addnext(part_of(MANIFEST, "signer/signer-identifier"))
    assert broken_rule(both) == ELEMENTS


@pytest.mark.parametrize(
    ("message", "path"),
    [
        *((message, ".") for message in (REQUEST, MANIFEST, LEGACY, RESPONSE, STATUS, ERROR)),
        (REQUEST, "exit-urls"),
        (MANIFEST, "signer"),
        (LEGACY, "document"),
        (SIGNER, "."),
    ],
)
def test_the_order_of_parts_is_fixed(broken_rule, message, path):
    """Swaps every pair of neighbours."""
    count = len(part_of(message, path))
    for index in range(1, count):
        parent = part_of(message, path)
        parent.insert(index - 1, parent[index])
        alike = parent[index - 1].tag == parent[index].tag
        assert broken_rule(parent) == (None if alike else ELEMENTS)


@pytest.mark.parametrize("message", [REQUEST, MANIFEST, UPDATE])
def test_parts_that_the_schema_does_not_name_are_invalid(broken_rule, message):
    root = etree.fromstring(message)
    assert broken_rule(root) is None
    root.set("unknown", "")
    assert broken_rule(root) == STRAY_ATTRIBUTE
    root = etree.fromstring(message)
    etree.SubElement(root, f"{{{NAMESPACE}}}unknown")
    assert broken_rule(root) == ELEMENTS
    assert broken_rule(with_text(message, ".", "text")) == NO_TEXT
    for namespace in (b"", b"http://signering.posten.no/schema/v2"):
        assert (
            broken_rule(etree.fromstring(message.replace(NAMESPACE.encode(), namespace)))
            == UNKNOWN_ROOT
        )


@pytest.mark.parametrize(
    ("message", "path", "names"),
    [
        (MANIFEST, "documents/document", ["href", "mime"]),
        (LEGACY, "document", ["href", "mime"]),
        (RESPONSE, "signer", ["href"]),
        (SIGNER, ".", ["href"]),
        (STATUS, "status", ["since"]),
    ],
)
def test_a_missing_required_attribute_is_invalid(broken_rule, message, path, names):
    for name in names:
        part = part_of(message, path)
        del part.attrib[name]
        assert broken_rule(part) == MISSING_ATTRIBUTE
        in_a_namespace = with_text(message, f"{path}@{{{NAMESPACE}}}{name}", "x")
        assert broken_rule(in_a_namespace) == STRAY_ATTRIBUTE


def test_the_redirect_url_of_an_update_request_must_be_empty(broken_rule):
    assert broken_rule(with_text(UPDATE, "redirect-url", "https://r.example")) == EMPTY
    assert broken_rule(with_text(UPDATE, "redirect-url@signer", "x")) == STRAY_ATTRIBUTE
