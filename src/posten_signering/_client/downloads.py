"""Signed documents on their way to the caller: as a stream, or into a file that is whole or absent."""

import os
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread

from posten_signering._client.files import PartialFile
from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import ResponseStream

Progress = Callable[[int, int | None], None]

# Each write is a trip to a worker thread, so that a slow disk holds up nobody: make it worth while.
_WRITE_AT_ONCE = 1024 * 1024


class DownloadStream:
    """A signed document as it comes from the service: an async iterator of chunks of bytes.

    Attributes:
        content_length: Bytes in all; None where the service does not say.
    """

    def __init__(self, stream: ResponseStream) -> None:
        length = stream.headers.get("content-length", "")
        encoded = stream.headers.get("content-encoding", "identity") != "identity"
        self.content_length = int(length) if length.isdecimal() and not encoded else None
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
