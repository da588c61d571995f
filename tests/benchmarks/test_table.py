"""A missed limit is reported, but noise alone does not count as missing it."""

import json

import pytest

from .table import Limit, Row, Verdict, as_json, as_markdown, rendered


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
    assert Limit(value=1.25).judge(values, 1) is verdict
    mirrored = [2.5 - value for value in values]
    assert Limit(value=1.25, at_least=True).judge(mirrored, 1) is verdict


def test_a_figure_without_a_limit_is_not_judged() -> None:
    assert Row(name="", measured=[99.0]).verdict() is Verdict.FIGURE


def test_the_ratio_is_the_median_of_the_ratios_of_the_turns() -> None:
    """The machine slows down during three turns, but the ratio is 2 in each turn."""
    row = Row(
        name="cpu",
        measured=[2.0, 4.0, 60.0],
        baseline=[1.0, 2.0, 30.0],
        unit="ms",
        limit=Limit(value=1.9),
    )
    assert row.verdict() is Verdict.MISSED
    assert rendered([row]).splitlines()[1].split() == [
        *("cpu", "4", "ms", "2", "ms", "2.00", "1.90", "NO")
    ]


@pytest.mark.parametrize(
    ("limit", "measured", "verdict"),
    [
        (Limit(value=1.0), 2.0, Verdict.MET),
        (Limit(value=1.0), 2.1, Verdict.MISSED),
        (Limit(value=0.9, at_least=True), 0.45, Verdict.MET),
        (Limit(value=0.9, at_least=True), 0.44, Verdict.MISSED),
        (Limit(value=0, of_ratio=False), 1.0, Verdict.MISSED),
    ],
)
def test_a_tolerance_of_two_permits_twice_the_limit(
    limit: Limit, measured: float, verdict: Verdict
) -> None:
    row = Row(name="", measured=[measured], baseline=[1.0], limit=limit)
    assert row.verdict(tolerance=2) is verdict


@pytest.mark.parametrize(("count", "verdict"), [(0, Verdict.MET), (1, Verdict.MISSED)])
def test_a_count_is_judged_without_its_baseline(count: int, verdict: Verdict) -> None:
    row = Row(
        name="open files", measured=[count], baseline=[7], limit=Limit(value=0, of_ratio=False)
    )
    assert row.verdict() is verdict


def test_the_columns_are_aligned() -> None:
    none = Limit(value=0, of_ratio=False)
    text = rendered(
        [
            Row(name="open files", measured=[0], baseline=[17], limit=none),
            Row(name="a", measured=[1], baseline=[0], limit=none),
        ]
    )
    heading, first, second = text.splitlines()
    assert heading.split() == ["benchmark", "measured", "baseline", "ratio", "limit", "ok?"]
    assert first.index("17") + 2 == heading.index("baseline") + len("baseline")
    assert second.endswith("NO")


def test_a_row_is_valid_json_and_a_row_of_markdown() -> None:
    row = Row(name="a", measured=[1.0], baseline=[0.0], unit="ms", limit=Limit(value=2))
    assert json.loads(json.dumps(as_json(row), allow_nan=False))["verdict"] == "missed"
    assert as_markdown([row]).splitlines()[-1] == "| a | 1 ms | 0 ms |  | 2.00 | NO |"
