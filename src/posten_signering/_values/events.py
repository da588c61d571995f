"""The events that observers receive, and the type of an observer. Frozen values, no I/O.

No event holds a URL, an identity number, a reference, a document, or the text of an error.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that a client or a worker did. Every other event is a subclass."""


class Observer(Protocol):
    """Receives the events of a client and its workers. Any function with one argument is an observer.

    Set observers as `ClientConfiguration(observers=[...])`. The client calls them in the given order,
    in its event loop, so an observer must not block and must not be async. If an observer raises, the
    client logs the error, and nothing else changes.
    """

    def __call__(self, event: Event, /) -> None:
        """Receives an event."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEnded(Event):
    """One attempt of a call ended: with a response, a failure, or a cancellation.

    Attributes:
        operation: What the service was asked to do, such as "create the signature job".
        organization_number: The organisation whose rate limit the call counts against.
        attempt: 1 for the first attempt, 2 for the first retry.
        duration: From the moment the rate limit permitted the call until its response was read. The
            time that a caller spends with an open stream is not included.
        status: The HTTP status of the response. None if no response came.
        error_type: The name of the error's class, such as "TransportTimeoutError". None if the attempt
            succeeded.
        method: The HTTP method.
        service_root: The root URL of the service, such as "https://api.signering.posten.no/api".
        path: The path of the URL below the service root, with names in place of values, such as
            "/{organization-number}/direct/signature-jobs/{job-id}/pades". The service chooses most URLs
            itself, so the actual path may be different.
        clock_difference: How far this machine's clock is ahead of the service's, up to one second too
            much; negative if it is behind. None if no response came, or the response has no `Date`.
    """

    operation: str
    organization_number: str
    attempt: int
    duration: timedelta
    status: int | None
    error_type: str | None
    method: str
    service_root: str
    path: str
    clock_difference: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CallRetried(Event):
    """A call failed, and the client will send it again.

    Attributes:
        operation: As in `CallEnded`.
        organization_number: As in `CallEnded`.
        attempt: The attempt that failed.
        delay: The time until the next attempt.
        error_type: The name of the class of the failure.
    """

    operation: str
    organization_number: str
    attempt: int
    delay: timedelta
    error_type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OrganizationBlocked(Event):
    """The service blocked an organisation, because it made more than 10 calls in a second.

    Attributes:
        organization_number: The organisation.
        duration: How long the client sends no call of this organisation.
    """

    organization_number: str
    duration: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateInUse(Event):
    """New calls use an enterprise certificate: the client was entered, or its certificate was replaced.

    Attributes:
        subject: The certificate's subject as text (RFC 4514).
        sha256: The SHA-256 fingerprint of the certificate in DER form, as 64 lower-case hexadecimal digits.
        not_after: When it expires.
    """

    subject: str
    sha256: str
    not_after: datetime


class CertificateKind(StrEnum):
    """What a client uses a certificate for."""

    ENTERPRISE = "enterprise"
    """The client's enterprise certificate: it authenticates the client and signs jobs."""

    TRUST_ANCHOR = "trust_anchor"
    """A trust anchor: a CA certificate that vouches for the service's certificate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateExpiring(Event):
    """A certificate that the client uses expires within 30 days, or has expired.

    The client warns when it is entered, when its certificate is replaced, and then at most once a day for
    each certificate, at its next call. It warns once about a trust anchor that has expired.

    Attributes:
        kind: What the client uses the certificate for.
        subject: The certificate's subject as text (RFC 4514).
        sha256: The SHA-256 fingerprint of the certificate in DER form, as 64 lower-case hexadecimal digits.
        not_after: When it expires.
        time_left: The time until then, by the configuration's clock. Negative when it has expired.
    """

    kind: CertificateKind
    subject: str
    sha256: str
    not_after: datetime
    time_left: timedelta


class PollResult(StrEnum):
    """The result of a poll."""

    CHANGE = "change"
    """The service delivered a status change."""

    EMPTY = "empty"
    """The queue was empty."""

    TOO_EARLY = "too_early"
    """The service refused the poll as too early, because another process polled the queue."""

    FAILURE = "failure"
    """The poll failed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuePolled(Event):
    """A polling queue was polled. A poll that was never sent causes no event.

    Attributes:
        organization_number: The organisation number of the sender.
        polling_queue: The name of the queue; None for the default queue.
        result: What the poll resulted in.
        next_poll_in: The time until an iterator or a worker of this client may poll the queue again. Zero
            if it may poll now. A single poll (`get_status_change`) may be permitted earlier, because it
            ignores the backoff after failures and early answers.
        error_type: The name of the class of the failure; None for the other results.
    """

    organization_number: str
    polling_queue: str | None
    result: PollResult
    next_poll_in: timedelta
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStarted(Event):
    """A worker started.

    Attributes:
        queues: The polling queues, as text such as "123456789/shop".
        concurrency: The maximum number of changes that it handles at the same time.
    """

    queues: tuple[str, ...]
    concurrency: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStopped(Event):
    """A worker stopped.

    Attributes:
        reason: Why, such as "stop() was called" or "polling failed".
        error_type: The name of the class of the error that `run` raises; None if it returns.
    """

    reason: str
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SenderUnavailable(Event):
    """A worker can't poll the queue of one of its senders. It continues with its other senders.

    Attributes:
        organization_number: The organisation number of the sender.
        polling_queue: The name of the queue; None for the default queue.
        error_type: The name of the class of the failure.
        retry_in: The time until the worker polls this queue again.
    """

    organization_number: str
    polling_queue: str | None
    error_type: str
    retry_in: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDelivered(Event):
    """A worker received a status change and starts to handle it.

    Attributes:
        organization_number: The organisation number of the sender.
        polling_queue: The name of the queue; None for the default queue.
        job_id: The job.
        job_status: The status of the job.
        deliveries: How many deliveries of this change began and were not confirmed, including this one.
            Counted by this process, or by all processes that share a `RedisFleet`.
    """

    organization_number: str
    polling_queue: str | None
    job_id: int
    job_status: str
    deliveries: int


