"""How the sandbox takes the body of a create apart."""

import pytest
from bundles import BOUNDARY, CONTENT_TYPE, body
from hypothesis import given
from hypothesis import strategies as st

from posten_signering.sandbox._intake.multipart import split_body
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal

REQUEST = b"<request/>"
PACKED = b"PK\x03\x04\r\n--not-it\r\n\n\r\x00\xff\r"


def split(content, content_type=CONTENT_TYPE):
    return split_body(content_type, Octets(content))


def refusal_of(content, content_type=CONTENT_TYPE):
    with pytest.raises(Refusal) as caught:
        split(content, content_type)
    assert (caught.value.status, caught.value.code) == (400, "ASICE_VALIDATION_FAILED")
    return caught.value.message


@pytest.mark.parametrize("quirks", ["java", "dotnet", "php"])
@pytest.mark.parametrize("container_first", [False, True])
def test_both_orders_and_the_headers_of_the_clients_are_taken(quirks, container_first):
    content = body(REQUEST, PACKED, quirks=quirks, container_first=container_first)
    assert split(content) == (REQUEST, PACKED)


@pytest.mark.parametrize(
    "content_type",
    [
        f"multipart/mixed; boundary={BOUNDARY}",
        f'multipart/mixed; boundary="{BOUNDARY}"',
        f"Multipart/Mixed; BOUNDARY={BOUNDARY}; charset=utf-8",
        f"multipart/mixed;boundary={BOUNDARY};charset=ISO-8859-1",
    ],
)
def test_the_content_type_may_be_written_in_several_ways(content_type):
    assert split(body(REQUEST, PACKED), content_type) == (REQUEST, PACKED)


@given(st.binary(max_size=3000), st.sampled_from(["java", "dotnet", "php"]))
def test_the_container_comes_out_to_the_byte(packed, quirks):
    assert split(body(REQUEST, packed, quirks=quirks)) == (REQUEST, packed)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\x00", b"\x1c", b"a"])))
def test_line_ends_in_the_container_stay(pieces):
    packed = b"".join(pieces)
    assert split(body(REQUEST, packed)) == (REQUEST, packed)


def test_a_preamble_and_an_epilogue_are_passed_over():
    assert split(b"hello\r\n" + body(REQUEST, PACKED) + b"bye") == (REQUEST, PACKED)


@pytest.mark.parametrize(
    ("content_type", "said"),
    [
        ("multipart/form-data; boundary=b", "but is multipart/form-data"),
        ("application/xml", "but is application/xml"),
        ("text/plain", "but is text/plain"),
        ("", "must be multipart/mixed, but is missing"),
        (" ", "must be multipart/mixed, but is missing"),
        ("multipart", "must be multipart/mixed, but is unreadable"),
        ("multipart/mixed", "names no boundary"),
        ("multipart/mixed; boundary=another", "never uses the boundary"),
        (f"multipart/mixed; boundary={BOUNDARY}\r\nX: y", "must be multipart/mixed"),
    ],
)
def test_another_content_type_is_refused(content_type, said):
    assert said in refusal_of(body(REQUEST, PACKED), content_type)


def test_a_body_that_was_cut_off_is_refused():
    assert "cut off" in refusal_of(body(REQUEST, PACKED)[:-8])


def test_parts_must_be_one_of_each():
    twice = body(REQUEST, PACKED).replace(b"application/octet-stream", b"application/xml")
    assert "it has 2 of application/xml and 0 of other" in refusal_of(twice)


def test_a_transfer_encoding_is_refused_unless_it_changes_nothing():
    content = body(REQUEST, PACKED)
    marked = content.replace(b"\r\n\r\nPK", b"\r\nContent-Transfer-Encoding: %s\r\n\r\nPK")
    assert split(marked.replace(b"%s", b"binary")) == (REQUEST, PACKED)
    assert "Content-Transfer-Encoding" in refusal_of(marked.replace(b"%s", b"base64"))


@given(st.binary(max_size=200), st.text(max_size=60))
def test_nothing_else_than_a_refusal_comes_of_rubbish(content, content_type):
    with pytest.raises(Refusal):
        split(content, content_type)
