"""Downloads of signed documents: as a stream, or to a file that appears only when it is complete."""

import asyncio
import errno
import io
import logging
import os
import secrets
import stat
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from io import BufferedWriter
from pathlib import Path
from typing import Self

import anyio
import anyio.to_thread

from posten_signering._session.loop import OwnLoop
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import ResponseStream, announced_length

Progress = Callable[[int, int | None], None]
"""Called with the number of bytes written, and the expected total (None if it is not known)."""

# Each write runs in a worker thread, because a disk may be slow. Writes of this size need few switches
# between threads.
_BYTES_PER_WRITE = 1024 * 1024
_ROOM_FOR_LAST_CHUNK = 64 * 1024  # httpcore reads at most this much from the socket
# Windows can't open a directory, and does not need to flush one.
_DIRECTORIES_HAVE_HANDLES = os.name == "posix"
# The errors of file systems that can't flush a directory (SMB, FUSE, shared folders of virtual machines),
# and of a directory without read permission. A failing disk has other errors, such as EIO.
_NOT_FLUSHABLE = {
    *(errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EBADF, errno.ENOSYS, errno.ENOTTY),
    *(errno.EISDIR, errno.EACCES, errno.EPERM),
}

_LOGGER = logging.getLogger("posten_signering")

_MOST_WARNINGS = 1000
_warned_directories = set[Path]()
_WARNING = threading.Lock()


class DownloadStream:
    """A signed document as an async iterator of chunks of bytes.

    `DirectClient.open_pades` and `DirectClient.open_xades` open one. It can be read once, inside their
    `async with` block, in the client's event loop. A failure while it is read is not retried.

    Attributes:
        content_length: The size of the document in bytes; None if the service does not say.

    Raises:
        TransportError: Raised while the stream is read: the connection was lost, or no more of the
            document arrived within `Timeouts.download`.
        UnexpectedResponseError: Raised while the stream is read: the document can't be decoded.
        ClientStateError: The stream is read in a different event loop than the client's.
    """

    def __init__(self, stream: ResponseStream, loop: OwnLoop) -> None:
        self.content_length: int | None = announced_length(stream.headers)
        self._chunks = stream.chunks()
        self._loop = loop

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._loop.check()
        return self._chunks


def check_path(path: str | os.PathLike[str]) -> None:
    """Checks that a file can be written, before its content is requested. Call it in a worker thread.

    It creates an empty file with a temporary name and removes it again, because permissions alone do not
    say whether a network share accepts files.

    Raises:
        OSError: The directory does not exist or can't be written to, or the path is a directory.
    """
    target = Path(path)
    with suppress(FileNotFoundError):
        if stat.S_ISDIR(target.stat().st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
    try:
        with PartialFile(target) as file:
            file.write(Secret(b""))
    except OSError as error:
        error.filename = str(target)  # in place of the temporary name
        raise


async def to_file(
    stream: DownloadStream,
    path: str | os.PathLike[str],
    progress: Progress | None,
    limiter: anyio.CapacityLimiter,
) -> int:
    """Writes a download to a file, which appears under its name only when all of it is on the disk.

    Returns:
        The size of the file in bytes.
    """
    in_thread = partial(anyio.to_thread.run_sync, limiter=limiter)
    file = PartialFile(Path(path))
    # All writes use this buffer, so that a download needs little memory. A traceback with local variables
    # does not show its content.
    buffer = io.BytesIO(bytes(_BYTES_PER_WRITE + _ROOM_FOR_LAST_CHUNK))

    def write() -> int:
        # Both are released even after an error, whose traceback would keep them.
        with buffer.getbuffer() as whole, whole[: buffer.tell()] as content:
            return file.write(Secret(content))

    try:
        written = 0
        async for chunk in stream:
            buffer.write(chunk)
            del chunk
            if buffer.tell() >= _BYTES_PER_WRITE:
                written += await in_thread(write)
                buffer.seek(0)
                if progress is not None:
                    progress(written, stream.content_length)
        written += await in_thread(write)
        await in_thread(file.complete)
    except BaseException:
        # Not `in_thread`: a second `Task.cancel` while that waits for a free thread would leave the partial
        # file. This runs to its end in any case.
        executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="discard")
        discarding = asyncio.get_running_loop().run_in_executor(executor, file.discard)
        executor.shutdown(wait=False)
        with anyio.CancelScope(shield=True):
            await asyncio.shield(discarding)
        raise
    if progress is not None:
        progress(written, stream.content_length)
    return written


def make_directory(path: Path) -> None:
    """Creates a directory and its missing parents, and flushes each to the disk if it can be flushed."""
    if not path.is_dir():
        make_directory(path.parent)
        path.mkdir(exist_ok=True)
        _flush_directory(path.parent)


class PartialFile:
    """A file that has a temporary name in the same directory until `complete` renames it.

    The methods do I/O: call them in a worker thread.

    After `asyncio.Task.cancel`, a cancelled task does not wait for its worker thread. `discard` may
    therefore run before a `write` or `complete` that was started earlier. Those then do nothing.

    Args:
        path: The final path of the file. An existing file is replaced.
        within: The directory that a warning names. The default is the directory of the file.
    """

    def __init__(self, path: Path, *, within: Path | None = None) -> None:
        self._path = path
        self._within = path.parent if within is None else within
        self._temporary = path.with_name(f".{path.name[:64]}.{secrets.token_hex(8)}.part")
        self._lock = threading.Lock()
        self._file: BufferedWriter | None = None
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, content: Secret[bytes] | Secret[memoryview]) -> int:
        """Appends to the file, and returns the number of bytes written."""
        with self._lock:
            return 0 if self._finished else self._opened().write(content.reveal())

    def complete(self) -> None:
        """Flushes the content to the disk, renames the file to its final path and flushes that too.

        Where the directory can't be flushed, a warning is logged: the file is complete all the same.
        """
        with self._lock:
            if self._finished:
                return
            with self._opened() as file:
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self._path)
            _flush_directory(self._path.parent, within=self._within)
            self._finished = True

    def discard(self) -> None:
        """Removes the file, unless it was completed."""
        with self._lock:
            if not self._finished and self._file is not None:
                self._file.close()
                self._temporary.unlink(missing_ok=True)
            self._finished = True

    def _opened(self) -> BufferedWriter:
        if self._file is None:
            self._file = self._temporary.open("xb")
        return self._file


def _flush_directory(path: Path, *, within: Path | None = None) -> None:
    if not _DIRECTORIES_HAVE_HANDLES:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NOT_FLUSHABLE:
            raise
        _warn_once(path if within is None else within, error.strerror)


def _warn_once(directory: Path, reason: str | None) -> None:
    with _WARNING:
        if directory in _warned_directories or len(_warned_directories) == _MOST_WARNINGS:
            return
        _warned_directories.add(directory)
    _LOGGER.warning(
        "The directory %s can't be flushed to the disk: %s. The files in it are complete, but after a "
        "power failure the name of a new file might be lost. To rule this out, use a local file system and "
        "a directory that this process may read.",
        directory,
        reason,
    )
