"""Every error of this package, grouped by what went wrong and who can fix it.

This module performs no I/O and imports only the standard library.

    SigningError
    ├── you: fix the call, the job or the configuration
    │   ├── ConfigurationError              certificate, password, environment, trust anchors, proxy
    │   ├── ArgumentTypeError               also a TypeError: an argument has a wrong type
    │   ├── ClientStateError                the client is not open, or belongs to a different event loop
    │   ├── SenderNotSpecifiedError         the job, the call and the configuration name no sender
    │   ├── InvalidJobError                 .violations; the job was not created
    │   │   └── DocumentChangedError        a document changed while it was being sent
    │   ├── UntrustedUrlError               a URL that is not the service's; nothing was sent
    │   └── SignerNotFoundError             the response has no signer with this identifier
    ├── not available: the service offers no URL for the operation
    │   └── NotAvailableError
    │       ├── StatusQueryTokenMissingError  the exit URL has no status_query_token
    │       ├── StatusUrlMissingError       the job is polled, so it has no status URL
    │       ├── SignedDocumentMissingError  the document is not signed yet
    │       └── DocumentsNotDeletableError  the documents can't be deleted now
    ├── no response: the network or TLS failed
    │   └── TransportError                  .request_may_have_left
    │       ├── TransportTimeoutError
    │       ├── TlsError                    .certificate_refused; TLS failed, or a certificate was refused
    │       └── CreateOutcomeUnknownError   .reference .reason .job_id; the job may exist
    ├── the service refused the request
    │   └── ApiError                        .status .code .message .type
    │       ├── BrokerNotAuthorizedError
    │       ├── NotAuthorizedError
    │       ├── InvalidStatusQueryTokenError
    │       ├── SigningCeremonyNotCompletedError
    │       ├── TooEagerPollingError        .next_permitted_poll_time .wait .polled
    │       └── RateLimitedError            .blocked_until .wait
    └── the service broke its contract
        └── UnexpectedResponseError         .job_id

No error message contains an identity number, a token, a password, a URL that may carry one of
them, or the content of a document.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = [
    "ApiError",
    "ArgumentTypeError",
    "BrokerNotAuthorizedError",
    "ClientStateError",
    "ConfigurationError",
    "CreateOutcomeUnknownError",
    "DocumentChangedError",
    "DocumentsNotDeletableError",
    "InvalidJobError",
    "InvalidStatusQueryTokenError",
    "NotAuthorizedError",
    "NotAvailableError",
    "RateLimitedError",
    "SenderNotSpecifiedError",
    "SignedDocumentMissingError",
    "SignerNotFoundError",
    "SigningCeremonyNotCompletedError",
    "SigningError",
    "StatusQueryTokenMissingError",
    "StatusUrlMissingError",
    "TlsError",
    "TooEagerPollingError",
    "TransportError",
    "TransportTimeoutError",
    "UnexpectedResponseError",
    "UntrustedUrlError",
    "Violation",
]


class SigningError(Exception):
    """The base class of every error of this package."""

    def __reduce__(self) -> tuple[object, ...]:
        # Each constructor builds the message from its arguments. Unpickling must not call it again:
        # the copy gets the finished message and the attributes instead.
        return _without_constructor, (type(self), self.args), self.__dict__


def _without_constructor(kind: type[SigningError], args: tuple[object, ...]) -> SigningError:
    return kind.__new__(kind, *args)


# You: fix the call, the job or the configuration.


class ConfigurationError(SigningError):
    """A setting can't be used: certificate, password, environment, trust anchors, proxy or option."""


class ArgumentTypeError(SigningError, TypeError):
    """An argument has a wrong type, such as a response that is not the one that a method needs.

    Nothing was sent. The message never quotes the argument.
    """

    def __init__(self, argument: str, *, expected: str, found: type) -> None:
        super().__init__(f"The argument {argument} must be {expected}, not {found.__name__}.")


class ClientStateError(SigningError):
    """The client is not open, or the call does not come from the event loop that the client belongs to.

    A client belongs to the event loop, the thread and the process that entered it: its connections and
    locks work only there. A call from elsewhere sends nothing. Also raised when an open client is
    entered again, and when a `StatusChangeWorker` runs twice.
    """


class SenderNotSpecifiedError(SigningError):
    """The job, the call and the client's configuration name no sender; nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            "No sender is set. Pass `sender` in the job or in the call, or set a default: "
            "`ClientConfiguration.sender`, or the variable POSTEN_SIGNERING_ORGANIZATION_NUMBER."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that a job breaks.

    Attributes:
        path: The field of the job, such as `signers[0].personal_identification_number`.
        rule: The rule in words. It never quotes the invalid value.
    """

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}"


