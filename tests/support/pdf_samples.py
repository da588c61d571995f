"""Sample PDFs of every version from 1.1 to 1.7 with typical features of the version, an archive copy, and hostile PDFs."""

import io
import struct
import zlib
from collections.abc import Callable
from importlib.resources import files

from PIL import ImageCms
from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    NameObject,
    NumberObject,
    TextStringObject,
)
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas


def drawn(text: str, *, version: str = "1.4", pages: int = 1, font: str = "Helvetica") -> bytes:
    """A PDF whose pages show the text and their number."""
    file = io.BytesIO()
    canvas = Canvas(file, pageCompression=0, invariant=True)
    for number in range(1, pages + 1):
        canvas.setFont(font, 14)
        canvas.drawString(72, 700, f"{text} page {number}")
        canvas.showPage()
    canvas.save()
    return versioned(file.getvalue(), version)


def versioned(content: bytes, version: str) -> bytes:
    """The same file with a different version in its header."""
    start = content.index(b"%PDF-") + len(b"%PDF-")
    return content[:start] + version.encode() + content[start + 3 :]


def with_a_form() -> bytes:
    """1.2: an empty form field."""
    file = io.BytesIO()
    canvas = Canvas(file, pageCompression=0)
    canvas.drawString(72, 700, "Sample 1.2 page 1")
    canvas.acroForm.textfield(name="name", x=72, y=600)
    canvas.showPage()
    canvas.save()
    return versioned(file.getvalue(), "1.2")


def with_object_streams() -> bytes:
    """1.5, written by this function: objects in a compressed stream, and a cross-reference stream."""
    text = b"BT /F1 14 Tf 72 700 Td (Sample 1.5 page 1) Tj ET"
    objects = [
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        (
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 595 842]/Contents 5 0 R"
            b"/Resources<</Font<</F1 4 0 R>>>>>>"
        ),
        b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>",
    ]
    starts = [
        sum(len(dictionary) + 1 for dictionary in objects[:number])
        for number in range(len(objects))
    ]
    index = b" ".join(b"%d %d" % (number, start) for number, start in enumerate(starts, 1)) + b" "
    packed = zlib.compress(index + b"\n".join(objects))
    content = b"%PDF-1.5\n%\xe2\xe3\xcf\xd3\n"
    offsets = []
    for number, entries, stream in (
        (5, b"", text),
        (6, b"/Type/ObjStm/N 4/First %d/Filter/FlateDecode" % len(index), packed),
    ):
        offsets.append(len(content))
        content += b"%d 0 obj<<%s/Length %d>>stream\n" % (number, entries, len(stream))
        content += stream + b"\nendstream endobj\n"
    offsets.append(len(content))
    rows = [
        (0, 0, 255),
        *((2, 6, position) for position in range(4)),
        *((1, offset, 0) for offset in offsets),
    ]
    table = b"".join(struct.pack(">BHB", *row) for row in rows)
    content += b"7 0 obj<</Type/XRef/Size 8/Root 1 0 R/W[1 2 1]/Length %d>>stream\n" % len(table)
    return content + table + b"\nendstream endobj\nstartxref\n%d\n%%%%EOF\n" % offsets[-1]


