"""Bodies and containers produced from their layouts: nothing holds the whole of one.

No frame that an exception leaves through holds a piece of a document or of a manifest.
"""

import errno
import io
import os
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Protocol

import anyio
from anyio import to_thread

from posten_signering._container.documents import CHUNK, DocumentReading, Inspection
from posten_signering._container.layout import Compression, Layout
from posten_signering._values.job import Document

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def _unheard() -> None:
    """Nobody needs to know."""


class _Source(Protocol):
    """A segment on its way out. Its repr shows nothing of it."""

    def ready(self) -> bool:
        """Whether there is a chunk to take."""
        ...

    def take(self) -> bytes:
        """The next chunk."""
        ...

    def finished(self) -> bool:
        """Whether all chunks were made ready."""
        ...

    def fill(self) -> None:
        """Makes chunks ready, in a worker thread."""
        ...


class _Memory:
    """Bytes that are there, sliced as they are taken."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._offset = 0

    def ready(self) -> bool:
        return self._offset < len(self._content)

    def take(self) -> bytes:
        start, self._offset = self._offset, self._offset + CHUNK
        return self._content[start : self._offset]

    def finished(self) -> bool:
        return True

    def fill(self) -> None:
        """Does nothing: all is ready."""


def _sources(
    layout: Layout, documents: Sequence[Document], inspection: Inspection
) -> Iterator[_Source]:
    """What a layout names, in order."""

    def source(position: int) -> _Source:
        segment = layout.segments[position]
        if isinstance(segment, bytes):
            return _Memory(segment)
        content = documents[segment.index].content
        if isinstance(content, bytes) and inspection.compression is Compression.STORED:
            # Bytes can't change: they are not hashed again.
            return _Memory(content)
        return DocumentReading(segment.index, documents, inspection)

    return map(source, range(len(layout.segments)))


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedBody:
    """A request body that is produced from its layout, and can be produced again.

    Attributes:
        layout: The body's.
        documents: Those of the job.
        inspection: What was found out about them.
        limiter: How many worker threads may read at once.
        leaving: Called just before the first bytes are handed out, each time the body is produced.
    """

    layout: Layout
    documents: Sequence[Document]
    inspection: Inspection
    limiter: anyio.CapacityLimiter
    leaving: Callable[[], None] = _unheard

    @property
    def length(self) -> int:
        """Its exact number of bytes."""
        return self.layout.length

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body from its beginning, in chunks of at most 128 KiB.

        Raises:
            DocumentChangedError: A file is not the one that was inspected, or is gone; raised before
                the body's last bytes.
        """
        self.leaving()
        for source in _sources(self.layout, self.documents, self.inspection):
            while source.ready() or not source.finished():
                if source.ready():
                    # Without a name for the chunk, which a traceback with locals would show.
                    yield source.take()
                else:
                    await to_thread.run_sync(source.fill, limiter=self.limiter)


def readable(layout: Layout, *, documents: Sequence[Document], inspection: Inspection) -> BinaryIO:
    """What a layout describes as a file to read from, seekable, for a worker thread.

    Going back costs: what lies before is read again.
    """
    return io.BufferedReader(_Readable(layout, documents, inspection), CHUNK)


class _Readable(io.RawIOBase):
    """The bytes of a layout as a file."""

    def __init__(
        self, layout: Layout, documents: Sequence[Document], inspection: Inspection
    ) -> None:
        super().__init__()
        self._layout = layout
        self._documents = documents
        self._inspection = inspection
        self._position = 0
        self._rewind()

    def _rewind(self) -> None:
        self._sources = _sources(self._layout, self._documents, self._inspection)
        self._source: _Source = _Memory(b"")
        self._chunk = memoryview(b"")
        self._chunk_start = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._layout.length}
        position = origin[whence] + offset
        if position < 0:
            raise OSError(errno.EINVAL, "negative seek position")
        self._position = position
        return position

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        if self._position < self._chunk_start:
            self._rewind()
        while self._position >= self._chunk_start + len(self._chunk):
            if not self._advance():
                return 0
        start = self._position - self._chunk_start
        target = memoryview(buffer).cast("B")
        length = min(len(target), len(self._chunk) - start)
        target[:length] = self._chunk[start : start + length]
        self._position += length
        return length

    def _advance(self) -> bool:
        """On to the next chunk; False at the end."""
        while not self._source.ready():
            if not self._source.finished():
                self._source.fill()
            elif (source := next(self._sources, None)) is not None:
                self._source = source
            else:
                return False
        self._chunk_start += len(self._chunk)
        self._chunk = memoryview(self._source.take())
        return True
