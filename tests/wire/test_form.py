"""How signed documents begin and end, and how downloads use that to detect a truncated or a wrong document."""

from itertools import pairwise

import loopback
import pki
import pytest
from client_calls import URL_OPERATIONS, all_calls
from doubles import ROOT, Answer, client_of
from hypothesis import given
from hypothesis import strategies as st
from transport_client import server_context

from posten_signering import ClientConfiguration, DirectClient, Environment, Retries, TrustAnchors
from posten_signering._wire.form import Form, Watcher
from posten_signering.errors import TransportError, UnexpectedResponseError

pytestmark = pytest.mark.anyio

PDF = b"%PDF-1.7\n" + b"\x00\xff<x>" * 2000 + b"\nstartxref\n9\n%%EOF\n"
XML = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n<!-- <not-the-root> -->\n'
    b'<x:XAdESSignatures xmlns:x="urn:x">' + b"<x:a>text</x:a>" * 400 + b"</x:XAdESSignatures>\n"
)


def is_whole(form: Form, *chunks: bytes) -> bool:
    watcher = Watcher(form)
    for chunk in chunks:
        watcher.feed(chunk)
    return watcher.ends_well()


def chunks_of(content: bytes, cuts: list[int]) -> list[bytes]:
    positions = [0, *sorted(cut % (len(content) + 1) for cut in cuts), len(content)]
    return [content[start:end] for start, end in pairwise(positions)]


@given(st.lists(st.integers(0, 10**6), max_size=30))
def test_the_size_of_chunks_does_not_matter(cuts):
    assert is_whole(Form.PADES, *chunks_of(PDF, cuts))
    assert is_whole(Form.XADES, *chunks_of(XML, cuts))
    assert not is_whole(Form.PADES, *chunks_of(PDF[:-7], cuts))
    assert not is_whole(Form.XADES, *chunks_of(XML[:-3], cuts))


@pytest.mark.parametrize(("form", "content"), [(Form.PADES, PDF), (Form.XADES, XML)])
def test_a_document_truncated_at_any_byte_is_not_whole(form, content):
    """Only white space at the end may be missing."""
    needed = len(content.rstrip())
    assert [n for n in range(len(content) + 1) if is_whole(form, content[:n])] == list(
        range(needed, len(content) + 1)
    )


@pytest.mark.parametrize(
    "content",
    [
        b"<a/>",
        b'<a b="c" />\n',
        b"<a></a>",
        b"<a></a >",
        b"<a></a>\n<!-- made by x --><?p i?>\r\n",
        b"\xef\xbb\xbf<a><b/></a>",
        b"<!DOCTYPE a [<!ELEMENT a ANY>]><a></a>",
        b'<!DOCTYPE a [<!ENTITY b "<b>">]><a></a>',
        "<æ>å</æ>".encode(),
        "<a>å</a>".encode("utf-16"),
        b"<a><!-- </a> --></a>",
    ],
)
def test_every_valid_end_of_xml_is_accepted(content):
    assert is_whole(Form.XADES, content)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"   ",
        b"<a",
        b"<a>",
        b"<a><b/>",
        b"<a><b></b>",
        b"<a><!-- </a> -->",
        b"<!-- <a></a> -->",
        b"<ab></a>",
        b"<?xml version='1.0'?>",
        b"%PDF-1.7 %%EOF",
        "<a>å</".encode("utf-16"),
    ],
)
def test_xml_without_its_end_tag_is_not_whole(content):
    assert not is_whole(Form.XADES, content)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (PDF + b"\r\n" + b"\x00" * 900, True),
        (PDF + b"\x00" * 1100, False),
        (b"", False),
        (XML, False),
    ],
)
def test_a_whole_pdf_has_its_marker_near_the_end(content, expected):
    assert is_whole(Form.PADES, content) is expected


# --- Through the client

DOWNLOADS = [name for name in URL_OPERATIONS if "ades" in name]


@pytest.mark.parametrize("name", DOWNLOADS)
async def test_a_truncated_document_without_a_length_is_an_error(name, tmp_path):
    content = URL_OPERATIONS[name].answer
    truncated = Answer(200, [content[:5], content[5:-8]])
    call, path = all_calls(tmp_path / "signed")[name], tmp_path / "signed"
    async with client_of(truncated, Answer(200, content), retries=Retries(max_retries=0)) as (
        client,
        _,
    ):
        with pytest.raises(TransportError, match="cut off"):
            await call(client)
        assert not path.exists()
        result = await call(client)
    assert content in (result, path.read_bytes() if path.exists() else None)


@pytest.mark.parametrize("name", [name for name in DOWNLOADS if "open" not in name])
async def test_the_download_of_a_truncated_document_is_retried(name, tmp_path):
    content = URL_OPERATIONS[name].answer
    async with client_of(Answer(200, content[:-8]), Answer(200, content), retries=Retries()) as (
        client,
        transport,
    ):
        await all_calls(tmp_path / "signed")[name](client)
    assert len(transport.sent) == 2


