"""The exit statuses of the command, and which error has which."""

from enum import IntEnum

from posten_signering.errors import (
    ApiError,
    ArgumentTypeError,
    ConfigurationError,
    CreateOutcomeUnknownError,
    InvalidJobError,
    NotAvailableError,
    SenderNotSpecifiedError,
    SigningCeremonyNotCompletedError,
    SigningError,
    TooEagerPollingError,
    TransportError,
    UnexpectedResponseError,
    UntrustedUrlError,
)


class ExitStatus(IntEnum):
    """The exit status of the command."""

    SUCCESS = 0
    """The command did what it was asked to do."""

    FAILURE = 1
    """A check failed, or an error that has no other status."""

    WRONG_INPUT = 2
    """The arguments, the configuration or the job can't be used. Nothing was sent."""

    NOT_AVAILABLE = 3
    """What was asked for does not exist, or not yet, such as a status change in an empty queue."""

    NO_RESPONSE = 4
    """No complete response came from the service."""

    REFUSED = 5
    """The service refused the request."""

    UNEXPECTED_RESPONSE = 6
    """The response of the service can't be read."""

    OUTCOME_UNKNOWN = 7
    """The job may have been created. Look for it before you create it again."""

    INTERRUPTED = 130
    """Ctrl-C or SIGTERM stopped the command."""

    OUTPUT_CLOSED = 141
    """The reader of the output closed it, such as `| head -1`."""


# The first row that matches counts.
_STATUSES: tuple[tuple[type[SigningError], ExitStatus], ...] = (
    (CreateOutcomeUnknownError, ExitStatus.OUTCOME_UNKNOWN),
    (ArgumentTypeError, ExitStatus.WRONG_INPUT),
    (ConfigurationError, ExitStatus.WRONG_INPUT),
    (InvalidJobError, ExitStatus.WRONG_INPUT),
    (SenderNotSpecifiedError, ExitStatus.WRONG_INPUT),
    (UntrustedUrlError, ExitStatus.WRONG_INPUT),
    (NotAvailableError, ExitStatus.NOT_AVAILABLE),
    (SigningCeremonyNotCompletedError, ExitStatus.NOT_AVAILABLE),
    (TooEagerPollingError, ExitStatus.NOT_AVAILABLE),
    (ApiError, ExitStatus.REFUSED),
    (TransportError, ExitStatus.NO_RESPONSE),
    (UnexpectedResponseError, ExitStatus.UNEXPECTED_RESPONSE),
)


def status_of(error: SigningError) -> ExitStatus:
    """The exit status for an error."""
    for kind, status in _STATUSES:
        if isinstance(error, kind):
            return status
    return ExitStatus.FAILURE
