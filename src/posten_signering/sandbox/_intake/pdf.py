"""Reads the pages of PDF documents, and puts them one after another. Performs no I/O.

A document that can't be read to its last page is found out when it arrives, not when it has been
signed: `fault_of_pdf` does all that `PageCollector` will do.
"""

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast

from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, DictionaryObject, NameObject, PdfObject

from posten_signering.sandbox._intake.a4 import A4Pages

# The library tells every oddity of a document. Without this, a program that has set up no logging
# would see them on its standard error; one that has, still gets them.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_HEADER = re.compile(rb"%PDF-1\.[1-7]")
_HEADER_WITHIN = 1024
_LATER_VERSION = re.compile(r"/(?:[2-9]|1\.[89])")
_OTHER_VERSION = "is not a PDF of version 1.1 to 1.7"
_RESULT_HEADER = "%PDF-1.7"


def fault_of_pdf(content: bytes) -> str | None:
    """What keeps a PDF from being signed, in words that follow "the document X", or `None`.

    The service takes PDF 1.1 to 1.7 and PDF/A, without a password or permissions ("Opprette
    oppdrag").

    Args:
        content: The document.
    """
    if _HEADER.search(content, 0, _HEADER_WITHIN) is None:
        return _OTHER_VERSION
    try:
        reader = PdfReader(io.BytesIO(content), strict=False)
        if reader.is_encrypted:
            return "is an encrypted PDF; the service takes none with a password or permissions"
        # An update may raise the version there (ISO 32000-1, 7.5.2).
        if _LATER_VERSION.match(str(reader.root_object.get("/Version"))):
            return _OTHER_VERSION
        if not reader.pages:
            return "is a PDF without pages"
        pages = PageCollector()
        pages.add(content, title="")
        pages.to_bytes(title="")
    except Exception:  # noqa: BLE001 - on a broken PDF the library can raise anything
        return "is not a readable PDF"
    return None


@dataclass(slots=True)
class PageCollector:
    """Gathers the pages of several documents into one."""

    _writer: PdfWriter = field(default_factory=PdfWriter)
    # The writer knows a document by its address in memory: it must not be freed before the end.
    _readers: list[PdfReader] = field(default_factory=list[PdfReader])

    def add(self, content: bytes, *, title: str) -> None:
        """Puts the pages of a PDF, as A4 portrait, behind those that are there.

        Args:
            content: The PDF.
            title: Its name in the outline.
        """
        reader = PdfReader(io.BytesIO(content), strict=False)
        self._readers.append(reader)
        a4 = A4Pages()
        for page in reader.pages:
            a4.fit(page)
        self._writer.append(reader, outline_item=title or None, import_outline=False)

    def to_bytes(self, *, title: str) -> bytes:
        """The PDF of all pages.

        Args:
            title: The title in its properties.
        """
        self._writer.pdf_header = _RESULT_HEADER
        self._writer.add_metadata({"/Title": title})
        # Forms have been filled in by now. Without this, signatures that a document carried would
        # be reported as broken ones of the result.
        self._writer.root_object.pop(NameObject("/AcroForm"), None)
        for page in self._writer.pages:
            annotations = page.get("/Annots")
            if annotations is not None:
                page[NameObject("/Annots")] = _without_signatures(annotations)
        output = io.BytesIO()
        self._writer.write(output)
        return output.getvalue()


def page_count(content: bytes) -> int:
    """How many pages a readable PDF has."""
    return len(PdfReader(io.BytesIO(content), strict=False).pages)


def _without_signatures(annotations: PdfObject) -> ArrayObject:
    kept = cast("Sequence[PdfObject]", annotations.get_object())
    return ArrayObject(annotation for annotation in kept if not _is_signature(annotation))


def _is_signature(annotation: PdfObject) -> bool:
    found = annotation.get_object()
    seen = set[int]()
    # A field may be its own parent in a broken document: each is visited once.
    while isinstance(found, DictionaryObject) and id(found) not in seen:
        if found.get("/FT") == "/Sig":
            return True
        seen.add(id(found))
        parent = found.get("/Parent")
        found = parent.get_object() if parent is not None else None
    return False
