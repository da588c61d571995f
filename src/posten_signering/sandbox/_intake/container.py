"""Reads the entries of an ASiC-E container in memory, within limits, with the standard `zipfile`.

The entries are `manifest.xml`, `META-INF/signatures.xml`, the documents and optionally `mimetype` (ETSI
EN 319 162-1, A.1). This module does not check their contents.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from posten_signering.sandbox._intake.xml import MAX_XML_BYTES
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import broken_bundle

MANIFEST = "manifest.xml"
SIGNATURES = "META-INF/signatures.xml"
MIMETYPE = "mimetype"

MAX_DOCUMENT_BYTES = 10_485_760
"""The most bytes that all documents of a job may have in total (the documentation's 10 MB)."""

_MAX_ENTRIES = 64
_ASICE_TYPE = b"application/vnd.etsi.asic-e+zip"
_ENCRYPTED = 0x1 | 0x40
_LOCAL_HEADER = b"PK\x03\x04"

# The end of a ZIP file: a record of 22 bytes, then a comment (APPNOTE 4.3.16).
_END_RECORD = b"PK\x05\x06"
_END_RECORD_BYTES = 22
_MAX_COMMENT_BYTES = 65_536
_ZIP64_LOCATOR = b"PK\x06\x07"
_ZIP64_LOCATOR_BYTES = 20
_MAX_DIRECTORY_BYTES = 64 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """The entries of a container.

    Attributes:
        manifest: The bytes of `manifest.xml`.
        signatures: The bytes of `META-INF/signatures.xml`.
        documents: The bytes of every document, by the name of its entry.
    """

    manifest: Octets
    signatures: Octets
    documents: Mapping[str, Octets]


def open_container(content: Octets) -> Container:
    """The entries of a container, after a check of their names, sizes and CRC-32 checksums.

    Raises:
        Refusal: It is not a ZIP file, or its entries break the profile.
    """
    if not content.startswith(_LOCAL_HEADER):
        raise broken_bundle(
            "The container is not a ZIP file: it does not start with the header of an entry. Send"
            " the bytes of the ASiC-E file unchanged."
        )
    _check_directory(content)
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = _read_entries(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError):
        raise broken_bundle(
            "The container is not a readable ZIP file: it is cut off, or the length, the checksum or"
            " the compressed data of an entry is wrong. Create the file again, and send all of it."
        ) from None
    for name in (MANIFEST, SIGNATURES):
        if name not in files:
            raise broken_bundle(
                f"The container has no {name}. Add an entry with exactly this name."
            )
    if files.pop(MIMETYPE, _ASICE_TYPE).strip() != _ASICE_TYPE:
        raise broken_bundle(
            f"The content of the entry mimetype is not {_ASICE_TYPE.decode()}. Write this text, or"
            " leave the entry out."
        )
    return Container(
        manifest=files.pop(MANIFEST), signatures=files.pop(SIGNATURES), documents=files
    )


def entry_named(reference: str, documents: Mapping[str, object]) -> str | None:
    """The name of the entry to which a `href` or a `Reference/@URI` refers, or `None`.

    The reference is the name itself or its form-URL-encoded form, which the service decodes: `+` is a
    space and `%XX` is a byte of UTF-8.

    Args:
        reference: The name as it is written in the XML.
        documents: The entries by name.
    """
    if reference in documents:
        return reference
    decoded = form_url_decoded(reference)
    return decoded if decoded in documents else None


def form_url_decoded(text: str) -> str:
    """The form-URL-decoded text, or the unchanged text if it has a `%` without two hexadecimal digits."""
    if re.search("%(?![0-9a-fA-F]{2})", text):
        return text
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


def _check_directory(content: Octets) -> None:
    """Limits the directory at the end of the ZIP file, because `zipfile` reads the whole directory first."""
    end = len(content) - _END_RECORD_BYTES
    # `zipfile` finds the record in the same way.
    if not (content.startswith(_END_RECORD, max(end, 0)) and content.endswith(b"\0\0")):
        end = content.rfind(_END_RECORD, max(end - _MAX_COMMENT_BYTES, 0))
    if end < 0:
        # `zipfile` finds no record either, and refuses the file.
        return
    if content.startswith(_ZIP64_LOCATOR, max(end - _ZIP64_LOCATOR_BYTES, 0)):
        raise broken_bundle(
            "The container is a ZIP64 file, a format for files above 4 GiB. Write an ordinary ZIP file."
        )
    size = int.from_bytes(content[end + 12 : end + 16], "little")
    if size > _MAX_DIRECTORY_BYTES:
        raise broken_bundle(
            f"The directory of the container, which lists its entries, has {size} bytes, and the limit"
            f" is {_MAX_DIRECTORY_BYTES}. Include only the documents, the manifest and the signature,"
            " under short names."
        )


def _read_entries(archive: zipfile.ZipFile) -> dict[str, Octets]:
    entries = archive.infolist()
    if len(entries) > _MAX_ENTRIES:
        raise broken_bundle(
            f"The container has {len(entries)} entries, and the limit is {_MAX_ENTRIES}. Include only"
            " the documents, the manifest and the signature."
        )
    files: dict[str, Octets] = {}
    remaining = MAX_DOCUMENT_BYTES
    for entry in entries:
        name = _safe_name(entry)
        if name in files:
            raise broken_bundle(
                f"The container has two entries named {name}. Give every entry a different name."
            )
        if entry.flag_bits & _ENCRYPTED:
            raise broken_bundle(f"The entry {name} is encrypted. Add it without encryption.")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise broken_bundle(
                f"The entry {name} has the compression method {entry.compress_type}. Use stored"
                f" ({zipfile.ZIP_STORED}) or deflated ({zipfile.ZIP_DEFLATED})."
            )
        is_document = name not in {MANIFEST, SIGNATURES, MIMETYPE}
        limit = remaining if is_document else MAX_XML_BYTES
        # The declared size may be wrong, so read one byte more than the limit.
        with archive.open(entry) as file:
            files[name] = Octets(file.read(limit + 1))
        if len(files[name]) > limit:
            raise broken_bundle(
                f"The documents have more than {MAX_DOCUMENT_BYTES} bytes in total. Send smaller or"
                " fewer documents."
                if is_document
                else f"The entry {name} is larger than {MAX_XML_BYTES} bytes. Make it smaller."
            )
        if is_document:
            remaining -= len(files[name])
    return files


def _safe_name(entry: zipfile.ZipInfo) -> str:
    # Check the name that was sent: `zipfile` has already changed an unsafe `filename`.
    name = entry.orig_filename
    segments = name.split("/")
    if (
        any(segment in {"", ".", ".."} for segment in segments)
        or any(character in '\\:*?"<>|' for character in name)
        or not name.isprintable()
    ):
        raise broken_bundle(
            "The container has an entry whose name is not a plain relative path. Use only"
            ' printable characters except \\:*?"<>|. Start without a slash, and leave out empty'
            ' segments, "." and "..".'
        )
    if segments[0].upper() == "META-INF" and name != SIGNATURES:
        raise broken_bundle(
            f"The container has {name}. Remove it: the only file in META-INF must be signatures.xml."
        )
    return name
