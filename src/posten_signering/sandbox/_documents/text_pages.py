"""Creates the pages of a text document. Reads only font files.

The fonts (Bitstream Vera) are part of reportlab. They have the Latin letters of Western Europe. Every
other character appears as a box.
"""

import io
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from threading import Lock

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

REGULAR = "PostenSigneringSandbox"
BOLD = "PostenSigneringSandbox-Bold"
for _font in (TTFont(REGULAR, "Vera.ttf"), TTFont(BOLD, "VeraBd.ttf")):
    pdfmetrics.registerFont(_font)  # pyright: ignore[reportUnknownMemberType] - untyped in the stub

font_lock = Lock()
"""Held while a PDF is written, because threads share the font objects and their file positions."""

_WIDTH, _HEIGHT = A4
MARGIN = 56.0
_TEXT_WIDTH = _WIDTH - 2 * MARGIN
INK = Color(0.11, 0.14, 0.18)
MUTED = Color(0.38, 0.42, 0.47)
ACCENT = Color(0.02, 0.36, 0.42)
LINE = Color(0.82, 0.84, 0.86)

_TEXT_SIZE, _TEXT_LEADING = 10.0, 14.0
_TEXT_TOP = _HEIGHT - MARGIN - 34
_LINES_ON_PAGE = int((_TEXT_TOP - MARGIN - 10) / _TEXT_LEADING)


def text_pages(content: bytes, *, title: str) -> bytes:
    """A PDF of a text on A4 pages. Lines that are too long are wrapped.

    Args:
        content: Text in UTF-8, with or without a byte order mark. A form feed starts a new page.
        title: The document's title, which is at the top of every page.
    """
    heading = next(_wrapped(title, size=8, width=_TEXT_WIDTH - 40))
    output = io.BytesIO()
    canvas = Canvas(output, pagesize=A4, invariant=1)
    for section in content.decode("utf-8-sig").split("\f"):
        lines = [part for line in section.splitlines() or [""] for part in _wrapped(line)]
        for start in range(0, len(lines), _LINES_ON_PAGE):
            canvas.setFont(REGULAR, 8)
            canvas.setFillColor(ACCENT)
            canvas.drawString(MARGIN, _HEIGHT - MARGIN, heading)
            canvas.setFillColor(MUTED)
            number = str(canvas.getPageNumber())
            canvas.drawRightString(_WIDTH - MARGIN, _HEIGHT - MARGIN, number)
            draw_line(canvas, _HEIGHT - MARGIN - 8)
            text = canvas.beginText(MARGIN, _TEXT_TOP)
            text.setFont(REGULAR, _TEXT_SIZE, _TEXT_LEADING)
            text.setFillColor(INK)
            text.textLines(lines[start : start + _LINES_ON_PAGE])
            canvas.drawText(text)
            canvas.showPage()
    with font_lock:
        canvas.save()
    return output.getvalue()


def _wrapped(line: str, *, size: float = _TEXT_SIZE, width: float = _TEXT_WIDTH) -> Iterator[str]:
    """The parts of a line that is wrapped at spaces, or inside a word that is too long for a line."""
    part, part_width = "", 0.0
    # A line has room for 30 characters, even for the widest ones.
    for piece in re.findall(r"\s{1,30}|\S{1,30}", visible(line).expandtabs()):
        piece_width = _width(piece, size)
        if part and part_width + piece_width > width:
            yield part
            part = piece.lstrip()
            part_width = piece_width if part else 0.0
        else:
            part += piece
            part_width += piece_width
    yield part


@lru_cache(maxsize=10_000)
def _width(piece: str, size: float) -> float:
    return pdfmetrics.stringWidth(piece, REGULAR, size)


def draw_line(canvas: Canvas, y: float) -> None:
    """Draws a horizontal line between the margins."""
    canvas.setStrokeColor(LINE)
    canvas.setLineWidth(0.6)
    canvas.line(MARGIN, y, _WIDTH - MARGIN, y)


def visible(text: str) -> str:
    """The text without format characters, which would appear as boxes."""
    if text.isprintable():  # This is much faster, and format characters are not printable.
        return text
    return "".join(character for character in text if unicodedata.category(character) != "Cf")
