"""Counts, what they must be, and the table of them. Performs no I/O."""

from collections.abc import Iterable
from dataclasses import dataclass

HEADINGS = ("", "counted", "must be", "ok?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        what: What was counted.
        counted: The count.
        must_be: The required count; None when every count is right.
        at_least: Whether a higher count is right too.
    """

    what: str
    counted: int
    must_be: int | None = None
    at_least: bool = False

    @property
    def is_right(self) -> bool:
        if self.must_be is None:
            return True
        return self.counted >= self.must_be if self.at_least else self.counted == self.must_be

    @property
    def cells(self) -> tuple[str, ...]:
        if self.must_be is None:
            return (self.what, str(self.counted), "", "")
        required = f"≥ {self.must_be}" if self.at_least else str(self.must_be)
        return (self.what, str(self.counted), required, "yes" if self.is_right else "NO")


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