class HandlerResult(StrEnum):
    """How an attempt of a handler ended."""

    RETURNED = "returned"
    """The handler returned."""

    FAILED = "failed"
    """The handler raised an exception."""

    CANCELLED = "cancelled"
    """The handler was cancelled: the worker stops, or other code cancelled it."""

    TIMED_OUT = "timed_out"
    """The deadline of the delivery was reached, so the worker cancelled the handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HandlerEnded(Event):
    """An attempt of a handler ended.

    Attributes:
        job_id: The job of the change.
        attempt: 1 for the first attempt of this delivery.
        duration: How long the attempt took.
        result: How it ended.
        error_type: The name of the exception's class; None if the handler returned.
        retry_in: The time until the next attempt; None if there is none in this delivery.
    """

    job_id: int
    attempt: int
    duration: timedelta
    result: HandlerResult
    error_type: str | None = None
    retry_in: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseRunningOut(Event):
    """A change has used most of the time that the service hides it from other polls.

    Attributes:
        job_id: The job of the change.
        used: The time since the poll that delivered the change.
        lease: How long the service hides a delivered change.
    """

    job_id: int
    used: timedelta
    lease: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeConfirmed(Event):
    """A handled change was confirmed. The service does not deliver it again.

    Attributes:
        job_id: The job of the change.
        duration: The time since the poll that delivered the change.
    """

    job_id: int
    duration: timedelta


class ReleaseReason(StrEnum):
    """Why a worker stopped working on a change without confirming it."""

    HANDLER_FAILED = "handler_failed"
    """The handler failed, and there is no time or no room for another attempt."""

    TIMED_OUT = "timed_out"
    """The deadline of the delivery was reached."""

    NOT_CONFIRMED = "not_confirmed"
    """The handler returned, but the change could not be confirmed."""

    STILL_HANDLED = "still_handled"
    """The change was redelivered while this process was still handling it."""

    CANCELLED = "cancelled"
    """The worker stops, or other code cancelled the handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeReleased(Event):
    """A worker stopped working on a change without confirming it. The service will redeliver it.

    Attributes:
        job_id: The job of the change.
        reason: Why.
        deliveries: As in `ChangeDelivered`.
        error_type: The name of the exception's class, if there was one.
    """

    job_id: int
    reason: ReleaseReason
    deliveries: int
    error_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeDeadLettered(Event):
    """A change was delivered more often than `max_deliveries`, so the worker gives it to `dead_letter`.

    Attributes:
        job_id: The job of the change.
        deliveries: As in `ChangeDelivered`.
    """

    job_id: int
    deliveries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetUnavailable(Event):
    """Redis can't be used, so the processes of a fleet share nothing until it is back.

    Attributes:
        error_type: The name of the class of the failure.
        calls_per_second: How many calls each organisation may make in this process until then.
    """

    error_type: str
    calls_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetAvailable(Event):
    """Redis is back, and the processes of a fleet share their budget and poll times again."""
