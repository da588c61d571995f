"""The one look at documents before they are sent: digests, sizes, and every rule that is broken."""

import hashlib
import os
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posten_signering._container.documents import LARGEST_TOTAL, Inspection, inspect
from posten_signering._container.layout import Compression
from posten_signering._values.job import Document, DocumentType

PDF = b"%PDF-1.7\nminimal"
ENCRYPTED = (
    b"%PDF-1.4\nxref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 1 /Encrypt 1 0 R >>\n"
    b"startxref\n9\n%%EOF\n"
)
MIB = 1024 * 1024


def pdf(content) -> Document:
    return Document(title="A document", content=content)


def text(content) -> Document:
    return Document(title="A document", content=content, type=DocumentType.TEXT)


def look(*documents, compression=Compression.STORED) -> Inspection:
    return inspect(documents, compression=compression)


def rules(*documents) -> list[str]:
    return [str(each) for each in look(*documents).violations]


@pytest.fixture(params=["bytes", "path"])
def given_as(request, tmp_path):
    """Content as a Document takes it: the bytes themselves, or a file's path."""
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
    found = look(pdf(given_as(content)), compression=compression)
    assert found.violations == ()
    assert found.compression is compression
    [document] = found.entries
    assert document.size == size
    assert document.sha256 == hashlib.sha256(content).digest()
    assert document.crc32 == zlib.crc32(content)
    compressor = zlib.compressobj(wbits=-15)
    deflated = compressor.compress(content) + compressor.flush()
    assert document.stored_size == (size if compression is Compression.STORED else len(deflated))


def test_documents_are_found_in_order(given_as):
    contents = [PDF + bytes([digit]) for digit in b"123"]
    found = look(*(pdf(given_as(content)) for content in contents))
    assert [each.sha256 for each in found.entries] == [
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
        (lambda c: text(c(PDF)), "must be plain text, and is a PDF"),
        (lambda c: text(c(b"\xef\xbb\xbf" + PDF)), "must be plain text, and is a PDF"),
        (lambda c: text(c(b" \t\r\n\f" + PDF)), "must be plain text, and is a PDF"),
        (lambda c: text(c(b"\r\n\xef\xbb\xbf\n" + PDF)), "must be plain text, and is a PDF"),
        (lambda c: text(c("æ".encode("latin-1"))), "must be text in UTF-8"),
        (lambda c: text(c("avtale".encode("utf-16"))), "must be text in UTF-8"),
        (lambda c: text(c("æ".encode()[:1])), "must be text in UTF-8"),
        (lambda c: text(c(b"x" * MIB + b"\xff")), "must be text in UTF-8"),
        (lambda c: text(c(b"\xff" + b"x" * MIB)), "must be text in UTF-8"),
        (lambda c: text(c(b"a\0b")), "must be text without NUL characters"),
        (lambda c: text(c(b"x" * MIB + b"\0")), "must be text without NUL characters"),
    ],
)
def test_a_document_that_is_not_what_it_claims_is_told(given_as, document, rule):
    assert rules(pdf(given_as(PDF)), document(given_as)) == [f"documents[1].content: {rule}"]


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
    ],
)
def test_a_document_that_is_what_it_claims_passes(given_as, document):
    assert rules(document(given_as)) == []


def test_several_faults_of_a_text_are_told_together(given_as):
    assert rules(text(given_as(b"%PDF-\0\xff"))) == [
        "documents[0].content: must be plain text, and is a PDF",
        "documents[0].content: must be text in UTF-8",
    ]


@given(st.lists(st.binary(max_size=40), max_size=6))
def test_a_text_is_judged_as_python_decodes_it(contents):
    expected = []
    for index, content in enumerate(contents):
        try:
            content.decode()
        except UnicodeDecodeError:
            expected.append(f"documents[{index}].content: must be text in UTF-8")
    found = rules(*map(text, contents))
    assert [each for each in found if "UTF-8" in each] == expected


# The limit of all documents together.


