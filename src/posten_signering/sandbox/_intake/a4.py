"""Puts a page of any size onto A4 portrait, as the service does with every page. Performs no I/O.

What the page shows stays the same: it is scaled in its proportions, turned by 90 degrees when it is
wider than high, and centred. Its content becomes a form XObject, which the new page draws: so patterns
and shadings, whose matrices count from the page's own origin, move along with everything else (ISO
32000-1, 8.7.3.1). Annotations stay what they are, links for example, and move along.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from pypdf import PageObject
from pypdf.generic import (
    ArrayObject,
    DecodedStreamObject,
    DictionaryObject,
    FloatObject,
    NameObject,
    PdfObject,
    StreamObject,
)
from reportlab.lib.pagesizes import A4

_WIDTH, _HEIGHT = A4
_TOLERANCE = 2.0
_BOXES = ("/CropBox", "/BleedBox", "/TrimBox", "/ArtBox")
_OF_THE_OLD_SPACE = (*_BOXES, "/Rotate", "/UserUnit", "/VP", "/Thumb", "/StructParents")
_POINTS = ("/QuadPoints", "/Vertices", "/L", "/CL", "/InkList")
"""What an annotation has of points, besides its rectangle: x, y, x, y ..., or arrays of these."""

_DRAWN = "/Page"
_ENCODING = frozenset({"/Filter", "/DecodeParms"})

# What viewers show of a page without a usable box: US Letter.
_DEFAULT_BOX = (0.0, 0.0, 612.0, 792.0)

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@dataclass(frozen=True, slots=True)
class _Matrix:
    """An affine map, as a PDF writes it: x' = ax + cy + e, y' = bx + dy + f."""

    a: float = 1.0
    b: float = 0.0
    c: float = 0.0
    d: float = 1.0
    e: float = 0.0
    f: float = 0.0

    def then(self, after: "_Matrix") -> "_Matrix":
        """This map first, and then another."""
        e, f = after.point(self.e, self.f)
        return _Matrix(
            self.a * after.a + self.b * after.c,
            self.a * after.b + self.b * after.d,
            self.c * after.a + self.d * after.c,
            self.c * after.b + self.d * after.d,
            e,
            f,
        )

    def point(self, x: float, y: float) -> tuple[float, float]:
        return self.a * x + self.c * y + self.e, self.b * x + self.d * y + self.f

    def box(self, box: Box) -> Box:
        """The box around what becomes of a box."""
        corners = [self.point(x, y) for x in box[::2] for y in box[1::2]]
        xs, ys = zip(*corners, strict=True)
        return min(xs), min(ys), max(xs), max(ys)

    def array(self) -> ArrayObject:
        return _array((self.a, self.b, self.c, self.d, self.e, self.f))


# Clockwise, as `/Rotate` counts.
_TURNS = {
    0: _Matrix(),
    90: _Matrix(0, -1, 1, 0),
    180: _Matrix(-1, 0, 0, -1),
    270: _Matrix(0, 1, -1, 0),
}


class A4Pages:
    """Puts the pages of one document onto A4 portrait."""

    def __init__(self) -> None:
        self._moved = set[int]()

    def fit(self, page: PageObject) -> None:
        """Changes a page to A4 portrait. One that is, within two points, stays as it is.

        Args:
            page: A page of a reader. Its content is not changed, but replaced.
        """
        media_box = _media_box(page)
        visible = _visible_box(page, media_box)
        turn = _turn_of(page)
        if not turn and "/UserUnit" not in page and _is_a4(media_box) and _is_a4(visible):
            return
        width, height = _size(_TURNS[turn].box(visible))
        if width > height:
            # Its top comes to the left.
            turn = (turn + 270) % 360
        onto_a4 = _onto_a4(visible, turn)
        for key in _OF_THE_OLD_SPACE:
            page.pop(NameObject(key), None)
        page[NameObject("/MediaBox")] = _array((0, 0, _WIDTH, _HEIGHT))
        _redraw(page, onto_a4, visible)
        if "/Annots" in page:
            page[NameObject("/Annots")] = ArrayObject(self._annotations(page, onto_a4, turn))

    def _annotations(self, page: PageObject, onto_a4: _Matrix, turn: int) -> Iterator[PdfObject]:
        for each in _items(page.get("/Annots")):
            annotation = each.get_object()
            # One belongs to one page, once (ISO 32000-1, 12.5.2): it must not be moved twice.
            if isinstance(annotation, DictionaryObject) and id(annotation) not in self._moved:
                self._moved.add(id(annotation))
                _move(annotation, onto_a4, turn)
                yield each


def _onto_a4(visible: Box, turn: int) -> _Matrix:
    turned = _TURNS[turn].box(visible)
    width, height = _size(turned)
    scale = min(_WIDTH / width, _HEIGHT / height)
    return (
        _TURNS[turn]
        .then(_Matrix(e=-(turned[0] + turned[2]) / 2, f=-(turned[1] + turned[3]) / 2))
        .then(_Matrix(a=scale, d=scale))
        .then(_Matrix(e=_WIDTH / 2, f=_HEIGHT / 2))
    )


# The page


def _media_box(page: PageObject) -> Box:
    return _box(page.get("/MediaBox")) or _DEFAULT_BOX


def _visible_box(page: PageObject, media_box: Box) -> Box:
    crop_box = _box(page.get("/CropBox")) or media_box
    common = (
        max(media_box[0], crop_box[0]),
        max(media_box[1], crop_box[1]),
        min(media_box[2], crop_box[2]),
        min(media_box[3], crop_box[3]),
    )
    return common if common[0] < common[2] and common[1] < common[3] else media_box


def _turn_of(page: PageObject) -> int:
    turn = _number(page.get("/Rotate"), 0) % 360
    return int(turn) if turn in _TURNS else 0


def _is_a4(box: Box) -> bool:
    width, height = _size(box)
    return abs(width - _WIDTH) <= _TOLERANCE and abs(height - _HEIGHT) <= _TOLERANCE


def _size(box: Box) -> tuple[float, float]:
    return box[2] - box[0], box[3] - box[1]


def _redraw(page: PageObject, onto_a4: _Matrix, visible: Box) -> None:
    """Draws what the page drew, with its resources, as one form XObject that is cut at the box."""
    form = _form(page.get("/Contents"))
    if form is None:
        return
    form[NameObject("/Type")] = NameObject("/XObject")
    form[NameObject("/Subtype")] = NameObject("/Form")
    form[NameObject("/BBox")] = _array(visible)
    form[NameObject("/Matrix")] = onto_a4.array()
    if "/Resources" in page:
        form[NameObject("/Resources")] = page.raw_get("/Resources")
    drawn = DictionaryObject({NameObject(_DRAWN): form})
    page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): drawn})
    content = DecodedStreamObject()
    content.set_data(f"{_DRAWN} Do".encode())
    page[NameObject("/Contents")] = content


def _form(contents: PdfObject | None) -> StreamObject | None:
    streams = [
        found for each in _items(contents) if isinstance(found := each.get_object(), StreamObject)
    ]
    if not streams:
        return None
    if len(streams) > 1:
        joined = DecodedStreamObject()
        # They may be cut between any two tokens (ISO 32000-1, table 30).
        joined.set_data(b"\n".join(stream.get_data() for stream in streams))
        return joined.flate_encode()
    # As it is, without being decoded: it may be large.
    form = _copied(streams[0])
    for key in [key for key in form if key not in _ENCODING]:
        del form[key]
    return form


# Annotations


def _move(annotation: DictionaryObject, onto_a4: _Matrix, turn: int) -> None:
    rectangle = _box(annotation.get("/Rect"))
    if rectangle is not None:
        annotation[NameObject("/Rect")] = _array(onto_a4.box(rectangle))
    for key in _POINTS:
        if key in annotation:
            annotation[NameObject(key)] = _moved_points(annotation[key], onto_a4)
    appearance = annotation.get("/AP")
    appearance = None if appearance is None else appearance.get_object()
    if turn and isinstance(appearance, DictionaryObject):
        # What it draws is fitted into the rectangle by the viewer, but not turned.
        annotation[NameObject("/AP")] = _turned(appearance, _TURNS[turn])


def _moved_points(points: PdfObject | None, onto_a4: _Matrix) -> PdfObject:
    items = _items(points)
    if any(isinstance(each.get_object(), ArrayObject) for each in items):
        return ArrayObject(_moved_points(each.get_object(), onto_a4) for each in items)
    numbers = [_number(each, 0) for each in items]
    pairs = zip(numbers[::2], numbers[1::2], strict=False)
    return _array([value for pair in pairs for value in onto_a4.point(*pair)])


def _turned(appearance: DictionaryObject, turn: _Matrix) -> DictionaryObject:
    """An appearance, or a dictionary of them, whose content is turned."""
    if isinstance(appearance, StreamObject):
        form = _copied(appearance)
        numbers = [_number(each, 0) for each in _items(form.get("/Matrix"))]
        own = _Matrix(*numbers) if len(numbers) == len(turn.array()) else _Matrix()
        form[NameObject("/Matrix")] = own.then(turn).array()
        return form
    return DictionaryObject(
        {
            key: _turned(found, turn) if isinstance(found, DictionaryObject) else found
            for key, found in ((key, value.get_object()) for key, value in appearance.items())
        }
    )


# Values


def _copied(stream: StreamObject) -> StreamObject:
    """A stream of its own, with the same bytes: the other may be in use elsewhere."""
    copied = copy.copy(stream)
    copied.indirect_reference = None
    return copied


def _items(value: PdfObject | None) -> Sequence[PdfObject]:
    found = None if value is None else value.get_object()
    if isinstance(found, ArrayObject):
        return cast("Sequence[PdfObject]", found)
    return () if found is None else (found,)


def _box(value: PdfObject | None) -> Box | None:
    """A rectangle, whichever of its corners are given; None when it is none, or empty."""
    numbers = [_number(each, float("nan")) for each in _items(value)]
    if len(numbers) != 4:
        return None
    left, right = sorted(numbers[::2])
    bottom, top = sorted(numbers[1::2])
    # Not a number is not less than another.
    return (left, bottom, right, top) if left < right and bottom < top else None


def _number(value: PdfObject | None, otherwise: float) -> float:
    found: object = None if value is None else value.get_object()
    return float(found) if isinstance(found, int | float) else otherwise


def _array(numbers: Sequence[float]) -> ArrayObject:
    return ArrayObject(map(cast("Callable[[float], PdfObject]", FloatObject), numbers))
