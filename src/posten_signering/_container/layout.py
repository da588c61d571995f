"""Layouts of the ASiC-E container (a ZIP file) and of the multipart body around it: segments, not content. Pure.

A layout names documents and knows its length, so that nothing joins a body in memory.
"""

import struct
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Protocol

from posten_signering._values.job import DocumentType
from posten_signering._values.secret import Secret

MANIFEST_NAME = "manifest.xml"
SIGNATURES_NAME = "META-INF/signatures.xml"

# Records of a ZIP file (APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16), little-endian.
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
_END_OF_DIRECTORY = struct.Struct("<4s4H2IH")
_VERSION = 20  # 2.0: folders and deflate, nothing newer
_EXTENSIONS = {DocumentType.PDF: "pdf", DocumentType.TEXT: "txt"}


class Compression(Enum):
    """How the entries of the container are stored."""

    STORED = "stored"
    """As they are: the default. PDFs are compressed already."""

    DEFLATED = "deflated"
    """Compressed, as the official clients do it: for many plain text documents."""


# The methods of the entries' headers (APPNOTE.TXT 4.4.5).
_METHODS = {Compression.STORED: 0, Compression.DEFLATED: 8}


class Deflater(Protocol):
    """Compresses one entry, block by block."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """What is ready when `data` is added."""
        ...

    def flush(self) -> bytes:
        """The rest."""
        ...


def deflater() -> Deflater:
    """A fresh compressor for one entry: raw deflate, as ZIP has it. The same bytes on every run."""
    return zlib.compressobj(wbits=-zlib.MAX_WBITS)


Segment = Secret[bytes] | int
"""Bytes in memory, secret because messages name signers; or which document's bytes come here, as stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What a body is made of, in order.

    Attributes:
        segments: In the order of the body.
        length: The body's exact number of bytes.
    """

    segments: tuple[Segment, ...]
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFile:
    """A file outside META-INF that is signed.

    Attributes:
        name: In the container, unique there; ASCII characters that a URI reference carries as they are.
        mime: Its media type.
        sha256: Of its content, uncompressed.
    """

    name: str
    mime: str
    sha256: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry(SignedFile):
    """A document's entry in the container.

    Attributes:
        size: Of the document, in bytes.
        crc32: Of the document.
        stored_size: Bytes in the container; less than `size`, mostly, if the entry is deflated.
    """

    size: int
    crc32: int
    stored_size: int


def document_name(index: int, type: DocumentType) -> str:  # noqa: A002 - the name of the field of Document
    """The name of a job's document in the container, and its `href` in the manifest.

    Neutral, so that no title leaks into a file name, unique through the index, and made of
    characters that mean themselves in a URI, a ZIP and every file system: `0000_document.pdf`.
    """
    return f"{index:04d}_document.{_EXTENSIONS[type]}"


def container_layout(
    documents: Sequence[DocumentEntry],
    manifest: Secret[bytes],
    signatures: Secret[bytes],
    *,
    compression: Compression,
    modified: datetime,
) -> Layout:
    """The container's layout: the documents in order, `manifest.xml`, `META-INF/signatures.xml`.

    The profile of the service's documentation ("Dokumentpakke") has no `mimetype` entry and no
    `META-INF/manifest.xml`. Sizes are known beforehand, so that there are no data descriptors.

    Args:
        documents: The entries of the job's documents, in the job's order. No entry, and not all of
            them together, may come near 4 GiB: ZIP64 is not written.
        manifest: The rendered manifest.
        signatures: The rendered signature over the documents and the manifest.
        compression: For every entry alike.
        modified: The time that every entry bears, written as it stands, to two seconds.
    """
    zip_file = _ZipFile(compression, modified)
    for index, document in enumerate(documents):
        zip_file.add_document(index, document)
    zip_file.add_bytes(MANIFEST_NAME, manifest)
    zip_file.add_bytes(SIGNATURES_NAME, signatures)
    return zip_file.close()


class _ZipFile:
    """The layout as it grows. Not a dataclass: its repr must not show what it holds."""

    def __init__(self, compression: Compression, modified: datetime) -> None:
        self._compression = compression
        self._stamp = _dos_time(modified)
        self._segments: list[Segment] = []
        self._pending = bytearray()
        self._directory = bytearray()
        self._entries = 0
        self._length = 0

    def add_document(self, index: int, document: DocumentEntry) -> None:
        self._header(document.name, document.size, document.crc32, document.stored_size)
        self._segments += [Secret(bytes(self._pending)), index]
        self._pending.clear()
        self._length += document.stored_size

    def add_bytes(self, name: str, secret: Secret[bytes]) -> None:
        content = stored = secret.reveal()
        if self._compression is Compression.DEFLATED:
            compressor = deflater()
            stored = compressor.compress(content) + compressor.flush()
        self._header(name, len(content), zlib.crc32(content), len(stored))
        self._write(stored)

    def close(self) -> Layout:
        start, size = self._length, len(self._directory)
        self._write(self._directory)
        self._write(
            _END_OF_DIRECTORY.pack(
                b"PK\x05\x06", 0, 0, self._entries, self._entries, size, start, 0
            )
        )
        return Layout(
            segments=(*self._segments, Secret(bytes(self._pending))),
            length=self._length,
        )

    def _write(self, content: bytes | bytearray) -> None:
        self._pending += content
        self._length += len(content)

    def _header(self, name: str, size: int, crc32: int, stored_size: int) -> None:
        encoded = name.encode("ascii")
        # What both headers say of an entry, in the same order.
        common = (
            *(_VERSION, 0, _METHODS[self._compression], *self._stamp),
            *(crc32, stored_size, size, len(encoded), 0),
        )
        self._directory += (
            _CENTRAL_HEADER.pack(b"PK\x01\x02", _VERSION, *common, 0, 0, 0, 0, self._length)
            + encoded
        )
        self._entries += 1
        self._write(_LOCAL_HEADER.pack(b"PK\x03\x04", *common) + encoded)


def _dos_time(moment: datetime) -> tuple[int, int]:
    """A time as ZIP has it (APPNOTE.TXT 4.4.6): no zone, the years 1980 to 2107, two seconds exact."""
    year = min(max(moment.year, 1980), 2107)
    return (
        moment.hour << 11 | moment.minute << 5 | moment.second // 2,
        (year - 1980) << 9 | moment.month << 5 | moment.day,
    )


def multipart(request: Secret[bytes], container: Layout, *, boundary: str) -> tuple[str, Layout]:
    """The Content-Type of a create, and its body: `multipart/mixed` (RFC 2046, section 5.1).

    As the official clients send it: the request's XML first, and of each part's headers Content-Type
    alone.

    Args:
        request: The rendered job request.
        container: The layout of the container.
        boundary: Random, so that no part can contain it; 1 to 70 ASCII letters and digits.
    """
    start = (
        f"--{boundary}\r\nContent-Type: application/xml\r\n\r\n".encode("ascii")
        + request.reveal()
        + f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode("ascii")
    )
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    body = Layout(
        segments=_merged((Secret(start), *container.segments, Secret(end))),
        length=len(start) + container.length + len(end),
    )
    return f"multipart/mixed; boundary={boundary}", body


def _merged(segments: Iterable[Segment]) -> tuple[Segment, ...]:
    """Neighbouring bytes as one segment, because each segment is a write and a TLS record of its own."""
    merged = list[Segment]()
    for segment in segments:
        last = merged[-1] if merged else None
        if isinstance(segment, Secret) and isinstance(last, Secret):
            merged[-1] = Secret(last.reveal() + segment.reveal())
        else:
            merged.append(segment)
    return tuple(merged)
