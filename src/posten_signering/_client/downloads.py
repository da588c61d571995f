"""Signed documents on their way to the caller: as a stream, or into a file that is whole or absent."""

import os
import secrets
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from io import BufferedWriter
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread

from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import ResponseStream

Progress = Callable[[int, int | None], None]

# Each write is a trip to a worker thread, so that a slow disk holds up nobody: make it worth while.
_WRITE_AT_ONCE = 1024 * 1024
# Windows has none, and needs none.
_DIRECTORIES_HAVE_HANDLES = os.name == "posix"


class DownloadStream:
    """A signed document as it comes from the service: an async iterator of chunks of bytes.

    Attributes:
        content_length: Bytes in all; None where the service does not say.
    """

    def __init__(self, stream: ResponseStream) -> None:
        length = stream.headers.get("content-length", "")
        self.content_length = int(length) if length.isdecimal() else None
        self._chunks = stream.chunks()

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self._chunks


async def to_file(
    stream: DownloadStream,
    path: str | os.PathLike[str],
    progress: Progress | None,
    limiter: anyio.CapacityLimiter,
) -> int:
    """Writes a download to a file, which appears under its name once it is whole and on the disk.

    Returns:
        The number of bytes.
    """
    in_thread = partial(anyio.to_thread.run_sync, limiter=limiter)
    file = PartialFile(Path(path))
    try:
        written = 0
        gathered = Secret(bytearray())  # Out of sight, should the download break off.
        async for chunk in stream:
            gathered.reveal().extend(chunk)
            del chunk
            if len(gathered.reveal()) >= _WRITE_AT_ONCE:
                written += await in_thread(file.write, gathered)
                gathered = Secret(bytearray())
                if progress is not None:
                    progress(written, stream.content_length)
        written += await in_thread(file.write, gathered)
        await in_thread(file.complete)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await in_thread(file.discard)
        raise
    if progress is not None:
        progress(written, stream.content_length)
    return written


def make_directory(path: Path) -> None:
    """Makes a directory and its parents, where they are missing, such that they stay on the disk."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        _flush_directory(path.parent)


class PartialFile:
    """A file under a temporary name beside its own, until `complete`; gone when that is not reached.

    Its methods do I/O, the constructor does none. A cancelled task does not wait for its thread
    (`asyncio.Task.cancel`), so that `discard` may overtake the rest: what comes after it does nothing.

    Args:
        path: The file's own name. What is there is replaced.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.part")
        self._turn = threading.Lock()
        self._file: BufferedWriter | None = None
        self._over = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, content: Secret[bytes] | Secret[bytearray]) -> int:
        """Adds to the file, and gives the number of bytes."""
        with self._turn:
            return 0 if self._over else self._opened().write(content.reveal())

    def complete(self) -> None:
        """Gives the file its name, once its content, and then the name, are on the disk."""
        with self._turn:
            if self._over:
                return
            with self._opened() as file:
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._path)
            _flush_directory(self._path.parent)
            self._over = True

    def discard(self) -> None:
        """Removes the file, unless it has its name."""
        with self._turn:
            if not self._over and self._file is not None:
                self._file.close()
                self._temporary.unlink(missing_ok=True)
            self._over = True

    def _opened(self) -> BufferedWriter:
        if self._file is None:
            self._file = self._temporary.open("xb")
        return self._file


def _flush_directory(path: Path) -> None:
    if _DIRECTORIES_HAVE_HANDLES:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
