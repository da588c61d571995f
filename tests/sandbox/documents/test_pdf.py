"""Which PDFs can be signed, and how pages of any size become A4 portrait: poppler draws the same picture."""

import io
import subprocess
from random import Random

import bundles
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdf_samples import CATALOG, ENDLESS_PAGES, LOOPS, PAGES
from pdf_samples import pdf_of as pdf
from PIL import Image, ImageChops, ImageStat
from pypdf import PdfReader, PdfWriter
from signing import document, pades, pdfsig_says, text_of

from posten_signering.sandbox._documents.pdf import PdfProblem, joined, opened

A4 = (595, 842)
MAX_DIFFERENCE = 4.0
"""The largest difference of two drawings of the same page: a mean of all pixels, from 0 to 255.

The drawings differ at edges.
"""


def stream(content, entries=""):
    return f"<< /Length {len(content)} {entries} >>\nstream\n{content}\nendstream"


def picture(left=0, bottom=0, right=842, top=595, *, entries="", media_box=None, more=()):
    """A page that looks different in each corner: text, a pattern, and an annotation with an appearance."""
    width, height = right - left, top - bottom
    size = min(width, height) / 8
    shading = (
        "<< /ShadingType 2 /ColorSpace /DeviceRGB /Extend [true true]"
        f" /Coords [{left} {bottom} {right} {top}]"
        " /Function << /FunctionType 2 /Domain [0 1] /C0 [1 0.3 0.3] /C1 [0.3 0.3 1] /N 1 >> >>"
    )
    content = (
        f"/Pattern cs /Shade scn {left} {bottom} {width} {height} re f 0 g"
        f" BT /F1 {size} Tf {left + width / 10} {top - 2 * size} Td (Top left) Tj ET"
        f" {left + width * 0.8} {bottom} {width / 5} {height / 20} re f"
    )
    rectangle = [left + width / 2, bottom + height / 5, left + width * 0.8, bottom + height * 0.45]
    annotation = (
        f"<< /Type /Annot /Subtype /Stamp /F 4 /Rect [{' '.join(map(str, rectangle))}]"
        " /AP << /N 6 0 R >> >>"
    )
    drawing = "1 1 0 rg 0 0 20 10 re f 0 0.6 0 rg 0 0 10 10 re f 0 0 0.4 rg 0 8 20 2 re f"
    if media_box is None:
        media_box = f"/MediaBox [{left} {bottom} {right} {top}]"
    return pdf(
        CATALOG,
        PAGES,
        f"<< /Type /Page /Parent 2 0 R {media_box} {entries} /Contents 4 0 R /Annots [5 0 R]"
        " /Resources << /Font << /F1 << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >>"
        f" /Pattern << /Shade << /PatternType 2 /Shading {shading} >> >> >> >>",
        stream(content),
        annotation,
        stream(drawing, "/Type /XObject /Subtype /Form /BBox [0 0 20 10]"),
        *more,
    )


def collected(*contents):
    return joined([("Bilag", opened(content)) for content in contents], title="Bilag")


def problem(content):
    """Why the PDF can't be signed, or None if it can."""
    try:
        joined([("Bilag", opened(content))], title="Bilag")
    except PdfProblem as found:
        return str(found)
    return None


def drawn(pdftoppm, content, *options, resolution=72.0):
    """The first page as poppler draws it."""
    done = subprocess.run(
        [pdftoppm, "-singlefile", "-r", f"{resolution:.9f}", *options, "-"],
        input=content,
        check=True,
        capture_output=True,
    )
    return Image.open(io.BytesIO(done.stdout)).convert("RGB")


def difference(one, other):
    """The mean difference of two pictures, from 0 to 255. A part that only one of them has is ignored."""
    return sum(ImageStat.Stat(ImageChops.difference(one, other)).mean) / 3


