"""The times in the headers of a response to a poll. Every text is read as a time or as None."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from posten_signering._values.secret import Secret
from posten_signering._wire import exchange

HEADERS = ("date", "x-next-permitted-poll-time")
NOW = "Tue, 24 Nov 2026 12:00:00 GMT"
RECEIVED = datetime(2026, 11, 24, 12, 0, 5, tzinfo=UTC)


def permitted_wait(headers: dict[str, str]) -> timedelta | None:
    """The wait after a response that the client received at `RECEIVED`."""
    response = exchange.Response(status=204, headers=headers, body=Secret(b""), received=RECEIVED)
    return exchange.permitted_wait(response)


def test_the_wait_is_the_difference_between_the_services_two_times():
    headers = {"date": NOW, HEADERS[1]: "2026-11-24T13:10:00.5+01:00"}
    assert permitted_wait(headers) == timedelta(minutes=10, seconds=0.5)
    assert exchange.service_time(headers) == datetime(2026, 11, 24, 12, tzinfo=UTC)
    assert permitted_wait({**headers, "date": "Tue, 24 Nov 2026 12:20:00 GMT"}) == timedelta(0)
    assert permitted_wait({"date": NOW}) is None
    assert exchange.service_time({"date": "Tue, 24 Nov 2026 12:00:00 -0000"}) == datetime(
        2026, 11, 24, 12, tzinfo=UTC
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2019-04-22T10:39:46.610+01:00", datetime(2019, 4, 22, 9, 39, 46, 610000, tzinfo=UTC)),
        ("2019-04-22T10:39:46.6101234Z", datetime(2019, 4, 22, 10, 39, 46, 610123, tzinfo=UTC)),
        (
            "2019-04-22T10:39:46.610123456+00:00",
            datetime(2019, 4, 22, 10, 39, 46, 610123, tzinfo=UTC),
        ),
        ("2019-04-22T10:39:46Z[Europe/Oslo]", datetime(2019, 4, 22, 10, 39, 46, tzinfo=UTC)),
        (" 2019-04-22T10:39Z ", datetime(2019, 4, 22, 10, 39, tzinfo=UTC)),
        ("2019-04-22T10:39:46", datetime(2019, 4, 22, 10, 39, 46, tzinfo=UTC)),
        (
            "2019-04-22T10:39:46.610123456+0100",
            datetime(2019, 4, 22, 9, 39, 46, 610123, tzinfo=UTC),
        ),
        ("2019-04-22T10:39:46+02:00[Europe/Oslo]", datetime(2019, 4, 22, 8, 39, 46, tzinfo=UTC)),
        ("2019-04-22T10:39:46+02:00 [Europe/Oslo] ", datetime(2019, 4, 22, 8, 39, 46, tzinfo=UTC)),
        ("2019-04-22t10:39:46z", datetime(2019, 4, 22, 10, 39, 46, tzinfo=UTC)),
        ("20190422T103946Z", datetime(2019, 4, 22, 10, 39, 46, tzinfo=UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("2019-04-22T10:39:46[Europe/Oslo]", None),
        ("2019-04-22T10:39:60Z", None),
        ("2019-04-22T10:39:46+25:00", None),
        ("10000-01-01T00:00:00Z", None),
        ("9999-12-31T23:59:59-00:01", None),
        ("0001-01-01T00:00:00+00:01", None),
        ("[", None),
        ("", None),
        ("soon", None),
        ("1555926000", None),
    ],
)
def test_a_permitted_time_in_a_known_format_is_read(text, expected):
    assert exchange.next_permitted_poll_time({HEADERS[1]: text}) == expected


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
def test_an_invalid_date_is_read_as_none_and_the_local_clock_is_used(date):
    """The standard library raises errors of several types for these texts."""
    assert exchange.service_time({"date": date}) is None
    headers = {"date": date, HEADERS[1]: "2026-11-24T12:30:00Z"}
    assert permitted_wait(headers) == timedelta(minutes=29, seconds=55)
    assert permitted_wait({**headers, HEADERS[1]: "2026-11-24T12:00:04Z"}) == timedelta(0)


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
@example("Fri, 02 Jan 0001 03:04:05 +2359", "9999-12-31T23:59:59Z")
@example("Fri, 31 Dec 9999 23:59:59 -2359", "0001-01-01T00:00:00Z")
@example("", "9999-12-31T24:00:00Z")
def test_headers_with_any_text_raise_no_error(date, permitted):
    headers = dict(zip(HEADERS, (date, permitted), strict=True))
    for read in (exchange.service_time, exchange.next_permitted_poll_time):
        time = read(headers)
        assert time is None or time.tzinfo is not None
    wait = permitted_wait(headers)
    assert wait is None or wait >= timedelta(0)
