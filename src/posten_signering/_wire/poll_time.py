"""When the service permits the next poll, by its own clock. Pure.

What can't be read is None: the caller then waits the documented default.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

NEXT_PERMITTED_POLL_TIME = "x-next-permitted-poll-time"


def next_permitted_poll_time(headers: Mapping[str, str]) -> datetime | None:
    """The header `X-Next-permitted-poll-time`: ISO 8601, at times with a `[Region]` behind it."""
    text = re.sub(r"\[.*\]\s*$", "", headers.get(NEXT_PERMITTED_POLL_TIME, "")).strip()
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def service_time(headers: Mapping[str, str]) -> datetime | None:
    """The header `Date`: the service's clock when it answered, cut off to whole seconds."""
    try:
        time = parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, OverflowError):
        return None
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def wait(headers: Mapping[str, str]) -> timedelta | None:
    """From the answer to the next permitted poll, measured on the service's clock alone.

    `Date` is cut off to whole seconds, so this is up to a second too long and never too short.
    """
    permitted, now = next_permitted_poll_time(headers), service_time(headers)
    if permitted is None or now is None:
        return None
    return max(permitted - now, timedelta(0))
