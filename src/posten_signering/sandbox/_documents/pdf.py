"""Reads PDF documents, and joins them into one PDF with A4 portrait pages. Performs no I/O.

A hostile document can crash the library or occupy it for hours, so only `process_main` calls it.
"""

import copy
import io
import re
import warnings
from collections.abc import Sequence
from decimal import Decimal

from pikepdf import (
    Array,
    Dictionary,
    Matrix,
    Name,
    Object,
    ObjectStreamMode,
    OutlineItem,
    Page,
    PasswordError,
    Pdf,
    Rectangle,
    Stream,
)

_END = b"%%EOF"
_SEARCH_BYTES = 1024
"""How much of the end of a file viewers search for the end marker."""

_LATER_VERSION = re.compile(r"/(?:[2-9]|1\.[89])")
_WRONG_VERSION = "is not a PDF of version 1.1 to 1.7. Convert it to one of these versions."
_ENCRYPTED = "is an encrypted PDF. Save it without a password and without restrictions."
_NO_PAGES = "is a PDF without pages. Send a PDF with at least one page."
_UNREADABLE = "is not a readable PDF. Create the file again, and send all of it."
_RESULT_VERSION = "1.7"

_WIDTH, _HEIGHT = 210 / 25.4 * 72, 297 / 25.4 * 72
_TOLERANCE = 2.0
# Viewers use this size for a page without a valid box.
_US_LETTER = Rectangle(0, 0, 612, 792)
# The rotation clockwise in degrees, like `/Rotate`.
_ROTATIONS = {
    0: Matrix(),
    90: Matrix(0, -1, 1, 0, 0, 0),
    180: Matrix(-1, 0, 0, -1, 0, 0),
    270: Matrix(0, 1, -1, 0, 0, 0),
}
_KEPT_KEYS = {"/Type", "/Parent", "/Contents", "/Resources", "/Annots", "/Group"}
"""The keys of a page that also apply to its A4 page. The others state boxes, or belong to removed parts."""
_POINT_KEYS = ("/QuadPoints", "/Vertices", "/L", "/CL", "/InkList")
"""The keys of an annotation whose values are points: x, y, x, y ..., or arrays of points."""


class PdfProblem(Exception):  # noqa: N818 - a finding about a document, not an error of this program
    """A PDF can't be signed. The message follows "The document X "."""


def opened(content: bytes) -> Pdf:
    """The PDF, whose pages are A4 portrait and without signatures.

    The service accepts PDF 1.1 to 1.7 and PDF/A, without a password and without restrictions ("Opprette
    oppdrag").

    Args:
        content: The document.

    Raises:
        PdfProblem: The PDF can't be signed.
    """
    # The library would repair a file that is cut off, and lose pages.
    if _END not in content.rstrip(b"\0\t\n\f\r ")[-_SEARCH_BYTES:]:
        raise PdfProblem(_UNREADABLE)
    try:
        pdf = Pdf.open(io.BytesIO(content))
        is_later = _LATER_VERSION.match(str(pdf.Root.get("/Version")))
        has_pages = len(pdf.pages) > 0
        if not pdf.is_encrypted and not is_later:
            _prepare(pdf)
    except PasswordError:
        raise PdfProblem(_ENCRYPTED) from None
    except MemoryError:
        raise
    except Exception:  # noqa: BLE001 - on a broken PDF the library can raise anything
        raise PdfProblem(_UNREADABLE) from None
    if pdf.is_encrypted:
        raise PdfProblem(_ENCRYPTED)
    # An incremental update may set a later version in the catalog (ISO 32000-1, 7.5.2).
    if is_later:
        raise PdfProblem(_WRONG_VERSION)
    if not has_pages:
        raise PdfProblem(_NO_PAGES)
    return pdf


def joined(documents: Sequence[tuple[str, Pdf]], *, title: str) -> bytes:
    """One PDF with the pages of all documents.

    Args:
        documents: The name in the outline and the opened PDF of each document.
        title: The title in the properties of the PDF.
    """
    result = Pdf.new()
    output = io.BytesIO()
    with warnings.catch_warnings():
        # The library warns about fields that are not in a form. The result must not be filled in.
        warnings.simplefilter("ignore")
        with result.open_outline() as outline:
            for name, pdf in documents:
                outline.root.append(OutlineItem(name, len(result.pages)))
                result.pages.extend(pdf.pages)
        result.docinfo["/Title"] = title
        result.save(
            output, force_version=_RESULT_VERSION, object_stream_mode=ObjectStreamMode.disable
        )
    return output.getvalue()


