"""Reads PDF documents, and joins them into one PDF with A4 portrait pages. Performs no I/O.

`pdf_problem` does the same work as `joined`. A document that can't be read is therefore refused when
the job is created, not after the signers have signed.
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

# The library logs a warning for everything unusual in a document. Without a handler, Python prints the
# warnings to standard error in programs that have not configured logging.
logging.getLogger("pypdf").addHandler(logging.NullHandler())

_HEADER = re.compile(rb"%PDF-1\.[1-7]")
_HEADER_SEARCH_BYTES = 1024
_LATER_VERSION = re.compile(r"/(?:[2-9]|1\.[89])")
_WRONG_VERSION = "is not a PDF of version 1.1 to 1.7. Convert it to one of these versions."
_RESULT_HEADER = "%PDF-1.7"

_WIDTH, _HEIGHT = A4
_TOLERANCE = 2.0
# Viewers use this size for a page without a valid box.
_US_LETTER = RectangleObject((0, 0, 612, 792))
# The rotation clockwise in degrees, like `/Rotate`.
_ROTATIONS = {
    0: Transformation(),
    90: Transformation((0, -1, 1, 0, 0, 0)),
    180: Transformation((-1, 0, 0, -1, 0, 0)),
    270: Transformation((0, 1, -1, 0, 0, 0)),
}
_OTHER_BOXES = ("/CropBox", "/BleedBox", "/TrimBox", "/ArtBox")
_KEYS_TO_REMOVE = (*_OTHER_BOXES, "/Rotate", "/UserUnit", "/VP", "/Thumb", "/StructParents")
_POINT_KEYS = ("/QuadPoints", "/Vertices", "/L", "/CL", "/InkList")
"""The keys of an annotation whose values are points: x, y, x, y ..., or arrays of points."""


def read(content: bytes) -> PdfReader:
    """A reader of a PDF. It parses the pages when they are used."""
    return PdfReader(io.BytesIO(content), strict=False)


def pdf_problem(content: bytes) -> str | None:
    """Why a PDF can't be signed, as text that follows "The document X ". `None` if it can.

    The service accepts PDF 1.1 to 1.7 and PDF/A, without a password and without restrictions ("Opprette
    oppdrag").

    Args:
        content: The document.
    """
    if _HEADER.search(content, 0, _HEADER_SEARCH_BYTES) is None:
        return _WRONG_VERSION
    try:
        reader = read(content)
        if reader.is_encrypted:
            return "is an encrypted PDF. Save it without a password and without restrictions."
        # An incremental update may set a later version in the catalog (ISO 32000-1, 7.5.2).
        if _LATER_VERSION.match(str(reader.root_object.get("/Version"))):
            return _WRONG_VERSION
        if not reader.pages:
            return "is a PDF without pages. Send a PDF with at least one page."
        joined([("", reader)], title="")
    except Exception:  # noqa: BLE001 - on a broken PDF the library can raise anything
        return "is not a readable PDF. Create the file again, and send all of it."
    return None


def joined(documents: Sequence[tuple[str, PdfReader]], *, title: str) -> bytes:
    """One PDF with the pages of all documents, as A4 portrait.

    Args:
        documents: The name in the outline and the reader of each document. The pages of the reader
            are changed.
        title: The title in the properties of the PDF.
    """
    writer = PdfWriter()
    for name, reader in documents:
        moved_annotations = set[int]()
        for page in reader.pages:
            # Viewers would report the signatures of a document as broken signatures of the result.
            other_annotations = filterfalse(_is_signature, _items(page.get("/Annots")))
            page[NameObject("/Annots")] = ArrayObject(other_annotations)
            _put_on_a4(page, moved_annotations)
        writer.append(reader, outline_item=name or None, import_outline=False)
    writer.pdf_header = _RESULT_HEADER
    writer.add_metadata({"/Title": title})
    # A signed form must not be filled in.
    writer.root_object.pop(NameObject("/AcroForm"), None)
    output = io.BytesIO()
    writer.write(output)
    return output.getvalue()


def _is_signature(annotation: PdfObject) -> bool:
    field = annotation.get_object()
    visited = set[int]()
    # In a broken document, a field may be its own ancestor. Visit every field only once.
    while isinstance(field, DictionaryObject) and id(field) not in visited:
        if field.get("/FT") == "/Sig":
            return True
        visited.add(id(field))
        parent = field.get("/Parent")
        field = parent.get_object() if parent is not None else None
    return False


def _put_on_a4(page: PageObject, moved_annotations: set[int]) -> None:
    """Changes a page to A4 portrait, as the service does with every page.

    The page keeps its proportions. It is scaled and centred, and rotated by 90 degrees if it is wider
    than high. A page that is A4 portrait within two points does not change.

    Args:
        page: A page of a reader.
        moved_annotations: The ids of the document's annotations that have been moved. An annotation
            belongs to one page (ISO 32000-1, 12.5.2), so it must not be moved twice.
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
    is_right_angle = isinstance(rotate, int | float) and rotate % 90 == 0
    rotation = int(rotate % 360) if is_right_angle else 0
    if not rotation and "/UserUnit" not in page and _is_a4(media_box) and _is_a4(visible):
        return
    width, height = visible.width, visible.height
    if rotation % 180:
        width, height = height, width
    if width > height:
        # Rotate to the left, so that the top of the page is on the left side.
        rotation, width, height = (rotation + 270) % 360, height, width
    scale = min(_WIDTH / width, _HEIGHT / height)
    onto_a4 = (
        Transformation()
        .translate(-(visible.left + visible.right) / 2, -(visible.bottom + visible.top) / 2)
        .transform(_ROTATIONS[rotation])
        .scale(scale)
        .translate(_WIDTH / 2, _HEIGHT / 2)
    )
    for key in _KEYS_TO_REMOVE:
        page.pop(NameObject(key), None)
    page[NameObject("/MediaBox")] = RectangleObject((0, 0, _WIDTH, _HEIGHT))
    _draw_as_form(page, visible, onto_a4)
    annotations = ArrayObject()
    for reference in _items(page.get("/Annots")):
        annotation = reference.get_object()
        if isinstance(annotation, DictionaryObject) and id(annotation) not in moved_annotations:
            moved_annotations.add(id(annotation))
            _move(annotation, onto_a4)
            if rotation and "/AP" in annotation:
                # A viewer fits the appearance into the rectangle, but does not rotate it.
                annotation[NameObject("/AP")] = _rotated(annotation["/AP"], _ROTATIONS[rotation])
            annotations.append(reference)
    page[NameObject("/Annots")] = annotations


def _draw_as_form(page: PageObject, visible: RectangleObject, onto_a4: Transformation) -> None:
    """Moves the content into a form XObject. The page then draws the form, clipped to the visible box.

    The matrix of a pattern is relative to the origin of the form or page that uses it (ISO 32000-1,
    8.7.3.1). In a form, patterns therefore move together with the other content.
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
    x_objects = DictionaryObject({NameObject("/Page"): form})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): x_objects})
    content = DecodedStreamObject()
    content.set_data(b"/Page Do")
    page[NameObject("/Contents")] = content


def _move(annotation: DictionaryObject, onto_a4: Transformation) -> None:
    rectangle = _box(annotation.get("/Rect"))
    if rectangle is not None:
        annotation[NameObject("/Rect")] = _box(_moved(rectangle, onto_a4)) or rectangle
    for key in _POINT_KEYS:
        if key in annotation:
            annotation[NameObject(key)] = _moved(annotation[key], onto_a4)


def _moved(points: PdfObject | None, onto_a4: Transformation) -> ArrayObject:
    items = [point.get_object() for point in _items(points)]
    if any(isinstance(item, ArrayObject) for item in items):
        return ArrayObject(_moved(item, onto_a4) for item in items)
    numbers = _numbers(points)
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    return ArrayObject(number for pair in pairs for number in onto_a4.apply_on(pair, True))


def _rotated(appearance: PdfObject, rotation: Transformation) -> PdfObject:
    """A rotated copy of an appearance stream, or of every stream in a dictionary of appearances."""
    if isinstance(appearance, StreamObject):
        # Rotate a copy, because a different annotation may use the same stream.
        form = copy.copy(appearance)
        form.indirect_reference = None
        numbers = _numbers(form.get("/Matrix"))
        a, b, c, d, e, f = numbers if len(numbers) == 6 else Transformation().ctm
        matrix = Transformation((a, b, c, d, e, f)).transform(rotation)
        form[NameObject("/Matrix")] = ArrayObject(map(FloatObject, matrix.ctm))
        return form
    if isinstance(appearance, DictionaryObject):
        return DictionaryObject(
            {key: _rotated(value.get_object(), rotation) for key, value in appearance.items()}
        )
    return appearance


def _items(value: PdfObject | None) -> Sequence[PdfObject]:
    array = None if value is None else value.get_object()
    return cast("Sequence[PdfObject]", array) if isinstance(array, ArrayObject) else ()


def _numbers(value: PdfObject | None, default: float = 0.0) -> list[float]:
    """The numbers of an array, with `default` in place of a value that is not a number."""
    items: list[object] = [item.get_object() for item in _items(value)]
    return [float(item) if isinstance(item, int | float) else default for item in items]


def _box(value: PdfObject | None) -> RectangleObject | None:
    """The rectangle between two opposite corners, or `None` if it is empty or not a rectangle."""
    numbers = _numbers(value, math.nan)
    if len(numbers) != 4:
        return None
    left, right = sorted(numbers[::2])
    bottom, top = sorted(numbers[1::2])
    # NaN gives None, because every comparison with NaN is false.
    return _rectangle(left, bottom, right, top)


def _rectangle(left: float, bottom: float, right: float, top: float) -> RectangleObject | None:
    return RectangleObject((left, bottom, right, top)) if left < right and bottom < top else None


def _is_a4(box: RectangleObject) -> bool:
    return abs(box.width - _WIDTH) <= _TOLERANCE and abs(box.height - _HEIGHT) <= _TOLERANCE
