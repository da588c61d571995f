"""A missed limit is reported, but noise alone does not count as missing it."""

import pytest

from .table import Verdict, compared, counted, judged, rendered


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([1.0, 1.1, 1.25], Verdict.MET),
        ([1.0, 1.1, 9.0], Verdict.MET),
        ([1.0, 1.2, 1.3, 1.4, 1.5], Verdict.UNSURE),
        ([1.2, 1.3, 1.3, 1.3, 1.4], Verdict.MISSED),
        ([1.3], Verdict.MISSED),
    ],
    ids=["at-the-limit", "one-outlier", "two-of-five-below", "one-of-five-below", "one-value"],
)
def test_a_limit_is_met_by_the_median_and_missed_by_three_of_four_turns(
    values: list[float], verdict: Verdict
) -> None:
    assert judged(values, 1.25) is verdict


def test_a_figure_without_a_limit_is_not_judged() -> None:
    assert judged([99.0], None) is Verdict.FIGURE


def test_the_ratio_is_the_median_of_the_ratios_of_the_turns() -> None:
    """The machine slows down during three turns, but the ratio is 2 in each turn."""
    row = compared("cpu", [2.0, 4.0, 60.0], [1.0, 2.0, 30.0], limit=1.9, unit="ms")
    assert (row.ratio, row.verdict) == ("2.00", Verdict.MISSED)
    assert (row.measured, row.baseline) == ("4.00 ms", "2.00 ms")


@pytest.mark.parametrize(("count", "verdict"), [(0, Verdict.MET), (1, Verdict.MISSED)])
def test_a_count_above_the_limit_misses_it(count: int, verdict: Verdict) -> None:
    assert counted("open files", count, 7, most=0).verdict is verdict


def test_the_columns_are_aligned() -> None:
    text = rendered([counted("open files", 0, 17, most=0), counted("a", 1, 2, most=0)])
    heading, first, second = text.splitlines()
    assert heading.split() == ["benchmark", "measured", "baseline", "ratio", "limit", "ok?"]
    assert first.index("17") + 2 == heading.index("baseline") + len("baseline")
    assert second.endswith("NO")
