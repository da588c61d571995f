"""The body of a create, and the container alone, produced from their layouts. `documents` reads the files."""

import io
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import cast

import anyio
from anyio import to_thread

from posten_signering._container.compression import Compression
from posten_signering._container.documents import CHUNK, DocumentReading, Inspection
from posten_signering._container.layout import Layout, Segment
from posten_signering._values.secret import Secret

# For each call of a worker thread, because the switch costs more than reading one chunk.
_CHUNKS_PER_CALL = {Compression.STORED: 16, Compression.DEFLATED: 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamedBody:
    """A request body that is produced from its layout. It can be produced more than once.

    Attributes:
        layout: The layout of the body.
        inspection: The documents, and the results of reading them for the first time.
        limiter: Limits how many worker threads read at the same time.
        on_start: Called just before the first chunk, each time the body is produced.
    """

    layout: Layout
    inspection: Inspection
    limiter: anyio.CapacityLimiter
    on_start: Callable[[], None] = lambda: None

    @property
    def length(self) -> int:
        """The exact number of bytes."""
        return self.layout.length

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body from its beginning, in chunks of 128 KiB. Only the last one may be smaller.

        Raises:
            DocumentChangedError: A file changed or was removed after it was inspected. The error comes
                before the last bytes of the body.
        """
        self.on_start()
        chunks = _chunks(self.layout, self.inspection)
        if None not in [_in_memory(segment, self.inspection) for segment in self.layout.segments]:
            for chunk in chunks:
                yield chunk
                del chunk  # a traceback may show local variables
            return
        count, finished = _CHUNKS_PER_CALL[self.inspection.compression], False
        while not finished:
            ready = Secret(await to_thread.run_sync(_next, chunks, count, limiter=self.limiter))
            finished = len(ready.reveal()) < count
            while ready.reveal():
                yield ready.reveal().popleft()


def joined(layout: Layout, inspection: Inspection) -> bytes:
    """The whole content of a layout. Reads files, so it must run in a worker thread.

    Raises:
        DocumentChangedError: A file changed or was removed after it was inspected.
    """
    content = io.BytesIO()  # its getvalue() does not copy the bytes
    content.writelines(_chunks(layout, inspection))
    return content.getvalue()


def _next(chunks: Iterator[bytes], count: int) -> deque[bytes]:
    return deque(islice(chunks, count))


def _chunks(layout: Layout, inspection: Inspection) -> Iterator[bytes]:
    """The content of a layout in chunks of 128 KiB, because each chunk costs a call of the socket."""
    blocks, room = Secret(list[bytes | memoryview]()), CHUNK  # of the next chunk
    for segment in layout.segments:
        for block in _blocks(segment, inspection, first=room):
            start = 0
            while len(block) - start >= room:
                blocks.reveal().append(block[start : start + room])
                yield b"".join(blocks.reveal())  # a block that is a whole chunk is not copied
                blocks.reveal().clear()
                start, room = start + room, CHUNK
            if start < len(block):
                blocks.reveal().append(block[start:])
                room -= len(block) - start
            del block  # a traceback may show local variables
    if blocks.reveal():
        yield b"".join(blocks.reveal())


def _blocks(
    segment: Segment, inspection: Inspection, *, first: int
) -> Iterator[bytes | memoryview]:
    """The content of a segment in blocks. The first block that is read from a file has `first` bytes."""
    content = _in_memory(segment, inspection)
    if content is not None:
        yield memoryview(content.reveal())
    else:
        reading = DocumentReading(cast("int", segment), inspection)
        while not reading.finished:
            yield from reading.read_on(first)
            first = CHUNK


def _in_memory(segment: Segment, inspection: Inspection) -> Secret[bytes] | None:
    """The content of a segment; None for a document that must be read again."""
    if isinstance(segment, Secret):
        return segment
    content = inspection.documents[segment].content
    if isinstance(content, bytes) and inspection.compression is Compression.STORED:
        return Secret(content)  # bytes can't change, so they need no second check
    return inspection.deflated[segment]
