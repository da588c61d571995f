"""The soak reports every kind of failure."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace

import pytest
from model_service import SENDER, ModelService
from model_transport import process_of
from virtual_time import run

from posten_signering import DirectClient, InMemoryFleet

from .fleet_judging import (
    CallEvidence,
    PollEvidence,
    judged_calls,
    judged_polls,
    most_in_a_second,
)
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


GOOD_CALLS = CallEvidence(
    scenario="Redis killed",
    began=0.0,
    ended=20.0,
    arrivals=[1.0, *(1.0 + 0.15 * number for number in range(10, 120))],
    failed=0,
    outage=(5.0, 15.0),
    least_per_second=5.0,
    first_call_within=5.0,
)
GOOD_POLLS = PollEvidence(
    scenario="RedisFleet",
    interval=2.0,
    put={1: 1.0, 2: 2.0, 3: 3.0},
    delivered={1: 2.0, 2: 3.0, 3: 14.0},
    polls=200,
    early_of_one=0,
    early_between=2,
    most_early=0.01,
    most_delay=0.5,
)

RATE = "most arrivals in a second"
FIRST_CALL = "seconds until the first call"
THROUGHPUT = "calls per second without Redis"
EARLY = "refused as too early, in percent"
DELAY = "median delay, in intervals"


def wrong(evidence: Evidence | CallEvidence | PollEvidence) -> list[str]:
    judges = {Evidence: judged, CallEvidence: judged_calls, PollEvidence: judged_polls}
    return [row.what.strip() for row in judges[type(evidence)](evidence) if not row.is_right]


@pytest.mark.parametrize("evidence", [GOOD, GOOD_CALLS, GOOD_POLLS])
def test_a_good_run_has_no_wrong_row(evidence):
    assert wrong(evidence) == []


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


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"arrivals": [*GOOD_CALLS.arrivals, *[17.3] * 5]}, [RATE]),
        ({"failed": 1}, ["failed calls"]),
        ({"began": -4.5}, [FIRST_CALL]),
        ({"began": -4.5, "first_call_within": None}, []),
        ({"outage": (5.0, 25.0)}, [THROUGHPUT]),
        ({"outage": (5.0, 25.0), "least_per_second": None}, []),
        ({"outage": None, "ended": 40.0}, ["calls per second"]),
        ({"arrivals": []}, ["Redis killed: calls", FIRST_CALL, THROUGHPUT]),
    ],
)
def test_every_failure_of_a_fleet_is_reported(change, expected):
    assert wrong(replace(GOOD_CALLS, **change)) == expected


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"delivered": {1: 2.0, 2: 3.0}}, ["RedisFleet: changes delivered"]),
        ({"delivered": {}}, ["RedisFleet: changes delivered", DELAY]),
        ({"delivered": {1: 2.0, 2: 3.1, 3: 14.0}}, [DELAY]),
        ({"delivered": {1: 2.0, 2: 3.1, 3: 14.0}, "most_delay": None}, []),
        ({"early_between": 3}, [EARLY]),
        ({"early_between": 3, "most_early": None}, []),
        (
            {"early_of_one": 1},
            ["before the permitted time that the same process had received", EARLY],
        ),
        ({"polls": 0, "early_between": 0}, ["polls"]),
    ],
)
def test_every_failure_of_polling_is_reported(change, expected):
    assert wrong(replace(GOOD_POLLS, **change)) == expected


@pytest.mark.parametrize(
    ("times", "most"),
    [([], 0), ([1.0], 1), ([3.0, 1.0, 2.0], 2), ([1.0, 2.0 + 1e-6], 1), ([1.0, 1.0, 1.5, 2.6], 3)],
)
def test_a_second_includes_both_of_its_ends(times, most):
    assert most_in_a_second(times) == most


@pytest.mark.parametrize(("shared", "expected"), [(True, []), (False, [RATE])])
def test_processes_without_a_shared_budget_exceed_the_rate(shared, expected):
    one = InMemoryFleet()
    service = ModelService(rate=1000)

    async def call(client: DirectClient) -> None:
        for _ in range(10):
            await client.check_access(sender=SENDER)

    async def call_from_eight_processes() -> None:
        async with AsyncExitStack() as opened:
            fleets = [one if shared else InMemoryFleet() for _ in range(8)]
            # Opening a client takes threads, and virtual time does not wait for threads.
            clients = [
                await opened.enter_async_context(process_of(service, fleet=fleet))
                for fleet in fleets
            ]
            await asyncio.gather(*map(call, clients))

    run(call_from_eight_processes)
    arrivals = [call.arrived_at for call in service.calls]
    ended = max(arrivals)
    evidence = replace(GOOD_CALLS, arrivals=arrivals, outage=None, ended=ended)
    assert wrong(evidence) == expected


def test_the_table_shows_what_is_wrong():
    rows = [
        Row(what="lost", counted=1, must_be=0),
        Row(what="kills", counted=3, must_be=1, at_least=True),
        Row(what="polls", counted=7),
        Row(what="calls per second", counted=8.249, must_be=8.0, at_least=True),
        Row(what="most arrivals", counted=11, must_be=10, at_most=True),
    ]
    title, *lines = rendered("workers", rows).splitlines()
    assert title.split() == ["workers", "counted", "must", "be", "ok?"]
    assert [line.split() for line in lines] == [
        ["lost", "1", "0", "NO"],
        ["kills", "3", "≥", "1", "yes"],
        ["polls", "7"],
        ["calls", "per", "second", "8.25", "≥", "8.00", "yes"],
        ["most", "arrivals", "11", "≤", "10", "NO"],
    ]
