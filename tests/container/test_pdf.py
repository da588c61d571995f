"""The check for encrypted PDFs, on real files of three libraries (pypdf confirms each) and on made-up ones."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyhanko.pdf_utils import generic, writer
from pypdf import PdfReader, PdfWriter
from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas

from posten_signering._container.pdf import has_header, is_encrypted


def check(content: bytes) -> bool:
    return is_encrypted(lambda offset, length: content[offset : offset + length], len(content))


def plain(words="Encrypted with /Encrypt 1 0 R") -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, pageCompression=0, invariant=1)
    canvas.setTitle("/Encrypt 5 0 R")
    canvas.drawString(100, 700, words)
    canvas.save()
    return out.getvalue()


def by_reportlab(user, owner) -> bytes:
    out = io.BytesIO()
    canvas = Canvas(out, encrypt=StandardEncryption(user, owner, canPrint=0, strength=128))
    canvas.drawString(100, 700, "hidden")
    canvas.save()
    return out.getvalue()


def by_pypdf(algorithm) -> bytes:
    out = io.BytesIO()
    pdf = PdfWriter(clone_from=PdfReader(io.BytesIO(plain())))
    if algorithm:
        pdf.encrypt("", "owner", algorithm=algorithm)
    pdf.write(out)
    return out.getvalue()


def with_stream(*, encrypted) -> bytes:
    """A PDF whose cross-reference table is a stream."""
    out = io.BytesIO()
    pdf = writer.PdfFileWriter(stream_xrefs=True)
    contents = pdf.add_object(generic.StreamObject(stream_data=b"BT (x) Tj ET"))
    pdf.insert_page(writer.PageObject(contents=contents, media_box=[0, 0, 200, 200]))
    if encrypted:
        pdf.encrypt("owner", "user")
    pdf.write(out)
    return out.getvalue()


PLAIN = {
    "reportlab": plain(),
    "pypdf": by_pypdf(None),
    "stream": with_stream(encrypted=False),
}
ENCRYPTED = {
    "password": by_reportlab("user", "owner"),
    "permissions only": by_reportlab("", "owner"),
    "RC4-128": by_pypdf("RC4-128"),
    "AES-256": by_pypdf("AES-256"),
    "stream": with_stream(encrypted=True),
}


@pytest.mark.parametrize("name", PLAIN)
def test_a_real_pdf_without_encryption_passes(name):
    assert not PdfReader(io.BytesIO(PLAIN[name])).is_encrypted
    assert has_header(PLAIN[name])
    assert not check(PLAIN[name])


@pytest.mark.parametrize("name", ENCRYPTED)
def test_a_real_encrypted_pdf_is_detected(name):
    assert PdfReader(io.BytesIO(ENCRYPTED[name])).is_encrypted
    assert has_header(ENCRYPTED[name])
    assert check(ENCRYPTED[name])


def test_the_samples_named_stream_have_no_trailer_but_a_stream():
    for content in (PLAIN["stream"], ENCRYPTED["stream"]):
        assert b"/XRef" in content
        assert b"trailer" not in content


@pytest.mark.parametrize("name", ENCRYPTED)
@pytest.mark.parametrize("junk", [b"\n", b"junk from a mail program\r\n\r\n" * 20])
def test_bytes_before_the_header_and_after_the_end_do_not_matter(name, junk):
    content = junk + ENCRYPTED[name] + junk
    assert has_header(content)
    assert check(content)
    assert not check(junk + PLAIN["reportlab"] + junk)


def made(trailer: bytes, *, before=b"", startxref: bytes | None = None, table=None) -> bytes:
    head = b"%PDF-1.4\n" + before
    table = b"xref\n0 2\n0000000000 65535 f \n0000000009 00000 n \n" if table is None else table
    position = b"%d" % len(head) if startxref is None else startxref
    return head + table + trailer + b"\nstartxref\n" + position + b"\n%%EOF\n"


def trailer(entries: bytes) -> bytes:
    return b"trailer\n<< /Size 2 " + entries + b" >>"


@pytest.mark.parametrize(
    "entries",
    [
        b"/Encrypt 1 0 R",
        b"/Encrypt<</Filter/Standard/V 4>>",
        b"/Root 1 0 R/Encrypt 1 0 R/Info 2 0 R",
        b"/ID [<00> <ff>] /Encrypt 1 0 R",
        b"/ID [(a\\)) (b(c)\\\\)] /Encrypt 1 0 R",
        b"/Encr#79pt 1 0 R",
        b"% a comment >>\n/Encrypt % another\r 1 0 R",
        b"/Other /Encrypt /Encrypt 1 0 R",
        b"/XRefStm 15 /Prev 9 /Encrypt 1 0 R",
    ],
)
def test_an_entry_encrypt_in_the_trailer_is_found(entries):
    assert check(made(trailer(entries)))


@pytest.mark.parametrize(
    "entries",
    [
        b"/Root 1 0 R",
        b"/Encrypt null",
        b"/Encrypt",
        b"/Info (/Encrypt 1 0 R)",
        b"/Info (\\( /Encrypt 1 0 R)",
        b"/Info (()) /ID [(/Encrypt 1 0 R)]",
        b"/Info << /Encrypt 1 0 R >>",
        b"/ID [ /Encrypt 1 0 R ]",
        b"/Other /Encrypt /Size 2",
        b"/EncryptMetadata true",
        b"% /Encrypt 1 0 R",
        b"/encrypt 1 0 R",
    ],
)
def test_the_word_encrypt_in_other_places_does_not_count(entries):
    assert not check(made(trailer(entries)))


@pytest.mark.parametrize(
    "content",
    [
        made(trailer(b"/Encrypt 1 0 R"), startxref=b"99999999"),
        made(trailer(b"/Encrypt 1 0 R"), startxref=b"x"),
        made(trailer(b"/Encrypt 1 0 R"), startxref=b"0"),
        made(b"<< /Encrypt 1 0 R >>"),
        made(b"trailer /Encrypt 1 0 R"),
        made(b"trailer << /Encrypt 1 0 R"),
        made(b"trailer << 1 /Encrypt 1 0 R }"),
        made(trailer(b"/Info (never closed /Encrypt 1 0 R")),
        made(trailer(b"/Encrypt 1 0 R"), table=b"xref\nsomething else\n"),
        made(b"", table=b"1 0 obj << /Type /Catalog /Encrypt 1 0 R >> stream"),
        made(b"", table=b"1 0 obj [ /Encrypt 1 0 R ]"),
        made(b"", table=b"xref\n0 2\n"),
        b"%PDF-1.4\nno end",
        b"",
    ],
)
def test_a_file_that_can_t_be_parsed_passes(content):
    assert not check(content)


def test_a_cross_reference_stream_is_parsed():
    stream = b"7 0 obj\n<< /Type /XRef /Length 3 /Encrypt 1 0 R >>\nstream\n>>\x00\xff\nendstream"
    assert check(made(b"", table=stream))
    assert not check(made(b"", table=stream.replace(b"/Encrypt 1 0 R", b"")))


def test_a_cross_reference_stream_may_list_many_sections():
    """In files with many updates, its dictionary is longer than 64 KiB. At most 1 MiB is read."""
    index = b" ".join(b"%d 1" % number for number in range(10_000))
    before = b"7 0 obj\n<< /Type /XRef /Index [" + index + b"] "
    assert 64 * 1024 < len(before) < 1024 * 1024
    assert check(made(b"", table=before + b"/Encrypt 1 0 R >>\nstream\n"))
    assert not check(made(b"", table=before + b">>\nstream\n/Encrypt 1 0 R"))
    endless = before.replace(b"[", b"[" + b"0 1 " * 256 * 1024)
    assert not check(made(b"", table=endless + b"/Encrypt 1 0 R >>\nstream\n"))


@pytest.mark.parametrize("junk", [3000, 60_000])
def test_startxref_is_found_in_the_last_64_kib(junk):
    """Mail programs and signing programs add bytes at the end."""
    encrypted, plain = made(trailer(b"/Encrypt 1 0 R")), made(trailer(b""))
    assert check(encrypted + b"\n" * junk)
    assert not check(plain + b"\n" * junk)
    assert not check(encrypted + b"\n" * 70_000)


def test_only_the_last_startxref_counts():
    first = made(trailer(b"/Encrypt 1 0 R"))
    second = made(trailer(b"/Prev 9"))
    shifted = second.replace(b"startxref\n9\n", b"startxref\n%d\n" % (len(first) + 9))
    assert check(first)
    assert not check(first + shifted)
    shifted_encrypted = first.replace(b"startxref\n9\n", b"startxref\n%d\n" % (len(second) + 9))
    assert check(second + shifted_encrypted)


def test_a_long_table_is_skipped():
    table = b"xref\n0 9000\n" + b"0000000009 00000 n \n" * 9000
    assert check(made(trailer(b"/Encrypt 1 0 R"), table=table))
    assert not check(made(trailer(b""), table=table))


def test_the_table_may_be_at_the_beginning_of_the_file():
    """In a linearized file, the last `startxref` points to the table of the first page."""
    start = b"%PDF-1.4\n"
    first = b"xref\n0 1\n0000000009 00000 n \n" + trailer(b"/Encrypt 1 0 R /Prev 500")
    pages = b"\nstartxref\n0\n%%EOF\n" + b"x" * 5000 + b"xref\n0 0\ntrailer\n<< /Size 2 >>\n"
    end = b"startxref\n%d\n%%%%EOF\n" % len(start)
    assert check(start + first + pages + end)


def test_the_header_is_found_in_the_first_1024_bytes():
    assert has_header(b" " * 1019 + b"%PDF-1.7")
    assert not has_header(b" " * 1020 + b"%PDF-1.7")
    assert not has_header(b"<html>")


@given(st.sampled_from([*PLAIN.values(), *ENCRYPTED.values()]), st.data())
def test_a_damaged_file_raises_no_error(content, data):
    start = data.draw(st.integers(max(0, len(content) - 600), len(content)))
    damage = data.draw(st.binary(max_size=30))
    assert check(content[:start] + damage + content[start + len(damage) :]) in {True, False}


@given(st.binary(max_size=300))
def test_random_bytes_raise_no_error(content):
    assert check(b"xref" + content + b"startxref 0") in {True, False}
    assert check(b"trailer<<" + content) is False
