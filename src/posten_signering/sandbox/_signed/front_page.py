"""Creates the front page of a signed PDF, and the pages of a text document. Reads only font files.

The fonts (Bitstream Vera) are part of reportlab. They have the Latin letters of Western Europe. Every
other character appears as a box.
"""

import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from threading import Lock
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    HRFlowable,
    KeepTogether,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
)

from posten_signering.sandbox._intake.messages import Manifest, ManifestSigner
from posten_signering.sandbox._signed.xades import SignedDocument

_REGULAR = "PostenSigneringSandbox"
_BOLD = "PostenSigneringSandbox-Bold"
for _font in (TTFont(_REGULAR, "Vera.ttf"), TTFont(_BOLD, "VeraBd.ttf")):
    pdfmetrics.registerFont(_font)  # pyright: ignore[reportUnknownMemberType] - untyped in the stub

_font_lock = Lock()
"""Held while a PDF is written, because threads share the font objects and their file positions."""

_WIDTH, _HEIGHT = A4
_MARGIN = 56.0
_TEXT_WIDTH = _WIDTH - 2 * _MARGIN
_INDENT = 22.0
_INK = Color(0.11, 0.14, 0.18)
_MUTED = Color(0.38, 0.42, 0.47)
_ACCENT = Color(0.02, 0.36, 0.42)
_LINE = Color(0.82, 0.84, 0.86)

_TEXT_SIZE, _TEXT_LEADING = 10.0, 14.0
_TEXT_TOP = _HEIGHT - _MARGIN - 34
_LINES_ON_PAGE = int((_TEXT_TOP - _MARGIN - 10) / _TEXT_LEADING)

