"""Rows of figures, whether they meet their limits, and the table of all rows. Performs no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median, quantiles

HEADINGS = ("benchmark", "measured", "baseline", "ratio", "limit", "ok?")


class Verdict(Enum):
    """Whether a limit was met."""

    MET = "yes"
    UNSURE = "unsure"
    """The median is above the limit, but fewer than three of four turns are: measure on a quieter machine."""
    MISSED = "NO"
    FIGURE = ""
    """There is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        name: What was measured.
        measured: The value with the package.
        baseline: The value without the package; empty when there is no baseline.
        ratio: The value divided by the baseline, or by a quantity that the text names.
        limit: The highest permitted ratio or count.
        verdict: Whether the limit was met.
    """

    name: str
    measured: str
    baseline: str = ""
    ratio: str = ""
    limit: str = ""
    verdict: Verdict = Verdict.FIGURE


def judged(values: Sequence[float], limit: float | None) -> Verdict:
    """Compares the values of all turns with a limit. The limit is met when the median is not above it."""
    if limit is None:
        return Verdict.FIGURE
    if median(values) <= limit:
        return Verdict.MET
    return Verdict.MISSED if lower_quartile(values) > limit else Verdict.UNSURE


def lower_quartile(values: Sequence[float]) -> float:
    """The 25th percentile, or the only value."""
    return quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]


def compared(
    name: str,
    measured: Sequence[float],
    baseline: Sequence[float],
    *,
    limit: float | None,
    unit: str,
) -> Row:
    """A row that compares two series with one value per turn.

    The ratio is the median of the turns' ratios, so that a disturbed turn affects only one ratio.
    """
    ratios = [ours / bare for ours, bare in zip(measured, baseline, strict=True)]
    return Row(
        name=name,
        measured=f"{median(measured):.2f} {unit}",
        baseline=f"{median(baseline):.2f} {unit}",
        ratio=f"{median(ratios):.2f}",
        limit="" if limit is None else f"{limit:.2f}",
        verdict=judged(ratios, limit),
    )


def counted(name: str, measured: int, baseline: int, *, most: int) -> Row:
    """A row that compares two counts. `measured` must be at most `most`."""
    return Row(
        name=name,
        measured=str(measured),
        baseline=str(baseline),
        limit=str(most),
        verdict=Verdict.MET if measured <= most else Verdict.MISSED,
    )


def rendered(rows: Iterable[Row]) -> str:
    cells = [
        HEADINGS,
        *(
            (row.name, row.measured, row.baseline, row.ratio, row.limit, row.verdict.value)
            for row in rows
        ),
    ]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )
