"""The soak reports every kind of failure."""

from dataclasses import replace

import pytest

from .judging import Confirmation, Evidence, Handling, judged
from .table import Row, rendered

GOOD = Evidence(
    changes=2,
    lease=8.0,
    handlings=[
        Handling(process="a", change=1, begun=1.0, ended=2.0),
        Handling(process="b", change=2, begun=1.0, ended=None),
        Handling(process="c", change=2, begun=9.5, ended=10.0),
    ],
    confirmations=[
        Confirmation(process="a", change=1, time=2.1),
        Confirmation(process="c", change=2, time=10.1),
    ],
    waiting=0,
    kills=["b"],
    requests=(9, 9),
    polls=5,
    early_of_one=0,
    early_between=3,
    blocked=1,
)

CONFIRMED_TOO_EARLY = "confirmed before a handler of the same process had finished"


def wrong(evidence: Evidence) -> list[str]:
    return [row.what.strip() for row in judged(evidence) if not row.is_right]


def test_a_good_run_has_no_wrong_row():
    assert wrong(GOOD) == []


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"kills": []}, ["processes killed", "in the middle of a handler"]),
        ({"kills": ["a"]}, ["in the middle of a handler"]),
        (
            {"handlings": GOOD.handlings[1:]},
            ["changes handled to the end", CONFIRMED_TOO_EARLY],
        ),
        ({"confirmations": GOOD.confirmations[:1]}, ["changes confirmed"]),
        ({"waiting": 1}, ["left in the queue"]),
        (
            {"confirmations": [replace(GOOD.confirmations[0], time=1.9), GOOD.confirmations[1]]},
            [CONFIRMED_TOO_EARLY],
        ),
        (
            {"confirmations": [GOOD.confirmations[0], replace(GOOD.confirmations[1], process="b")]},
            [CONFIRMED_TOO_EARLY],
        ),
        (
            {"handlings": [*GOOD.handlings[:2], replace(GOOD.handlings[2], begun=2.0)]},
            ["before the lease had ended"],
        ),
        ({"early_of_one": 1}, ["before the permitted time that the same process had received"]),
        ({"requests": (9, 8)}, ["recorded requests, of all that the sandbox answered"]),
    ],
)
def test_every_failure_is_reported(change, expected):
    assert wrong(replace(GOOD, **change)) == expected


def test_the_table_shows_what_is_wrong():
    rows = [
        Row(what="lost", counted=1, must_be=0),
        Row(what="kills", counted=3, must_be=1, at_least=True),
        Row(what="polls", counted=7),
    ]
    title, *lines = rendered("workers", rows).splitlines()
    assert title.split() == ["workers", "counted", "must", "be", "ok?"]
    assert [line.split() for line in lines] == [
        ["lost", "1", "0", "NO"],
        ["kills", "3", "≥", "1", "yes"],
        ["polls", "7"],
    ]
