"""Which containers the sandbox opens, and which it refuses before it checks the signature."""

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
    MAX_DOCUMENT_BYTES,
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
            # Set the name afterwards: `ZipInfo` would change an unsafe name.
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
def test_stored_and_deflated_entries_are_read(compression):
    container = open_container(Octets(zipped(PLAIN, compression)))
    assert (container.manifest, container.signatures) == (b"<m/>", b"<s/>")
    assert container.documents == {"0000_document.pdf": b"%PDF-1.4"}


def test_entries_with_data_descriptors_are_read():
    content = bundles.container(Recipe())
    assert struct.unpack("<H", content[6:8])[0] & 0x8
    assert set(open_container(Octets(content)).documents) == {
        "0000_document.pdf",
        "0001_document.txt",
    }


def test_a_mimetype_entry_is_optional_but_must_be_correct():
    correct = ("mimetype", b"application/vnd.etsi.asic-e+zip")
    assert "mimetype" not in open_container(Octets(zipped([correct, *PLAIN]))).documents
    assert "mimetype" in refusal_of(zipped([("mimetype", b"application/zip"), *PLAIN]))


@pytest.mark.filterwarnings("ignore:Duplicate name")  # from zipfile, when the test writes
def test_two_entries_with_the_same_name_are_refused():
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
def test_a_name_that_is_not_a_plain_relative_path_is_refused(name):
    assert "not a plain relative path" in refusal_of(zipped([*PLAIN, (name, b"")]))


@pytest.mark.parametrize(
    "name", ["META-INF/manifest.xml", "META-INF/container.xml", "meta-inf/signatures.xml"]
)
def test_any_other_file_in_meta_inf_is_refused(name):
    assert "the only file in META-INF" in refusal_of(zipped([*PLAIN, (name, b"<a/>")]))


@pytest.mark.parametrize("missing", ["manifest.xml", "META-INF/signatures.xml"])
def test_a_missing_manifest_or_signature_file_is_refused(missing):
    entries = [entry for entry in PLAIN if entry[0] != missing]
    assert f"has no {missing}" in refusal_of(zipped(entries))


def test_an_encrypted_entry_is_refused():
    content = bytearray(zipped(PLAIN))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    assert "is encrypted" in refusal_of(bytes(content))


def test_a_different_compression_method_is_refused():
    assert "the compression method 12" in refusal_of(zipped(PLAIN, zipfile.ZIP_BZIP2))


def test_a_wrong_checksum_is_refused():
    content = zipped(PLAIN)
    assert "checksum" in refusal_of(content.replace(b"<m/>", b"<n/>", 1))


@pytest.mark.parametrize("content", [b"", b"PK", b"%PDF-1.4", b"MZ" + zipped(PLAIN)])
def test_a_file_that_is_not_a_zip_file_is_refused(content):
    assert "not a ZIP file" in refusal_of(content)


def test_documents_may_have_at_most_ten_mebibytes_in_total():
    first = b"\0" * (MAX_DOCUMENT_BYTES - 8)
    assert open_container(Octets(zipped([("big.pdf", first), *PLAIN], zipfile.ZIP_DEFLATED)))
    entries = [("big.pdf", first + b"\0"), *PLAIN]
    assert "more than 10485760 bytes" in refusal_of(zipped(entries, zipfile.ZIP_DEFLATED))


def test_a_zip_bomb_is_refused():
    """100 MB of zeros, compressed to 100 kB. Only the permitted 10 MiB are decompressed."""
    packed = io.BytesIO()
    with (
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb.pdf", "w") as entry,
    ):
        for _ in range(100):
            entry.write(b"\0" * 1_000_000)
    assert "more than 10485760 bytes" in refusal_of(packed.getvalue())


def test_a_manifest_that_is_too_large_is_refused():
    entries = [("manifest.xml", b" " * 2_000_000), *PLAIN[::2]]
    assert "manifest.xml is larger" in refusal_of(zipped(entries, zipfile.ZIP_DEFLATED))


def test_too_many_entries_are_refused():
    entries = [(f"{number}.pdf", b"") for number in range(100)]
    assert "103 entries" in refusal_of(zipped([*PLAIN, *entries]))


def test_a_directory_that_is_too_large_is_refused_before_it_is_read():
    entries = [(f"{number}.pdf", b"") for number in range(2_000)]
    assert "The directory of the container" in refusal_of(zipped([*PLAIN, *entries]))
    long_name = ("a" * 65_500, b"")
    assert "under short names" in refusal_of(zipped([*PLAIN, long_name]) + b"comment\1")


def test_a_zip64_file_is_refused():
    content = zipped(PLAIN)
    end = content.rindex(b"PK\5\6")
    locator = b"PK\6\7" + bytes(16)
    assert "ZIP64" in refusal_of(content[:end] + locator + content[end:])


@given(st.data())
def test_a_container_with_changed_bytes_is_refused_or_opens_with_the_same_contents(data):
    """No other exception is raised, whichever bytes change and wherever the file is cut off."""
    content = bytearray(zipped(PLAIN, zipfile.ZIP_DEFLATED))
    for _ in range(data.draw(st.integers(1, 4))):
        position = data.draw(st.integers(0, len(content) - 1))
        content[position] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    with contextlib.suppress(Refusal):
        container = open_container(Octets(bytes(content[:cut])))
        contents = {container.manifest, container.signatures, *container.documents.values()}
        assert contents <= {content for _, content in PLAIN}


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
def test_names_are_form_url_decoded(reference, name):
    assert form_url_decoded(reference) == name


def test_an_entry_with_the_literal_name_comes_before_one_with_the_decoded_name():
    assert entry_named("a+b.pdf", {"a+b.pdf": b"", "a b.pdf": b""}) == "a+b.pdf"
    assert entry_named("a+b.pdf", {"a b.pdf": b""}) == "a b.pdf"
    assert entry_named("c.pdf", {"a b.pdf": b""}) is None
