"""Rows of figures, whether they meet their limits, the table of all rows, and the same as JSON. Performs no I/O."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median, quantiles

HEADINGS = ("benchmark", "measured", "baseline", "ratio", "limit", "ok?")


class Verdict(Enum):
    """Whether a limit was met."""

    MET = "yes"
    UNSURE = "unsure"
    """The median misses the limit, but fewer than three of four turns do: measure on a quieter machine."""
    MISSED = "NO"
    FIGURE = ""
    """There is no limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit, and what it applies to.

    Attributes:
        value: The limit.
        of_ratio: Whether it applies to the ratio of measured to baseline. Otherwise it applies to measured.
        at_least: Whether it is the lowest permitted value. Otherwise it is the highest.
    """

    value: float
    of_ratio: bool = True
    at_least: bool = False

    def judge(self, values: Sequence[float], tolerance: float) -> Verdict:
        """Compares the values of all turns with the limit. The limit is met when the median meets it.

        Args:
            values: A value for each turn.
            tolerance: How many times the limit a value may be. 1 is the limit itself.
        """
        limit, sign = self.value * tolerance, 1
        if self.at_least:
            limit, sign = self.value / tolerance, -1
        if sign * median(values) <= sign * limit:
            return Verdict.MET
        best_quarter = lower_quartile([sign * value for value in values])
        return Verdict.MISSED if best_quarter > sign * limit else Verdict.UNSURE


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A line of the table.

    Attributes:
        name: What was measured.
        measured: The value with the package, for each turn.
        baseline: The value without the package, for each turn; empty when there is no baseline.
        unit: The unit of both.
        limit: The limit; None if there is none.
        size: The size of the job's document in bytes, when the row is a point of the plot.
        curve: The name of the curve to which the point belongs. The baseline's is `baseline_curve`.
    """

    name: str
    measured: Sequence[float]
    baseline: Sequence[float] = ()
    unit: str = ""
    limit: Limit | None = None
    size: int | None = None
    curve: str = ""
    baseline_curve: str = ""

    @property
    def ratios(self) -> list[float]:
        """The ratio of each turn. A disturbed turn affects only one of them."""
        if not self.baseline:
            return []
        return [
            ours / bare if bare else float("inf" if ours else "nan")
            for ours, bare in zip(self.measured, self.baseline, strict=True)
        ]

    def verdict(self, tolerance: float = 1) -> Verdict:
        """Whether the limit, multiplied by the tolerance, was met."""
        if self.limit is None:
            return Verdict.FIGURE
        return self.limit.judge(self.ratios if self.limit.of_ratio else self.measured, tolerance)


def lower_quartile(values: Sequence[float]) -> float:
    """The 25th percentile, or the only value."""
    return quantiles(values, n=4, method="inclusive")[0] if len(values) > 1 else values[0]


def rendered(rows: Iterable[Row], tolerance: float = 1) -> str:
    """The rows as a table of text."""
    cells = [HEADINGS, *(_cells(row, tolerance) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def as_markdown(rows: Iterable[Row]) -> str:
    """The rows as a table of Markdown."""
    lines = [HEADINGS, ("---", *["---:"] * (len(HEADINGS) - 1)), *(_cells(row, 1) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(row: Row, tolerance: float) -> tuple[str, ...]:
    ratio = median(row.ratios) if row.ratios else None
    return (
        row.name,
        _quantity(row.measured, row.unit),
        _quantity(row.baseline, row.unit) if row.baseline else "",
        "" if ratio is None or not 0 < ratio < float("inf") else f"{ratio:.2f}",
        "" if row.limit is None else _limit(row.limit, row.unit),
        row.verdict(tolerance).value,
    )


def _quantity(values: Sequence[float], unit: str) -> str:
    value = median(values)
    number = f"{value:,.0f}" if value == int(value) or value >= 1000 else f"{value:.2f}"
    return f"{number} {unit}".rstrip()


def _limit(limit: Limit, unit: str) -> str:
    value = f"{limit.value:.2f}" if limit.of_ratio else _quantity([limit.value], unit)
    return f"at least {value}" if limit.at_least else value


def as_json(row: Row) -> dict[str, object]:
    """The row as values of JSON. The verdict is the one without tolerance."""
    return {
        "name": row.name,
        "unit": row.unit,
        "measured": list(row.measured),
        "baseline": list(row.baseline),
        "median_ratio": median(row.ratios) if row.ratios and 0 not in row.baseline else None,
        "limit": None if row.limit is None else row.limit.value,
        "limit_is_of_ratio": None if row.limit is None else row.limit.of_ratio,
        "limit_is_minimum": None if row.limit is None else row.limit.at_least,
        "verdict": row.verdict().name.lower(),
    }
