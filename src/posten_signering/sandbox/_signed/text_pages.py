"""Typesets a plain text document to pages, so that it can stand in a PDF. Performs no I/O."""

import re

from posten_signering.sandbox._signed.typesetting import (
    ACCENT,
    MARGIN,
    MUTED,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    TEXT_WIDTH,
    Paper,
    printable,
    wrapped,
)

_SIZE = 10.0
_LEADING = 14.0
_TOP = PAGE_HEIGHT - MARGIN - 34
_LINES = int((_TOP - MARGIN - 10) / _LEADING)
_LINE_ENDS = re.compile(r"\r\n|[\n\r\v\x85\u2028\u2029]")


def text_pages(content: bytes, *, title: str) -> bytes:
    """A PDF of a text: its lines in their order, broken where they are too long for A4.

    Args:
        content: Text in UTF-8, with or without a byte order mark; form feeds start a new page.
        title: The document's title, which stands above every page.
    """
    paper = Paper(title=title)
    number = 0
    for section in content.decode("utf-8-sig").split("\f"):
        lines = [
            line
            for paragraph in _LINE_ENDS.split(section)
            for line in wrapped(printable(paragraph), width=TEXT_WIDTH, size=_SIZE)
        ]
        for start in range(0, len(lines), _LINES):
            number += 1
            _page(paper, lines[start : start + _LINES], title=title, number=number)
    return paper.to_bytes()


def _page(paper: Paper, lines: list[str], *, title: str, number: int) -> None:
    heading = next(wrapped(printable(title), width=TEXT_WIDTH - 40, size=8))
    paper.write(heading, x=MARGIN, y=PAGE_HEIGHT - MARGIN, size=8, colour=ACCENT)
    paper.write(
        str(number), x=PAGE_WIDTH - MARGIN - 20, y=PAGE_HEIGHT - MARGIN, size=8, colour=MUTED
    )
    paper.line(x=MARGIN, y=PAGE_HEIGHT - MARGIN - 8, width=TEXT_WIDTH)
    for position, line in enumerate(lines):
        if line:
            paper.write(line, x=MARGIN, y=_TOP - position * _LEADING, size=_SIZE)
    paper.turn()
