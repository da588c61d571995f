"""Reads PDF documents, and joins them with every page on A4 portrait. Performs no I/O.

`fault_of_pdf` does everything that `joined` will do, so that a document that can't be read is refused
when it arrives, and not after it has been signed.
"""

import copy
import io
import logging
import math
import re
from collections.abc import Sequence
from itertools import filterfalse
from typing import cast

from pypdf import PageObject, PdfReader, PdfWriter, Transformation
from pypdf.generic import (
    ArrayObject,
    ContentStream,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    NullObject,
    PdfObject,
    RectangleObject,
    StreamObject,
)
from reportlab.lib.pagesizes import A4

# The library logs whatever is odd in a document. Without a handler, this would appear on the standard
# error of a program that has not set up logging.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_HEADER = re.compile(rb"%PDF-1\.[1-7]")
_HEADER_WITHIN = 1024
_LATER_VERSION = re.compile(r"/(?:[2-9]|1\.[89])")
_OTHER_VERSION = "is not a PDF of version 1.1 to 1.7"
_RESULT_HEADER = "%PDF-1.7"

_WIDTH, _HEIGHT = A4
_TOLERANCE = 2.0
# Viewers show a page without a usable box in this size.
_US_LETTER = RectangleObject((0, 0, 612, 792))
# Clockwise, as `/Rotate` counts.
_TURNS = {
    0: Transformation(),
    90: Transformation((0, -1, 1, 0, 0, 0)),
    180: Transformation((-1, 0, 0, -1, 0, 0)),
    270: Transformation((0, 1, -1, 0, 0, 0)),
}
_OTHER_BOXES = ("/CropBox", "/BleedBox", "/TrimBox", "/ArtBox")
_OF_THE_OLD_SPACE = (*_OTHER_BOXES, "/Rotate", "/UserUnit", "/VP", "/Thumb", "/StructParents")
_POINTS = ("/QuadPoints", "/Vertices", "/L", "/CL", "/InkList")
"""Keys of an annotation whose values are points: x, y, x, y ..., or arrays of these."""


def read(content: bytes) -> PdfReader:
    """Opens a PDF. Its pages are parsed when they are used."""
    return PdfReader(io.BytesIO(content), strict=False)


def fault_of_pdf(content: bytes) -> str | None:
    """Why a PDF can't be signed, in words that follow "the document X"; `None` if it can.

    The service takes PDF 1.1 to 1.7 and PDF/A, without a password or permissions ("Opprette
    oppdrag").

    Args:
        content: The document.
    """
    if _HEADER.search(content, 0, _HEADER_WITHIN) is None:
        return _OTHER_VERSION
    try:
        reader = read(content)
        if reader.is_encrypted:
            return "is an encrypted PDF; the service takes none with a password or permissions"
        # An incremental update may raise the version there (ISO 32000-1, 7.5.2).
        if _LATER_VERSION.match(str(reader.root_object.get("/Version"))):
            return _OTHER_VERSION
        if not reader.pages:
            return "is a PDF without pages"
        joined([("", reader)], title="")
    except Exception:  # noqa: BLE001 - on a broken PDF the library can raise anything
        return "is not a readable PDF"
    return None


def joined(documents: Sequence[tuple[str, PdfReader]], *, title: str) -> bytes:
    """Joins documents to one PDF whose pages are A4 portrait.

    Args:
        documents: The name in the outline and the reader of each document. Its pages are changed.
        title: The title in the properties of the PDF.
    """
    writer = PdfWriter()
    for name, reader in documents:
        moved = set[int]()
        for page in reader.pages:
            # Viewers would report signatures of the documents as broken signatures of the result.
            kept = filterfalse(_is_signature, _items(page.get("/Annots")))
            page[NameObject("/Annots")] = ArrayObject(kept)
            _put_on_a4(page, moved)
        writer.append(reader, outline_item=name or None, import_outline=False)
    writer.pdf_header = _RESULT_HEADER
    writer.add_metadata({"/Title": title})
    # Nobody fills in a signed form.
    writer.root_object.pop(NameObject("/AcroForm"), None)
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def _is_signature(annotation: PdfObject) -> bool:
    found = annotation.get_object()
    seen = set[int]()
    # In a broken document, a field may be its own parent: visit each field once.
    while isinstance(found, DictionaryObject) and id(found) not in seen:
        if found.get("/FT") == "/Sig":
            return True
        seen.add(id(found))
        parent = found.get("/Parent")
        found = parent.get_object() if parent is not None else None
    return False


