"""Describes the signatures of a PDF (PAdES), with pyHanko. Performs no I/O."""

import io
import logging
from typing import Any

from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign.diff_analysis import ModificationLevel
from pyhanko.sign.validation.generic_cms import validate_sig_integrity
from pyhanko.sign.validation.pdf_embedded import EmbeddedPdfSignature
from pyhanko.sign.validation.status import SignatureCoverageLevel

from posten_signering._cli.inspection.report import Report, Row, Section, row, section
from posten_signering.errors import ConfigurationError

# Without a handler, the warnings of the library would be printed beside the report.
for _name in ("pyhanko", "pyhanko_certvalidator"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


def inspect_pdf(content: bytes) -> Report:
    """The signatures of a PDF: who signed, when, and whether the document was changed afterwards.

    Raises:
        ConfigurationError: The PDF can't be read.
    """
    try:
        reader = PdfFileReader(io.BytesIO(content), strict=False)
        sections = (
            None
            if reader.encrypted
            else [
                _section(number, found)
                for number, found in enumerate(reader.embedded_signatures, 1)
            ]
        )
    except Exception:  # noqa: BLE001 - on a broken file the library can raise anything, and its errors quote content
        sections = None
    if sections is None:
        raise ConfigurationError(
            "The PDF can't be read: it is damaged, encrypted, or a signature in it is broken."
        )
    if not sections:
        unsigned = row("signatures", "none: the PDF is not signed", good=False)
        return Report(kind="a PDF", sections=(section("Signatures", unsigned),))
    return Report(kind="a signed PDF (PAdES)", sections=tuple(sections))


def _section(number: int, embedded: EmbeddedPdfSignature) -> Section:
    signature: Any = embedded  # the library's annotations are not complete
    signature.compute_integrity_info()
    title = f"Signature {number}: {signature.field_name}"
    rows = [
        row("certificate", signature.signer_cert.subject.human_friendly),
        row("issuer", signature.signer_cert.issuer.human_friendly),
        row("time that it states", signature.self_reported_timestamp or "none"),
    ]
    if signature.sig_object_type == "/DocTimeStamp":
        return section(
            title, *rows, row("kind", "a document time stamp, whose value is not checked")
        )
    return section(title, *rows, *_integrity_rows(embedded))


def _integrity_rows(signature: EmbeddedPdfSignature) -> list[Row]:
    intact, valid = validate_sig_integrity(
        signature.signer_info, signature.signer_cert, "data", signature.compute_digest()
    )
    rows = [
        row("digest", "matches" if intact else "differs: the signed part was changed", good=intact),
        row(
            "signature value",
            "made by the key of the certificate"
            if valid
            else "not made by the key of the certificate",
            good=valid,
        ),
    ]
    if signature.coverage == SignatureCoverageLevel.ENTIRE_FILE:
        return [*rows, row("covers", "the whole file, which was not changed afterwards", good=True)]
    level = getattr(signature.diff_result, "modification_level", ModificationLevel.OTHER)
    harmless = level is not ModificationLevel.OTHER
    words = (
        "an earlier part of the file; signatures, time stamps or form fields were added afterwards"
        if harmless
        else "an earlier part of the file; the document was changed afterwards"
    )
    return [*rows, row("covers", words, good=harmless)]
