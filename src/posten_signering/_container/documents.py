"""Reads documents: once before the job is signed, and again while it is sent. Runs in worker threads.

A file is open only while a function here runs, never between two chunks. So a cancelled or abandoned
request leaves no file open.
"""

import codecs
import hashlib
import io
import os
import re
import stat
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from posten_signering._container import pdf
from posten_signering._container.compression import Compression, deflater
from posten_signering._container.layout import DocumentEntry, document_name
from posten_signering._values.job import Document, DocumentType
from posten_signering._values.secret import Secret
from posten_signering.errors import DocumentChangedError, Violation

LARGEST_TOTAL = 10_485_760
"""The limit for all documents of a job together, in bytes ("Opprette oppdrag", the service's documentation)."""

CHUNK = 128 * 1024
"""The size of a chunk in bytes: small enough not to block the event loop, large enough that the cost per
chunk is negligible (tests/benchmarks)."""

# Several blocks each time that a file is opened. Only one if it is compressed, because that takes longer than
# opening the file, and the original and the compressed block are in memory at the same time.
_BLOCKS_PER_OPENING = 16
_DEFLATED_BLOCKS_PER_OPENING = 1

# In bytes, for each job. Files up to this size are kept in memory from the first reading, because reading them
# again in a worker thread takes longer than anything else that a small job needs.
_LARGEST_FILES_KEPT = 64 * 1024

# In bytes, for each job. Documents that are in memory stay there compressed too up to this size,
# until they are sent. Others are compressed a second time, because memory is limited, and because a file must
# be read again to see whether it has changed.
_LARGEST_KEPT = 1024 * 1024

# White space and a byte order mark, with which a PDF that is declared as text may begin.
_BEFORE_TEXT = b" \t\r\n\f\0" + codecs.BOM_UTF8

_Utf8Decoder = codecs.getincrementaldecoder("utf-8")

