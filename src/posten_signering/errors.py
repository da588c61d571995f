"""Every error of this package, split by who is to blame.

Performs no I/O and imports nothing but the standard library.

    SigningError
    ├── you: mend the call, the job or the set-up
    │   ├── ConfigurationError              certificate, password, environment, trust anchors, proxy
    │   ├── ClientStateError                the client was not entered, or is closed
    │   ├── SenderNotSpecifiedError         neither the job, the call nor the client names a sender
    │   ├── InvalidJobError                 .violations; the job was not created
    │   │   └── DocumentChangedError        a document changed while it was being sent
    │   ├── UntrustedUrlError               a URL that is not the service's: not followed
    │   └── SignerNotFoundError             no such signer in this response
    ├── not there: the service offers no URL for it
    │   └── NotAvailableError
    │       ├── StatusQueryTokenMissingError  the address is not that of a signer who came back
    │       ├── StatusUrlMissingError       the job is polled, its status has no URL
    │       ├── SignedDocumentMissingError  nothing is signed yet
    │       └── DocumentsNotDeletableError  not deletable now
    ├── no answer: nobody, the network, or TLS
    │   └── TransportError
    │       ├── TransportTimeoutError
    │       ├── TlsError                    untrusted, or the client certificate was refused
    │       └── CreateOutcomeUnknownError   .reference .reason; the job may exist
    ├── the service said no
    │   └── ApiError                        .status .code .message .type
    │       ├── BrokerNotAuthorizedError
    │       ├── NotAuthorizedError
    │       ├── InvalidStatusQueryTokenError
    │       ├── SigningCeremonyNotCompletedError
    │       ├── TooEagerPollingError        .next_permitted_poll_time
    │       └── RateLimitedError            .blocked_until
    └── the service broke its contract
        └── UnexpectedResponseError

No error shows an identity number, a token, a URL, a password or the content of a document.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

__all__ = [
    "ApiError",
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
    """The base of every error of this package."""

    def __reduce__(self) -> tuple[object, ...]:
        # Constructors take facts and compose a message. A copy in another process gets the message and
        # the facts, without the constructor.
        return _without_constructor, (type(self), self.args), self.__dict__


def _without_constructor(kind: type[SigningError], args: tuple[object, ...]) -> SigningError:
    return kind.__new__(kind, *args)


# You: mend the call, the job or the set-up.


class ConfigurationError(SigningError):
    """The certificate, its password, the environment, the trust anchors or the proxy can't be used."""


class ClientStateError(SigningError):
    """The client was used before `async with` entered it, or after it was closed."""


