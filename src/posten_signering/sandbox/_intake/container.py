"""Opens an ASiC-E container, in memory and within limits, by the standard library's `zipfile`.

Its entries are `manifest.xml`, `META-INF/signatures.xml`, the documents and optionally `mimetype` (ETSI
EN 319 162-1, A.1). Does not look into them.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import broken_bundle

MANIFEST = "manifest.xml"
SIGNATURES = "META-INF/signatures.xml"
MIMETYPE = "mimetype"

DOCUMENTS_IN_ALL = 10_485_760
"""The documents of a job may have this many bytes together (the documentation's 10 MB)."""

_OTHER_FILE_BYTES = 1024 * 1024
_MOST_ENTRIES = 64
_ASICE_TYPE = b"application/vnd.etsi.asic-e+zip"
_ENCRYPTED = 0x1 | 0x40
_LOCAL_HEADER = b"PK\x03\x04"


@dataclass(frozen=True, kw_only=True, slots=True)
class Container:
    """What a container holds.

    Attributes:
        manifest: The bytes of `manifest.xml`.
        signatures: The bytes of `META-INF/signatures.xml`.
        documents: Every other entry's bytes, by its name.
    """

    manifest: Octets
    signatures: Octets
    documents: Mapping[str, Octets]


def open_container(content: Octets) -> Container:
    """Reads every entry of a container, and checks its name, size and CRC-32.

    Raises:
        Refusal: It is not a ZIP file, or its entries are not what the profile asks for.
    """
    if not content.startswith(_LOCAL_HEADER):
        raise broken_bundle("the container is not a ZIP file: it does not start with an entry")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = _read_entries(archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, ValueError):
        raise broken_bundle(
            "the container is not a readable ZIP file: it is cut off, or an entry's length,"
            " checksum or compressed data is wrong"
        ) from None
    for name in (MANIFEST, SIGNATURES):
        if name not in files:
            raise broken_bundle(f"the container lacks {name}")
    if files.pop(MIMETYPE, _ASICE_TYPE).strip() != _ASICE_TYPE:
        raise broken_bundle(f"the container's mimetype is not {_ASICE_TYPE.decode()}")
    return Container(
        manifest=files.pop(MANIFEST), signatures=files.pop(SIGNATURES), documents=files
    )


def entry_named(reference: str, documents: Mapping[str, object]) -> str | None:
    """The entry that a `href` or a `Reference/@URI` names: literally, or form-URL-encoded.

    The service decodes these names as it decodes a form: `+` is a space and `%XX` a byte of UTF-8.

    Args:
        reference: The name as the XML spells it.
        documents: The entries by name.
    """
    if reference in documents:
        return reference
    decoded = form_url_decoded(reference)
    return decoded if decoded in documents else None


def form_url_decoded(text: str) -> str:
    """A form-URL-encoded text decoded, or the text unchanged if one `%` of it is malformed."""
    if re.search("%(?![0-9a-fA-F]{2})", text):
        return text
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "replace")


def _read_entries(archive: zipfile.ZipFile) -> dict[str, Octets]:
    entries = archive.infolist()
    if len(entries) > _MOST_ENTRIES:
        raise broken_bundle(f"the container has {len(entries)} entries, far more than a job can")
    files: dict[str, Octets] = {}
    left = DOCUMENTS_IN_ALL
    for entry in entries:
        name = _safe_name(entry)
        if name in files:
            raise broken_bundle(f"the container has two entries named {name}")
        if entry.flag_bits & _ENCRYPTED:
            raise broken_bundle(f"the entry {name} is encrypted")
        if entry.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
            raise broken_bundle(f"the entry {name} is neither stored nor deflated")
        is_document = name not in {MANIFEST, SIGNATURES, MIMETYPE}
        most = left if is_document else _OTHER_FILE_BYTES
        # The declared size may be wrong. Reading one byte more than allowed shows the real size.
        with archive.open(entry) as opened:
            files[name] = Octets(opened.read(most + 1))
        if len(files[name]) > most:
            raise broken_bundle(
                f"the documents have more than {DOCUMENTS_IN_ALL} bytes in all"
                if is_document
                else f"{name} is larger than {_OTHER_FILE_BYTES} bytes"
            )
        left -= len(files[name]) if is_document else 0
    return files


def _safe_name(entry: zipfile.ZipInfo) -> str:
    # `zipfile` has already changed an unsafe `filename`. The name that was sent is judged.
    name = entry.orig_filename
    segments = name.split("/")
    if (
        any(segment in {"", ".", ".."} for segment in segments)
        or any(character in '\\:*?"<>|' for character in name)
        or not name.isprintable()
    ):
        raise broken_bundle("the container has an entry whose name is not a plain relative path")
    if segments[0].upper() == "META-INF" and name != SIGNATURES:
        raise broken_bundle(
            f"the container has {name}: the only file in META-INF must be signatures.xml"
        )
    return name