def expected(pdftoppm, content, width, height):
    """The expected A4 page: the page as a viewer shows it, rotated and scaled, on white paper."""
    landscape = width > height
    if landscape:
        width, height = height, width
    scale = min(A4[0] / width, A4[1] / height)
    size = (round(width * scale), round(height * scale))
    shown = drawn(pdftoppm, content, "-cropbox", resolution=72 * scale)
    if landscape:
        shown = shown.transpose(Image.Transpose.ROTATE_90)
    assert shown.size == pytest.approx(size, abs=1)
    paper = Image.new("RGB", A4, "white")
    paper.paste(shown.crop((0, 0, *size)), ((A4[0] - size[0]) // 2, (A4[1] - size[1]) // 2))
    return paper


SHAPES = {
    "landscape": (picture(), (842, 595)),
    "landscape, upside down": (picture(entries="/Rotate 180"), (842, 595)),
    "landscape, rotated to portrait": (picture(entries="/Rotate 90"), (595, 842)),
    "A4, rotated": (picture(right=595, top=842, entries="/Rotate 90"), (842, 595)),
    "A4 upside down": (picture(right=595, top=842, entries="/Rotate -180"), (595, 842)),
    "rotated more than once": (picture(entries="/Rotate 630"), (595, 842)),
    "rotated by an indirect object": (
        picture(entries="/Rotate 7 0 R", more=["90"]),
        (595, 842),
    ),
    "rotated by an angle that is not a right angle": (picture(entries="/Rotate 45"), (842, 595)),
    "letter": (picture(right=612, top=792), (612, 792)),
    "A3": (picture(right=842, top=1191), (842, 1191)),
    "A5 landscape": (picture(right=595, top=420), (595, 420)),
    "a different origin": (picture(-300, 2000, 700, 2400), (1000, 400)),
    "a different origin, rotated": (
        picture(-300, 2000, 700, 2400, entries="/Rotate 270"),
        (400, 1000),
    ),
    "cropped": (picture(right=900, top=900, entries="/CropBox [0 400 400 900]"), (400, 500)),
    "cropped to A4": (picture(right=900, top=900, entries="/CropBox [9 50 604 892]"), (595, 842)),
    "cropped and rotated": (
        picture(right=900, top=900, entries="/Rotate 90 /CropBox [0 400 400 900]"),
        (500, 400),
    ),
    "cropped beyond its edges": (picture(entries="/CropBox [100 100 900 500]"), (742, 400)),
    "cropped outside the page": (picture(entries="/CropBox [5000 5000 6000 6000]"), (842, 595)),
    "corners swapped": (picture(media_box="/MediaBox [842 595 0 0]"), (842, 595)),
    "without a box": (picture(right=612, top=792, media_box=""), (612, 792)),
    "large units": (picture(right=595, top=842, entries="/UserUnit 10"), (595, 842)),
    "enormous": (picture(right=14400, top=14400), (14400, 14400)),
    "tiny": (picture(right=3, top=3), (3, 3)),
    "a strip": (picture(right=2000, top=50), (2000, 50)),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_page_of_any_shape_looks_the_same_on_a4_portrait(shape, pdftoppm):
    content, (width, height) = SHAPES[shape]
    assert problem(content) is None
    result = collected(content)
    [page] = PdfReader(io.BytesIO(result)).pages
    assert [round(float(number), 2) for number in page["/MediaBox"]] == [0, 0, 595.28, 841.89]
    assert {"/CropBox", "/Rotate", "/UserUnit"} & set(page) == set()
    wanted = expected(pdftoppm, content, width, height)
    picture_of_result = drawn(pdftoppm, result)
    assert difference(picture_of_result, wanted) < MAX_DIFFERENCE
    # The comparison would fail if the page were upside down or mirrored.
    for change in (Image.Transpose.ROTATE_180, Image.Transpose.FLIP_LEFT_RIGHT):
        changed = difference(picture_of_result, wanted.transpose(change))
        assert changed > 3 * difference(picture_of_result, wanted) + 0.5


def test_the_comparison_detects_a_missing_annotation(pdftoppm):
    """The annotation is the smallest part of the page."""
    content = picture()
    wanted = expected(pdftoppm, content, 842, 595)
    without = collected(content.replace(b"/Annots [5 0 R]", b"               "))
    assert difference(drawn(pdftoppm, without), wanted) > MAX_DIFFERENCE


@pytest.mark.parametrize("size", [(595, 842), (594, 843.5), (597, 840)])
def test_a_page_that_is_a4_portrait_does_not_change(size):
    content = picture(right=size[0], top=size[1])
    [before], [after] = (
        PdfReader(io.BytesIO(pdf_bytes)).pages for pdf_bytes in (content, collected(content))
    )
    assert after["/MediaBox"] == before["/MediaBox"]
    assert after["/Contents"].get_data() == before["/Contents"].get_data()
    rectangles = [page["/Annots"][0].get_object()["/Rect"] for page in (before, after)]
    assert rounded(rectangles[0]) == rounded(rectangles[1])


def test_a_page_that_differs_by_three_points_is_not_a4():
    [page] = PdfReader(io.BytesIO(collected(picture(right=592, top=842)))).pages
    assert page.mediabox.width == pytest.approx(595.28, abs=0.01)


@pytest.mark.parametrize(
    "box",
    ["[0 0 0 792]", "[0 0 612]", "[0 0 612 (a)]", "[0 /N 612 400]", "null", "612", "[7 7 7 7]"],
)
def test_a_page_with_an_invalid_box_is_us_letter_as_in_viewers(box):
    content = page_of("4 0 R", "0 g", box=box)
    [page] = PdfReader(io.BytesIO(collected(content))).pages
    form = page["/Resources"]["/XObject"]["/Page"]
    assert rounded(form["/BBox"]) == [0, 0, 612, 792]


def test_the_seal_over_pages_of_all_shapes_is_valid(pdfsig, pdftotext, tmp_path):
    contents = [content for content, _ in SHAPES.values()]
    documents = [
        document(content, name=f"{number:04}_document.pdf")
        for number, content in enumerate(contents)
    ]
    signed = pades(*documents)
    assert "Signature is Valid." in pdfsig_says(pdfsig, signed, tmp_path)
    assert text_of(pdftotext, signed, tmp_path).count("Top left") > len(contents) / 2


# --- Content


def page_of(contents, *streams, box="[0 0 400 300]", entries=""):
    return pdf(
        CATALOG,
        PAGES,
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents {contents} {entries}"
        " /Resources << >> >>",
        *map(stream, streams),
    )


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(page_of("4 0 R", "0 0 1 rg 0 0 200 300 re f"), id="one stream"),
        pytest.param(page_of("[4 0 R]", "0 0 1 rg 0 0 200 300 re f"), id="one in an array"),
        pytest.param(page_of("[4 0 R 5 0 R]", "0 0 1 rg 0 0", "200 300 re f"), id="two streams"),
        pytest.param(page_of("4 0 R", "q q 0 0 1 rg 0 0 200 300 re f"), id="too many q"),
        pytest.param(page_of("4 0 R", "Q Q 0 0 1 rg 0 0 200 300 re f"), id="too many Q"),
        pytest.param(page_of("4 0 R", "0 0 1 rg -900 -900 1100 1800 re f"), id="beyond the edges"),
    ],
)
def test_content_in_any_form_is_drawn(content, pdftoppm):
    result = drawn(pdftoppm, collected(content, content))
    assert difference(result, expected(pdftoppm, content, 400, 300)) < MAX_DIFFERENCE
    # The larger page does not show content that is outside the original page.
    assert result.getpixel((A4[0] // 2, 10)) == (255, 255, 255)


@pytest.mark.parametrize("contents", ["[]", "null", "[null]", "(none)"])
def test_a_page_without_content_becomes_a4(contents):
    [page] = PdfReader(io.BytesIO(collected(page_of(contents)))).pages
    assert page.mediabox.height == pytest.approx(841.89, abs=0.01)


def test_content_that_two_pages_share_is_drawn_on_both(pdftoppm):
    shared = pdf(
        CATALOG,
        "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 400 300] /Contents 5 0 R >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 400] /Contents 5 0 R >>",
        stream("0 0 1 rg 0 0 200 300 re f"),
    )
    result = collected(shared)
    for number, (width, height) in enumerate([(400, 300), (300, 400)], start=1):
        page_option = ("-f", str(number))
        original = shared.replace(
            b"/Kids [3 0 R 4 0 R] /Count 2", b"/Kids [%d 0 R] /Count 1" % (number + 2)
        )
        picture_of_page = drawn(pdftoppm, result, *page_option)
        wanted = expected(pdftoppm, original, width, height)
        assert difference(picture_of_page, wanted) < MAX_DIFFERENCE


def test_a_pdf_of_many_pages_hardly_grows():
    """The result has the content of every page once, and no remains of the original pages."""
    count = 300
    # Random numbers do not compress well, so a second copy of them would make the file larger.
    numbers = Random(7)
    drawings = [" ".join(f"{numbers.random():.9f}" for _ in range(200)) for _ in range(count)]
    kids = " ".join(f"{3 + 2 * index} 0 R" for index in range(count))
    objects = [CATALOG, f"<< /Type /Pages /Kids [{kids}] /Count {count} >>"]
    for index, drawing in enumerate(drawings):
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 842 595] /Contents {4 + 2 * index} 0 R >>",
            stream(drawing),
        ]
    content = pdf(*objects)
    result = collected(content)
    pages = PdfReader(io.BytesIO(result)).pages
    forms = [page["/Resources"]["/XObject"]["/Page"] for page in pages]
    assert [form.get_data().decode() for form in forms] == drawings
    assert len(result) < len(content) + count * 700


# --- Annotations


def annotated(annotation, *more, box="[0 0 842 595]", annotations="[5 0 R]"):
    return pdf(
        CATALOG,
        PAGES,
        f"<< /Type /Page /Parent 2 0 R /MediaBox {box} /Contents 4 0 R /Annots {annotations} >>",
        stream("0 g"),
        annotation,
        *more,
    )


def moved(content):
    """The annotations of the page after it was put on A4."""
    [page] = PdfReader(io.BytesIO(collected(content))).pages
    return [annotation.get_object() for annotation in page["/Annots"]]


def rounded(numbers):
    return [round(float(number)) for number in numbers]


def test_a_link_moves_together_with_its_text():
    link = (
        "<< /Subtype /Link /Rect [100 500 200 520] /A << /S /URI /URI (https://example.com) >> >>"
    )
    [annotation] = moved(annotated(link))
    # The top of the original page is now on the left side.
    assert rounded(annotation["/Rect"]) == [75, 100, 95, 200]
    assert annotation["/A"]["/URI"] == "https://example.com"


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ("/QuadPoints [100 520 200 520 100 500 200 500]", [75, 100, 75, 200, 95, 100, 95, 200]),
        ("/L [0 0 842 595]", [595, 0, 0, 842]),
        ("/InkList [[0 0 842 0] [842 595 0 595]]", [595, 0, 595, 842, 0, 842, 0, 0]),
    ],
)
def test_points_of_annotations_move_together_with_the_page(points, expected):
    [annotation] = moved(annotated(f"<< /Subtype /Ink /Rect [0 0 842 595] {points} >>"))
    items = annotation[points.split()[0]]
    flat = [number for item in items for number in (item if isinstance(item, list) else [item])]
    assert rounded(flat) == expected


