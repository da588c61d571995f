"""Figures of a bar, what they say, and the table of all. Performs no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median, quantiles

HEADINGS = ("bar", "measured", "baseline", "ratio", "limit", "ok?")


class Verdict(Enum):
    """Whether a bar was met."""

    MET = "yes"
    UNSURE = "unsure"
    """Missed by the median, but not in three of four turns: measure again on a quieter machine."""
    MISSED = "NO"
    FIGURE = ""
    """There is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        bar: What was measured.
        measured: Ours.
        baseline: The same without us; empty where there is none.
        ratio: Between the two, or to what the bar names.
        limit: Of the ratio.
        verdict: What follows.
    """

    bar: str
    measured: str
    baseline: str = ""
    ratio: str = ""
    limit: str = ""
    verdict: Verdict = Verdict.FIGURE


def judged(values: Sequence[float], limit: float | None) -> Verdict:
    """Holds the values of all turns against a limit; the median must not be above it."""
    if limit is None:
        return Verdict.FIGURE
    if median(values) <= limit:
        return Verdict.MET
    return Verdict.MISSED if lower_quartile(values) > limit else Verdict.UNSURE


def lower_quartile(values: Sequence[float]) -> float:
    """What three of four values are not below."""
    return quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]


def compared(
    bar: str,
    measured: Sequence[float],
    baseline: Sequence[float],
    *,
    limit: float | None,
    unit: str,
) -> Row:
    """A row of two series whose values belong together turn by turn.

    The ratio is the median of the turns' ratios: what disturbs one turn disturbs one ratio.
    """
    ratios = [ours / bare for ours, bare in zip(measured, baseline, strict=True)]
    return Row(
        bar=bar,
        measured=f"{median(measured):.2f} {unit}",
        baseline=f"{median(baseline):.2f} {unit}",
        ratio=f"{median(ratios):.2f}",
        limit="" if limit is None else f"{limit:.2f}",
        verdict=judged(ratios, limit),
    )


def counted(bar: str, measured: int, baseline: int, *, most: int) -> Row:
    """A row of two counts, ours to be `most` or fewer."""
    return Row(
        bar=bar,
        measured=str(measured),
        baseline=str(baseline),
        limit=str(most),
        verdict=Verdict.MET if measured <= most else Verdict.MISSED,
    )


def rendered(rows: Iterable[Row]) -> str:
    """The rows as text in columns."""
    cells = [
        HEADINGS,
        *(
            (row.bar, row.measured, row.baseline, row.ratio, row.limit, row.verdict.value)
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
