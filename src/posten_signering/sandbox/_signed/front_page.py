"""Creates the front page of a signed PDF. Reads only font files."""

import hashlib
import io
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from xml.sax.saxutils import escape

from reportlab.lib.colors import Color
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
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

from posten_signering.sandbox._documents.text_pages import (
    ACCENT,
    BOLD,
    INK,
    LINE,
    MARGIN,
    MUTED,
    REGULAR,
    draw_line,
    font_lock,
    visible,
)
from posten_signering.sandbox._intake.messages import Manifest, ManifestSigner
from posten_signering.sandbox._signed.xades import SignedDocument

_WIDTH, _HEIGHT = A4
_INDENT = 22.0

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
        _paragraph("SIGNED DOCUMENT", 8.5, bold=True, colour=ACCENT, after=10),
        _paragraph(manifest.title, 22, bold=True, after=9),
        _paragraph(manifest.description or "", 10.5, after=6),
        _paragraph(f"Requested by organisation {sender}", 9.5, colour=MUTED, after=10),
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
        canvas.setFillColor(ACCENT)
        canvas.rect(0, _HEIGHT - 8, _WIDTH, 8, stroke=0, fill=1)
        draw_line(canvas, MARGIN + 14)
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 7.5)
        seal_line = f"Sealed {_time(sealed_at)} by the sandbox of posten-signering."
        canvas.drawString(MARGIN, MARGIN, seal_line)
        canvas.drawString(MARGIN, MARGIN - 11, "For tests only: this document has no legal effect.")
        canvas.drawRightString(_WIDTH - MARGIN, MARGIN, str(canvas.getPageNumber()))

    output = io.BytesIO()
    # reportlab adds a padding of 6 points inside the margins.
    template = SimpleDocTemplate(
        output,
        pagesize=A4,
        leftMargin=MARGIN - 6,
        rightMargin=MARGIN - 6,
        topMargin=MARGIN,
        bottomMargin=MARGIN + 28,
        invariant=1,
    )
    with font_lock:
        template.build(content, onFirstPage=draw_frame, onLaterPages=draw_frame)
    return output.getvalue()


def _heading(text: str) -> list[Flowable]:
    return [
        CondPageBreak(90),
        HRFlowable(width="100%", thickness=0.6, color=LINE, spaceBefore=6, spaceAfter=12),
        _paragraph(text, 13, bold=True, colour=ACCENT, after=6),
    ]


def _item(number: int, title: str, *lines: str | None) -> Flowable:
    return KeepTogether(
        [
            _paragraph(title, 11, bold=True, indent=_INDENT, after=1, number=number),
            *(_paragraph(line, 9, colour=MUTED, indent=_INDENT) for line in lines if line),
            Spacer(0, 10),
        ]
    )


def _paragraph(
    text: str,
    size: float,
    *,
    bold: bool = False,
    colour: Color = INK,
    after: float = 0,
    indent: float = 0,
    number: int | None = None,
) -> Paragraph:
    font = BOLD if bold else REGULAR
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
    bullet = "" if number is None else f'<bullet color="{ACCENT.hexval()}">{number}</bullet>'
    return Paragraph(bullet + escape(visible(text)), style)


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