def _prepare(pdf: Pdf) -> None:
    signatures = _Signatures()
    moved_annotations = set[tuple[int, int]]()
    for page in pdf.pages:
        annotations = page.obj.get("/Annots")
        if annotations is not None:
            # Viewers would report the signatures of a document as broken signatures of the result.
            page.obj["/Annots"] = Array(
                [
                    annotation
                    for annotation in _dictionaries(annotations)
                    if annotation not in signatures
                ]
            )
        _put_on_a4(pdf, page, moved_annotations)


class _Signatures:
    """The annotations of one document that are signature fields or belong to one."""

    def __init__(self) -> None:
        # The fields that were visited. A field may be its own ancestor in a broken document, and
        # many annotations may have the same ancestors.
        self._known = dict[tuple[int, int], bool]()

    def __contains__(self, annotation: Object) -> bool:
        path = list[tuple[int, int]]()
        field: object = annotation
        is_signature = False
        while isinstance(field, Dictionary) and not is_signature:
            if field.is_indirect:
                if field.objgen in self._known:
                    is_signature = self._known[field.objgen]
                    break
                self._known[field.objgen] = False
                path.append(field.objgen)
            is_signature = field.get("/FT") == Name.Sig
            field = field.get("/Parent")
        self._known.update(dict.fromkeys(path, is_signature))
        return is_signature


def _put_on_a4(pdf: Pdf, page: Page, moved_annotations: set[tuple[int, int]]) -> None:
    """Changes a page to A4 portrait, as the service does with every page.

    The page keeps its proportions. It is scaled and centred, and rotated by 90 degrees if it is wider
    than high. A page that is A4 portrait within two points does not change.

    Args:
        pdf: The document.
        page: A page of it.
        moved_annotations: The numbers of the document's annotations that have been moved. An annotation
            belongs to one page (ISO 32000-1, 12.5.2), so it must not be moved twice.
    """
    media_box = _box(page.obj.get("/MediaBox")) or _US_LETTER
    crop_box = _box(page.obj.get("/CropBox")) or media_box
    visible = (
        _rectangle(
            max(media_box.llx, crop_box.llx),
            max(media_box.lly, crop_box.lly),
            min(media_box.urx, crop_box.urx),
            min(media_box.ury, crop_box.ury),
        )
        or media_box
    )
    degrees = _number(page.obj.get("/Rotate")) or 0.0
    rotation = int(degrees % 360) if degrees % 90 == 0 else 0
    if not rotation and "/UserUnit" not in page.obj and _is_a4(media_box) and _is_a4(visible):
        return
    width, height = visible.width, visible.height
    if rotation % 180:
        width, height = height, width
    if width > height:
        # Rotate to the left, so that the top of the page is on the left side.
        rotation, width, height = (rotation + 270) % 360, height, width
    scale = min(_WIDTH / width, _HEIGHT / height)
    onto_a4 = (
        _translation(-(visible.llx + visible.urx) / 2, -(visible.lly + visible.ury) / 2)
        @ _ROTATIONS[rotation]
        @ Matrix(scale, 0, 0, scale, 0, 0)
        @ _translation(_WIDTH / 2, _HEIGHT / 2)
    )
    _draw_as_form(pdf, page, visible, onto_a4)
    for key in set(page.obj.keys()) - _KEPT_KEYS:
        del page.obj[key]
    page.obj["/MediaBox"] = Array([0, 0, _WIDTH, _HEIGHT])
    annotations = Array()
    for annotation in _dictionaries(page.obj.get("/Annots")):
        if annotation.is_indirect:
            if annotation.objgen in moved_annotations:
                continue
            moved_annotations.add(annotation.objgen)
        _move(annotation, onto_a4)
        appearance = annotation.get("/AP")
        if rotation and isinstance(appearance, Dictionary):
            # A viewer fits the appearance into the rectangle, but does not rotate it.
            annotation["/AP"] = _rotated(appearance, _ROTATIONS[rotation])
        annotations.append(annotation)
    page.obj["/Annots"] = annotations