def with_an_attachment() -> bytes:
    """1.6: rewritten by another program, with an attached file and an outline."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(drawn("Sample 1.6", pages=2))))
    writer.add_attachment("notes.txt", b"notes")
    writer.add_outline_item(title="First", page_number=0)
    out = io.BytesIO()
    writer.write(out)
    return versioned(out.getvalue(), "1.6")


def updated_in_place() -> bytes:
    """1.7: the original is followed by an incremental update, and the file ends with a Windows line ending."""
    writer = PdfWriter(io.BytesIO(drawn("Sample 1.7", version="1.7")), incremental=True)
    writer.add_metadata({"/Title": "Sample"})
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue() + b"\r\n"


def archived() -> bytes:
    """In the form of PDF/A-1b: an embedded font, a colour profile as output intent, and XMP metadata."""
    font = "ArchivedVera"
    pdfmetrics.registerFont(TTFont(font, str(files("reportlab") / "fonts" / "Vera.ttf")))
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(drawn("Sample archived", font=font))))
    profile = DecodedStreamObject()
    profile.set_data(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[NameObject("/N")] = NumberObject(3)
    intent = DictionaryObject(
        {
            NameObject("/Type"): NameObject("/OutputIntent"),
            NameObject("/S"): NameObject("/GTS_PDFA1"),
            NameObject("/OutputConditionIdentifier"): TextStringObject("sRGB"),
            NameObject("/DestOutputProfile"): writer._add_object(profile),
        }
    )
    metadata = DecodedStreamObject()
    metadata.set_data(
        b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        b'<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description '
        b'rdf:about="" xmlns:pdfaid="http://www.aiim.org/pdfa/ns/id/"><pdfaid:part>1</pdfaid:part>'
        b"<pdfaid:conformance>B</pdfaid:conformance></rdf:Description></rdf:RDF></x:xmpmeta>"
        b'<?xpacket end="w"?>'
    )
    metadata[NameObject("/Type")] = NameObject("/Metadata")
    metadata[NameObject("/Subtype")] = NameObject("/XML")
    root = writer.root_object
    root[NameObject("/OutputIntents")] = ArrayObject([writer._add_object(intent)])
    root[NameObject("/Metadata")] = writer._add_object(metadata)
    out = io.BytesIO()
    writer.write(out)
    return versioned(out.getvalue(), "1.4")


SAMPLES: dict[str, Callable[[], bytes]] = {
    "1.1": lambda: drawn("Sample 1.1", version="1.1"),
    "1.2": with_a_form,
    "1.3": lambda: drawn("Sample 1.3", version="1.3", pages=3),
    # Readers find the header although a newline precedes it.
    "1.4": lambda: b"\n" + drawn("Sample 1.4"),
    "1.5": with_object_streams,
    "1.6": with_an_attachment,
    "1.7": updated_in_place,
    "archived": archived,
}


CATALOG = "<< /Type /Catalog /Pages 2 0 R >>"
PAGES = "<< /Type /Pages /Kids [3 0 R] /Count 1 >>"


def pdf_of(*objects: str, version: str = "1.7") -> bytes:
    """A PDF with these objects, numbered from 1. The first is the catalog."""
    content = [f"%PDF-{version}\n"]
    table = ["xref\n0 1\n0000000000 65535 f \n"]
    length = len(content[0])
    for number, body in enumerate(objects, start=1):
        table.append(f"{number} 1\n{length:010d} 00000 n \n")
        content.append(f"{number} 0 obj\n{body}\nendobj\n")
        length += len(content[-1])
    size = len(objects) + 1
    trailer = f"trailer\n<< /Size {size} /Root 1 0 R >>\nstartxref\n{length}\n%%EOF\n"
    return "".join([*content, *table, trailer]).encode("latin-1")


def landscape(entries: str, *objects: str) -> bytes:
    """A PDF with one landscape page with these entries. The other objects are numbered from 4."""
    page = f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 842 595] {entries} >>"
    return pdf_of(CATALOG, PAGES, page, *objects)


def _annotated(entries: str, *objects: str) -> bytes:
    """A landscape page with an annotation, which is object 4. The other objects are numbered from 5."""
    annotation = f"<< /Subtype /Stamp /Rect [0 0 9 9] {entries} >>"
    return landscape("/Annots [4 0 R]", annotation, *objects)


def _doubling(form: str, *last: str) -> list[str]:
    """Objects from number 5, each of which refers twice to the next one: 2 to the power of 60 paths."""
    return [*(form.format(number) for number in range(6, 66)), *last]


def chain(length: int) -> bytes:
    """A page whose resources are the first of many dictionaries, each of which refers to the next one."""
    links = (f"<< /Next {number} 0 R >>" for number in range(5, 5 + length))
    return landscape("/Resources 4 0 R", *links, "null")


def bomb(mebibytes: int) -> bytes:
    """A PDF whose page is in a stream with so many MiB of spaces, in a thousandth of the bytes."""
    page = b"3 0 <</Type/Page/Parent 2 0 R/MediaBox[0 0 842 595]>>"
    compressor = zlib.compressobj(9)
    packed = compressor.compress(page) + compressor.flush(zlib.Z_FULL_FLUSH)
    # After a full flush, the same bytes give the same compressed bytes. Readers ignore the checksum.
    block = compressor.compress(b" " * 1024**2) + compressor.flush(zlib.Z_FULL_FLUSH)
    packed += block * mebibytes + compressor.flush()
    content = b"%PDF-1.5\n"
    offsets = []
    stream = b"/Type/ObjStm/N 1/First 4/Filter/FlateDecode/Length %d" % len(packed)
    for body in (
        b"1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n",
        b"2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n",
        b"4 0 obj<<%b>>stream\n%b\nendstream endobj\n" % (stream, packed),
    ):
        offsets.append(len(content))
        content += body
    one, two, four = offsets
    start = len(content)
    rows = [(0, 0, 255), (1, one, 0), (1, two, 0), (2, 4, 0), (1, four, 0), (1, start, 0)]
    table = b"".join(struct.pack(">BIB", *row) for row in rows)
    content += b"5 0 obj<</Type/XRef/Size 6/Root 1 0 R/W[1 4 1]/Length %d>>stream\n" % len(table)
    return content + table + b"\nendstream endobj\nstartxref\n%d\n%%%%EOF\n" % start


LOOPS: dict[str, Callable[[], bytes]] = {
    "a field is its own parent": lambda: _annotated("/Parent 4 0 R"),
    "two fields are the parents of each other": lambda: _annotated(
        "/Parent 5 0 R", "<< /Parent 4 0 R >>"
    ),
    "annotations contain themselves": lambda: landscape("/Annots 4 0 R", "[4 0 R 4 0 R]"),
    "points contain themselves": lambda: _annotated("/InkList 5 0 R", "[5 0 R]"),
    "points double": lambda: _annotated("/InkList 5 0 R", *_doubling("[{0} 0 R {0} 0 R]", "[1]")),
    "an appearance contains itself": lambda: _annotated("/AP 5 0 R", "<< /N 5 0 R >>"),
    "appearances double": lambda: _annotated(
        "/AP 5 0 R", *_doubling("<< /A {0} 0 R /B {0} 0 R >>", "null")
    ),
    "the content contains itself": lambda: landscape("/Contents 4 0 R", "[4 0 R]"),
    "resources contain themselves": lambda: landscape(
        "/Resources 4 0 R", "<< /XObject << /A 4 0 R >> >>"
    ),
    "a length is the stream itself": lambda: landscape(
        "/Contents 4 0 R", "<< /Length 4 0 R >>\nstream\n0 g\nendstream"
    ),
    "the page tree is its own parent": lambda: pdf_of(
        CATALOG,
        "<< /Type /Pages /Kids [3 0 R] /Count 1 /Parent 2 0 R >>",
        "<< /Type /Page /Parent 2 0 R >>",
    ),
    "outlines contain themselves": lambda: pdf_of(
        "<< /Type /Catalog /Pages 2 0 R /Outlines 4 0 R >>",
        PAGES,
        "<< /Type /Page /Parent 2 0 R >>",
        "<< /First 5 0 R /Last 5 0 R >>",
        "<< /Title (a) /Next 5 0 R /First 5 0 R /Parent 5 0 R >>",
    ),
    "a huge number of pages": lambda: pdf_of(
        CATALOG,
        "<< /Type /Pages /Kids [3 0 R] /Count 2000000000 >>",
        "<< /Type /Page /Parent 2 0 R >>",
    ),
    "deep arrays": lambda: landscape("/Resources 4 0 R", "[" * 100_000 + "]" * 100_000),
    "many filters": lambda: landscape(
        "/Contents 4 0 R",
        f"<< /Length 3 /Filter [{'/FlateDecode ' * 1000}] >>\nstream\n0 g\nendstream",
    ),
}
"""PDFs whose objects refer to each other in a circle, or which are deep. Each has one page that can be signed."""

ENDLESS_PAGES: dict[str, Callable[[], bytes]] = {
    "the page tree contains itself": lambda: pdf_of(
        CATALOG, "<< /Type /Pages /Kids [2 0 R] /Count 1 >>"
    ),
    "the page tree doubles": lambda: pdf_of(
        CATALOG,
        *(
            f"<< /Type /Pages /Count 9 /Kids [{number} 0 R {number} 0 R] >>"
            for number in range(3, 63)
        ),
        "<< /Type /Page >>",
    ),
}
"""PDFs whose page tree has no end, or too many pages."""