class SenderNotSpecifiedError(SigningError):
    """Neither the job, the call nor the client's configuration names a sender; nothing was sent."""

    def __init__(self) -> None:
        super().__init__(
            "No sender: give the job (or the call) a `sender`, or the ClientConfiguration a default one."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """One rule that a job breaks.

    Attributes:
        path: Where, in public names: `signers[0].personal_identification_number`.
        rule: The rule in words. The offending value is never quoted.
    """

    path: str
    rule: str

    def __str__(self) -> str:
        return f"{self.path}: {self.rule}"


class InvalidJobError(SigningError):
    """The job breaks rules of the service. It was not created.

    Attributes:
        violations: Every rule that is broken.
    """

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        count = len(self.violations)
        heading = "The job breaks a rule" if count == 1 else f"The job breaks {count} rules"
        super().__init__(
            f"{heading}, and was not created:\n"
            + "\n".join(f"- {each}" for each in self.violations)
        )


class DocumentChangedError(InvalidJobError):
    """A document's content was another when it was sent than when it was signed.

    The request was broken off before its end, so the service holds no job. Create it again when
    nobody writes to the file any more.
    """


class UntrustedUrlError(SigningError):
    """A URL does not lead to the configured service, and was not followed.

    The client certificate is offered to nobody but the service (the origin of the environment's
    service root). The usual cause is a stored URL of another environment, or the redirect URL (for
    the signer's browser) in place of the signer URL.
    """


class SignerNotFoundError(SigningError):
    """The response holds no signer with that identifier, or not exactly one signer."""


# Not there: the service offers no URL for it.


class NotAvailableError(SigningError):
    """The response holds no URL for the operation; no request was sent."""


class StatusQueryTokenMissingError(NotAvailableError):
    """An address carries no `status_query_token`: no signer came back with it from the service."""


class StatusUrlMissingError(NotAvailableError):
    """The job has no status URL: it was created with `StatusRetrievalMethod.POLLING`."""


class SignedDocumentMissingError(NotAvailableError):
    """There is no PAdES for the job, or no XAdES for the signer, at present."""


class DocumentsNotDeletableError(NotAvailableError):
    """The documents can't be deleted now.

    The service offers deletion for a job that everyone has signed, 24 hours after its completion at
    the earliest ("Lagring", the service's documentation); get the status again later.
    """


# No answer: nobody, the network, or TLS.


class TransportError(SigningError):
    """No answer came from the service: the connection could not be made, or was lost.

    Attributes:
        request_may_have_left: False when it is certain that no byte of the request reached the
            service, as when no connection could be made.
    """

    def __init__(self, message: str, *, request_may_have_left: bool) -> None:
        self.request_may_have_left = request_may_have_left
        super().__init__(message)


class TransportTimeoutError(TransportError):
    """The service was silent for longer than the timeouts of the configuration allow."""


class TlsError(TransportError):
    """The service's certificate is not trusted, or the service refused the client certificate."""


class CreateOutcomeUnknownError(TransportError):
    """Whether the job was created is not known: the request was sent, but no clear answer came.

    Creating has no idempotency key, so it is never repeated by itself. If the job exists, it shows
    up under its reference in status changes (when polled); creating it again may make a second one.

    Attributes:
        reference: The job's reference, None when it had none.
        reason: What happened, in words.
        job_id: The job's id where an otherwise unreadable answer told it, else None.
    """

    def __init__(self, *, reference: str | None, reason: str, job_id: int | None = None) -> None:
        self.reference = reference
        self.reason = reason
        self.job_id = job_id
        named = "without a reference" if reference is None else f"with reference {reference!r}"
        known = "" if job_id is None else f" The service answered with job id {job_id}."
        super().__init__(
            f"It is not known whether the job {named} was created: {reason}.{known} "
            "Look for it before you create it again.",
            request_may_have_left=True,
        )


# The service said no.


class ApiError(SigningError):
    """The service refused the request.

    Attributes:
        status: The HTTP status.
        code: The service's `error-code`; None when the answer was not an error document.
        message: The service's `error-message`; None when the answer was not an error document.
        type: The service's `error-type`, such as CLIENT; None when the answer was not an error
            document.
        retry_after: For how long the service asks not to be called (`Retry-After`); None where it
            does not.
        answer: The beginning of an answer in another form than an error document (a gateway's page,
            say), for a support case. It is never part of the error's own text.
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
        self.status = status
        self.answer = answer
        self.retry_after = retry_after
        self.code = code
        self.message = message
        self.type = type
        said = f"The service refused the request to {operation}: HTTP {status}"
        if code is not None:
            said += f", {code}"
        if message:
            said += f": {message}"
        if detail:
            said += f" ({detail})"
        super().__init__(f"{said.rstrip('.')}.{' ' if self.advice else ''}{self.advice}")


class BrokerNotAuthorizedError(ApiError):
    """The certificate's organisation may not act for the sender (BROKER_NOT_AUTHORIZED)."""

    advice = (
        "The certificate belongs to another organisation than the sender: "
        "ask Posten signering to authorise it as broker, or use the sender's own number."
    )


class NotAuthorizedError(ApiError):
    """The certificate's organisation has no access to the service (NOT_AUTHORIZED)."""

    advice = "Check that the organisation has an agreement, in this environment."


class InvalidStatusQueryTokenError(ApiError):
    """The `status_query_token` does not belong to the job (INVALID_STATUS_QUERY_TOKEN)."""

    advice = "Take the token from the exit URL that the signer was sent to."


class SigningCeremonyNotCompletedError(ApiError):
    """The signer has not finished yet (SIGNING_CEREMONY_NOT_COMPLETED)."""

    advice = "Ask again when the signer has come to an exit URL."


class TooEagerPollingError(ApiError):
    """The queue was polled before the time that the service permits, or would have been.

    Attributes:
        next_permitted_poll_time: When the service permits the next poll, by its own clock; None when
            it did not say.
        wait: How long to wait from now on, reckoned by the service's own clock, so that it holds
            whatever the local clock shows; None when the service did not say.
        polled: False when this client knew that it was too early, and did not ask the service.
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
        self.next_permitted_poll_time = next_permitted_poll_time
        self.wait = wait
        self.polled = polled
        when = (
            "the service did not say when to poll next"
            if next_permitted_poll_time is None
            else f"the next poll is permitted at {next_permitted_poll_time.isoformat()}"
        )
        what = "polled too early" if polled else "it would be too early, and was not asked"
        super().__init__(operation=operation, status=status, detail=f"{what}; {when}")


class RateLimitedError(ApiError):
    """The organisation made more calls than the service allows (10 a second), and is blocked.

    Attributes:
        blocked_until: When the block ends, by the client's clock; None when the answer did not come
            from the service's own rate limit and did not say, so that its length is unknown.
        wait: How long the block lasts from the answer on; None when unknown.
    """

    def __init__(
        self, *, operation: str, status: int, received: datetime, wait: timedelta | None
    ) -> None:
        self.wait = wait
        self.blocked_until = None if wait is None else received + wait
        until = "" if wait is None else f"; blocked for {wait.total_seconds():.0f} seconds"
        super().__init__(operation=operation, status=status, detail=f"too many calls{until}")


# The service broke its contract.


class UnexpectedResponseError(SigningError):
    """The service's answer can't be understood: cut off, hostile, or without a required part.

    Attributes:
        next_permitted_poll_time: In the answer to a poll, when the service permits the next one, by its
            own clock; None elsewhere, and where it did not say.
        wait: How long to wait for that from the answer on, by the service's own clock.
    """

    def __init__(
        self,
        message: str,
        *,
        next_permitted_poll_time: datetime | None = None,
        wait: timedelta | None = None,
    ) -> None:
        self.next_permitted_poll_time = next_permitted_poll_time
        self.wait = wait
        super().__init__(message)
