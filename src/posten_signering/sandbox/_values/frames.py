"""Frames, which carry bytes between two processes: the length in 8 bytes, then the bytes."""

import struct
from typing import IO

LARGEST_FRAME = 32 * 1024**2
_LENGTH = struct.Struct(">Q")


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Writes bytes that `read_frame` returns."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_frame(stream: IO[bytes]) -> bytes:
    """The bytes in the next frame.

    Raises:
        EOFError: The other process has ended.
        OverflowError: The frame is larger than `LARGEST_FRAME`.
    """
    [length] = _LENGTH.unpack(_read(stream, _LENGTH.size))
    if length > LARGEST_FRAME:
        raise OverflowError
    return _read(stream, length)


def _read(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content
