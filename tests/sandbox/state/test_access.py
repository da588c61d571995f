"""Who may call, for whom and how often: pure decisions, with the time as an argument."""

from datetime import timedelta

import pytest
from bundles import NOW, SENDER, later
from hypothesis import given
from hypothesis import strategies as st

from posten_signering.sandbox._state.access import Access
from posten_signering.sandbox._values.refusal import Refusal
from posten_signering.sandbox._values.settings import RateLimit, Settings

OTHER = "111222333"
LIMIT = RateLimit(calls=10, period=timedelta(seconds=1), block=timedelta(seconds=30))


def access(**settings):
    return Access(Settings(**settings), {}, {})


def refused(call, *args) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        call(*args)
    return caught.value.status, caught.value.code


def test_the_sender_itself_may_call_and_a_broker_only_when_authorised():
    who = access()
    who.authorize(SENDER, SENDER)
    assert refused(who.authorize, OTHER, SENDER) == (403, "BROKER_NOT_AUTHORIZED")
    who.authorize_broker(OTHER, SENDER)
    who.authorize(OTHER, SENDER)
    # The permission is for one direction and one sender.
    assert refused(who.authorize, SENDER, OTHER) == (403, "BROKER_NOT_AUTHORIZED")
    assert refused(who.authorize, OTHER, "444555666") == (403, "BROKER_NOT_AUTHORIZED")


def test_organisations_without_an_agreement_have_no_access():
    who = access(organizations=frozenset({SENDER}))
    who.authorize(SENDER, SENDER)
    assert refused(who.authorize, OTHER, OTHER) == (403, "NOT_AUTHORIZED")
    assert refused(who.authorize, None, SENDER) == (403, "NOT_AUTHORIZED")


def test_the_rate_limit_counts_each_organisation_alone():
    who = access()
    assert [who.admit(SENDER, now=NOW) for _ in range(11)] == [True] * 10 + [False]
    assert who.admit(OTHER, now=NOW)
    unlimited = access(rate_limit=None)
    assert all(unlimited.admit(SENDER, now=NOW) for _ in range(100))


def test_ten_calls_a_second_are_answered_and_the_eleventh_blocks_for_thirty_seconds():
    who = access(rate_limit=LIMIT)
    assert all(who.admit(SENDER, now=NOW) for _ in range(10))
    assert not who.admit(SENDER, now=later(0.999))
    blocked_until = later(0.999) + timedelta(seconds=30)
    assert not who.admit(SENDER, now=blocked_until - timedelta(milliseconds=1))
    assert who.admit(SENDER, now=blocked_until)


def test_a_block_holds_also_where_there_is_no_limit():
    who = access(rate_limit=None)
    who.block(SENDER, until=later(30))
    assert not who.admit(SENDER, now=later(29.999))
    assert who.admit(SENDER, now=later(30))


def test_calls_count_for_one_second():
    who = access(rate_limit=LIMIT)
    assert all(who.admit(SENDER, now=later(0.1 * tenth)) for tenth in range(100))


@given(gaps=st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_no_second_ever_has_more_answered_calls_than_the_limit(gaps):
    who, now, answered_at = access(rate_limit=LIMIT), NOW, []
    for gap in gaps:
        now += timedelta(milliseconds=gap)
        if who.admit(SENDER, now=now):
            answered_at.append(now)
    for index, start in enumerate(answered_at):
        within = [time for time in answered_at[index:] if time < start + LIMIT.period]
        assert len(within) <= LIMIT.calls
