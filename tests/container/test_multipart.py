"""The multipart body, read back by Python's e-mail parser."""

import email
import email.policy
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._container.layout import Layout, multipart
from posten_signering._values.secret import Secret

BOUNDARY = "0123456789abcdef0123456789abcdef"
DOCUMENT = b"--\r\nnot a boundary\r\n--0123\r\n"


def body_of(xml: bytes, before: bytes, after: bytes) -> tuple[str, Layout, bytes]:
    container = Layout(
        segments=(Secret(before), 0, Secret(after)),
        length=len(before) + len(DOCUMENT) + len(after),
    )
    content_type, layout = multipart(Secret(xml), container, boundary=BOUNDARY)
    content = b"".join(
        segment.reveal() if isinstance(segment, Secret) else DOCUMENT for segment in layout.segments
    )
    return content_type, layout, content


@given(st.binary(max_size=300), st.binary(max_size=300), st.binary(max_size=300))
def test_the_email_parser_reads_both_parts_back(xml, before, after):
    content_type, layout, content = body_of(xml, before, after)
    assert layout.length == len(content)
    head = f"MIME-Version: 1.0\r\nContent-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + content, policy=email.policy.HTTP)
    assert message.get_content_type() == "multipart/mixed"
    assert not message.defects
    request, container = message.iter_parts()
    assert request.items() == [("Content-Type", "application/xml")]
    assert container.items() == [("Content-Type", "application/octet-stream")]
    assert request.get_payload(decode=True) == xml
    assert container.get_payload(decode=True) == before + DOCUMENT + after


def test_the_body_is_as_the_official_clients_send_it():
    content_type, _, content = body_of(b"<request/>", b"PK", b"end")
    assert content_type == f"multipart/mixed; boundary={BOUNDARY}"
    assert (
        content
        == (
            f"--{BOUNDARY}\r\n"
            "Content-Type: application/xml\r\n"
            "\r\n"
            "<request/>\r\n"
            f"--{BOUNDARY}\r\n"
            "Content-Type: application/octet-stream\r\n"
            "\r\n"
            f"PK{DOCUMENT.decode()}end\r\n"
            f"--{BOUNDARY}--\r\n"
        ).encode()
    )


def test_every_line_of_the_frame_ends_in_crlf():
    _, _, content = body_of(b"", b"", b"")
    frame = content.replace(DOCUMENT, b"")
    assert len(re.findall(rb"\r\n", frame)) == frame.count(b"\n") == frame.count(b"\r")


@pytest.mark.parametrize("cut", [1, 4, 20])
def test_the_parser_notices_a_body_that_is_cut_off(cut):
    content_type, _, content = body_of(b"<request/>", b"PK", b"end")
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + content[: -cut - 2], policy=email.policy.HTTP)
    assert message.defects
