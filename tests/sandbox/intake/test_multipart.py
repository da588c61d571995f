"""How the sandbox splits the body of a create."""

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
def test_both_part_orders_and_the_headers_of_the_clients_are_accepted(quirks, container_first):
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
def test_different_spellings_of_the_content_type_are_accepted(content_type):
    assert split(body(REQUEST, PACKED), content_type) == (REQUEST, PACKED)


@given(st.binary(max_size=3000), st.sampled_from(["java", "dotnet", "php"]))
def test_the_bytes_of_the_container_do_not_change(packed, quirks):
    assert split(body(REQUEST, packed, quirks=quirks)) == (REQUEST, packed)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"-", b"--", b"\x00", b"\x1c", b"a"])))
def test_line_ends_in_the_container_do_not_change(pieces):
    packed = b"".join(pieces)
    assert split(body(REQUEST, packed)) == (REQUEST, packed)


def test_a_preamble_and_an_epilogue_are_ignored():
    assert split(b"hello\r\n" + body(REQUEST, PACKED) + b"bye") == (REQUEST, PACKED)


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("multipart/form-data; boundary=b", "but is multipart/form-data"),
        ("application/xml", "but is application/xml"),
        ("text/plain", "but is text/plain"),
        ("", "must be multipart/mixed, but is missing"),
        (" ", "must be multipart/mixed, but is missing"),
        ("multipart", "must be multipart/mixed, but is unreadable"),
        ("multipart/mixed", "has no boundary"),
        ('multipart/mixed; boundary=""', "has no boundary"),
        ("multipart/mixed; boundary*=a''%ff; boundary*0*=x''%41", "but is unreadable"),
        ("multipart/mixed; boundary*=undefined''%ff", "but is unreadable"),
        ("multipart/mixed; boundary=\u00e6\udcff", "but is unreadable"),
        ("multipart/mixed; boundary=\u00e6", "has no boundary in ASCII"),
        ("multipart/mixed; boundary=different", "does not contain the boundary"),
        (f"multipart/mixed; boundary={BOUNDARY}\r\nX: y", "must be multipart/mixed"),
    ],
)
def test_a_wrong_content_type_is_refused(content_type, reason):
    assert reason in refusal_of(body(REQUEST, PACKED), content_type)


def test_a_body_that_was_cut_off_is_refused():
    assert "cut off" in refusal_of(body(REQUEST, PACKED)[:-8])


def test_a_body_without_exactly_one_request_and_one_container_is_refused():
    two_requests = body(REQUEST, PACKED).replace(b"application/octet-stream", b"application/xml")
    assert "has 2 XML parts and 0 other parts" in refusal_of(two_requests)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"--b\r\n\r\n\r\n" * 20_000 + b"--b--\r\n", "has more than 2 parts"),
        (b"--b\n" * 20_000, "no empty line within its first 8192 bytes"),
        (b"--b\nA: " + b"x" * 10_000 + b"\n\n\n--b--", "no empty line"),
        (b"--b\nA: b\n" + b" c\n" * 10_000 + b"\n\n--b--", "no empty line"),
        (
            b"--b\n" + b"Content-Type: message/rfc822\n\n" * 5_000 + b"\n--b--\n",
            "0 XML parts and 1 other",
        ),
        (
            b"--b\nContent-Type: multipart/mixed; boundary=c\n\n--c\n\n\n--c--\n--b--",
            "0 XML parts and 1 other",
        ),
        (b"\n--bx" * 20_000, "does not contain the boundary"),
    ],
)
def test_a_body_of_very_many_parts_headers_or_levels_is_refused(content, reason):
    """The standard library's parser needs seconds for the first ones, or exceeds the recursion limit."""
    assert reason in refusal_of(content, "multipart/mixed; boundary=b")


def test_only_a_whole_line_is_a_delimiter():
    packed = b"a--b\r\n --b\r\n--bc\r\n--b-\r\n"
    content = b"--b\nContent-Type: text/xml\n\n<a/>\n--b \t\r\n\r\n" + packed + b"\r\n--b--"
    assert split(content, "multipart/mixed; boundary=b") == (b"<a/>", packed)


def test_a_transfer_encoding_that_changes_the_bytes_is_refused():
    content = body(REQUEST, PACKED)
    template = content.replace(b"\r\n\r\nPK", b"\r\nContent-Transfer-Encoding: %s\r\n\r\nPK")
    assert split(template.replace(b"%s", b"binary")) == (REQUEST, PACKED)
    assert "part with the container has a Content-Transfer-Encoding" in refusal_of(
        template.replace(b"%s", b"base64")
    )


@given(st.binary(max_size=200), st.text(max_size=60))
def test_random_input_is_refused_without_any_other_exception(content, content_type):
    with pytest.raises(Refusal):
        split(content, content_type)
