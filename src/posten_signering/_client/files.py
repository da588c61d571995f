"""Files that are whole or absent. For worker threads."""

import os
import secrets
import threading
from io import BufferedWriter
from pathlib import Path
from types import TracebackType
from typing import Self

from posten_signering._values.secret import Secret

# Windows has none, and needs none.
_DIRECTORIES_HAVE_HANDLES = os.name == "posix"


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

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
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