def _put_on_a4(page: PageObject, moved: set[int]) -> None:
    """Changes a page to A4 portrait, as the service does with every page.

    The page is scaled in its proportions, turned by 90 degrees if it is wider than high, and centred.
    A page that is A4 within two points does not change.

    Args:
        page: A page of a reader.
        moved: The ids of the document's annotations that have been moved. An annotation belongs to
            one page (ISO 32000-1, 12.5.2), so it must not be moved twice.
    """
    media_box = _box(page.get("/MediaBox")) or _US_LETTER
    crop_box = _box(page.get("/CropBox")) or media_box
    visible = (
        _rectangle(
            max(media_box.left, crop_box.left),
            max(media_box.bottom, crop_box.bottom),
            min(media_box.right, crop_box.right),
            min(media_box.top, crop_box.top),
        )
        or media_box
    )
    rotate = page.get("/Rotate", NullObject()).get_object()
    turn = int(rotate % 360) if isinstance(rotate, int | float) and rotate % 90 == 0 else 0
    if not turn and "/UserUnit" not in page and _is_a4(media_box) and _is_a4(visible):
        return
    width, height = visible.width, visible.height
    if turn % 180:
        width, height = height, width
    if width > height:
        # The top of the page comes to the left.
        turn, width, height = (turn + 270) % 360, height, width
    scale = min(_WIDTH / width, _HEIGHT / height)
    onto_a4 = (
        Transformation()
        .translate(-(visible.left + visible.right) / 2, -(visible.bottom + visible.top) / 2)
        .transform(_TURNS[turn])
        .scale(scale)
        .translate(_WIDTH / 2, _HEIGHT / 2)
    )
    for key in _OF_THE_OLD_SPACE:
        page.pop(NameObject(key), None)
    page[NameObject("/MediaBox")] = RectangleObject((0, 0, _WIDTH, _HEIGHT))
    _draw_as_form(page, visible, onto_a4)
    kept = ArrayObject()
    for reference in _items(page.get("/Annots")):
        annotation = reference.get_object()
        if isinstance(annotation, DictionaryObject) and id(annotation) not in moved:
            moved.add(id(annotation))
            _move(annotation, onto_a4)
            if turn and "/AP" in annotation:
                # A viewer fits the appearance into the rectangle, but does not turn it.
                annotation[NameObject("/AP")] = _turned(annotation["/AP"], _TURNS[turn])
            kept.append(reference)
    page[NameObject("/Annots")] = kept


def _draw_as_form(page: PageObject, visible: RectangleObject, onto_a4: Transformation) -> None:
    """Moves the content into a form XObject, which is clipped to the box and which the page draws.

    The matrix of a pattern counts from the origin of the form or page that uses it (ISO 32000-1,
    8.7.3.1). In a form, patterns therefore move together with everything else.
    """
    contents = page.get("/Contents", NullObject()).get_object()
    if not isinstance(contents, StreamObject | ArrayObject):
        return
    form = ContentStream(contents, page.pdf).flate_encode()
    form[NameObject("/Type")] = NameObject("/XObject")
    form[NameObject("/Subtype")] = NameObject("/Form")
    form[NameObject("/BBox")] = visible
    form[NameObject("/Matrix")] = ArrayObject(map(FloatObject, onto_a4.ctm))
    if "/Resources" in page:
        form[NameObject("/Resources")] = page.raw_get("/Resources")
    drawn = DictionaryObject({NameObject("/Page"): form})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): drawn})
    content = DecodedStreamObject()
    content.set_data(b"/Page Do")
    page[NameObject("/Contents")] = content


def _move(annotation: DictionaryObject, onto_a4: Transformation) -> None:
    rectangle = _box(annotation.get("/Rect"))
    if rectangle is not None:
        annotation[NameObject("/Rect")] = _box(_moved(rectangle, onto_a4)) or rectangle
    for key in _POINTS:
        if key in annotation:
            annotation[NameObject(key)] = _moved(annotation[key], onto_a4)


def _moved(points: PdfObject | None, onto_a4: Transformation) -> ArrayObject:
    items = [point.get_object() for point in _items(points)]
    if any(isinstance(item, ArrayObject) for item in items):
        return ArrayObject(_moved(item, onto_a4) for item in items)
    numbers = _numbers(points)
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    return ArrayObject(number for pair in pairs for number in onto_a4.apply_on(pair, True))


def _turned(appearance: PdfObject, turned: Transformation) -> PdfObject:
    """Turns an appearance stream, or every stream of a dictionary of appearances."""
    if isinstance(appearance, StreamObject):
        # A copy: another annotation may use the same stream.
        form = copy.copy(appearance)
        form.indirect_reference = None
        numbers = _numbers(form.get("/Matrix"))
        a, b, c, d, e, f = numbers if len(numbers) == 6 else Transformation().ctm
        matrix = Transformation((a, b, c, d, e, f)).transform(turned)
        form[NameObject("/Matrix")] = ArrayObject(map(FloatObject, matrix.ctm))
        return form
    if isinstance(appearance, DictionaryObject):
        return DictionaryObject(
            {key: _turned(value.get_object(), turned) for key, value in appearance.items()}
        )
    return appearance


def _items(value: PdfObject | None) -> Sequence[PdfObject]:
    found = None if value is None else value.get_object()
    return cast("Sequence[PdfObject]", found) if isinstance(found, ArrayObject) else ()


def _numbers(value: PdfObject | None, otherwise: float = 0.0) -> list[float]:
    """The numbers of an array, with `otherwise` in place of a value that is not a number."""
    found: list[object] = [item.get_object() for item in _items(value)]
    return [float(number) if isinstance(number, int | float) else otherwise for number in found]


def _box(value: PdfObject | None) -> RectangleObject | None:
    """A rectangle, given by any two opposite corners; None if it is empty or not a rectangle."""
    numbers = _numbers(value, math.nan)
    if len(numbers) != 4:
        return None
    left, right = sorted(numbers[::2])
    bottom, top = sorted(numbers[1::2])
    # Comparing with NaN is false.
    return _rectangle(left, bottom, right, top)


def _rectangle(left: float, bottom: float, right: float, top: float) -> RectangleObject | None:
    return RectangleObject((left, bottom, right, top)) if left < right and bottom < top else None


def _is_a4(box: RectangleObject) -> bool:
    return abs(box.width - _WIDTH) <= _TOLERANCE and abs(box.height - _HEIGHT) <= _TOLERANCE
