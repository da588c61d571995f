"""Counts, what they must be, and the table of them. Performs no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

HEADINGS = ("", "counted", "must be", "ok?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        what: What was counted or measured.
        counted: The count, or the figure.
        must_be: The required count; None when every count is right.
        at_least: Whether a higher count is right too.
        at_most: Whether a lower count is right too.
    """

    what: str
    counted: float
    must_be: float | None = None
    at_least: bool = False
    at_most: bool = False

    @property
    def is_right(self) -> bool:
        if self.must_be is None or self.counted == self.must_be:
            return True
        return self.at_least if self.counted > self.must_be else self.at_most

    @property
    def cells(self) -> tuple[str, ...]:
        if self.must_be is None:
            return (self.what, _shown(self.counted), "", "")
        sign = "≥ " if self.at_least else "≤ " if self.at_most else ""
        required = f"{sign}{_shown(self.must_be)}"
        return (self.what, _shown(self.counted), required, "yes" if self.is_right else "NO")


def rendered(title: str, rows: Iterable[Row]) -> str:
    cells = [(title, *HEADINGS[1:]), *(row.cells for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def _shown(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:.2f}"
