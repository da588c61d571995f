"""Which organisation may call, for which sender and how often: decisions with the time as an argument."""

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


def access_with(**settings):
    return Access(Settings(**settings), {}, {})


def refused(call, *args) -> tuple[int, str]:
    with pytest.raises(Refusal) as caught:
        call(*args)
    return caught.value.status, caught.value.code


def test_a_sender_may_call_and_a_broker_only_when_authorised():
    access = access_with()
    access.authorize(SENDER, SENDER)
    assert refused(access.authorize, OTHER, SENDER) == (403, "BROKER_NOT_AUTHORIZED")
    access.authorize_broker(OTHER, SENDER)
    access.authorize(OTHER, SENDER)
    # The permission has one direction and is for one sender.
    assert refused(access.authorize, SENDER, OTHER) == (403, "BROKER_NOT_AUTHORIZED")
    assert refused(access.authorize, OTHER, "444555666") == (403, "BROKER_NOT_AUTHORIZED")


def test_organisations_that_the_setting_does_not_list_have_no_access():
    access = access_with(organizations=frozenset({SENDER}))
    access.authorize(SENDER, SENDER)
    assert refused(access.authorize, OTHER, OTHER) == (403, "NOT_AUTHORIZED")
    assert refused(access.authorize, None, SENDER) == (403, "NOT_AUTHORIZED")


def test_the_rate_limit_counts_each_organisation_separately():
    access = access_with()
    assert [access.admit(SENDER, now=NOW) for _ in range(11)] == [True] * 10 + [False]
    assert access.admit(OTHER, now=NOW)
    unlimited = access_with(rate_limit=None)
    assert all(unlimited.admit(SENDER, now=NOW) for _ in range(100))


def test_the_eleventh_call_in_a_second_blocks_the_organisation_for_thirty_seconds():
    access = access_with(rate_limit=LIMIT)
    assert all(access.admit(SENDER, now=NOW) for _ in range(10))
    assert not access.admit(SENDER, now=later(0.999))
    blocked_until = later(0.999) + timedelta(seconds=30)
    assert not access.admit(SENDER, now=blocked_until - timedelta(milliseconds=1))
    assert access.admit(SENDER, now=blocked_until)


def test_a_block_also_works_without_a_rate_limit():
    access = access_with(rate_limit=None)
    access.block(SENDER, until=later(30))
    assert not access.admit(SENDER, now=later(29.999))
    assert access.admit(SENDER, now=later(30))


def test_calls_count_for_one_second():
    access = access_with(rate_limit=LIMIT)
    assert all(access.admit(SENDER, now=later(0.1 * tenth)) for tenth in range(100))


@given(gaps=st.lists(st.integers(0, 400), min_size=1, max_size=60))
def test_no_second_has_more_answered_calls_than_the_limit(gaps):
    access, now, answered_at = access_with(rate_limit=LIMIT), NOW, []
    for gap in gaps:
        now += timedelta(milliseconds=gap)
        if access.admit(SENDER, now=now):
            answered_at.append(now)
    for index, start in enumerate(answered_at):
        within = [time for time in answered_at[index:] if time < start + LIMIT.period]
        assert len(within) <= LIMIT.calls