FRAMINGS = [{"content-length": "9"}, {"transfer-encoding": "chunked"}]


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
@pytest.mark.parametrize("name", DOWNLOADS)
async def test_the_end_is_not_checked_if_http_gives_the_length(name, framing, tmp_path):
    content = URL_OPERATIONS[name].answer[:-8] + b" " * 2000
    async with client_of(Answer(200, content, framing)) as (client, transport):
        await all_calls(tmp_path / "signed")[name](client)
    assert len(transport.sent) == 1


PAGE = b"<!DOCTYPE html>\n<html><body>Log in to the proxy.</body></html>"


@pytest.mark.parametrize("framing", FRAMINGS, ids=str)
@pytest.mark.parametrize("content", [b"", PAGE, PAGE + b" " * 9000])
@pytest.mark.parametrize("name", DOWNLOADS)
async def test_a_page_with_status_200_is_not_saved(name, content, framing, tmp_path):
    """A proxy between the client and the service may respond with a page."""
    path = tmp_path / "signed"
    path.write_text("older")
    chunks = [content[start : start + 100] for start in range(0, len(content), 100)]
    async with client_of(Answer(200, chunks, framing)) as (client, transport):
        with pytest.raises(
            UnexpectedResponseError,
            match=r"The response to the download is not a(n XML document| PDF)\.",
        ):
            await all_calls(path)[name](client)
        assert transport.open == 0
    assert [file.read_text() for file in tmp_path.iterdir()] == ["older"]
    assert len(transport.sent) == 1


@pytest.mark.parametrize(
    ("form", "content", "expected"),
    [
        (Form.PADES, b"\r\n" * 100 + PDF, True),
        (Form.PADES, b"x" * 1100 + PDF, False),
        (Form.PADES, XML, False),
        (Form.XADES, XML, True),
        (Form.XADES, PDF, False),
        (Form.XADES, "\ufeff<å/>".encode(), True),
        (Form.XADES, "<å/>".encode("utf-16"), True),
        (Form.XADES, b"<!-- " + b"long " * 2000 + b"--><a/>", True),
        (Form.XADES, b"<!-- <html> --><a/>", True),
        (Form.XADES, b"<htmlish/>", True),
        (Form.XADES, b"<x><html xmlns='http://www.w3.org/1999/xhtml'/></x>", True),
        (Form.XADES, b"<x><![CDATA[<html>]]></x>", True),
        (Form.XADES, b"<!-- <html> " + b"long " * 2000 + b"--><a/>", True),
        (Form.XADES, b'<!DOCTYPE x [<!ENTITY a "<html>">]><x/>', True),
        (Form.XADES, b"<?xml version='1.0'?><!doctype HTML><p>", False),
        (Form.XADES, b"<?" * 3000, True),
        (Form.XADES, b"<!-- only a comment -->", False),
        (Form.XADES, b"  \n", False),
    ],
)
def test_a_document_must_begin_as_its_format_requires(form, content, expected):
    watcher = Watcher(form)
    watcher.feed(content)
    assert watcher.begins_well() is expected


async def test_a_large_page_is_not_passed_on_and_not_read_to_its_end():
    chunks = [PAGE + b" " * 9000, *[b"x" * 1000] * 50]
    async with client_of(Answer(200, chunks, FRAMINGS[1])) as (client, transport):
        with pytest.raises(UnexpectedResponseError):
            await fail_at_the_first_chunk(client)
        assert len(transport.chunk_sizes) == 1


async def fail_at_the_first_chunk(client) -> None:
    async with client.open_xades(f"{ROOT}/xades") as stream:
        async for _ in stream:
            raise AssertionError


@pytest.mark.parametrize("name", ["get_status", "request_new_redirect_url"])
async def test_a_comment_after_the_end_of_an_xml_message_is_accepted(name, tmp_path):
    async with client_of(Answer(200, URL_OPERATIONS[name].answer + b"<!-- -->")) as (client, _):
        await all_calls(tmp_path)[name](client)


async def test_a_connection_that_is_closed_early_is_detected_on_a_real_socket():
    """Without a length or chunked encoding, the HTTP library takes the closed connection for the end."""
    head = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/octet-stream\r\n\r\n"
    responses = [head + PDF[:-9], head + PDF]

    async def handler(_: loopback.Received) -> bytes:
        return responses.pop(0)

    async with loopback.http_server(handler, server_context()) as server:
        configuration = ClientConfiguration(
            environment=Environment(
                name="Loopback",
                service_root=server.url("/api"),
                server_organization_number=pki.SERVICE,
            ),
            certificate=pki.sender().enterprise(),
            trust_anchors=TrustAnchors().trusting(pki.root().pem),
            retries=Retries(max_retries=0),
        )
        async with DirectClient(configuration) as client:
            with pytest.raises(TransportError, match="cut off"):
                await client.get_pades(server.url("/api/pades"))
            assert await client.get_pades(server.url("/api/pades")) == PDF