class InvalidJobError(SigningError):
    """The job breaks rules of the service, so it was not created.

    Attributes:
        violations: All rules that the job breaks.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations: tuple[Violation, ...] = tuple(violations)
        count = len(self.violations)
        heading = "The job breaks a rule" if count == 1 else f"The job breaks {count} rules"
        super().__init__(
            f"{heading}, and was not created:\n"
            + "\n".join(f"- {violation}" for violation in self.violations)
        )


class DocumentChangedError(InvalidJobError):
    """A document's file changed, or disappeared, between signing and sending.

    No complete request was sent, so the job was not created. Create it again when no program writes to
    the file.
    """


class UntrustedUrlError(SigningError):
    """A URL does not belong to the configured service, so nothing was sent to it.

    The client presents its certificate only to the origin of the environment's service root. Usual
    causes: the URL was stored in a different environment, or it is the redirect URL (for the
    signer's browser) instead of the signer URL.
    """


class SignerNotFoundError(SigningError):
    """The response has no signer with this identifier, or `single_signer` found none or several."""


# Not available: the service offers no URL for the operation.


class NotAvailableError(SigningError):
    """The response has no URL for the operation, so no request was sent."""


class StatusQueryTokenMissingError(NotAvailableError):
    """The URL has no `status_query_token`, so it is not one that the service redirected a signer to."""


class StatusUrlMissingError(NotAvailableError):
    """The job has no status URL, because it was created with `StatusRetrievalMethod.POLLING`."""


class SignedDocumentMissingError(NotAvailableError):
    """The response has no URL for the PAdES or the XAdES. They exist only after signing."""


class DocumentsNotDeletableError(NotAvailableError):
    """The documents can't be deleted now.

    The service permits deletion when everyone has signed, and at the earliest 24 hours after the job
    was completed ("Lagring" in the service's documentation). Get the status again later.
    """


# No response: the network or TLS failed.


class TransportError(SigningError):
    """No complete response came: the connection to the service could not be made, or was lost.

    Attributes:
        request_may_have_left: False when no byte of the request can have reached the service, for
            example because no connection could be made.
    """

    def __init__(self, message: str, *, request_may_have_left: bool) -> None:
        self.request_may_have_left: bool = request_may_have_left
        super().__init__(message)


class TransportTimeoutError(TransportError):
    """The service or the proxy did not react within a timeout of `ClientConfiguration.timeouts`."""


class TlsError(TransportError):
    """The client does not trust the service's certificate, the service refused the client's, or TLS failed.

    Attributes:
        certificate_refused: True if the service refused the client's certificate with a TLS alert
            (RFC 8446, 6.2). Then the certificate must be replaced. False for every other failure, such
            as a server certificate that is not trusted, or a server that does not speak TLS. That
            failure may end by itself, so iterators and workers continue to poll.
    """

    def __init__(
        self, message: str, *, request_may_have_left: bool, certificate_refused: bool = False
    ) -> None:
        self.certificate_refused: bool = certificate_refused
        super().__init__(message, request_may_have_left=request_may_have_left)


class CreateOutcomeUnknownError(TransportError):
    """The job may exist: its request was sent, but no clear response came.

    A create is retried only as long as no byte of its request can have left. After that the client does
    not retry, because the service has no idempotency key: a second request may create a second job. If the
    job exists and is polled, a later status change has its reference.

    Attributes:
        reference: The job's reference; None when it has none.
        reason: What happened, in words.
        job_id: The job's id, if it could be read from an otherwise unreadable response; else None.
    """

    def __init__(self, *, reference: str | None, reason: str, job_id: int | None = None) -> None:
        self.reference: str | None = reference
        self.reason: str = reason
        self.job_id: int | None = job_id
        job = "without a reference" if reference is None else f"with reference {reference!r}"
        created = "" if job_id is None else f" The response names job id {job_id}."
        super().__init__(
            f"It is not known whether the job {job} was created: {reason}.{created} "
            "The job may exist, so do not retry automatically.",
            request_may_have_left=True,
        )


# The service refused the request.


class ApiError(SigningError):
    """The service refused the request, with an HTTP status outside 2xx.

    Attributes:
        status: The HTTP status. 0 when the client sent nothing, which only happens in a
            `TooEagerPollingError` whose `polled` is False.
        code: The `error-code` of the service's error document; None when there was no document.
        message: Its `error-message`; None when there was no document.
        type: Its `error-type`, such as CLIENT; None when there was no document.
        retry_after: How long the service asks the client to wait (header `Retry-After`); None when
            the header is missing.
        answer: The first 2000 characters of a body that is not an error document, such as a gateway's
            HTML page. Use it in support cases. The error's message never contains it.
        next_permitted_poll_time: When the service permits the next poll, by the service's clock, in UTC.
            None when the request was not a poll, or the service sent no such time.
        poll_wait: How long to wait until then, counted from the response and measured as
            `StatusPoll.wait`; None when there is no such time.
    """

    advice = ""

    def __init__(
        self,
        *,
        operation: str,
        status: int,
        code: str | None = None,
        message: str | None = None,
        type: str | None = None,  # noqa: A002 - the service's own name for it (element error-type)
        detail: str | None = None,
        answer: str | None = None,
        retry_after: timedelta | None = None,
    ) -> None:
        self.status: int = status
        self.answer: str | None = answer
        self.retry_after: timedelta | None = retry_after
        self.next_permitted_poll_time: datetime | None = None
        self.poll_wait: timedelta | None = None
        self.code: str | None = code
        self.message: str | None = message
        self.type: str | None = type
        refusal = f"The service refused the request to {operation}: HTTP {status}"
        if code is not None:
            refusal += f", {code}"
        if message:
            refusal += f": {message}"
        if detail:
            refusal += f" ({detail})"
        super().__init__(f"{refusal.rstrip('.')}.{' ' if self.advice else ''}{self.advice}")


class BrokerNotAuthorizedError(ApiError):
    """The certificate's organisation may not act for the sender (BROKER_NOT_AUTHORIZED)."""

    advice = (
        "The organisation of the certificate is not the sender: ask Posten signering to authorise "
        "it as broker, or use the sender's own certificate."
    )


class NotAuthorizedError(ApiError):
    """The certificate's organisation has no access to the service (NOT_AUTHORIZED)."""

    advice = (
        "Check that the organisation has an agreement with Posten signering for this environment."
    )


class InvalidStatusQueryTokenError(ApiError):
    """The `status_query_token` does not belong to the job (INVALID_STATUS_QUERY_TOKEN)."""

    advice = "Use the token from the exit URL that the service redirected the signer to."


class SigningCeremonyNotCompletedError(ApiError):
    """The signer has not finished yet (SIGNING_CEREMONY_NOT_COMPLETED)."""

    advice = "Ask for the status again after the service has redirected the signer to an exit URL."


class TooEagerPollingError(ApiError):
    """The poll was too early: the service refused it, or the client did not send it.

    Attributes:
        status: The HTTP status of the refusal, 429. 0 when the client sent nothing.
        next_permitted_poll_time: When the service permits the next poll, by the service's clock, in UTC.
            None when the service did not send it, or the client waits for a different reason: the last
            response to a poll was lost, or its time was not in the future.
        wait: How long to wait before the next poll, counted from the response, or from now when the
            client sent nothing. It is measured by the service's clock, so a wrong local clock does not
            matter. Only if the response has no readable `Date` is it measured by the local clock. None
            when unknown. The client waits at most 24 hours.
        polled: False when the client sent no request, because it knew that the poll was too early.
    """

    def __init__(
        self,
        *,
        operation: str,
        status: int = 429,
        next_permitted_poll_time: datetime | None,
        wait: timedelta | None,
        polled: bool = True,
    ) -> None:
        when = (
            "the service did not say when to poll next"
            if next_permitted_poll_time is None
            else f"the next poll is permitted at {next_permitted_poll_time.isoformat()}"
        )
        super().__init__(
            operation=operation,
            status=status if polled else 0,
            detail=f"polled too early; {when}",
        )
        self.next_permitted_poll_time: datetime | None = next_permitted_poll_time
        self.wait: timedelta | None = wait
        self.poll_wait: timedelta | None = wait
        self.polled: bool = polled
        if not polled:
            message = "The client did not send this poll, because it is too early."
            if wait is not None:
                message += f" Poll again in {math.ceil(wait.total_seconds())} seconds."
            if next_permitted_poll_time is not None:
                message += (
                    f" The service permits the next poll at {next_permitted_poll_time.isoformat()}."
                )
            self.args: tuple[object, ...] = (message,)


class RateLimitedError(ApiError):
    """The service or a gateway refused a call because there were too many (HTTP 429).

    The service allows 10 calls per second for each organisation. It blocks an organisation that calls
    more often.

    Attributes:
        blocked_until: When the block ends, by the client's clock. None when unknown: the response did
            not come from the service's own rate limit and has no `Retry-After`.
        wait: How long the block lasts, counted from the response; None when unknown.
    """

    def __init__(
        self, *, operation: str, status: int, received: datetime, wait: timedelta | None
    ) -> None:
        self.wait: timedelta | None = wait
        self.blocked_until: datetime | None = None if wait is None else received + wait
        detail = "too many calls"
        if wait is not None:
            detail += f"; wait {wait.total_seconds():.0f} seconds before the next call"
        super().__init__(operation=operation, status=status, detail=detail)


# The service broke its contract.


class UnexpectedResponseError(SigningError):
    """The response can't be understood: it is truncated, hostile, contradicts itself, or lacks a required part.

    Attributes:
        job_id: The id of the job that the response is about; None if it names none, or none that can be
            read.
        next_permitted_poll_time: When the service permits the next poll, by the service's clock, in UTC.
            None when the request was not a poll, or the response has no such time.
        wait: How long to wait until then, counted from the response; None when there is no such time. It
            is measured by the service's clock or, if the response has no readable `Date`, by the local
            clock.
    """

    def __init__(
        self,
        message: str,
        *,
        job_id: int | None = None,
        next_permitted_poll_time: datetime | None = None,
        wait: timedelta | None = None,
    ) -> None:
        self.job_id: int | None = job_id
        self.next_permitted_poll_time: datetime | None = next_permitted_poll_time
        self.wait: timedelta | None = wait
        super().__init__(message)