_SIGNATURE_TYPES = {
    "ADVANCED_ELECTRONIC_SIGNATURE": "Advanced electronic signature",
    "AUTHENTICATED_ELECTRONIC_SIGNATURE": "Authenticated electronic signature",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Signatory:
    """A signer who has signed.

    Attributes:
        name: The signer's name, from the e-ID.
        signer: The signer in the manifest.
        signed_at: The time of signing, an aware datetime.
    """

    name: str = field(repr=False)
    signer: ManifestSigner
    signed_at: datetime


def front_page(
    manifest: Manifest,
    documents: Iterable[tuple[SignedDocument, int]],
    signatories: Iterable[Signatory],
    *,
    sealed_at: datetime,
) -> bytes:
    """A PDF that shows what was signed, who requested it, who signed it and when.

    It has one A4 page, or more if there are many documents and signers.

    Args:
        manifest: The job's manifest.
        documents: The documents in the manifest's order, each with its number of pages.
        signatories: The signers, in the manifest's order.
        sealed_at: The time of the seal, an aware datetime.
    """
    sender = f"{manifest.sender[:3]} {manifest.sender[3:6]} {manifest.sender[6:]}"
    content: list[Flowable] = [
        _paragraph("SIGNED DOCUMENT", 8.5, bold=True, colour=_ACCENT, after=10),
        _paragraph(manifest.title, 22, bold=True, after=9),
        _paragraph(manifest.description or "", 10.5, after=6),
        _paragraph(f"Requested by organisation {sender}", 9.5, colour=_MUTED, after=10),
        *_heading("Documents" if len(manifest.documents) > 1 else "Document"),
    ]
    for number, (document, pages) in enumerate(documents, start=1):
        kind = "PDF" if document.mime == "application/pdf" else "Text"
        count = "1 page" if pages == 1 else f"{pages} pages"
        digest = hashlib.sha256(document.content).hexdigest()
        content.append(_item(number, document.title, f"{kind}, {count}", f"SHA-256 {digest}"))
    content += _heading("Signatures" if len(manifest.signers) > 1 else "Signature")
    for number, signatory in enumerate(signatories, start=1):
        signer = signatory.signer
        identity = shown_identity(signer, manifest.identifier_in_signed_documents)
        signed = f"Signed {_time(signatory.signed_at)}"
        if signer.on_behalf_of == "OTHER":
            signed += ", on behalf of someone else"
        signature_type = _SIGNATURE_TYPES.get(signer.signature_type or "")
        content.append(_item(number, signatory.name, identity, signed, signature_type))

    def draw_frame(canvas: Canvas, _: object) -> None:
        canvas.setFillColor(_ACCENT)
        canvas.rect(0, _HEIGHT - 8, _WIDTH, 8, stroke=0, fill=1)
        _draw_line(canvas, _MARGIN + 14)
        canvas.setFillColor(_MUTED)
        canvas.setFont(_REGULAR, 7.5)
        seal_line = f"Sealed {_time(sealed_at)} by the sandbox of posten-signering."
        canvas.drawString(_MARGIN, _MARGIN, seal_line)
        canvas.drawString(
            _MARGIN, _MARGIN - 11, "For tests only: this document has no legal effect."
        )
        canvas.drawRightString(_WIDTH - _MARGIN, _MARGIN, str(canvas.getPageNumber()))

    output = io.BytesIO()
    # reportlab adds a padding of 6 points inside the margins.
    template = SimpleDocTemplate(
        output,
        pagesize=A4,
        leftMargin=_MARGIN - 6,
        rightMargin=_MARGIN - 6,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN + 28,
        invariant=1,
    )
    with _font_lock:
        template.build(content, onFirstPage=draw_frame, onLaterPages=draw_frame)
    return output.getvalue()


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
            canvas.setFont(_REGULAR, 8)
            canvas.setFillColor(_ACCENT)
            canvas.drawString(_MARGIN, _HEIGHT - _MARGIN, heading)
            canvas.setFillColor(_MUTED)
            number = str(canvas.getPageNumber())
            canvas.drawRightString(_WIDTH - _MARGIN, _HEIGHT - _MARGIN, number)
            _draw_line(canvas, _HEIGHT - _MARGIN - 8)
            text = canvas.beginText(_MARGIN, _TEXT_TOP)
            text.setFont(_REGULAR, _TEXT_SIZE, _TEXT_LEADING)
            text.setFillColor(_INK)
            text.textLines(lines[start : start + _LINES_ON_PAGE])
            canvas.drawText(text)
            canvas.showPage()
    with _font_lock:
        canvas.save()
    return output.getvalue()


def _wrapped(line: str, *, size: float = _TEXT_SIZE, width: float = _TEXT_WIDTH) -> Iterator[str]:
    """The parts of a line that is wrapped at spaces, or inside a word that is too long for a line."""
    part = ""
    # A line has room for 30 characters, even for the widest ones.
    for piece in re.findall(r"\s{1,30}|\S{1,30}", _visible(line).expandtabs()):
        if part and pdfmetrics.stringWidth(part + piece, _REGULAR, size) > width:
            yield part
            part = piece.lstrip()
        else:
            part += piece
    yield part


def _draw_line(canvas: Canvas, y: float) -> None:
    canvas.setStrokeColor(_LINE)
    canvas.setLineWidth(0.6)
    canvas.line(_MARGIN, y, _WIDTH - _MARGIN, y)


def _heading(text: str) -> list[Flowable]:
    return [
        CondPageBreak(90),
        HRFlowable(width="100%", thickness=0.6, color=_LINE, spaceBefore=6, spaceAfter=12),
        _paragraph(text, 13, bold=True, colour=_ACCENT, after=6),
    ]


def _item(number: int, title: str, *lines: str | None) -> Flowable:
    return KeepTogether(
        [
            _paragraph(title, 11, bold=True, indent=_INDENT, after=1, number=number),
            *(_paragraph(line, 9, colour=_MUTED, indent=_INDENT) for line in lines if line),
            Spacer(0, 10),
        ]
    )


def _paragraph(
    text: str,
    size: float,
    *,
    bold: bool = False,
    colour: Color = _INK,
    after: float = 0,
    indent: float = 0,
    number: int | None = None,
) -> Paragraph:
    font = _BOLD if bold else _REGULAR
    style = ParagraphStyle(
        "",
        fontName=font,
        fontSize=size,
        leading=size * 1.38,
        textColor=colour,
        leftIndent=indent,
        spaceAfter=after,
        bulletFontName=font,
        bulletFontSize=size,
    )
    bullet = "" if number is None else f'<bullet color="{_ACCENT.hexval()}">{number}</bullet>'
    return Paragraph(bullet + escape(_visible(text)), style)


def _visible(text: str) -> str:
    """The text without format characters, which would appear as boxes."""
    return "".join(character for character in text if unicodedata.category(character) != "Cf")


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d at %H:%M:%S UTC")


def shown_identity(
    signer: ManifestSigner, identifier_in_signed_documents: str | None
) -> str | None:
    """The text below a signer's name ("Signert dokument"), or `None` if only the name is shown.

    The sandbox knows the identity number and the date of birth of a signer only if the sender
    identified the signer by identity number.

    Args:
        signer: The signer in the manifest.
        identifier_in_signed_documents: The value in the manifest. `None`: identity number and name.
    """
    number = signer.personal_identification_number
    if number is None or identifier_in_signed_documents == "NAME":
        return None
    if identifier_in_signed_documents == "DATE_OF_BIRTH_AND_NAME":
        born = date_of_birth(number)
        return f"Born {born.isoformat()}" if born is not None else None
    return f"National identity number {number[:6]} {number[6:]}"


def date_of_birth(number: str) -> date | None:
    """The date of birth in a national identity number, or `None` if its digits are not a date.

    D-numbers add 40 to the day. Synthetic numbers add 40, 65 or 80 to the month. Digits 7 to 9
    determine the century (Skatteetaten, "Fødselsnummer").

    Args:
        number: 11 digits.
    """
    day, month, year = int(number[:2]), int(number[2:4]), int(number[4:6])
    individual = int(number[6:9])
    day -= 40 if day > 40 else 0
    month -= next((added for added in (80, 65, 40) if month > added), 0)
    if individual < 500 or (individual >= 900 and year >= 40):
        century = 1900
    elif individual < 750 and year >= 54:
        century = 1800
    else:
        century = 2000
    try:
        return date(century + year, month, day)
    except ValueError:
        return None
