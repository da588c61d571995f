"""Which failed calls may be retried, and after what delay. Pure: performs no I/O, reads no clock."""

from dataclasses import dataclass
from datetime import timedelta

from posten_signering._values.arguments import require
from posten_signering._values.secret import Secret
from posten_signering._wire.operations import Retryable
from posten_signering.errors import (
    ApiError,
    BrokerNotAuthorizedError,
    ConfigurationError,
    NotAuthorizedError,
    RateLimitedError,
    SigningError,
    TlsError,
    TransportError,
    UnexpectedResponseError,
)

# A gateway did not reach the service, or the service is unavailable for a short time.
_TRANSIENT_STATUSES = frozenset({502, 503, 504})
_FIRST_DELAY = 0.25
_LONGEST_DELAY = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retries:
    """How often the client retries a call after a transient failure.

    The client retries `get_status`, downloads, `confirm`, `delete_documents`, `check_access` and
    `request_new_redirect_url` after a lost or refused connection, a timeout, and HTTP 502, 503 and
    504. It retries `create` only if no byte of the request can have reached the service. It never
    retries a poll, nor after a TLS failure or HTTP 429. Delays are random, at most 0.25, 0.5, 1, 2 and
    then 4 seconds.

    Attributes:
        max_retries: The most retries of one call. With 0 nothing is retried.
        budget: The most retries of all calls together while no call succeeds. Each successful call
            earns a tenth of a retry back, up to this number. So retries do not multiply the load on
            the service during an outage.
        longest_retry_after: The longest `Retry-After` that the client waits for. When the service
            asks for more, the call fails without a retry.

    Raises:
        ConfigurationError: `max_retries` or `budget` is negative.
        ArgumentTypeError: `max_retries` or `budget` is not a whole number, or `longest_retry_after` is not
            a timedelta.
    """

    max_retries: int = 2
    budget: int = 10
    longest_retry_after: timedelta = timedelta(seconds=20)

    def __post_init__(self) -> None:
        for name in ("max_retries", "budget"):
            value = getattr(self, name)
            require(f"Retries.{name}", Secret(value), "a whole number", int)
            if value < 0:
                raise ConfigurationError(f"Retries.{name} is {value}: it must be 0 or more.")
        require(
            "Retries.longest_retry_after",
            Secret(self.longest_retry_after),
            "a timedelta",
            timedelta,
        )


def may_retry(error: SigningError, retryable: Retryable) -> bool:
    """Whether the failure is transient and the operation may be sent again after it."""
    match error:
        case TlsError():
            # It seldom ends within the seconds that the retries of a call take. Without retries, a
            # developer whose certificates are wrong sees the error at once.
            return False
        case TransportError():
            return retryable is Retryable.ALWAYS or (
                retryable is Retryable.UNTIL_SENT and not error.request_may_have_left
            )
        case ApiError():
            return retryable is Retryable.ALWAYS and error.status in _TRANSIENT_STATUSES
        case _:
            return False


def is_transient(error: SigningError) -> bool:
    """Whether a failure may end by itself, so that a caller who can wait should send the call again later.

    A refusal without an error document does not come from the service, but from a proxy or a gateway,
    for example while the service is being replaced.
    """
    match error:
        case TlsError():
            return not error.certificate_refused
        case TransportError() | RateLimitedError() | UnexpectedResponseError():
            return True
        case BrokerNotAuthorizedError() | NotAuthorizedError():
            return False
        case ApiError():
            return (
                error.status >= 500
                or error.status == 408
                or (error.code is None and _may_be_of_a_gateway(error.status))
            )
        case _:
            return False


def _may_be_of_a_gateway(status: int) -> bool:
    return status in {401, 403, 404} or 300 <= status < 400


def may_have_reached(error: SigningError) -> bool:
    """Whether the failed attempt may have reached the service, so that it may have had an effect."""
    return not isinstance(error, TransportError) or error.request_may_have_left


def delay(error: SigningError, attempts: int, random: float, retries: Retries) -> float | None:
    """Seconds before the next attempt; None when Retry-After is longer than `longest_retry_after`.

    Args:
        error: How the last attempt failed.
        attempts: How many attempts have been made, at least 1.
        random: From 0 to 1, for full jitter.
        retries: The settings for retries.
    """
    backoff = random * min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** (attempts - 1))
    retry_after = error.retry_after if isinstance(error, ApiError) else None
    if retry_after is None:
        return backoff
    if retry_after > retries.longest_retry_after:
        return None
    return retry_after.total_seconds() + backoff


class RetryBudget:
    """The number of retries that a client has left, over all its calls."""

    def __init__(self, budget: int) -> None:
        self._budget = float(budget)
        self._left = float(budget)

    def succeeded(self) -> None:
        """Adds a tenth of a retry for a call that succeeded."""
        self._left = min(self._budget, self._left + 0.1)

    def take(self) -> bool:
        """Takes one retry from the budget; False when none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True
