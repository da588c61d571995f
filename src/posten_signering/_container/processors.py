"""Bundle processors, which see a finished container before it is sent, and the one that writes it to a directory.

All of it is synchronous and runs in a worker thread.
"""

import os
import re
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from posten_signering._values.job import DirectJob
from posten_signering.errors import ConfigurationError

BundleProcessor = Callable[[DirectJob, Callable[[], BinaryIO]], None]
"""Called with the job and a function that opens the finished container as a file. The function may be called
several times.

A plain function: it runs in a worker thread before the request, for at most four jobs at once. What it
raises keeps the job from being created. It is called for each attempt to send a job, because an attempt for
which no connection could be made is signed again. The service accepts a signature for 5 seconds, so a
processor must be quick. A client with processors holds the container in memory while they run."""

_LONGEST_REFERENCE = 64


class DocumentBundleToDisk:
    """A bundle processor that keeps each container as a file, to look at or to archive.

    The file is named by the time in UTC and the job's reference: `20260131T134501123-order-77.asice`.
    Characters of the reference that some system's file names can't hold become `_`. Nothing is ever
    overwritten: a name that is taken gets a number. The file holds the documents and the signers'
    identity numbers; only the user that the process runs as may read it.

    Args:
        directory: Where to write. It must exist.
        clock: Tells the time, aware.

    Raises:
        ConfigurationError: When a job is created: there is no such directory, or the container can't
            be written there. The job was not created.
    """

    def __init__(
        self, directory: str | Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._directory = Path(directory)
        self._clock = clock

    def __repr__(self) -> str:
        return f"DocumentBundleToDisk({str(self._directory)!r})"

    def __call__(self, job: DirectJob, open_container: Callable[[], BinaryIO]) -> None:
        if not self._directory.is_dir():
            raise ConfigurationError(
                f"There is no directory {str(self._directory)!r} to write containers to: create it."
            )
        try:
            self._write(_stem(job, self._clock()), open_container)
        except OSError as error:
            raise ConfigurationError(
                f"The container can't be written to {str(self._directory)!r}: {error.strerror}."
            ) from error

    def _write(self, stem: str, open_container: Callable[[], BinaryIO]) -> None:
        path, descriptor = self._create(stem)
        try:
            with os.fdopen(descriptor, "wb") as file, open_container() as container:
                shutil.copyfileobj(container, file)
        except BaseException:
            # A part of a container would look like a whole one.
            path.unlink(missing_ok=True)
            raise

    def _create(self, stem: str) -> tuple[Path, int]:
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0)
        suffix, number = "", 1
        while True:
            path = self._directory / f"{stem}{suffix}.asice"
            try:
                return path, os.open(path, flags, 0o600)
            except FileExistsError:
                number += 1
                suffix = f"-{number}"


def _stem(job: DirectJob, now: datetime) -> str:
    # The time comes first: no name is one that a system reserves, or hides for its leading dot.
    moment = now.astimezone(UTC)
    stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}"
    reference = re.sub(r"[^A-Za-z0-9._-]", "_", job.reference or "")[:_LONGEST_REFERENCE]
    return f"{stamp}-{reference}" if reference else stamp
