"""The program of a process that opens documents: it reads them from stdin and writes the joined PDF to stdout.

`processes` starts it. It imports only what it needs, so that it starts in 0.1 seconds.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from pikepdf import Pdf

from posten_signering.sandbox._documents.frames import (
    READY,
    OtherProcessEndedError,
    read_frame,
    write_frame,
)
from posten_signering.sandbox._documents.pdf import PdfProblem, joined, opened

_FRONT_PAGE_TITLE = "Signatures"
_GRACE_SECONDS = 5


def main() -> None:
    """Answers requests until stdin is closed, which also happens when the sandbox's process ends."""
    # Ctrl-C is for the sandbox, which then closes stdin.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests = sys.stdin.buffer
    # Nothing that a library prints may come between the frames.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    # The line break ends a line that a startup file of Python has begun.
    answers.write(b"\n" + READY)
    answers.flush()
    with suppress(OtherProcessEndedError):
        while True:
            request = json.loads(read_frame(requests))
            contents = [read_frame(requests) for _ in request["documents"]]
            _limit(memory=request["memory"], seconds=request["seconds"] + _GRACE_SECONDS)
            _answer(request, contents, requests, answers)
            _limit(memory=request["memory"], seconds=0)


def _answer(
    request: Mapping[str, Any], contents: Sequence[bytes], requests: BinaryIO, answers: BinaryIO
) -> None:
    pdfs = list[tuple[str, Pdf]]()
    for document, content in zip(request["documents"], contents, strict=True):
        title = document["title"]
        try:
            pdf = opened(_pages_of(content, title) if document["is_text"] else content)
        except PdfProblem as problem:
            found = {"position": len(pdfs), "problem": str(problem)}
            write_frame(answers, json.dumps(found).encode())
            return
        pdfs.append((title, pdf))
    page_counts = [len(pdf.pages) for _, pdf in pdfs]
    write_frame(answers, json.dumps({"page_counts": page_counts}).encode())
    front_page = read_frame(requests)
    if front_page:
        pdfs.insert(0, (_FRONT_PAGE_TITLE, opened(front_page)))
    write_frame(answers, joined(pdfs, title=request["title"]))


def _pages_of(content: bytes, title: str) -> bytes:
    # Its import takes half of the time to start, and most jobs have no text.
    from posten_signering.sandbox._documents.text_pages import text_pages  # noqa: PLC0415 - see above

    return text_pages(content, title=title)


def _limit(*, memory: int, seconds: int) -> None:
    """Limits the memory, and the time (0: no longer) in case the sandbox does not end this process.

    Windows has neither limit.
    """
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - Windows does not have it

        signal.alarm(seconds)
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        # macOS may refuse the limit of memory.
        with suppress(ValueError):
            resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
