"""The error for a response outside 2xx, by error code first and HTTP status second. Pure.

The service may quote the request. Identity numbers, URLs and the token in its texts are masked.
"""

import re
from datetime import timedelta
from urllib.parse import quote

from posten_signering._values.secret import Secret
from posten_signering._wire.exchange import (
    Response,
    http_date,
    next_permitted_poll_time,
    permitted_wait,
    service_time,
)
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    InvalidStatusQueryTokenError,
    NotAuthorizedError,
    RateLimitedError,
    SigningCeremonyNotCompletedError,
    TooEagerPollingError,
)

_BY_CODE = {
    "BROKER_NOT_AUTHORIZED": BrokerNotAuthorizedError,
    "NOT_AUTHORIZED": NotAuthorizedError,
    "INVALID_STATUS_QUERY_TOKEN": InvalidStatusQueryTokenError,
    "SIGNING_CEREMONY_NOT_COMPLETED": SigningCeremonyNotCompletedError,
}

# "Rate limiting" in the service's documentation: an organisation that exceeds the limit is blocked
# for 30 seconds. These responses have this header, and no next permitted poll time.
_RATE_LIMIT_HEADER = "dosfilter"
_RATE_LIMIT_BLOCK = timedelta(seconds=30)

_LONGEST_ANSWER = 2000
_LONGEST_CONTENT_TYPE = 100
_LONGEST_RETRY_AFTER = timedelta(seconds=99_999)

# Spaces, dots, slashes, hyphens and dashes, also as a part of a URL. No line ends.
_GAP = r"(?:[^\S\r\n]|[._/+\-\u2010-\u2015\u2212]|%20)"
# Six digits, or a date in three parts, and then five digits. A longer run of digits, such as the number of
# a request, is not an identity number. The digits of a percent escape do not belong to the run.
_IDENTITY_NUMBER = re.compile(
    r"(?:(?<!\d)|(?<=%[0-9A-Fa-f]{2}))"
    rf"(?:\d{{6}}|\d\d{_GAP}{{1,3}}\d\d{_GAP}{{1,3}}\d\d){_GAP}{{0,3}}\d{{5}}(?!\d)"
)
# The part of a URL after the host may contain a token, or be a signer's redirect URL.
_BEYOND_HOST = re.compile(r"(https?://[^\s/?#<>\"']*[/?#])[^\s<>\"']+", re.IGNORECASE)


def refusal(
    operation: str,
    response: Response,
    *,
    polling: bool = False,
    token: Secret[str] | None = None,
) -> ApiError:
    """The error for a response outside 2xx.

    Args:
        operation: What the caller wanted, in words that follow "refused the request to".
        response: The response.
        polling: Whether the request was a poll. Its 429 may mean "too early".
        token: The status query token in the request, if any.
    """
    from posten_signering._wire import messages  # noqa: PLC0415 - as in operations

    error = messages.service_error(response.body)
    known = None if error is None else _BY_CODE.get(error.code)
    if response.status == 429 and known is None:
        too_many = _too_many(operation, response, polling=polling)
        too_many.retry_after = _retry_after(response)
        return too_many
    if error is not None:
        return (known or ApiError)(
            operation=operation,
            status=response.status,
            code=error.code,
            message=_masked(error.message, token),
            type=error.type,
            retry_after=_retry_after(response),
        )
    # Mask before truncating: a secret that is cut in two would not be recognised.
    text = _masked(response.body.reveal().decode(errors="replace"), token)
    answer = text[:_LONGEST_ANSWER].strip()
    return ApiError(
        operation=operation,
        status=response.status,
        detail=_description(response, empty=not answer),
        answer=answer or None,
        retry_after=_retry_after(response),
    )


def _too_many(operation: str, response: Response, *, polling: bool) -> ApiError:
    headers = response.headers
    if _RATE_LIMIT_HEADER in headers:
        block: timedelta | None = max(
            _RATE_LIMIT_BLOCK, _retry_after(response) or _RATE_LIMIT_BLOCK
        )
    elif polling:
        return TooEagerPollingError(
            operation=operation,
            status=response.status,
            next_permitted_poll_time=next_permitted_poll_time(headers),
            wait=permitted_wait(response),
        )
    else:
        block = _retry_after(response)
    return RateLimitedError(
        operation=operation, status=response.status, received=response.received, wait=block
    )


def _retry_after(response: Response) -> timedelta | None:
    """The header `Retry-After`: seconds, or a date (RFC 9110, 10.2.3).

    A date is compared with the header `Date`, so a wrong local clock does not matter. Without that header
    it is compared with the local clock. The longest result is 99,999 seconds.
    """
    text = response.headers.get("retry-after", "").strip()
    if re.fullmatch("[0-9]+", text):
        wait = timedelta(seconds=int(text)) if len(text) <= 5 else _LONGEST_RETRY_AFTER
    else:
        until = http_date(text)
        if until is None:
            return None
        wait = until - (service_time(response.headers) or response.received)
    return min(max(wait, timedelta(0)), _LONGEST_RETRY_AFTER)


def _description(response: Response, *, empty: bool) -> str:
    if 300 <= response.status < 400:
        return "a redirect, which the client never follows"
    if response.unreadable is not None:
        reason = response.unreadable.rstrip(".")
        return reason[:1].lower() + reason[1:]
    if empty:
        return "the response was empty"
    content_type = response.headers.get("content-type", "")[:_LONGEST_CONTENT_TYPE]
    kind = content_type.partition(";")[0].strip()
    what = f"of type {kind}" if kind else "without a Content-Type"
    return f"the response was {what}, not an error document of the service"


def _masked(text: str, token: Secret[str] | None) -> str:
    if token is not None and token.reveal():
        for form in (token.reveal(), quote(token.reveal(), safe="")):
            text = text.replace(form, "***")
    return _IDENTITY_NUMBER.sub("*" * 11, _BEYOND_HOST.sub(r"\1***", text))
