"""Processes that open documents and join them into one PDF, within limits of time and memory.

`process_main` is their program. A thread waits for each process that works.
"""

import asyncio
import json
import math
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Timer
from typing import IO, cast

from posten_signering.sandbox._documents.frames import (
    READY,
    FrameTooLargeError,
    OtherProcessEndedError,
    read_frame,
    write_frame,
)
from posten_signering.sandbox._values.hidden import Octets
from posten_signering.sandbox._values.refusal import SandboxError

if find_spec("pikepdf") is None:
    # Only the processes import it, so without this check the first job would fail.
    raise ModuleNotFoundError("No module named 'pikepdf'", name="pikepdf")

# The packages are replaced by empty ones: importing them would take longer than most documents.
_PROGRAM = """
import sys
from types import ModuleType
root = "posten_signering"
for name in (root, f"{root}.sandbox", f"{root}.sandbox._documents", f"{root}.sandbox._values"):
    sys.modules[name] = package = ModuleType(name)
    package.__path__ = ["/".join([sys.argv[1], *name.split(".")])]
from posten_signering.sandbox._documents.process_main import main
main()
"""
_SOURCES = Path(__file__).parents[3]
_MOST_PROCESSES = 8
_MEMORY = 1024**3
_MOST_RESULT_BYTES = 32 * 1024**2
_START_SECONDS = 30.0
_LONGEST_LINE = 1024
_REUSABLE_SECONDS = 1.0
"""A process that worked longer may keep much memory, so it is not used for more documents."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A document that a sender sent.

    Attributes:
        title: Its title.
        is_text: Whether it is a text. If not, it is a PDF.
        content: Its bytes.
    """

    title: str = field(repr=False)
    is_text: bool
    content: Octets


class UnusableDocument(Exception):  # noqa: N818 - a finding about a document, not an error of this program
    """A document can't be signed. The message follows "The document X ".

    Attributes:
        position: The position of the document, from 0.
    """

    def __init__(self, position: int, problem: str) -> None:
        super().__init__(problem)
        self.position = position


class TooMuchWork(Exception):  # noqa: N818 - a finding about documents, not an error of this program
    """The documents of a job exceed a limit. The message follows "the documents "."""


class DocumentProcesses:
    """The processes of one sandbox. The first one starts with the first documents.

    Args:
        time_limit: The most time that the documents of one job may take.
    """

    def __init__(self, time_limit: timedelta) -> None:
        self._seconds = time_limit.total_seconds()
        self._executor = ThreadPoolExecutor(
            max_workers=_MOST_PROCESSES, thread_name_prefix="posten-signering-sandbox-documents"
        )
        self._idle = deque[_Process]()
        self._calls = dict[_Call, Future[Octets]]()

    async def joined(
        self,
        documents: Sequence[Original],
        front_page: Callable[[Sequence[int]], bytes],
        *,
        title: str,
        factor: int = 1,
    ) -> Octets:
        """One PDF with a front page and the pages of all documents, as A4 portrait.

        The work ends when the caller is cancelled.

        Args:
            documents: The documents.
            front_page: Returns the front page as PDF, or nothing for a result without one. Called in a
                thread, with the number of pages of each document.
            title: The title in the properties of the PDF.
            factor: The limits are multiplied by this number.

        Raises:
            UnusableDocument: A document can't be signed.
            TooMuchWork: The documents exceed a limit.
        """
        call = _Call(documents, front_page, title, self._seconds, factor)
        future = self._executor.submit(self._run, call)
        self._calls[call] = future
        future.add_done_callback(lambda _: self._calls.pop(call, None))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            call.end("were not needed any more")
            raise

    async def aclose(self) -> None:
        """Ends all processes, and waits until they have ended."""
        for call, future in tuple(self._calls.items()):
            future.cancel()
            call.end("were not needed any more")
            await asyncio.gather(asyncio.wrap_future(future), return_exceptions=True)
        await asyncio.wrap_future(self._executor.submit(self._end_idle_processes))
        self._executor.shutdown()

    def _idle_process(self) -> "_Process | None":
        with suppress(IndexError):
            while True:
                process = self._idle.pop()
                if process.is_running:
                    return process
                process.end()
        return None

    def _end_idle_processes(self) -> None:
        while process := self._idle_process():
            process.end()

    def _run(self, call: "_Call") -> Octets:
        process = self._idle_process() or _Process()
        begun = time.monotonic()
        try:
            return call.run(process)
        finally:
            if process.is_idle and time.monotonic() - begun < _REUSABLE_SECONDS:
                self._idle.append(process)
            else:
                process.end()


