"""Fonts, the breaking of lines, and pages of A4 to write on. Performs no I/O but reading the fonts.

The fonts are those that reportlab carries (Bitstream Vera): the Latin letters of Western Europe.
A character that they lack shows as a box.
"""

import io
import unicodedata
from collections.abc import Iterator
from functools import cache
from threading import Lock
from typing import Final

from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

REGULAR: Final = "PostenSigneringSandbox"
BOLD: Final = "PostenSigneringSandbox-Bold"
_FILES = {REGULAR: "Vera.ttf", BOLD: "VeraBd.ttf"}

PAGE_WIDTH, PAGE_HEIGHT = A4
MARGIN: Final = 56.0
TEXT_WIDTH = PAGE_WIDTH - 2 * MARGIN

Colour = tuple[float, float, float]
INK: Final[Colour] = (0.11, 0.14, 0.18)
MUTED: Final[Colour] = (0.38, 0.42, 0.47)
ACCENT: Final[Colour] = (0.02, 0.36, 0.42)
LINE: Final[Colour] = (0.82, 0.84, 0.86)

_TAB = 8
_fonts = Lock()
"""Held while fonts are registered or embedded: a font is one object, which reads its file by position."""


class Paper:
    """Pages of A4, portrait, that become a PDF."""

    def __init__(self, *, title: str) -> None:
        with _fonts:
            _register_fonts()
        self._output = io.BytesIO()
        self._canvas = Canvas(self._output, pagesize=A4, invariant=1)
        self._canvas.setTitle(printable(title))

    def write(
        self,
        text: str,
        *,
        x: float,
        y: float,
        font: str = REGULAR,
        size: float,
        colour: Colour = INK,
    ) -> None:
        """Writes one line of printable text."""
        self._canvas.setFillColorRGB(*colour)
        self._canvas.setFont(font, size)
        self._canvas.drawString(x, y, text)

    def line(self, *, x: float, y: float, width: float) -> None:
        """Draws a thin line to the right."""
        self._canvas.setStrokeColorRGB(*LINE)
        self._canvas.setLineWidth(0.6)
        self._canvas.line(x, y, x + width, y)

    def box(self, *, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        """Fills a rectangle whose lower left corner is given."""
        self._canvas.setFillColorRGB(*colour)
        self._canvas.rect(x, y, width, height, stroke=0, fill=1)

    def turn(self) -> None:
        """Ends the page."""
        self._canvas.showPage()

    def to_bytes(self) -> bytes:
        """The PDF of all pages that were ended."""
        with _fonts:
            self._canvas.save()
        return self._output.getvalue()


def printable(text: str) -> str:
    """A text without what a line can't carry: formats go, controls become a box, spaces a space."""
    return "".join(map(_printable, text))


def wrapped(text: str, *, width: float, size: float, font: str = REGULAR) -> Iterator[str]:
    """The lines of one paragraph: broken at spaces, or within words that are longer than a line.

    Args:
        text: Printable text without line breaks.
        width: The width to keep, in points.
        size: The size of the font, in points.
        font: The font's name.
    """
    rest = text.expandtabs(_TAB).rstrip()
    while True:
        fitting = _fitting(rest, width / size, font)
        if fitting == len(rest):
            yield rest
            return
        space = rest.rfind(" ", 0, fitting + 1)
        # Spaces at the start are an indent, no place to break at.
        cut = space if rest[: max(space, 0)].strip() else fitting
        yield rest[:cut].rstrip()
        rest = rest[cut:].lstrip(" ")


def _fitting(text: str, ems: float, font: str) -> int:
    """How many characters fit a width given in multiples of the font's size: one at least."""
    used = 0.0
    for position, character in enumerate(text):
        used += _width(character, font)
        if used > ems:
            return max(position, 1)
    return len(text)


@cache
def _printable(character: str) -> str:
    category = unicodedata.category(character)
    if character == "\t" or category[0] in "LMNPS":
        return character
    if category == "Cf":
        return ""
    return " " if category[0] == "Z" else "\N{REPLACEMENT CHARACTER}"


@cache
def _width(character: str, font: str) -> float:
    return pdfmetrics.stringWidth(character, font, 1)


def _register_fonts() -> None:
    for name, file in _FILES.items():
        if name not in pdfmetrics.getRegisteredFontNames():
            pdfmetrics.registerFont(  # pyright: ignore[reportUnknownMemberType] - untyped in the stub
                TTFont(name, file)
            )