def test_every_appearance_is_rotated_and_a_shared_one_only_once(pdftoppm):
    boxes = " ".join(
        f"<< /Subtype /Widget /FT /Btn /F 4 /AS /{state} /Rect [{left} 400 {left + 200} 500]"
        " /AP << /N << /On 5 0 R /Off 6 0 R >> /D null >> >>"
        for state, left in (("On", 100), ("Off", 400))
    )
    form = "/Type /XObject /Subtype /Form /BBox [0 0 20 10]"
    drawing = "1 0 0 rg 0 0 10 10 re f 0 0 1 rg 10 0 10 5 re f"
    content = annotated(
        stream(drawing, f"{form} /Matrix [0 -1 1 0 0 20]"),
        stream(drawing, form),
        annotations=f"[{boxes}]",
    )
    result = drawn(pdftoppm, collected(content))
    assert difference(result, expected(pdftoppm, content, 842, 595)) < 1


def test_an_annotation_that_is_listed_twice_is_moved_once():
    note = "<< /Subtype /Text /Rect [100 500 200 520] >>"
    [annotation] = moved(annotated(note, annotations="[5 0 R 5 0 R null 7]"))
    assert rounded(annotation["/Rect"]) == [75, 100, 95, 200]


def test_an_annotation_without_a_valid_rectangle_does_not_change():
    [annotation] = moved(annotated("<< /Subtype /Text /Rect [1 2] /Contents (merk) >>"))
    assert (annotation["/Contents"], rounded(annotation["/Rect"])) == ("merk", [1, 2])


