"""The times in the headers of an answer to a poll: whatever they hold, a time or nothing comes of it."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posten_signering._wire import poll_time

HEADERS = ("date", poll_time.NEXT_PERMITTED_POLL_TIME)
NOW = "Tue, 24 Nov 2026 12:00:00 GMT"


def test_the_wait_is_between_the_services_own_two_times():
    headers = {"date": NOW, HEADERS[1]: "2026-11-24T13:10:00.5+01:00"}
    assert poll_time.wait(headers) == timedelta(minutes=10, seconds=0.5)
    assert poll_time.service_time(headers) == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert poll_time.wait({**headers, "date": "Tue, 24 Nov 2026 12:20:00 GMT"}) == timedelta(0)


@pytest.mark.parametrize(
    "date",
    [
        "",
        "soon",
        "Fri, 02 Jan 99999999999 03:04:05 GMT",
        "Fri, 02 Jan 2026 99:04:05 GMT",
        "Fri, 02 Jan 2026 03:04:05 +99999999999",
    ],
)
def test_a_date_that_is_none_is_nothing(date):
    """The standard library raises errors of several types for these."""
    assert poll_time.service_time({"date": date}) is None
    assert poll_time.wait({"date": date, HEADERS[1]: "2026-11-24T13:10:00Z"}) is None


DIGITS = st.integers(0, 10**12).map(str)


@given(
    date=st.one_of(
        st.text(),
        st.builds("{} Jan {} {}:{}:{} {}".format, *[DIGITS] * 6),
        st.builds("Fri, {} Jan {} 03:04:05 {}".format, *[DIGITS] * 3),
    ),
    permitted=st.one_of(
        st.text(),
        st.datetimes(timezones=st.timezones()).map(datetime.isoformat),
        st.builds("{}-01-02T03:04:05+{}:00".format, DIGITS, DIGITS),
    ),
)
@example("Fri, 02 Jan 0001 03:04:05 +2359", "9999-12-31T23:59:59-23:59")
def test_whatever_the_headers_hold(date, permitted):
    headers = dict(zip(HEADERS, (date, permitted), strict=True))
    for read in (poll_time.service_time, poll_time.next_permitted_poll_time):
        time = read(headers)
        assert time is None or time.tzinfo is not None
    wait = poll_time.wait(headers)
    assert wait is None or wait >= timedelta(0)
