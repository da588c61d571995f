"""What the sandbox takes for a container, and what it refuses before any signature is looked at."""

import contextlib
import io
import struct
import zipfile

import bundles
import pytest
from bundles import Recipe
from hypothesis import given
from hypothesis import strategies as st

from posten_signering.sandbox._intake.container import (
    DOCUMENTS_IN_ALL,
    entry_named,
    form_url_decoded,
    open_container,
)
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import Refusal

PLAIN = [
    ("0000_document.pdf", b"%PDF-1.4"),
    ("manifest.xml", b"<m/>"),
    ("META-INF/signatures.xml", b"<s/>"),
]


def zipped(entries, compression=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as archive:
        for name, content in entries:
            # `writestr` would make the name harmless first.
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            archive.writestr(info, content, compression)
    return out.getvalue()


def refusal_of(content):
    with pytest.raises(Refusal) as caught:
        open_container(Octets(content))
    assert (caught.value.status, caught.value.code) == (400, "ASICE_VALIDATION_FAILED")
    return caught.value.message


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_entries_are_read_stored_or_deflated(compression):
    found = open_container(Octets(zipped(PLAIN, compression)))
    assert (found.manifest, found.signatures) == (b"<m/>", b"<s/>")
    assert found.documents == {"0000_document.pdf": b"%PDF-1.4"}


def test_entries_with_data_descriptors_are_read():
    content = bundles.container(Recipe())
    assert struct.unpack("<H", content[6:8])[0] & 0x8
    assert set(open_container(Octets(content)).documents) == {
        "0000_document.pdf",
        "0001_document.txt",
    }


def test_a_mimetype_is_optional_but_must_be_right():
    right = ("mimetype", b"application/vnd.etsi.asic-e+zip")
    assert "mimetype" not in open_container(Octets(zipped([right, *PLAIN]))).documents
    assert "mimetype" in refusal_of(zipped([("mimetype", b"application/zip"), *PLAIN]))


@pytest.mark.filterwarnings("ignore:Duplicate name")  # what zipfile says when it writes one
def test_two_entries_of_one_name_are_refused():
    assert "two entries named manifest.xml" in refusal_of(zipped([*PLAIN, PLAIN[1]]))


@pytest.mark.parametrize(
    "name",
    [
        "../a.pdf",
        "a/../../b.pdf",
        "/etc/passwd",
        "C:\\a.pdf",
        "a//b.pdf",
        "./a.pdf",
        "a\x01.pdf",
        "a/",
    ],
)
def test_names_that_lead_elsewhere_are_refused(name):
    assert "not a plain relative path" in refusal_of(zipped([*PLAIN, (name, b"")]))


@pytest.mark.parametrize(
    "name", ["META-INF/manifest.xml", "META-INF/container.xml", "meta-inf/signatures.xml"]
)
def test_nothing_else_may_be_in_meta_inf(name):
    assert "the only file in META-INF" in refusal_of(zipped([*PLAIN, (name, b"<a/>")]))


@pytest.mark.parametrize("missing", ["manifest.xml", "META-INF/signatures.xml"])
def test_a_missing_file_is_told(missing):
    entries = [entry for entry in PLAIN if entry[0] != missing]
    assert f"lacks {missing}" in refusal_of(zipped(entries))


def test_an_encrypted_entry_is_refused():
    content = bytearray(zipped(PLAIN))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert "is encrypted" in refusal_of(bytes(content))


def test_another_compression_is_refused():
    assert "neither stored nor deflated" in refusal_of(zipped(PLAIN, zipfile.ZIP_BZIP2))


def test_a_wrong_checksum_is_refused():
    content = zipped(PLAIN)
    assert "checksum" in refusal_of(content.replace(b"<m/>", b"<n/>", 1))


@pytest.mark.parametrize("content", [b"", b"PK", b"%PDF-1.4", b"MZ" + zipped(PLAIN)])
def test_what_is_no_zip_file_is_refused(content):
    assert "not a ZIP file" in refusal_of(content)


def test_documents_may_have_ten_mebibytes_in_all_and_no_byte_more():
    first = b"\0" * (DOCUMENTS_IN_ALL - 8)
    assert open_container(Octets(zipped([("big.pdf", first), *PLAIN], zipfile.ZIP_DEFLATED)))
    entries = [("big.pdf", first + b"\0"), *PLAIN]
    assert "more than 10485760 bytes" in refusal_of(zipped(entries, zipfile.ZIP_DEFLATED))


def test_a_bomb_is_not_unpacked():
    """500 MB of zeros in half a megabyte: refused after the 10 MiB that are allowed."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.pdf", "w") as entry,
    ):
        for _ in range(500):
            entry.write(b"\0" * 1_000_000)
    assert "more than 10485760 bytes" in refusal_of(packed.getvalue())


def test_a_large_manifest_is_not_unpacked():
    entries = [("manifest.xml", b" " * 2_000_000), *PLAIN[::2]]
    assert "manifest.xml is larger" in refusal_of(zipped(entries, zipfile.ZIP_DEFLATED))


def test_many_entries_are_refused():
    entries = [(f"{number}.pdf", b"") for number in range(100)]
    assert "103 entries" in refusal_of(zipped([*PLAIN, *entries]))


@given(st.data())
def test_whatever_is_broken_in_a_container_is_refused_and_nothing_else_happens(data):
    """Bytes changed anywhere: it opens with the same documents, or it is refused."""
    content = bytearray(zipped(PLAIN, zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(Refusal):
        found = open_container(Octets(bytes(content[:cut])))
        read = {found.manifest, found.signatures, *found.documents.values()}
        assert read <= {content for _, content in PLAIN}


@pytest.mark.parametrize(
    ("reference", "name"),
    [
        ("a+b%C3%A6.pdf", "a bæ.pdf"),
        ("100%.pdf", "100%.pdf"),
        ("a+b%zz.pdf", "a+b%zz.pdf"),
        ("a%2.pdf", "a%2.pdf"),
        ("plain-1.pdf", "plain-1.pdf"),
    ],
)
def test_names_are_decoded_as_a_form_is(reference, name):
    assert form_url_decoded(reference) == name


def test_a_name_is_taken_literally_first():
    assert entry_named("a+b.pdf", {"a+b.pdf": b"", "a b.pdf": b""}) == "a+b.pdf"
    assert entry_named("a+b.pdf", {"a b.pdf": b""}) == "a b.pdf"
    assert entry_named("c.pdf", {"a b.pdf": b""}) is None
