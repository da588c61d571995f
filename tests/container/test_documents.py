"""Inspecting documents before they are sent: digests, sizes, and every rule that is broken."""

import hashlib
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posten_signering._container.compression import Compression
from posten_signering._container.documents import LARGEST_TOTAL, Inspection, inspect
from posten_signering._values.job import Document, DocumentType

PDF = b"%PDF-1.7\nminimal"
ENCRYPTED = (
    b"%PDF-1.4\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 1 /Encrypt 1 0 R >>\n"
    b"startxref\n9\n%%EOF\n"
)
MIB = 1024 * 1024


def pdf(content) -> Document:
    return Document(title="A document", content=content)


def control(character: str) -> str:
    return f"must not contain {character}, a control character that is not white space"


def text(content) -> Document:
    return Document(title="A document", content=content, type=DocumentType.TEXT)


def inspection_of(*documents, compression=Compression.STORED) -> Inspection:
    return inspect(documents, compression=compression)


def violations(*documents) -> list[str]:
    return [str(violation) for violation in inspection_of(*documents).violations]


@pytest.fixture(params=["bytes", "path"])
def given_as(request, tmp_path):
    """A function that makes the content of a `Document`: the same bytes, or the path of a file."""
    if request.param == "bytes":
        return lambda content: content

    def write(content: bytes) -> Path:
        path = tmp_path / f"olav-nordmann-{len(list(tmp_path.iterdir()))}"
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize("compression", Compression)
@pytest.mark.parametrize("size", [len(PDF), 64 * 1024, 256 * 1024, 256 * 1024 + 1, MIB + 7])
def test_sizes_and_digests_are_those_of_the_content(given_as, size, compression):
    content = (PDF * (size // len(PDF) + 1))[:size]
    inspection = inspection_of(pdf(given_as(content)), compression=compression)
    assert inspection.violations == ()
    assert inspection.compression is compression
    [entry] = inspection.entries
    assert entry.size == size
    assert entry.sha256 == hashlib.sha256(content).digest()
    assert entry.crc32 == zlib.crc32(content)
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(content) + compressor.flush()
    assert entry.stored_size == (size if compression is Compression.STORED else len(deflated))


def test_entries_have_the_order_of_the_documents(given_as):
    contents = [PDF + bytes([digit]) for digit in b"123"]
    inspection = inspection_of(*(pdf(given_as(content)) for content in contents))
    assert [entry.sha256 for entry in inspection.entries] == [
        hashlib.sha256(content).digest() for content in contents
    ]


@pytest.mark.parametrize(
    ("document", "rule"),
    [
        (lambda c: pdf(c(b"")), "must not be empty"),
        (lambda c: text(c(b"")), "must not be empty"),
        (lambda c: pdf(c(b"<html></html>")), "must be a PDF"),
        (lambda c: pdf(c(b"PK\x03\x04" * 1000)), "must be a PDF"),
        (lambda c: pdf(c(b" " * 1020 + PDF)), "must be a PDF"),
        (lambda c: pdf(c(ENCRYPTED)), "must be a PDF without a password or restricted permissions"),
        (lambda c: text(c(PDF)), "must be plain text, but is a PDF"),
        (lambda c: text(c(b"\xef\xbb\xbf" + PDF)), "must be plain text, but is a PDF"),
        (lambda c: text(c(b" \t\r\n\f" + PDF)), "must be plain text, but is a PDF"),
        (lambda c: text(c(b"\r\n\xef\xbb\xbf\n" + PDF)), "must be plain text, but is a PDF"),
        (lambda c: text(c("æ".encode("latin-1"))), "must be text in UTF-8"),
        (lambda c: text(c("avtale".encode("utf-16"))), "must be text in UTF-8"),
        (lambda c: text(c("æ".encode()[:1])), "must be text in UTF-8"),
        (lambda c: text(c(b"x" * MIB + b"\xff")), "must be text in UTF-8"),
        (lambda c: text(c(b"\xff" + b"x" * MIB)), "must be text in UTF-8"),
        (lambda c: text(c(b"a\0b")), control("U+0000")),
        (lambda c: text(c(b"x" * MIB + b"\0\x07")), control("U+0000")),
        (lambda c: text(c(b"a\x1b[8mb")), control("U+001B")),
        (lambda c: text(c("a\x9fb".encode())), control("U+009F")),
        (lambda c: text(c(b" \t\r\n\f")), "must not be only white space"),
        (lambda c: text(c(b"\xef\xbb\xbf")), "must not be only white space"),
        (lambda c: text(c(b"\n" * MIB + b"\xc2\xa0")), "must not be only white space"),
    ],
)
def test_content_that_does_not_match_its_type_is_reported(given_as, document, rule):
    assert violations(pdf(given_as(PDF)), document(given_as)) == [f"documents[1].content: {rule}"]


@pytest.mark.parametrize(
    "document",
    [
        lambda c: pdf(c(b" " * 1019 + PDF)),
        lambda c: pdf(c(ENCRYPTED.replace(b"/Encrypt", b"/Unknown"))),
        lambda c: pdf(c(PDF + b"/Encrypt 1 0 R")),
        lambda c: text(c(b"%")),
        lambda c: text(c(b"A text on %PDF-1.7 files")),
        lambda c: text(c(b"\xef\xbb\xbf % PDF-1.7")),
        lambda c: text(c("æ".encode() * 400_000)),
        lambda c: text(c("\ufeffæ \U0001f44d".encode())),
        lambda c: text(c("a\t\n\v\f\r\x85b".encode())),
        lambda c: text(c(b"\n" * MIB + b"a")),
    ],
)
def test_content_that_matches_its_type_passes(given_as, document):
    assert violations(document(given_as)) == []


def test_several_violations_of_one_text_are_all_reported(given_as):
    assert violations(text(given_as(b"%PDF-\0\xff"))) == [
        "documents[0].content: must be plain text, but is a PDF",
        "documents[0].content: must be text in UTF-8",
    ]


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_a_text_is_valid_if_python_can_decode_it(contents):
    expected = []
    for index, content in enumerate(contents):
        try:
            content.decode()
        except UnicodeDecodeError:
            expected.append(f"documents[{index}].content: must be text in UTF-8")
    reported = violations(*map(text, contents))
    assert [violation for violation in reported if "UTF-8" in violation] == expected


# The limit for all documents together.

TOO_LARGE = "documents: at most 10,485,760 bytes in total"


def test_documents_with_exactly_the_allowed_total_pass(given_as):
    half = PDF + b"x" * (LARGEST_TOTAL // 2 - len(PDF))
    assert violations(pdf(given_as(half)), pdf(given_as(half))) == []


def test_one_byte_more_than_the_allowed_total_is_reported(given_as):
    half = PDF + b"x" * (LARGEST_TOTAL // 2 - len(PDF))
    assert violations(pdf(given_as(half)), pdf(given_as(half)), text(given_as(b"x"))) == [TOO_LARGE]
    assert violations(pdf(given_as(half + half + b"x"))) == [TOO_LARGE]


def test_the_violations_of_all_documents_are_reported_together(given_as, tmp_path):
    large = PDF + b"x" * LARGEST_TOTAL
    reported = violations(
        pdf(given_as(b"no pdf")),
        pdf(given_as(large)),
        pdf(given_as(ENCRYPTED)),
        pdf(tmp_path / "nowhere"),
        pdf(given_as(b"")),
    )
    assert [violation.partition(" ")[0] for violation in reported] == [
        "documents[0].content:",
        "documents[2].content:",
        "documents[3].content:",
        "documents[4].content:",
        "documents:",
    ]


def test_documents_after_the_total_is_exceeded_are_still_checked_completely(given_as):
    half = b"x" * (LARGEST_TOTAL // 2)
    documents = [pdf(given_as(PDF + half)), text(given_as(half)), text(given_as(half + b"\xff"))]
    assert violations(*documents) == ["documents[2].content: must be text in UTF-8", TOO_LARGE]
    assert violations(*documents[:2], text(given_as(half))) == [TOO_LARGE]


def test_a_file_that_alone_exceeds_the_limit_is_not_read_completely(tmp_path):
    path = tmp_path / "large.pdf"
    with path.open("wb") as file:
        file.write(b"no pdf")
        file.truncate(10 * 1024 * MIB)
    inspection = inspection_of(pdf(path))
    assert [str(violation) for violation in inspection.violations] == [
        "documents[0].content: must be a PDF",
        TOO_LARGE,
    ]
    assert inspection.entries[0].size == 10 * 1024 * MIB
    assert inspection.entries[0].sha256 == hashlib.sha256(b"").digest()


procfs = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="needs a file that reports size 0: procfs"
)


@procfs
def test_a_file_that_reports_size_0_is_read_to_its_end():
    path = Path("/proc/version")
    assert path.stat().st_size == 0
    inspection = inspection_of(text(path))
    assert inspection.violations == ()
    assert inspection.entries[0].size == len(path.read_bytes())


@procfs
def test_reading_stops_at_the_limit_even_if_the_file_reports_size_0(monkeypatch):
    """The file arrives in several blocks, and the first one exceeds the limit of this test."""
    monkeypatch.setattr("posten_signering._container.documents.LARGEST_TOTAL", 1000)
    path = Path("/proc/self/smaps")
    inspection = inspection_of(text(path))
    assert [str(violation) for violation in inspection.violations] == [
        "documents: at most 1,000 bytes in total"
    ]
    assert 1000 < inspection.entries[0].size < len(path.read_bytes())


# Files that can't be read. A path may contain a person's name, so no message shows it.


def fifo(path):
    os.mkfifo(path)
    return path


def directory(path):
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: path, "No such file or directory"),
        (lambda path: path / "\0", "not a valid path"),
        (directory, "Is a directory"),
        (fifo, "Not a regular file"),
        (lambda _: Path("/dev/zero"), "Not a regular file"),
        (lambda _: Path("/dev/null"), "Not a regular file"),
    ],
)
def test_an_unreadable_file_is_reported_without_its_path(tmp_path, make, reason):
    path = make(tmp_path / "olav-nordmann.pdf")
    assert violations(pdf(path)) == [
        f"documents[0].content: must be bytes or a file that can be read: {reason}"
    ]


def test_the_repr_of_an_inspection_shows_no_content():
    assert "minimal" not in repr(inspection_of(pdf(PDF)))


@settings(max_examples=30)
@given(st.data())
def test_a_path_and_its_bytes_give_the_same_inspection(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("documents")
    contents = data.draw(
        st.lists(st.one_of(st.binary(max_size=100), st.just(PDF), st.just(ENCRYPTED)), max_size=4)
    )
    types = [data.draw(st.sampled_from(DocumentType)) for _ in contents]
    compression = data.draw(st.sampled_from(Compression))
    from_bytes, from_paths = [], []
    for index, (content, type_) in enumerate(zip(contents, types, strict=True)):
        path = folder / str(index)
        path.write_bytes(content)
        from_bytes.append(Document(title="x", content=content, type=type_))
        from_paths.append(Document(title="x", content=path, type=type_))
    of_bytes = inspection_of(*from_bytes, compression=compression)
    of_paths = inspection_of(*from_paths, compression=compression)
    same = {"documents": of_bytes.documents, "deflated": of_bytes.deflated}
    assert of_bytes == replace(of_paths, **same)