def test_as_many_bytes_as_are_allowed_pass(given_as):
    half = PDF + b"x" * (LARGEST_TOTAL // 2 - len(PDF))
    assert rules(pdf(given_as(half)), pdf(given_as(half))) == []


def test_a_byte_more_is_too_much(given_as):
    half = PDF + b"x" * (LARGEST_TOTAL // 2 - len(PDF))
    over = "documents: at most 10,485,760 bytes in all"
    assert rules(pdf(given_as(half)), pdf(given_as(half)), text(given_as(b"x"))) == [over]
    assert rules(pdf(given_as(half + half + b"x"))) == [over]


def test_all_violations_are_told_at_once(given_as, tmp_path):
    large = PDF + b"x" * LARGEST_TOTAL
    found = rules(
        pdf(given_as(b"no pdf")),
        pdf(given_as(large)),
        pdf(given_as(ENCRYPTED)),
        pdf(tmp_path / "nowhere"),
        pdf(given_as(b"")),
    )
    assert [each.partition(" ")[0] for each in found] == [
        "documents[0].content:",
        "documents[2].content:",
        "documents[3].content:",
        "documents[4].content:",
        "documents:",
    ]


def test_documents_behind_those_that_are_too_many_bytes_are_judged_whole(given_as):
    half = b"x" * (LARGEST_TOTAL // 2)
    documents = [pdf(given_as(PDF + half)), text(given_as(half)), text(given_as(half + b"\xff"))]
    over = "documents: at most 10,485,760 bytes in all"
    assert rules(*documents) == ["documents[2].content: must be text in UTF-8", over]
    assert rules(*documents[:2], text(given_as(half))) == [over]


def test_a_file_that_is_far_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.pdf"
    with path.open("wb") as file:
        file.write(b"no pdf")
        file.truncate(10 * 1024 * MIB)
    found = look(pdf(path))
    assert [str(each) for each in found.violations] == [
        "documents[0].content: must be a PDF",
        "documents: at most 10,485,760 bytes in all",
    ]
    assert found.entries[0].size == 10 * 1024 * MIB
    assert found.entries[0].sha256 == hashlib.sha256(b"").digest()


procfs = pytest.mark.skipif(
    not Path("/proc/self/smaps").exists(), reason="needs a file that does not know its size: procfs"
)


@procfs
def test_a_file_that_does_not_know_its_size_is_read_to_its_end():
    path = Path("/proc/version")
    assert path.stat().st_size == 0
    found = look(text(path))
    assert found.violations == ()
    assert found.entries[0].size == len(path.read_bytes())


@procfs
def test_a_file_that_grows_beyond_the_limit_is_not_read_to_its_end(monkeypatch):
    """Not even where it says that it is empty. It comes in pieces, of which one is too much here."""
    monkeypatch.setattr("posten_signering._container.documents.LARGEST_TOTAL", 1000)
    path = Path("/proc/self/smaps")
    found = look(text(path))
    assert [str(each) for each in found.violations] == ["documents: at most 1,000 bytes in all"]
    assert 1000 < found.entries[0].size < len(path.read_bytes())


# What can't be read. The path, which may hold a name, is never told.


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
        (lambda path: path / "\0", "no such path"),
        (directory, "Is a directory"),
        (fifo, "Not a regular file"),
        (lambda _: Path("/dev/zero"), "Not a regular file"),
        (lambda _: Path("/dev/null"), "Not a regular file"),
    ],
)
def test_what_can_t_be_read_is_told_without_its_path(tmp_path, make, reason):
    path = make(tmp_path / "olav-nordmann.pdf")
    assert rules(pdf(path)) == [
        f"documents[0].content: must be bytes or a file that can be read: {reason}"
    ]


def test_the_result_shows_no_content():
    assert "minimal" not in repr(look(pdf(PDF)))


@settings(max_examples=30)
@given(st.data())
def test_a_path_and_its_bytes_are_found_alike(tmp_path_factory, data):
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
    of_bytes = look(*from_bytes, compression=compression)
    of_paths = look(*from_paths, compression=compression)
    assert of_bytes == replace(of_paths, documents=of_bytes.documents)