class _Process:
    """A process, and the frames that are sent to it and received from it.

    Attributes:
        is_idle: Whether it waits for documents.
    """

    def __init__(self) -> None:
        self.is_idle = False
        self._is_ready = False
        # The import system ignores entries that are not strings, such as a `Path`.
        path = [
            entry for entry in cast("list[object]", sys.path) if entry and isinstance(entry, str)
        ]
        # A program that is frozen, or that embeds Python, would start itself here.
        if not sys.executable or getattr(sys, "frozen", False):
            raise _no_process()
        try:
            self._popen = subprocess.Popen(  # noqa: S603 - the program is a constant
                [sys.executable, "-P", "-c", _PROGRAM, str(_SOURCES)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                # Messages of libraries may quote the documents.
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(path)},
            )
        except OSError as error:
            raise _no_process() from error
        self._stdin = cast("IO[bytes]", self._popen.stdin)
        self._stdout = cast("IO[bytes]", self._popen.stdout)

    def wait_until_ready(self) -> None:
        """Waits until it has started, if it is new.

        Raises:
            SandboxError: It did not start.
        """
        if self._is_ready:
            return
        timer = Timer(_START_SECONDS, self.kill)
        timer.start()
        try:
            # A startup file of Python, such as `sitecustomize`, may print other lines first.
            while line := self._stdout.readline(_LONGEST_LINE):
                if line == READY:
                    self._is_ready = True
                    return
        finally:
            timer.cancel()
        raise _no_process()

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def send(self, content: bytes) -> None:
        write_frame(self._stdin, content)

    def receive(self, most_bytes: int) -> bytes:
        return read_frame(self._stdout, most_bytes=most_bytes)

    def kill(self) -> None:
        self._popen.kill()

    def end(self) -> None:
        """Ends it, and waits until it has ended. An idle one ends by itself when stdin is closed."""
        if not self.is_idle:
            self.kill()
        with self._popen, suppress(OSError):
            self._stdin.close()


class _Call:
    """The work on the documents of one job. Any thread may end it."""

    def __init__(
        self,
        documents: Sequence[Original],
        front_page: Callable[[Sequence[int]], bytes],
        title: str,
        seconds: float,
        factor: int,
    ) -> None:
        self._documents = documents
        self._front_page = front_page
        self._title = title
        self._seconds = seconds * factor
        self._memory = _MEMORY * factor
        self._most_bytes = _MOST_RESULT_BYTES * factor
        self._lock = Lock()
        self._process: _Process | None = None
        self._reason: str | None = None

    def end(self, reason: str) -> None:
        with self._lock:
            self._reason = self._reason or reason
            if self._process is not None:
                self._process.kill()

    def run(self, process: _Process) -> Octets:
        process.is_idle = False
        timer = Timer(self._seconds, self.end, [f"take more than {self._seconds:g} seconds"])
        with self._lock:
            self._process = process
            if self._reason is not None:
                process.kill()
        try:
            process.wait_until_ready()
            timer.start()
            return self._converse(process)
        except FrameTooLargeError:
            raise TooMuchWork(f"become more than {self._most_bytes >> 20} MiB") from None
        except OtherProcessEndedError:
            memory = f"need more than {self._memory >> 20} MiB of memory"
            raise TooMuchWork(
                self._reason or f"{memory}, or crash the library that reads PDFs"
            ) from None
        finally:
            timer.cancel()
            with self._lock:
                self._process = None
                if self._reason is not None:
                    # It was killed, perhaps just after it had sent the result.
                    process.is_idle = False

    def _converse(self, process: _Process) -> Octets:
        request = {
            "title": self._title,
            "seconds": math.ceil(self._seconds),
            "memory": self._memory,
            "documents": [
                {"title": document.title, "is_text": document.is_text}
                for document in self._documents
            ],
        }
        process.send(json.dumps(request).encode())
        for document in self._documents:
            process.send(document.content)
        answer = json.loads(process.receive(self._most_bytes))
        if "problem" in answer:
            process.is_idle = True
            raise UnusableDocument(answer["position"], answer["problem"])
        process.send(self._front_page(answer["page_counts"]))
        result = Octets(process.receive(self._most_bytes))
        process.is_idle = True
        return result


def _no_process() -> SandboxError:
    return SandboxError(
        f"The process that opens documents did not start. The sandbox runs {sys.executable or 'no program'}"
        " for it: sys.executable must be a Python with the same packages as this program."
    )
