"""The body of a create, and the container alone, produced from their layouts. `documents` reads the files."""

import io
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass

import anyio
from anyio import to_thread

from posten_signering._container.documents import CHUNK, DocumentReading, Inspection
from posten_signering._container.layout import Compression, Layout
from posten_signering._values.secret import Secret


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
        """The body from its beginning, in chunks of at most 128 KiB.

        Raises:
            DocumentChangedError: A file changed or was removed after it was inspected. The error comes
                before the last bytes of the body.
        """
        self.on_start()
        for part in _parts(self.layout, self.inspection):
            if isinstance(part, DocumentReading):
                while not part.finished:
                    for chunk in await to_thread.run_sync(part.read_on, limiter=self.limiter):
                        yield chunk
            else:
                for start in range(0, len(part.reveal()), CHUNK):
                    yield part.reveal()[start : start + CHUNK]


def joined(layout: Layout, inspection: Inspection) -> bytes:
    """The whole content of a layout. Reads files, so it must run in a worker thread.

    Raises:
        DocumentChangedError: A file changed or was removed after it was inspected.
    """
    content = io.BytesIO()  # its getvalue() does not copy the bytes
    for part in _parts(layout, inspection):
        if isinstance(part, DocumentReading):
            while not part.finished:
                content.writelines(part.read_on())
        else:
            content.write(part.reveal())
    return content.getvalue()


def _parts(layout: Layout, inspection: Inspection) -> Iterator[Secret[bytes] | DocumentReading]:
    """The segments of a layout in order: bytes in memory, or a document that has yet to be read."""
    for segment in layout.segments:
        if isinstance(segment, Secret):
            yield segment
            continue
        content, deflated = inspection.documents[segment].content, inspection.deflated[segment]
        if deflated is not None:
            yield deflated
        elif isinstance(content, bytes) and inspection.compression is Compression.STORED:
            # Bytes can't change, so they need no second check.
            yield Secret(content)
        else:
            yield DocumentReading(segment, inspection)
