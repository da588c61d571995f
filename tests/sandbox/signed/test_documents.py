"""Signed PDFs of many kinds of documents, verified with pdfsig."""

import io
import re

import bundles
import certificates
import pytest
from bundles import PERSON
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer
from pypdf import PdfReader, PdfWriter
from pypdf.generic import RectangleObject
from signing import (
    document,
    pades,
    pdfsig_says,
    signatory,
    signing_key,
    text,
    text_of,
)


def test_a_signed_pdf_has_a_front_page_and_then_all_pages_of_all_documents(pdftotext, tmp_path):
    content = pades(
        document(bundles.pdf("Kontrakt", pages=3)),
        text("Husleie på ettersommeren.\fNeste side"),
        document(bundles.pdf("Vedlegg"), name="0002_document.pdf", title="Vedlegg"),
        signatories=[
            signatory(),
            signatory(
                name="Øystein Ærlig Åsen",
                personal_identification_number=None,
                signature_type=None,
                on_behalf_of="OTHER",
            ),
        ],
    )
    pages = text_of(pdftotext, content, tmp_path).split("\f")[:-1]
    assert len(pages) == 7
    front = pages[0]
    for text_on_page in (
        "Leie av bolig",
        "Vær så god",
        "organisation 999 888 777",
        "Leiekontrakt",
        "PDF, 3 pages",
        "Text, 2 pages",
        "PDF, 1 page",
        "Kari Nordmann",
        f"National identity number {PERSON[:6]} {PERSON[6:]}",
        "Signed 2026-03-05 at 12:30:00 UTC",
        "Advanced electronic signature",
        "Øystein Ærlig Åsen",
        "on behalf of someone else",
        "no legal effect",
    ):
        assert text_on_page in front
    other_pages = [page.strip() for page in pages[1:]]
    assert other_pages[:3] == ["Kontrakt p1", "Kontrakt p2", "Kontrakt p3"]
    assert "Husleie på ettersommeren." in other_pages[3]
    assert "Neste side" in other_pages[4]
    assert other_pages[5] == "Vedlegg p1"


def test_every_page_is_a4_portrait():
    writer = PdfWriter(io.BytesIO(bundles.pdf()))
    writer.pages[0].mediabox = RectangleObject((0, 0, 1000, 500))
    landscape = io.BytesIO()
    writer.write(landscape)
    pages = PdfReader(io.BytesIO(pades(document(landscape.getvalue()), text("Vilkår")))).pages
    sizes = [(round(page.mediabox.width), round(page.mediabox.height)) for page in pages]
    assert sizes == [(595, 842)] * 3


def with_object_streams():
    """PDF 1.5 with a cross-reference stream and compressed objects, written by pyHanko."""
    writer = copy_into_new_writer(
        PdfFileReader(io.BytesIO(bundles.pdf())), writer_kwargs={"stream_xrefs": True}
    )
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def with_a_filled_form():
    writer = PdfWriter(io.BytesIO(bundles.pdf()))
    writer.write(out := io.BytesIO())
    content = out.getvalue()
    field = (
        b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (navn) /V (Kari) /Rect [72 500 300 530] >>"
    )
    return with_widget(content, field)


def with_widget(content, field):
    """A PDF with an additional page that has a widget. The form of the catalog names the widget."""
    writer = PdfWriter(io.BytesIO(content))
    reader = PdfReader(io.BytesIO(widget_pdf(field)))
    writer.append(reader)
    writer.write(out := io.BytesIO())
    return out.getvalue()


def widget_pdf(field):
    plain = bundles.pdf().decode("latin-1")
    body = plain[: plain.index("xref\n0")]
    body = body.replace("/Pages 2 0 R >>", "/Pages 2 0 R /AcroForm << /Fields [9 0 R] >> >>")
    body = body.replace("/MediaBox", "/Annots [9 0 R] /MediaBox")
    body += f"9 0 obj\n{field.decode()}\nendobj\n"
    offsets = {int(m[1]): m.start() for m in re.finditer(r"^(\d+) 0 obj", body, re.MULTILINE)}
    table = "xref\n0 1\n0000000000 65535 f \n"
    for number, offset in offsets.items():
        table += f"{number} 1\n{offset:010d} 00000 n \n"
    return (
        f"{body}{table}trailer\n<< /Size 10 /Root 1 0 R >>\nstartxref\n{len(body)}\n%%EOF\n"
    ).encode("latin-1")


@pytest.mark.parametrize(
    "content",
    [
        *(
            pytest.param(bundles.pdf(version=f"1.{minor}"), id=f"1.{minor}")
            for minor in range(1, 8)
        ),
        pytest.param(with_object_streams(), id="object streams"),
        pytest.param(with_a_filled_form(), id="a form"),
        pytest.param(b"\n\n" + bundles.pdf(), id="bytes before the header"),
        pytest.param(bundles.pdf() + b"\n" * 100, id="bytes after the end"),
    ],
)
def test_pdfs_of_all_versions_and_shapes_are_signed(content, pdfsig, pdftotext, tmp_path):
    signed = pades(document(content))
    assert "Signature is Valid." in pdfsig_says(pdfsig, signed, tmp_path)
    assert "A lease p1" in text_of(pdftotext, signed, tmp_path)


def test_the_result_does_not_keep_the_signature_of_a_signed_document(pdfsig, tmp_path):
    signed_before = pades()
    report = pdfsig_says(pdfsig, pades(document(signed_before)), tmp_path)
    assert report.count("Signature #") == 1
    assert "Signature is Valid." in report


def test_the_form_of_the_result_has_only_the_field_of_the_seal():
    """The fields of a document's form keep their appearance but are no longer fields."""
    content = pades(document(with_a_filled_form()))
    root = PdfReader(io.BytesIO(content)).trailer["/Root"].get_object()
    fields = root["/AcroForm"].get_object()["/Fields"]
    assert [field.get_object()["/T"] for field in fields] == ["PostenSigneringSandboxSeal"]


def test_annotations_are_kept_also_when_two_documents_are_the_same():
    annotated = widget_pdf(b"<< /Type /Annot /Subtype /Text /Rect [0 0 9 9] /Contents (merk) >>")
    content = pades(document(annotated), document(annotated, name="0001_document.pdf"))
    pages = PdfReader(io.BytesIO(content)).pages
    assert [page["/Annots"][0].get_object()["/Contents"] for page in pages[1:3]] == ["merk", "merk"]


def test_reprs_show_no_personal_data_contents_or_keys():
    shown = repr((signatory(), document(bundles.pdf()), signing_key(certificates.enterprise())))
    for secret in (PERSON, "Kari", "Leiekontrakt", "%PDF", "RSAPrivateKey"):
        assert secret not in shown
