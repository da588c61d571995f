"""Whether and how the entries of a container are compressed. Pure."""

import zlib
from enum import Enum
from typing import Protocol


class Compression(Enum):
    """How the entries of the container are stored."""

    STORED = "stored"
    """Not compressed. This is the default, because PDFs are compressed already."""

    DEFLATED = "deflated"
    """Compressed, as in the official clients. Useful for jobs with large plain text documents. The client
    compresses documents once if they are in memory (given as bytes, or small files) and need at most 1 MiB
    when compressed, and twice otherwise: to know the size before sending, and again while sending."""


class Deflater(Protocol):
    """Compresses one entry, block by block."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Adds `data`, and returns the compressed bytes that are ready."""
        ...

    def flush(self) -> bytes:
        """The remaining compressed bytes."""
        ...


def deflater() -> Deflater:
    """A new compressor for one entry: raw deflate, the format of ZIP. Its output is deterministic."""
    return zlib.compressobj(wbits=-zlib.MAX_WBITS)
