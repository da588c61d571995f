"""Bundle processors, which get each finished container before it is sent; one writes it to a directory.

They are synchronous and run in a worker thread.
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

A plain function, not a coroutine function. It runs in a worker thread before the request is sent, for at
most four jobs at the same time. If it raises an exception, the job is not created and `create` raises the
same exception. It is called for every attempt to send a job, because the client signs the job again when no
connection could be made. It must be quick: the service refuses a signature that is more than 5 seconds old.
A client with processors holds the container in memory while they run."""

_LONGEST_REFERENCE = 64


class DocumentBundleToDisk:
    """A bundle processor that saves each container as a file, for debugging or as an archive.

    The name is the time in UTC and the job's reference: `20260131T134501123-order-77.asice`. Characters
    other than ASCII letters, digits, `.`, `_` and `-` become `_`. A file is never overwritten: if the
    name exists, the new file gets a number. The file contains the documents and the signers' identity
    numbers. Only the user that runs the process may read it.

    Args:
        directory: An existing directory for the files.
        clock: Returns the current time as an aware datetime.

    Raises:
        ConfigurationError: Raised by `create`, not here: the directory does not exist, or the container
            can't be written there. The job was not created.
    """

    def __init__(
        self, directory: str | Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._directory = Path(directory)
        self._clock = clock

    def __repr__(self) -> str:
        return f"DocumentBundleToDisk({str(self._directory)!r})"

    def __call__(self, job: DirectJob, open_container: Callable[[], BinaryIO]) -> None:
        """Saves the container of a job. The client calls this before it sends the job.

        Raises:
            ConfigurationError: The directory does not exist, or the container can't be written there.
        """
        if not self._directory.is_dir():
            raise ConfigurationError(
                f"The container can't be saved: {str(self._directory)!r} is not an existing directory. "
                "Create it."
            )
        try:
            self._write(_stem(job, self._clock()), open_container)
        except OSError as error:
            raise ConfigurationError(
                f"The container can't be written to the directory {str(self._directory)!r} "
                f"({error.strerror}): check its permissions and the free space."
            ) from error

    def _write(self, stem: str, open_container: Callable[[], BinaryIO]) -> None:
        path, descriptor = self._create(stem)
        try:
            with os.fdopen(descriptor, "wb") as file, open_container() as container:
                shutil.copyfileobj(container, file)
        except BaseException:
            # A partial file would look like a whole container.
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
    # The time comes first, so that no name is reserved on Windows (CON) or hidden by a leading dot.
    moment = now.astimezone(UTC)
    stamp = f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03d}"
    reference = re.sub(r"[^A-Za-z0-9._-]", "_", job.reference or "")[:_LONGEST_REFERENCE]
    return f"{stamp}-{reference}" if reference else stamp
