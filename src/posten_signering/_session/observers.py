"""Passes events to observers. Logging is the first observer of every client.

An error of an observer, or of the application's logging, changes nothing else.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from datetime import datetime, timedelta
from typing import Protocol

from posten_signering._values import events
from posten_signering._values.events import (
    CertificateKind,
    Event,
    Observer,
    ReleaseReason,
)
from posten_signering.errors import SigningError

_ROOT = "posten_signering"
_general = logging.getLogger(_ROOT)
_calls = logging.getLogger(f"{_ROOT}.calls")
_certificates = logging.getLogger(f"{_ROOT}.certificates")
_polling = logging.getLogger(f"{_ROOT}.polling")
_worker = logging.getLogger(f"{_ROOT}.worker")
_fleet = logging.getLogger(f"{_ROOT}.fleet")

_Message = tuple[logging.Logger, int, str]

# Event -> logger, level and message. The message may name the fields of the event, and those of `_texts`.
_MESSAGES: dict[type[Event], _Message] = {
    events.CallEnded: (
        _calls,
        logging.DEBUG,
        (
            "The service was asked to %(operation)s for organisation %(organization_number)s (attempt "
            "%(attempt)d): HTTP status %(status)s after %(duration).3f s."
        ),
    ),
    events.OrganizationBlocked: (
        _calls,
        logging.WARNING,
        (
            "The service blocks organisation %(organization_number)s, because it made more than 10 calls in "
            "a second. The client sends no call for it for %(duration).0f s."
        ),
    ),
    events.CertificateInUse: (
        _certificates,
        logging.INFO,
        "New calls use the enterprise certificate %(subject)s, which expires at %(not_after)s.",
    ),
    events.CertificateExpiring: (
        _certificates,
        logging.WARNING,
        "%(what)s %(subject)s %(expires)s. %(advice)s",
    ),
    events.QueuePolled: (
        _polling,
        logging.DEBUG,
        "Polled %(queue)s: %(result)s. Next poll in %(next_poll_in).0f s.",
    ),
    events.WorkerStarted: (
        _worker,
        logging.INFO,
        (
            "The worker started. It polls %(first_queues)s, and handles up to %(concurrency)d changes at the "
            "same time."
        ),
    ),
    events.WorkerStopped: (_worker, logging.INFO, "The worker stopped: %(reason)s."),
    events.ChangeDelivered: (
        _worker,
        logging.DEBUG,
        (
            "Received a status change of job %(job_id)d from %(queue)s: %(job_status)s (delivery "
            "%(deliveries)d)."
        ),
    ),
    events.HandlerEnded: (
        _worker,
        logging.INFO,
        "Handled a status change of job %(job_id)d in %(duration).1f s.",
    ),
    events.LeaseRunningOut: (
        _worker,
        logging.WARNING,
        (
            "A status change of job %(job_id)d was delivered %(used).0f s ago, and is not confirmed. After "
            "%(lease).0f s the service redelivers it, possibly to a different process."
        ),
    ),
    events.ChangeConfirmed: (
        _worker,
        logging.INFO,
        "Confirmed a status change of job %(job_id)d, %(duration).1f s after its delivery.",
    ),
    events.ChangeReleased: (
        _worker,
        logging.WARNING,
        (
            "A status change of job %(job_id)d is not confirmed: %(reason_text)s. The service will redeliver "
            "it. Deliveries so far: %(deliveries)d."
        ),
    ),
    events.ChangeDeadLettered: (
        _worker,
        logging.ERROR,
        "A status change of job %(job_id)d goes to dead_letter: this is delivery %(deliveries)d.",
    ),
    events.FleetAvailable: (
        _fleet,
        logging.INFO,
        "Redis is back. The processes share their rate budget and poll times again.",
    ),
}
# The same for events that have an `error_type`. A message with `%(error)s` has the text of the error, and its
# log record has no traceback.
_FAILURE_MESSAGES: dict[type[Event], _Message] = {
    events.CallEnded: (
        _calls,
        logging.DEBUG,
        (
            "The service was asked to %(operation)s for organisation %(organization_number)s (attempt "
            "%(attempt)d): %(error_type)s, HTTP status %(status)s after %(duration).3f s."
        ),
    ),
    events.CallRetried: (
        _calls,
        logging.INFO,
        (
            "The service was asked to %(operation)s, but attempt %(attempt)d failed. Retrying in "
            "%(delay).2f s: %(error)s"
        ),
    ),
    events.QueuePolled: (
        _polling,
        logging.WARNING,
        "Polling %(queue)s failed%(next_poll)s: %(error)s",
    ),
    events.WorkerStopped: (
        _worker,
        logging.ERROR,
        "The worker stopped with %(error_type)s: %(reason)s.",
    ),
    events.SenderUnavailable: (
        _worker,
        logging.ERROR,
        (
            "The worker can't poll %(queue)s: %(error_type)s. It continues with its other queues, and polls "
            "this one again in %(retry_in).0f s."
        ),
    ),
    events.HandlerEnded: (
        _worker,
        logging.WARNING,
        (
            "The handler of a status change of job %(job_id)d ended after %(duration).1f s (attempt "
            "%(attempt)d): %(error_type)s. %(retry)s"
        ),
    ),
    events.ChangeReleased: (
        _worker,
        logging.ERROR,
        (
            "A status change of job %(job_id)d is not confirmed: %(reason_text)s (%(error_type)s). The "
            "service will redeliver it. Deliveries so far: %(deliveries)d."
        ),
    ),
    events.FleetUnavailable: (
        _fleet,
        logging.WARNING,
        (
            "Redis can't be used (%(error_type)s), so the processes share no rate budget and no poll times. "
            "Until Redis is back, each organisation may make %(calls_per_second).2f calls per second in this "
            "process."
        ),
    ),
}
_REASONS = {
    ReleaseReason.HANDLER_FAILED: "its handler failed",
    ReleaseReason.TIMED_OUT: "its handler did not return within handler_timeout",
    ReleaseReason.NOT_CONFIRMED: "it was handled, but could not be confirmed",
    ReleaseReason.STILL_HANDLED: "it was redelivered while this process was still handling it",
    ReleaseReason.CANCELLED: "its handler was cancelled",
}
_CERTIFICATES = {
    CertificateKind.ENTERPRISE: (
        "The enterprise certificate",
        "Get a new one from its issuer, and give it to DirectClient.replace_certificate.",
    ),
    CertificateKind.TRUST_ANCHOR: (
        "The trust anchor",
        (
            "Replace it in the TrustAnchors of the configuration with its successor, if it has one, or "
            "remove it. Then create a new DirectClient."
        ),
    ),
}
# A worker may have thousands of queues. Its first line in the log names this many.
_MOST_NAMED_QUEUES = 10


class Notify(Protocol):
    """Passes an event to the observers."""

    def __call__(self, event: Event, *, error: BaseException | None = None) -> None:
        """Logs an event and passes it to every observer.

        Args:
            event: What happened.
            error: The exception behind it, logged with its traceback, or with its text only if it is an
                ordinary failure of the event. Observers do not get it.
        """
        ...


class Observers:
    """Logs each event, and passes it to the observers of a configuration.

    Args:
        observers: The observers, in the order in which they are called.
    """

    def __init__(self, observers: Sequence[Observer] = ()) -> None:
        self._observers = tuple(observers)

    def notify(self, event: Event, *, error: BaseException | None = None) -> None:
        """See `Notify`."""
        with suppress(Exception):
            _log(event, error)
        for observer in self._observers:
            try:
                observer(event)
            except (Exception, asyncio.CancelledError) as failure:  # noqa: BLE001 - it may be any error
                _log_failure_of_observer(event, failure)


def _log_failure_of_observer(event: Event, failure: BaseException) -> None:
    message = "An observer raised an error for the event %s. The client continues."
    with suppress(Exception):
        _general.log(logging.ERROR, message, type(event).__name__, exc_info=failure)


def _log(event: Event, error: BaseException | None) -> None:
    """Logs an event. The log record has the fields as the dictionary `posten_signering`."""
    failed = getattr(event, "error_type", None) is not None
    logger, level, message = (_FAILURE_MESSAGES if failed else _MESSAGES)[type(event)]
    if logger.isEnabledFor(level):
        values = as_dictionary(event)
        error_text = values.get("error_type") if error is None else _text_of(error)
        texts = {**values, **_texts(event), "error": error_text}
        traceback = None if "%(error)s" in message else error
        logger.log(level, message, texts, exc_info=traceback, extra={_ROOT: values})


def as_dictionary(event: Event) -> dict[str, object]:
    """The fields of an event, and its name as `event`. Durations are in seconds, times are texts (ISO 8601)."""
    values = {field.name: _plain(getattr(event, field.name)) for field in fields(event)}
    return {"event": type(event).__name__, **values}


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def _texts(event: Event) -> dict[str, str]:
    """What a message says in other words than the fields of the event."""
    texts: dict[str, str] = {}
    match event:
        case events.CertificateExpiring():
            what, advice = _CERTIFICATES[event.kind]
            verb = "expires" if event.time_left >= timedelta(0) else "expired"
            expires = f"{verb} at {event.not_after.isoformat()}"
            texts = {"what": what, "expires": expires, "advice": advice}
        case events.QueuePolled():
            # After a permanent failure the schedule has no wait, but the iterator ends or the worker waits.
            seconds = event.next_poll_in.total_seconds()
            texts = {
                "queue": queue_name(event.organization_number, event.polling_queue),
                "next_poll": f"; next poll in {seconds:.0f} s" if seconds > 0 else "",
            }
        case events.SenderUnavailable() | events.ChangeDelivered():
            texts = {"queue": queue_name(event.organization_number, event.polling_queue)}
        case events.WorkerStarted():
            names = ", ".join(event.queues[:_MOST_NAMED_QUEUES]) or "no queue"
            more = len(event.queues) - _MOST_NAMED_QUEUES
            texts = {"first_queues": f"{names} and {more} more queues" if more > 0 else names}
        case events.HandlerEnded(retry_in=wait):
            if wait is None:
                retry = "There is no further attempt in this delivery."
            else:
                retry = f"The next attempt starts in {wait.total_seconds():.1f} s."
            texts = {"retry": retry}
        case events.ChangeReleased():
            texts = {"reason_text": _REASONS[event.reason]}
        case _:
            pass
    return texts


def _text_of(error: BaseException) -> str:
    # The text of an error that is not ours may quote what was sent or received.
    return str(error) if isinstance(error, SigningError) else type(error).__name__


def queue_name(organization_number: str, polling_queue: str | None) -> str:
    """The name of a queue in logs and events, such as "123456789/shop" or "123456789"."""
    return (
        organization_number if polling_queue is None else f"{organization_number}/{polling_queue}"
    )
