"""XML from hostile files, and its canonical form."""

import pytest
from lxml import etree

from posten_signering._cli.inspection.xml import canonical, parse
from posten_signering.errors import ConfigurationError

C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
DECLARATIONS = "".join(f'<!ENTITY e{n} "&e{n - 1};&e{n - 1};">' for n in range(1, 40))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"<!DOCTYPE a [<!ENTITY e0 'x'>{DECLARATIONS}]><a>&e39;</a>".encode(), "has a DOCTYPE"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/passwd"><a/>', "has a DOCTYPE"),
        ("<!DOCTYPE a><a/>".encode("utf-16"), "has a DOCTYPE"),
        (b"<a><?php 1?></a>", "processing instruction"),
        (b"<a>&unknown;</a>", "not well-formed"),
        (b"<a>", "not well-formed"),
        (b"", "not well-formed"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "not well-formed"),
        (b"<a>" + b" " * 8 * 1024 * 1024, "too large"),
        (b"<a>" * 300 + b"</a>" * 300, "not well-formed"),
        (b"<a>" + b"<b c=''/>" * 2500 + b"</a>", "too many to inspect"),
        (
            b"<a " + b" ".join(b"xmlns:n%d='u'" % n for n in range(51)) + b"/>",
            "too many to inspect",
        ),
    ],
)
def test_hostile_xml_is_refused(content, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        parse(content, name="The file")
    assert "passwd" not in str(caught.value)


def test_the_canonical_form_of_a_part_is_that_of_the_part_alone():
    root = parse(b'<a xmlns="urn:a"><b xmlns="urn:b"><c><!-- comment -->x</c></b></a>', name="x")
    expected = b'<b xmlns="urn:b"><c>x</c></b>'
    assert canonical(root[0], C14N) == expected
    assert canonical(root[0], f"{C14N}#WithComments") is None
    assert etree.tostring(root[0], method="c14n") == expected


def test_a_text_may_be_much_longer_in_its_canonical_form():
    content = b"<a><b c='" + b'"' * 2_000_000 + b"'/></a>"
    form = canonical(parse(content, name="x")[0], C14N)
    assert form == b'<b c="' + b"&quot;" * 2_000_000 + b'"></b>'


def test_the_exclusive_form_leaves_out_what_is_not_used():
    root = parse(b'<a xmlns:n="urn:n"><b/></a>', name="x")
    assert canonical(root[0], C14N) == b'<b xmlns:n="urn:n"></b>'
    assert canonical(root[0], EXCLUSIVE) == b"<b></b>"


@pytest.mark.parametrize(
    ("content", "algorithm"),
    [
        (b"<a><b/></a>", "urn:unknown"),
        (b'<a xml:lang="no"><b/></a>', C14N),
        (b'<a><b xmlns:r="relative"/></a>', C14N),
    ],
)
def test_a_form_that_can_not_be_made_is_none(content, algorithm):
    assert canonical(parse(content, name="x")[0], algorithm) is None


def test_the_exclusive_form_does_not_depend_on_inherited_attributes():
    root = parse(b'<a xml:lang="no"><b/></a>', name="x")
    assert canonical(root[0], EXCLUSIVE) == b"<b></b>"