# All control characters except those that are white space in Unicode.
_CONTROL_CHARACTER = re.compile("[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """The results of reading a job's documents for the first time.

    Attributes:
        documents: The documents of the job.
        entries: The documents' entries in the container, in order. Only valid if there are no violations.
        violations: Every rule that the documents break.
        compression: How the documents are stored in the container.
        deflated: The compressed documents; None for each one that has to be read again.
    """

    documents: tuple[Document, ...]
    entries: tuple[DocumentEntry, ...]
    violations: tuple[Violation, ...]
    compression: Compression
    deflated: tuple[Secret[bytes] | None, ...]


def inspect(documents: Sequence[Document], *, compression: Compression) -> Inspection:
    """Reads every document once, computes its digests and finds the rules that it breaks.

    If one document alone exceeds the limit for all documents, only its beginning and its end are read.
    """
    documents = _with_small_files_in_memory(documents)
    violations = list[Violation]()
    entries = list[DocumentEntry]()
    deflated = list[Secret[bytes] | None]()
    room = _LARGEST_KEPT
    for index, document in enumerate(documents):
        reading = _FirstReading(document, compression, room)
        reading.read()
        violations += [
            Violation(path=f"documents[{index}].content", rule=rule)
            for rule in reading.broken_rules
        ]
        entries.append(reading.entry(index))
        kept = None if reading.deflated is None else Secret(bytes(reading.deflated))
        deflated.append(kept)
        room -= 0 if kept is None else len(kept.reveal())
    if sum(entry.size for entry in entries) > LARGEST_TOTAL:
        violations.append(
            Violation(path="documents", rule=f"at most {LARGEST_TOTAL:,} bytes in total")
        )
    return Inspection(
        documents=tuple(documents),
        entries=tuple(entries),
        violations=tuple(violations),
        compression=compression,
        deflated=tuple(deflated),
    )


def _with_small_files_in_memory(documents: Sequence[Document]) -> list[Document]:
    """The documents, with the content of small files in place of their paths."""
    result = list[Document]()
    room = _LARGEST_FILES_KEPT
    for document in documents:
        content = None if isinstance(document.content, bytes) else _small_content(document, room)
        if content is None:
            result.append(document)
        else:
            result.append(replace(document, content=content.reveal()))
            room -= len(content.reveal())
    return result


def _small_content(document: Document, room: int) -> Secret[bytes] | None:
    """The content of a file. None if it has more than `room` bytes, or can't be read."""
    # Why a file can't be read is reported when it is inspected.
    with suppress(OSError, ValueError), _opened(document) as file:
        if 0 < os.fstat(file.fileno()).st_size <= room:
            content = Secret(file.read(room))
            # A file may grow without end. And only an empty read shows that this was all of it.
            return None if file.read(1) else content
    return None


@contextmanager
def _opened(document: Document) -> Generator[io.BytesIO | io.FileIO]:
    """The document as an open file.

    Raises:
        OSError: The file can't be opened, or is not a regular file. A FIFO or a device may have no end.
        ValueError: The path is not valid on any system, for example because it has a NUL character.
    """
    if isinstance(document.content, bytes):
        # BytesIO does not copy the bytes.
        yield io.BytesIO(document.content)
        return
    with io.FileIO(document.content, opener=_open_without_waiting) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(None, "Not a regular file")
        yield file


def _open_without_waiting(path: str, flags: int) -> int:
    # Opening a FIFO that has no writer would block.
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


class _FirstReading:
    """Reads a document for the first time, before the job is signed."""

    def __init__(self, document: Document, compression: Compression, room: int) -> None:
        self.size = 0
        self.broken_rules: list[str] = []
        keeps = compression is Compression.DEFLATED and isinstance(document.content, bytes)
        self.deflated = bytearray() if keeps else None
        self._room = room
        self._document = document
        self._sha256 = hashlib.sha256()
        self._crc32 = 0
        self._deflater = deflater() if compression is Compression.DEFLATED else None
        self._deflated_size = 0
        # The caller may have given the type as a string.
        self._type = DocumentType(document.type)
        self._decoder = _Utf8Decoder() if self._type is DocumentType.TEXT else None
        self._is_utf8 = True
        self._control_character: str | None = None
        self._is_blank = True

    def entry(self, index: int) -> DocumentEntry:
        """The document's entry in the container. Call `read` first."""
        return DocumentEntry(
            name=document_name(index, self._type),
            mime=self._type,
            size=self.size,
            sha256=self._sha256.digest(),
            crc32=self._crc32,
            stored_size=self.size if self._deflater is None else self._deflated_size,
        )

    def read(self) -> None:
        """Reads the document. If it alone exceeds the limit, reads only the beginning and the end."""
        try:
            with _opened(self._document) as file:
                self._read(file)
        except (OSError, ValueError) as error:
            # strerror does not contain the path, unlike the text of the error.
            reason = (isinstance(error, OSError) and error.strerror) or "not a valid path"
            self.broken_rules = [f"must be bytes or a file that can be read: {reason}"]

    def _read(self, file: io.BytesIO | io.FileIO) -> None:
        content = self._document.content
        size = len(content) if isinstance(content, bytes) else os.fstat(file.fileno()).st_size
        if size > LARGEST_TOTAL:
            self.size = size
        else:
            for block in self._blocks(file):
                self._add(block)
            if self.size <= LARGEST_TOTAL:
                self._finish()

        def at(offset: int, length: int) -> bytes:
            file.seek(offset)
            return file.read(length)

        self.broken_rules += self._find_broken_rules(at)

    def _blocks(self, file: io.BytesIO | io.FileIO) -> Iterator[memoryview]:
        if isinstance(self._document.content, bytes):
            whole = memoryview(self._document.content)
            yield from (whole[start : start + CHUNK] for start in range(0, len(whole), CHUNK))
            return
        buffer = memoryview(bytearray(CHUNK))
        # Read to the end, because a file may grow, and files in /proc have size 0.
        while self.size <= LARGEST_TOTAL and (length := file.readinto(buffer)):
            yield buffer[:length]

    def _add(self, block: memoryview) -> None:
        self.size += len(block)
        self._sha256.update(block)
        self._crc32 = zlib.crc32(block, self._crc32)
        if self._deflater is not None:
            self._keep(self._deflater.compress(block))
        self._decode(block)

    def _finish(self) -> None:
        if self._deflater is not None:
            self._keep(self._deflater.flush())
        self._decode(b"", final=True)

    def _keep(self, deflated: bytes) -> None:
        self._deflated_size += len(deflated)
        if self._deflated_size > self._room:
            self.deflated = None
        elif self.deflated is not None:
            self.deflated += deflated

    def _decode(self, block: memoryview | bytes, *, final: bool = False) -> None:
        if self._decoder is not None and self._is_utf8:
            try:
                text = self._decoder.decode(block, final)
            except UnicodeDecodeError:
                self._is_utf8 = False
                return
            if self._control_character is None and (found := _CONTROL_CHARACTER.search(text)):
                self._control_character = found[0]
            self._is_blank = self._is_blank and not text.replace("\ufeff", "").strip()

    def _find_broken_rules(self, at: pdf.Read) -> Iterator[str]:
        start = at(0, pdf.HEADER_WITHIN)
        if not start:
            yield "must not be empty"
        elif self._type is DocumentType.TEXT:
            if start.lstrip(_BEFORE_TEXT).startswith(pdf.HEADER):
                yield "must be plain text, but is a PDF"
            if not self._is_utf8:
                yield "must be text in UTF-8"
            elif self._is_blank and self.size <= LARGEST_TOTAL:
                yield "must not be only white space"
            if self._control_character is not None:
                character = f"U+{ord(self._control_character):04X}"
                yield f"must not contain {character}, a control character that is not white space"
        elif not pdf.has_header(start):
            yield "must be a PDF"
        elif pdf.is_encrypted(at, self.size):
            yield "must be a PDF without a password or restricted permissions"


class DocumentReading:
    """Reads a document again while it is sent, and compresses it if the first reading did.

    The size and the CRC-32 must be the same as in the first reading. This detects a file that changes
    by accident. The service detects a deliberate change, because it compares every document with the
    SHA-256 that was signed.
    """

    def __init__(self, index: int, inspection: Inspection) -> None:
        self._index = index
        self._document = inspection.documents[index]
        self._expected = inspection.entries[index]
        deflated = inspection.compression is Compression.DEFLATED
        self._deflater = deflater() if deflated else None
        self._blocks_per_opening = _DEFLATED_BLOCKS_PER_OPENING if deflated else _BLOCKS_PER_OPENING
        self._crc32 = 0
        self._size = 0
        self._stored_size = 0

    @property
    def finished(self) -> bool:
        """Whether the whole document has been read."""
        return self._size == self._expected.size

    def read_on(self, first: int) -> list[bytes]:
        """The next blocks as the container stores them.

        Args:
            first: The largest size of the first block, before it is compressed. Other blocks have the
                size of a chunk.

        Raises:
            DocumentChangedError: The content is not what was signed. The error comes instead of the
                last blocks, so the service never receives a complete body.
        """
        blocks = Secret(list[bytes]())  # a traceback may show local variables
        try:
            with _opened(self._document) as file:
                file.seek(self._size)
                for size in (first, *[CHUNK] * (self._blocks_per_opening - 1)):
                    read = self._size
                    block_size = min(size, self._expected.size - read)
                    blocks.reveal().append(self._stored(file.read(block_size)))
                    if self.finished or self._size == read:
                        break
                changed = self.finished == bool(file.read(1)) or (
                    self.finished
                    and (self._crc32, self._stored_size)
                    != (self._expected.crc32, self._expected.stored_size)
                )
        except (OSError, ValueError):
            changed = True
        if changed:
            path = f"documents[{self._index}].content"
            rule = "must not change while the job is created"
            raise DocumentChangedError([Violation(path=path, rule=rule)])
        return blocks.reveal()

    def _stored(self, block: bytes) -> bytes:
        self._size += len(block)
        self._crc32 = zlib.crc32(block, self._crc32)
        if self._deflater is not None:
            block = self._deflater.compress(block)
            if self.finished:
                block += self._deflater.flush()
        self._stored_size += len(block)
        return block
