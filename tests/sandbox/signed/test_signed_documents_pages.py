"""Documents as they come, and the pages that the sandbox makes of them."""

import io
import re
from concurrent.futures import ThreadPoolExecutor

import bundles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.pdf_utils.writer import copy_into_new_writer
from pypdf import PdfReader, PdfWriter
from signing import document, pades, pdfsig_says, run, text_of

from posten_signering.sandbox._intake.pdf import fault_of_pdf
from posten_signering.sandbox._signed.front_page import text_pages


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
    """A PDF whose first page has a widget, which the catalog's form names."""
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
        pytest.param(b"\n\n" + bundles.pdf(), id="something before the header"),
        pytest.param(bundles.pdf() + b"\n" * 100, id="something after the end"),
    ],
)
def test_pdfs_of_all_versions_and_shapes_are_signed(content, pdfsig, pdftotext, tmp_path):
    assert fault_of_pdf(content) is None
    signed = pades(document(content))
    assert "Signature is Valid." in pdfsig_says(pdfsig, signed, tmp_path)
    assert "A lease p1" in text_of(pdftotext, signed, tmp_path)


def test_a_signature_that_a_document_carried_is_not_one_of_the_result(pdfsig, tmp_path):
    signed_before = pades()
    said = pdfsig_says(pdfsig, pades(document(signed_before)), tmp_path)
    assert said.count("Signature #") == 1
    assert "Signature is Valid." in said


def test_the_same_document_twice_and_annotations_of_documents_are_kept():
    annotated = widget_pdf(b"<< /Type /Annot /Subtype /Text /Rect [0 0 9 9] /Contents (merk) >>")
    content = pades(document(annotated), document(annotated, name="0001_document.pdf"))
    pages = PdfReader(io.BytesIO(content)).pages
    assert [page["/Annots"][0].get_object()["/Contents"] for page in pages[1:3]] == ["merk", "merk"]


@pytest.mark.timeout(20)
def test_a_field_that_is_its_own_parent_ends():
    content = widget_pdf(b"<< /Subtype /Widget /Rect [0 0 9 9] /Parent 9 0 R >>")
    assert fault_of_pdf(content) is None
    [annotation] = PdfReader(io.BytesIO(pades(document(content)))).pages[1]["/Annots"]
    assert annotation.get_object()["/Subtype"] == "/Widget"


def of_version(version):
    """A PDF 1.4 whose catalog says another version."""
    return bundles.pdf().replace(b"<< /Type /Catalog ", b"<< /Version %b /Type /Catalog " % version)


@pytest.mark.parametrize("version", [b"/1.7", b"/1.3", b"/PDF", b"null", b"(2.0)", b"[]"])
def test_any_other_version_in_the_catalog_is_no_fault(version):
    assert fault_of_pdf(of_version(version)) is None


def encrypted(**options):
    writer = PdfWriter(io.BytesIO(bundles.pdf()))
    writer.encrypt(algorithm="AES-128", **options)
    writer.write(out := io.BytesIO())
    return out.getvalue()


def without_pages():
    return bundles.pdf(pages=0)


def cyclic():
    return bundles.pdf().replace(b"/Kids [4 0 R]", b"/Kids [2 0 R]")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (encrypted(user_password="hemmelig"), "is an encrypted PDF"),
        (encrypted(user_password="", owner_password="eier"), "is an encrypted PDF"),
        (bundles.pdf(version="2.0"), "is not a PDF of version 1.1 to 1.7"),
        (bundles.pdf(version="1.0"), "is not a PDF of version 1.1 to 1.7"),
        (of_version(b"/2.0"), "is not a PDF of version 1.1 to 1.7"),
        (of_version(b"/1.8"), "is not a PDF of version 1.1 to 1.7"),
        (b"x" * 2000 + bundles.pdf(), "is not a PDF of version"),
        (b"", "is not a PDF of version"),
        (without_pages(), "is a PDF without pages"),
        (cyclic(), "PDF"),
        (bundles.pdf()[:400], "is not a readable PDF"),
        (b"%PDF-1.4\n" + bytes(range(256)) * 40, "is not a readable PDF"),
    ],
)
def test_a_pdf_that_cant_be_signed_is_found_out(content, said):
    assert said in (fault_of_pdf(content) or "no fault")


@settings(max_examples=60)
@given(st.data())
def test_a_broken_pdf_has_a_fault_or_its_pages_can_be_taken(data):
    """Whatever is broken, the judge of PDFs answers, and what it lets through becomes pages."""
    content = bytearray(bundles.pdf(pages=2))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    fault = fault_of_pdf(bytes(content))
    assert fault is None or "PDF" in fault


# --- Text


@settings(max_examples=60)
@given(st.text(st.characters(codec="utf-8"), max_size=300), st.text(max_size=90))
def test_any_text_becomes_pages(content, title):
    encodable = title.encode("utf-8", "ignore").decode()
    made = text_pages(content.encode(), title=encodable)
    assert len(PdfReader(io.BytesIO(made)).pages) >= 1


def test_no_line_of_a_text_is_lost_or_runs_off_the_page(pdftotext, tmp_path):
    lines = [f"linje {number} " + "ord " * (number % 60) for number in range(200)]
    lines += ["y" * 500, " " * 500 + "innrykket"]
    made = text_pages("\r\n".join(lines).encode("utf-8-sig"), title="Tekst")
    words = text_of(pdftotext, made, tmp_path).split()
    assert words.count("ord") == sum(number % 60 for number in range(200))
    assert words.count("linje") == 200
    assert words.count("innrykket") == 1
    assert sum(word.count("y") for word in words if set(word) == {"y"}) == 500
    boxes = re.findall(r'xMax="([\d.]+)"', run(pdftotext, "-bbox", tmp_path / "read.pdf", "-"))
    assert max(map(float, boxes)) <= 595 - 50


def test_tabs_and_indents_stay(pdftotext, tmp_path):
    made = text_pages(b"a\n\tb\n      c", title="Tekst")
    said = text_of(pdftotext, made, tmp_path)
    indents = {line.strip(): len(line) - len(line.lstrip()) for line in said.splitlines()}
    assert indents["a"] < indents["c"] <= indents["b"]


def test_named_entries_of_forms_are_gone_with_the_form():
    """A form's fields stay as they look; the result's form is the seal's alone."""
    content = pades(document(with_a_filled_form()))
    root = PdfReader(io.BytesIO(content)).trailer["/Root"].get_object()
    fields = root["/AcroForm"].get_object()["/Fields"]
    assert [field.get_object()["/T"] for field in fields] == ["PostenSigneringSandboxSeal"]


def test_threads_do_not_disturb_each_other():
    """One font is shared by all: pages made side by side are those made one after another."""
    contents = [
        ("".join(map(chr, range(33, 33 + 30 * n))) + " ").encode() * 50 for n in range(1, 9)
    ]

    def made(content):
        return text_pages(content, title="Tekst")

    expected = [made(content) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(made, contents * 3)) == expected * 3
