"""Frames, which carry bytes between two processes: the length in 8 bytes, then the bytes."""

import struct
from typing import IO

_LENGTH = struct.Struct(">Q")

READY = b"posten-signering-sandbox: ready\n"
"""The line before the first frame from a process that has started."""


class OtherProcessEndedError(Exception):
    """The process at the other end of the pipe has ended."""


class FrameTooLargeError(Exception):
    """A frame has more bytes than the reader accepts."""


def write_frame(stream: IO[bytes], content: bytes) -> None:
    """Writes bytes that `read_frame` returns.

    Raises:
        OtherProcessEndedError: The other process has ended.
    """
    try:
        stream.write(_LENGTH.pack(len(content)))
        stream.write(content)
        stream.flush()
    except OSError:
        raise OtherProcessEndedError from None


def read_frame(stream: IO[bytes], *, most_bytes: int | None = None) -> bytes:
    """The bytes in the next frame.

    Args:
        stream: The stream.
        most_bytes: The most bytes that the frame may have. None: any number.

    Raises:
        OtherProcessEndedError: The other process has ended.
        FrameTooLargeError: The frame has more than `most_bytes`.
    """
    [length] = _LENGTH.unpack(_read(stream, _LENGTH.size))
    if most_bytes is not None and length > most_bytes:
        raise FrameTooLargeError
    return _read(stream, length)


def _read(stream: IO[bytes], length: int) -> bytes:
    content = stream.read(length)
    if len(content) < length:
        raise OtherProcessEndedError
    return content
