"""When a call may be made again, and how long to wait before. Pure: performs no I/O, reads no clock."""

from dataclasses import dataclass
from datetime import timedelta

from posten_signering._wire.operations import Retryable
from posten_signering.errors import (
    ApiError,
    ConfigurationError,
    SigningError,
    TlsError,
    TransportError,
)

# Of a gateway that could not reach the service, or a service that is about to come back.
_PASSING_STATUSES = frozenset({502, 503, 504})
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often a call that failed in passing is made again.

    Repeated are status, downloads, confirm, delete and new redirect URLs, after a lost or refused
    connection, a timeout, and HTTP 502, 503 and 504; `create` only when no connection stood. Never
    after a TLS failure or HTTP 429. Delays are random up to 0.25, 0.5, 1 … 4 seconds.

    Attributes:
        max_retries: For one call; 0 never repeats.
        budget: Repetitions that are left when nothing succeeds any more. Ten successes earn one
            back, up to this number: an outage is not multiplied.
        longest_retry_after: The longest `Retry-After` that is waited for; where the service asks for
            more, the call fails at once.
    """

    max_retries: int = 2
    budget: int = 10
    longest_retry_after: timedelta = timedelta(seconds=20)

    def __post_init__(self) -> None:
        if self.max_retries < 0 or self.budget < 0:
            raise ConfigurationError("Retries must not be negative.")


def may_retry(error: SigningError, retryable: Retryable) -> bool:
    """Whether the same call may succeed a moment later, and may be made again."""
    match error:
        case TlsError():
            return False
        case TransportError():
            return retryable is Retryable.ALWAYS or (
                retryable is Retryable.UNTIL_SENT and not error.request_may_have_left
            )
        case ApiError():
            return retryable is Retryable.ALWAYS and error.status in _PASSING_STATUSES
        case _:
            return False


def delay(error: SigningError, tried: int, random: float, retries: Retries) -> float | None:
    """Seconds before the next try; None when the service asks for more patience than there is.

    Args:
        error: What the last try ended with.
        tried: Tries that have been made, 1 at least.
        random: From 0 to 1: full jitter, so that many clients do not come back together.
        retries: How patient to be.
    """
    backoff = random * min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (tried - 1))
    asked = error.retry_after if isinstance(error, ApiError) else None
    if asked is None:
        return backoff
    return None if asked > retries.longest_retry_after else asked.total_seconds() + backoff


class RetryBudget:
    """What is left of a client's repetitions, over all of its calls."""

    def __init__(self, budget: int) -> None:
        self._budget = float(budget)
        self._left = float(budget)

    def succeeded(self) -> None:
        """A call succeeded: a tenth of a repetition is earned."""
        self._left = min(self._budget, self._left + 0.1)

    def take(self) -> bool:
        """Whether one more repetition is left; it is spent."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
