"""The front page of the signed documents: what was signed, for whom, by whom and when.

Performs no I/O.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from posten_signering.sandbox._signed.signatory import Signatory, shown_identity
from posten_signering.sandbox._signed.typesetting import (
    ACCENT,
    BOLD,
    INK,
    MARGIN,
    MUTED,
    PAGE_HEIGHT,
    PAGE_WIDTH,
    REGULAR,
    TEXT_WIDTH,
    Colour,
    Paper,
    printable,
    wrapped,
)

_BAND = 8.0
_BOTTOM = MARGIN + 34
_INDENT = 22.0
_SIGNATURE_TYPES = {
    "ADVANCED_ELECTRONIC_SIGNATURE": "Advanced electronic signature",
    "AUTHENTICATED_ELECTRONIC_SIGNATURE": "Authenticated electronic signature",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class ListedDocument:
    """A document as the front page lists it.

    Attributes:
        title: Its title.
        kind: What it is, such as "PDF, 3 pages".
        sha256: The digest of its bytes, in hexadecimal.
    """

    title: str = field(repr=False)
    kind: str
    sha256: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontPage:
    """What the front page says.

    Attributes:
        title: The job's title.
        description: The message to the signers, if any.
        sender: The organisation number of the sender.
        documents: The documents in their order.
        signatories: Those who have signed, in the manifest's order.
        identifier_in_signed_documents: How they are named: the wire's value, or `None`.
        sealed_at: When the signed documents were put together.
    """

    title: str = field(repr=False)
    description: str | None = field(repr=False)
    sender: str
    documents: Sequence[ListedDocument]
    signatories: Sequence[Signatory]
    identifier_in_signed_documents: str | None
    sealed_at: datetime


def front_page(said: FrontPage) -> bytes:
    """A PDF of one page of A4, portrait; of more, if there are many documents and signers."""
    flow = _Flow(Paper(title=said.title), said.sealed_at)
    flow.paragraph("SIGNED DOCUMENT", size=8.5, font=BOLD, colour=ACCENT, after=10)
    flow.paragraph(said.title, size=22, font=BOLD, after=9)
    if said.description:
        flow.paragraph(said.description, size=10.5, after=6)
    flow.paragraph(
        f"Requested by organisation {_grouped(said.sender)}", size=9.5, colour=MUTED, after=10
    )
    flow.heading("Documents" if len(said.documents) > 1 else "Document")
    for number, document in enumerate(said.documents, start=1):
        flow.keep_together(44)
        flow.mark(str(number))
        flow.paragraph(document.title, size=11, font=BOLD, indent=_INDENT, after=1)
        flow.paragraph(document.kind, size=9, colour=MUTED, indent=_INDENT)
        flow.paragraph(f"SHA-256 {document.sha256}", size=7, colour=MUTED, indent=_INDENT, after=10)
    flow.heading("Signatures" if len(said.signatories) > 1 else "Signature")
    for number, signatory in enumerate(said.signatories, start=1):
        flow.keep_together(64)
        flow.mark(str(number))
        flow.paragraph(signatory.name, size=11, font=BOLD, indent=_INDENT, after=1)
        for line in _about(signatory, said.identifier_in_signed_documents):
            flow.paragraph(line, size=9, colour=MUTED, indent=_INDENT)
        flow.space(10)
    return flow.to_bytes()


def _about(signatory: Signatory, identifier_in_signed_documents: str | None) -> list[str]:
    identity = shown_identity(signatory, identifier_in_signed_documents)
    signed = f"Signed {_time(signatory.signed_at)}"
    if signatory.on_behalf_of == "OTHER":
        signed += ", on behalf of another"
    kind = _SIGNATURE_TYPES.get(signatory.signature_type or "")
    return [line for line in (identity, signed, kind) if line is not None]


class _Flow:
    """Writes from the top down, and goes on at the top of a new page when one is full."""

    def __init__(self, paper: Paper, sealed_at: datetime) -> None:
        self._paper = paper
        self._sealed_at = sealed_at
        self._number = 0
        self._y = 0.0
        self._start_page()

    def paragraph(
        self,
        text: str,
        *,
        size: float,
        font: str = REGULAR,
        colour: Colour = INK,
        indent: float = 0,
        after: float = 0,
    ) -> None:
        """Writes a text in as many lines as it needs."""
        leading = size * 1.38
        one_line = " ".join(printable(text).split())
        for line in wrapped(one_line, width=TEXT_WIDTH - indent, size=size, font=font):
            self.keep_together(leading)
            self._y -= leading
            self._paper.write(
                line, x=MARGIN + indent, y=self._y, font=font, size=size, colour=colour
            )
        self.space(after)

    def heading(self, text: str) -> None:
        """Writes the heading of a section, with a line above it."""
        self.keep_together(90)
        self.space(6)
        self._paper.line(x=MARGIN, y=self._y, width=TEXT_WIDTH)
        self.space(12)
        self.paragraph(text, size=13, font=BOLD, colour=ACCENT, after=6)

    def mark(self, text: str) -> None:
        """Writes before the indent of the paragraph that follows."""
        self._paper.write(text, x=MARGIN, y=self._y - 11 * 1.38, size=11, font=BOLD, colour=ACCENT)

    def space(self, points: float) -> None:
        """Leaves space."""
        self._y -= points

    def keep_together(self, points: float) -> None:
        """Starts a new page unless this much of the present one is left."""
        if self._y - points < _BOTTOM:
            self._paper.turn()
            self._start_page()

    def to_bytes(self) -> bytes:
        """The PDF."""
        self._paper.turn()
        return self._paper.to_bytes()

    def _start_page(self) -> None:
        self._number += 1
        self._paper.box(x=0, y=PAGE_HEIGHT - _BAND, width=PAGE_WIDTH, height=_BAND, colour=ACCENT)
        self._paper.line(x=MARGIN, y=MARGIN + 14, width=TEXT_WIDTH)
        self._paper.write(
            f"Sealed {_time(self._sealed_at)} by the sandbox of posten-signering.",
            x=MARGIN,
            y=MARGIN,
            size=7.5,
            colour=MUTED,
        )
        self._paper.write(
            "For tests only: this document has no legal effect.",
            x=MARGIN,
            y=MARGIN - 11,
            size=7.5,
            colour=MUTED,
        )
        self._paper.write(
            str(self._number), x=PAGE_WIDTH - MARGIN - 8, y=MARGIN, size=7.5, colour=MUTED
        )
        self._y = PAGE_HEIGHT - MARGIN - 6


def _time(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%d at %H:%M:%S UTC")


def _grouped(organization_number: str) -> str:
    return f"{organization_number[:3]} {organization_number[3:6]} {organization_number[6:]}"
