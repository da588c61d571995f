"""Layouts of the ASiC-E container (a ZIP file) and of the multipart body around it. Pure.

A layout lists segments and has a known length, but holds no documents. So no body is joined in memory.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from posten_signering._container.compression import Compression, deflater
from posten_signering._values.job import DocumentType
from posten_signering._values.secret import Secret

MANIFEST_NAME = "manifest.xml"
SIGNATURES_NAME = "META-INF/signatures.xml"

# Records of a ZIP file (APPNOTE.TXT 4.3.7, 4.3.12, 4.3.16), little-endian.
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_CENTRAL_HEADER = struct.Struct("<4s6H3I5H2I")
_END_OF_DIRECTORY = struct.Struct("<4s4H2IH")
_VERSION = 20  # version 2.0, which has folders and deflate
_EXTENSIONS = {DocumentType.PDF: "pdf", DocumentType.TEXT: "txt"}

# The methods of the entries' headers (APPNOTE.TXT 4.4.5).
_METHODS = {Compression.STORED: 0, Compression.DEFLATED: 8}

Segment = Secret[bytes] | int
"""Bytes in memory, which are secret because messages name signers; or the index of a document whose stored
bytes belong here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The segments of a body.

    Attributes:
        segments: The segments in order.
        length: The exact number of bytes of the body.
    """

    segments: tuple[Segment, ...]
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedFile:
    """A file of the container that is signed: every file outside META-INF.

    Attributes:
        name: The unique name in the container. Only ASCII characters that need no escaping in a URI.
        mime: The media type.
        sha256: The SHA-256 digest of the uncompressed content.
    """

    name: str
    mime: str
    sha256: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DocumentEntry(SignedFile):
    """A document's entry in the container.

    Attributes:
        size: The size of the document in bytes.
        crc32: The CRC-32 of the document.
        stored_size: The size in the container in bytes. Usually less than `size` if the entry is deflated.
    """

    size: int
    crc32: int
    stored_size: int


def document_name(index: int, type: DocumentType) -> str:  # noqa: A002 - the name of the field of Document
    """The name of a job's document in the container, and its `href` in the manifest.

    An example is `0000_document.pdf`. The name does not contain the title, which may be confidential.
    The index makes it unique, and its characters need no escaping in a URI, a ZIP or a file system.
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

    The profile in the service's documentation ("Dokumentpakke") has no `mimetype` entry and no
    `META-INF/manifest.xml`. Sizes are known in advance, so no data descriptors are needed.

    Args:
        documents: The entries of the job's documents, in the order of the job. The container must stay
            below 4 GiB, because ZIP64 is not supported.
        manifest: The rendered manifest.
        signatures: The rendered signature over the documents and the manifest.
        compression: The compression of every entry.
        modified: The modification time of every entry, without time zone, to two seconds.
    """
    zip_file = _ZipFile(compression, modified)
    for index, document in enumerate(documents):
        zip_file.add_document(index, document)
    zip_file.add_bytes(MANIFEST_NAME, manifest)
    zip_file.add_bytes(SIGNATURES_NAME, signatures)
    return zip_file.close()


class _ZipFile:
    """Builds the layout of a ZIP file. It is not a dataclass, so its repr shows no content."""

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
        # The fields that both headers have, in the same order.
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
    """The time and the date in the format of ZIP (APPNOTE.TXT 4.4.6).

    It has no time zone, covers the years 1980 to 2107, and counts in steps of two seconds.
    """
    year = min(max(moment.year, 1980), 2107)
    return (
        moment.hour << 11 | moment.minute << 5 | moment.second // 2,
        (year - 1980) << 9 | moment.month << 5 | moment.day,
    )


def multipart(request: Secret[bytes], container: Layout, *, boundary: str) -> tuple[str, Layout]:
    """The Content-Type of a create, and its body: `multipart/mixed` (RFC 2046, section 5.1).

    The XML of the request comes first, as in the official clients. Each part has only one header,
    Content-Type.

    Args:
        request: The rendered job request.
        container: The layout of the container.
        boundary: 1 to 70 ASCII letters and digits. It must be random, so that no part contains it.
    """
    start = (
        f"--{boundary}\r\nContent-Type: application/xml\r\n\r\n".encode("ascii")
        + request.reveal()
        + f"\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n".encode("ascii")
    )
    end = f"\r\n--{boundary}--\r\n".encode("ascii")
    body = Layout(
        segments=(Secret(start), *container.segments, Secret(end)),
        length=len(start) + container.length + len(end),
    )
    return f"multipart/mixed; boundary={boundary}", body
