"""Times in the service's messages (xs:dateTime), as aware datetimes."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from posten_signering._values.secret import Secret
from posten_signering._wire import messages


def since(attribute: str) -> datetime | None:
    """What is read of the attribute of a signer's status."""
    document = (
        '<direct-signature-job-status-response xmlns="http://signering.posten.no/schema/v1">'
        "<signature-job-id>7</signature-job-id><signature-job-status>IN_PROGRESS"
        f"</signature-job-status><status{attribute}>SIGNED</status>"
        "</direct-signature-job-status-response>"
    )
    read = messages.job_status_response(Secret(document.encode()))
    return read.signatures[0].since


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        (
            "2026-01-02T03:04:05.678+01:00",
            datetime(2026, 1, 2, 3, 4, 5, 678000, timezone(timedelta(hours=1))),
        ),
        ("2026-01-02T00:00:00Z", datetime(2026, 1, 2, tzinfo=UTC)),
        # The end of a day is the beginning of the next (XML Schema 1.0, part 2, 3.2.7).
        ("2026-01-01T24:00:00Z", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-12-31T24:00:00.000", datetime(2027, 1, 1, tzinfo=UTC)),
        ("2028-02-28T24:00:00-05:00", datetime(2028, 2, 29, tzinfo=timezone(-timedelta(hours=5)))),
    ],
)
def test_a_moment(text, expected) -> None:
    found = since(f' since="{text}"')
    assert found == expected
    assert found.utcoffset() == expected.utcoffset()


@pytest.mark.parametrize(
    "attribute",
    [
        "",
        ' since="yesterday"',
        ' since="20260-13-01T00:00:00Z"',
        ' since="20260-12-01T00:00:00Z"',
        ' since="2026-01-01T24:00:01Z"',
        ' since="2026-01-01T25:00:00Z"',
        ' since="9999-12-31T24:00:00Z"',
    ],
)
def test_what_is_missing_or_no_moment_is_none(attribute) -> None:
    assert since(attribute) is None