def _draw_as_form(pdf: Pdf, page: Page, visible: Rectangle, onto_a4: Matrix) -> None:
    """Moves the content into a form XObject. The page then draws the form, clipped to the visible box.

    The matrix of a pattern is relative to the origin of the form or page that uses it (ISO 32000-1,
    8.7.3.1). In a form, patterns therefore move together with the other content.
    """
    contents = page.obj.get("/Contents")
    if isinstance(contents, Array):
        page.obj["/Contents"] = Array([item for item in contents if isinstance(item, Stream)])
        page.contents_coalesce()
        contents = page.obj.get("/Contents")
    if not isinstance(contents, Stream):
        return
    # Copy the stream, because a different page may use the same one.
    form = copy.copy(contents)
    form["/Type"] = Name.XObject
    form["/Subtype"] = Name.Form
    form["/BBox"] = visible.as_array()
    form["/Matrix"] = onto_a4.as_array()
    if "/Resources" in page.obj:
        form["/Resources"] = page.obj["/Resources"]
    page.obj["/Resources"] = Dictionary({"/XObject": Dictionary({"/Page": form})})
    page.obj["/Contents"] = pdf.make_stream(b"/Page Do")


def _move(annotation: Object, onto_a4: Matrix) -> None:
    rectangle = _box(annotation.get("/Rect"))
    if rectangle is not None:
        annotation["/Rect"] = onto_a4.transform(rectangle).as_array()
    for key in _POINT_KEYS:
        points = annotation.get(key)
        if isinstance(points, Array):
            annotation[key] = _moved(points, onto_a4)


def _moved(points: Array, onto_a4: Matrix) -> Array:
    """The moved points. A value is a list of numbers, or in `/InkList` a list of such lists."""
    if any(isinstance(item, Array) for item in points):
        return Array([_moved_points(item, onto_a4) for item in points])
    return _moved_points(points, onto_a4)


def _moved_points(points: object, onto_a4: Matrix) -> Array:
    numbers = _numbers(points)
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    return Array([number for pair in pairs for number in onto_a4.transform(pair)])


def _rotated(appearance: Object, rotation: Matrix) -> Dictionary:
    """Rotated copies of the streams in a dictionary of appearances (ISO 32000-1, 12.5.5).

    A value is a stream, or a dictionary with one stream for each state.
    """
    rotated = Dictionary()
    for key, value in appearance.items():
        if isinstance(value, Stream):
            rotated[key] = _rotated_form(value, rotation)
        elif isinstance(value, Dictionary):
            rotated[key] = Dictionary(
                {
                    state: _rotated_form(form, rotation)
                    for state, form in value.items()
                    if isinstance(form, Stream)
                }
            )
    return rotated


def _rotated_form(form: Stream, rotation: Matrix) -> Stream:
    # Rotate a copy, because a different annotation may use the same stream.
    rotated = copy.copy(form)
    numbers = _numbers(form.get("/Matrix"))
    matrix = Matrix(*numbers) if len(numbers) == 6 else Matrix()
    rotated["/Matrix"] = (matrix @ rotation).as_array()
    return rotated


def _translation(x: float, y: float) -> Matrix:
    return Matrix(1, 0, 0, 1, x, y)


def _dictionaries(value: object) -> list[Dictionary]:
    return [item for item in _items(value) if isinstance(item, Dictionary)]


def _items(value: object) -> list[Object]:
    return list(value) if isinstance(value, Array) else []


def _numbers(value: object) -> list[float]:
    """The numbers of an array, with 0 in place of a value that is not a number."""
    return [_number(item) or 0.0 for item in _items(value)]


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return float(value)


def _box(value: object) -> Rectangle | None:
    """The rectangle between two opposite corners, or `None` if it is empty or not a rectangle."""
    numbers = [number for item in _items(value) if (number := _number(item)) is not None]
    if len(numbers) != 4 or len(_items(value)) != 4:
        return None
    left, bottom, right, top = numbers
    return _rectangle(min(left, right), min(bottom, top), max(left, right), max(bottom, top))


def _rectangle(left: float, bottom: float, right: float, top: float) -> Rectangle | None:
    return Rectangle(left, bottom, right, top) if left < right and bottom < top else None


def _is_a4(box: Rectangle) -> bool:
    return abs(box.width - _WIDTH) <= _TOLERANCE and abs(box.height - _HEIGHT) <= _TOLERANCE
