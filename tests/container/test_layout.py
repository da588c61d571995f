"""Layouts of containers, read back by `zipfile` and `unzip`, and of bodies, read by Python's e-mail parser."""

import email
import email.policy
import re
import subprocess
import zipfile
import zlib
from datetime import datetime
from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posten_signering._container.compression import Compression
from posten_signering._container.layout import (
    DocumentEntry,
    Layout,
    container_layout,
    document_name,
    multipart,
)
from posten_signering._values.job import DocumentType
from posten_signering._values.secret import Secret

MODIFIED = datetime(2026, 2, 3, 14, 15, 17)  # noqa: DTZ001 - a ZIP has no time zones
contents = st.lists(st.binary(max_size=3000), max_size=5)
both = st.sampled_from(Compression)


def deflated(content: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(content) + compressor.flush()


def stored(content: bytes, compression: Compression) -> bytes:
    return content if compression is Compression.STORED else deflated(content)


def layout_of(
    documents: list[bytes],
    *,
    manifest=b"<manifest/>",
    signatures=b"<signatures/>",
    compression=Compression.STORED,
    modified=MODIFIED,
) -> Layout:
    entries = [
        DocumentEntry(
            mime=DocumentType.PDF,
            sha256=b"",
            name=document_name(index, DocumentType.PDF),
            size=len(content),
            crc32=zlib.crc32(content),
            stored_size=len(stored(content, compression)),
        )
        for index, content in enumerate(documents)
    ]
    return container_layout(
        entries, Secret(manifest), Secret(signatures), compression=compression, modified=modified
    )


def join(layout: Layout, documents: list[bytes], compression=Compression.STORED) -> bytes:
    return b"".join(
        segment.reveal() if isinstance(segment, Secret) else stored(documents[segment], compression)
        for segment in layout.segments
    )


@given(contents, st.binary(max_size=500), st.binary(max_size=500), both)
def test_zipfile_reads_every_file_back(documents, manifest, signatures, compression):
    layout = layout_of(documents, manifest=manifest, signatures=signatures, compression=compression)
    content = join(layout, documents, compression)
    assert layout.length == len(content)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [
            *(f"{index:04d}_document.pdf" for index in range(len(documents))),
            "manifest.xml",
            "META-INF/signatures.xml",
        ]
        assert [archive.read(name) for name in archive.namelist()] == [
            *documents,
            manifest,
            signatures,
        ]
        method = zipfile.ZIP_STORED if compression is Compression.STORED else zipfile.ZIP_DEFLATED
        for info in archive.infolist():
            assert info.compress_type == method
            assert info.flag_bits == 0, "a data descriptor, or an encrypted entry"
            assert info.extra == info.comment == b""


@settings(max_examples=15)
@given(contents, both)
def test_unzip_finds_no_error(tmp_path_factory, documents, compression):
    folder = tmp_path_factory.mktemp("container")
    content = join(layout_of(documents, compression=compression), documents, compression)
    (folder / "container.asice").write_bytes(content)
    tested = subprocess.run(
        ["unzip", "-t", "container.asice"], cwd=folder, check=False, capture_output=True, text=True
    )
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "No errors detected" in tested.stdout
    subprocess.run(["unzip", "-q", "container.asice"], cwd=folder, check=True)
    assert [
        (folder / f"{index:04d}_document.pdf").read_bytes() for index in range(len(documents))
    ] == documents


@given(st.binary(min_size=1, max_size=100), st.data())
def test_zipfile_detects_a_changed_document(content, data):
    layout = layout_of([content])
    index = data.draw(st.integers(0, len(content) - 1))
    changed = bytearray(content)
    changed[index] ^= 1
    with zipfile.ZipFile(BytesIO(join(layout, [bytes(changed)]))) as archive:
        assert archive.testzip() == "0000_document.pdf"


@pytest.mark.parametrize("compression", Compression)
def test_local_headers_have_the_same_values_as_the_directory(compression):
    documents = [b"first" * 50, b"", b"third"]
    content = join(layout_of(documents, compression=compression), documents, compression)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        for info in archive.infolist():
            header = content[info.header_offset :][:30]
            assert int.from_bytes(header[14:18], "little") == info.CRC
            assert int.from_bytes(header[18:22], "little") == info.compress_size
            assert int.from_bytes(header[22:26], "little") == info.file_size


def test_the_layout_contains_no_document():
    layout = layout_of([b"a" * 100, b"b" * 100])
    assert [segment for segment in layout.segments if isinstance(segment, int)] == [0, 1]
    in_memory = [segment.reveal() for segment in layout.segments if isinstance(segment, Secret)]
    assert not any(b"aaaa" in content for content in in_memory)
    assert any(b"<manifest/>" in content for content in in_memory)


@pytest.mark.parametrize(
    ("moment", "read"),
    [
        ((2026, 2, 3, 14, 15, 17), (2026, 2, 3, 14, 15, 16)),
        ((1970, 1, 1), (1980, 1, 1, 0, 0, 0)),
        ((2107, 12, 31, 23, 59, 59), (2107, 12, 31, 23, 59, 58)),
        ((2400, 2, 29), (2107, 2, 29, 0, 0, 0)),
    ],
)
def test_every_entry_has_the_modification_time(moment, read):
    layout = layout_of([], modified=datetime(*moment))  # noqa: DTZ001 - a ZIP has no time zones
    with zipfile.ZipFile(BytesIO(join(layout, []))) as archive:
        assert {info.date_time for info in archive.infolist()} == {read}


@given(st.integers(0, 19), st.integers(0, 19), st.sampled_from(DocumentType))
def test_document_names_are_unique_and_valid_in_the_schema(first, second, type_):
    name = document_name(first, type_)
    assert re.fullmatch(r"[a-z0-9._-]{4,100}", name)
    assert (name == document_name(second, type_)) == (first == second)
    assert name.endswith(".pdf" if type_ is DocumentType.PDF else ".txt")


# --- The multipart body

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
def test_the_e_mail_parser_reads_both_parts_back(xml, before, after):
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


def test_the_body_has_the_format_of_the_official_clients():
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


def test_the_e_mail_parser_detects_a_truncated_body():
    content_type, _, content = body_of(b"<request/>", b"PK", b"end")
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + content[:-3], policy=email.policy.HTTP)
    assert message.defects
