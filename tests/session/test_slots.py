"""The fixed slots of clients while Redis is away."""

import pytest
from budget import most_in_a_second
from hypothesis import given
from hypothesis import strategies as st

from posten_signering._session.slots import RATE, Slots


def calls(slots: Slots, until: float, *, clock_error: float = 0.0) -> list[float]:
    """When a client makes its calls, if it makes as many as it may."""
    now, moments = 0.0, []
    while now < until:
        wait = slots.take("budget", now + clock_error)
        if wait is None:
            moments.append(now)
        now += max(wait or 0, 0.001)
    return moments


@pytest.mark.parametrize(("share", "most"), [(1, 8), (0.5, 5), (0.2, 2), (0.1, 1)])
@given(members=st.integers(1, 30), data=st.data())
def test_no_second_has_too_many_calls_of_all_members(share, most, members, data):
    error = st.floats(-0.05, 0.05)
    moments = [
        moment
        for rank in range(members)
        for moment in calls(
            Slots(rate=RATE * share, rank=rank, members=members),
            until=5,
            clock_error=data.draw(error),
        )
    ]
    assert most_in_a_second(sorted(moments)) <= most <= 10 * share


@pytest.mark.parametrize("members", [1, 2, 20])
def test_the_members_together_use_the_whole_rate(members):
    moments = [
        moment
        for rank in range(members)
        for moment in calls(Slots(rate=RATE, rank=rank, members=members), until=60)
    ]
    assert len(moments) == pytest.approx(60 * RATE, rel=0.02)


def test_a_client_that_misses_its_slot_waits_for_the_next_one():
    slots = Slots(rate=RATE, rank=0, members=6)
    assert slots.take("budget", 100.16) is None
    assert slots.take("budget", 101.17) == pytest.approx(0.83)


def test_each_budget_has_its_own_slots():
    slots = Slots(rate=RATE, rank=0, members=6)
    assert [slots.take(budget, 100.0) for budget in ("one", "other", "one")] == [None, None, 1.0]
