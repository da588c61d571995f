"""What an answer outside 2xx means: error code first, HTTP status second. Pure.

The service's texts may quote what was sent: identity numbers, addresses and tokens in them are masked.
"""

import re
from datetime import timedelta
from urllib.parse import quote

from posten_signering._values.secret import Secret
from posten_signering._wire import messages
from posten_signering._wire.exchange import (
    Response,
    next_permitted_poll_time,
    permitted_wait,
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

# "Rate limiting" in the service's documentation: whoever exceeds it is blocked for 30 seconds. Its
# answers bear this header, and no poll time.
_RATE_LIMIT_HEADER = "dosfilter"
_RATE_LIMIT_BLOCK = timedelta(seconds=30)

_LONGEST_ANSWER = 2000

_IDENTITY_NUMBER = re.compile(r"\d{11}")
# What stands there may be a token, or lead a signer's browser to the signing.
_BEYOND_HOST = re.compile(r"(https?://[^\s/?#<>\"']*[/?#])[^\s<>\"']+", re.IGNORECASE)


def refusal(
    operation: str,
    response: Response,
    *,
    polling: bool = False,
    token: Secret[str] | None = None,
) -> ApiError:
    """The error for an answer outside 2xx.

    Args:
        operation: What was asked, in words that follow "refused to".
        response: The answer.
        polling: Whether a queue was polled, so that a 429 may mean "too early".
        token: The status query token that was sent.
    """
    error = messages.service_error(response.body)
    known = None if error is None else _BY_CODE.get(error.code)
    if response.status == 429 and known is None:
        return _too_many(operation, response, polling=polling)
    if error is not None:
        return (known or ApiError)(
            operation=operation,
            status=response.status,
            code=error.code,
            message=_masked(error.message, token),
            type=error.type,
            retry_after=_retry_after(response),
        )
    # Masked first: what is cut off in its middle would not be known any more.
    text = _masked(response.body.reveal().decode(errors="replace"), token)
    answer = text[:_LONGEST_ANSWER].strip()
    return ApiError(
        operation=operation,
        status=response.status,
        detail=_form(response, empty=not answer),
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
            wait=permitted_wait(headers),
        )
    else:
        block = _retry_after(response)
    return RateLimitedError(
        operation=operation, status=response.status, received=response.received, wait=block
    )


def _retry_after(response: Response) -> timedelta | None:
    """The header `Retry-After` in seconds; its other form, a date, is for browsers' caches."""
    seconds = response.headers.get("retry-after", "").strip()
    return timedelta(seconds=int(seconds)) if re.fullmatch("[0-9]{1,5}", seconds) else None


def _form(response: Response, *, empty: bool) -> str:
    if 300 <= response.status < 400:
        return "a redirect, which is never followed"
    if response.unreadable is not None:
        return "the answer is in a content encoding that was not asked for"
    if empty:
        return "the answer was empty"
    kind = response.headers.get("content-type", "").partition(";")[0].strip()
    return f"the answer was {kind or 'of no stated type'}, not an error document of the service"


def _masked(text: str, token: Secret[str] | None) -> str:
    if token is not None and token.reveal():
        for written in (token.reveal(), quote(token.reveal(), safe="")):
            text = text.replace(written, "***")
    return _IDENTITY_NUMBER.sub("*" * 11, _BEYOND_HOST.sub(r"\1***", text))