def test_a_link_to_a_different_page_keeps_its_target():
    content = pdf(
        CATALOG,
        "<< /Type /Pages /Kids [3 0 R 4 0 R] /Count 2 >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 842 595] /Annots [5 0 R] >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 842 595] >>",
        "<< /Subtype /Link /Rect [0 0 9 9] /Dest [4 0 R /Fit] >>",
    )
    first, second = PdfReader(io.BytesIO(collected(content))).pages
    target = first["/Annots"][0].get_object()["/Dest"][0]
    assert target.idnum == second.indirect_reference.idnum


# --- PDFs that can't be signed


def of_version(version):
    """A PDF 1.4 whose catalog has a different version."""
    return bundles.pdf().replace(b"<< /Type /Catalog ", b"<< /Version %b /Type /Catalog " % version)


@pytest.mark.parametrize("version", [b"/1.7", b"/1.3", b"/PDF", b"null", b"(2.0)", b"[]"])
def test_an_accepted_or_invalid_version_in_the_catalog_is_ignored(version):
    assert problem(of_version(version)) is None


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
    ("content", "reason"),
    [
        (encrypted(user_password="hemmelig"), "is an encrypted PDF"),
        (encrypted(user_password="", owner_password="eier"), "is an encrypted PDF"),
        (of_version(b"/2.0"), "is not a PDF of version 1.1 to 1.7"),
        (of_version(b"/1.8"), "is not a PDF of version 1.1 to 1.7"),
        (without_pages(), "is a PDF without pages"),
        (cyclic(), "PDF"),
        (bundles.pdf()[:400], "is not a readable PDF"),
        (b"%PDF-1.4\n" + bytes(range(256)) * 40, "is not a readable PDF"),
    ],
)
def test_a_pdf_that_cannot_be_signed_has_a_problem(content, reason):
    assert reason in (problem(content) or "no problem")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", LOOPS)
def test_objects_that_refer_to_each_other_in_a_circle_are_visited_once(name):
    [page] = PdfReader(io.BytesIO(collected(LOOPS[name]()))).pages
    assert page.mediabox.height == pytest.approx(841.89, abs=0.01)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("name", ENDLESS_PAGES)
def test_a_page_tree_without_an_end_is_not_readable(name):
    assert "is not a readable PDF" in problem(ENDLESS_PAGES[name]())


@settings(max_examples=60)
@given(st.data())
def test_a_pdf_with_changed_bytes_raises_no_exception(data):
    content = bytearray(bundles.pdf(pages=2))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    found = problem(bytes(content))
    assert found is None or "PDF" in found
