"""Frames, which carry bytes between two processes: the length in 8 bytes, then the bytes."""

import struct
from typing import IO

_LENGTH = struct.Struct(">Q")


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Writes bytes that `read_frame` returns."""
    stream.write(_LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


def read_frame(stream: IO[bytes], *, most_bytes: int | None = None) -> bytes:
    """The bytes in the next frame.

    Args:
        stream: The stream.
        most_bytes: The most bytes that the frame may have. None: any number.

    Raises:
        EOFError: The other process has ended.
        OverflowError: The frame has more than `most_bytes`.
    """
    [length] = _LENGTH.unpack(_read(stream, _LENGTH.size))
    if most_bytes is not None and length > most_bytes:
        raise OverflowError
    return _read(stream, length)


def _read(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise EOFError
    return content
