"""Spans and metrics for OpenTelemetry, made by an observer of a client and its workers.

It needs the extra `opentelemetry`: `pip install 'posten-signering[opentelemetry]'`.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any
from urllib.parse import urlsplit

from posten_signering._values.events import (
    CallEnded,
    CallRetried,
    CertificateExpiring,
    CertificateInUse,
    CertificateKind,
    ChangeConfirmed,
    ChangeDeadLettered,
    ChangeDelivered,
    ChangeReleased,
    Event,
    FleetAvailable,
    FleetUnavailable,
    HandlerEnded,
    LeaseRunningOut,
    OrganizationBlocked,
    QueuePolled,
    SenderUnavailable,
    WorkerStarted,
    WorkerStopped,
)
from posten_signering._values.version import __version__

try:
    from opentelemetry.context import attach, create_key, get_current, get_value, set_value
    from opentelemetry.metrics import Meter, MeterProvider, get_meter
    from opentelemetry.trace import (
        INVALID_SPAN,
        Span,
        SpanKind,
        StatusCode,
        TracerProvider,
        get_tracer,
        set_span_in_context,
    )
except ModuleNotFoundError as _error:
    if (_error.name or "").partition(".")[0] != "opentelemetry":
        raise
    raise ImportError(
        "posten_signering.opentelemetry needs the extra `opentelemetry`. Install it with: pip install "
        "'posten-signering[opentelemetry]'"
    ) from None

__all__ = ["OpenTelemetryObserver"]

_Attribute = str | int | float | None


def _server_address(event: CallEnded) -> str | None:
    return urlsplit(event.service_root).hostname


def _server_port(event: CallEnded) -> int:
    return urlsplit(event.service_root).port or 443


def _url_template(event: CallEnded) -> str:
    """In place of `url.full`, which can hold a token."""
    return urlsplit(event.service_root).path + event.path


def _certificate_kind(event: CertificateInUse | CertificateExpiring) -> str:
    return (
        event.kind if isinstance(event, CertificateExpiring) else CertificateKind.ENTERPRISE
    ).value


# The names of attributes, each with the value that an event has for it. Those without a prefix of ours are
# of OpenTelemetry's semantic conventions. An attribute whose value is None is left out.
_ATTRIBUTES: dict[str, Callable[[Any], _Attribute]] = {
    "error.type": attrgetter("error_type"),
    "http.request.method": attrgetter("method"),
    "http.request.resend_count": lambda event: event.attempt - 1 or None,
    "http.response.status_code": attrgetter("status"),
    "server.address": _server_address,
    "server.port": _server_port,
    "url.template": _url_template,
    "posten_signering.certificate.kind": _certificate_kind,
    "posten_signering.certificate.subject": attrgetter("subject"),
    "posten_signering.deliveries": attrgetter("deliveries"),
    "posten_signering.handler.attempt": attrgetter("attempt"),
    "posten_signering.handler.result": attrgetter("result.value"),
    "posten_signering.job_id": attrgetter("job_id"),
    "posten_signering.job_status": attrgetter("job_status"),
    "posten_signering.operation": attrgetter("operation"),
    "posten_signering.organization_number": attrgetter("organization_number"),
    "posten_signering.poll.result": attrgetter("result.value"),
    "posten_signering.polling_queue": attrgetter("polling_queue"),
    "posten_signering.release_reason": attrgetter("reason.value"),
}
_OF_A_REQUEST = (
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "server.address",
    "server.port",
    "url.template",
)
_OF_A_CERTIFICATE = ("posten_signering.certificate.kind", "posten_signering.certificate.subject")
_OF_AN_ORGANIZATION = ("posten_signering.organization_number",)
_OF_A_QUEUE = (*_OF_AN_ORGANIZATION, "posten_signering.polling_queue")

# The attributes of each kind of span.
_SPANS: dict[type[Event], tuple[str, ...]] = {
    CallEnded: (
        *_OF_A_REQUEST,
        "http.request.resend_count",
        "posten_signering.operation",
        *_OF_AN_ORGANIZATION,
    ),
    ChangeDelivered: (
        *_OF_A_QUEUE,
        "posten_signering.deliveries",
        "posten_signering.job_id",
        "posten_signering.job_status",
    ),
    HandlerEnded: (
        "error.type",
        "posten_signering.handler.attempt",
        "posten_signering.handler.result",
        "posten_signering.job_id",
    ),
    ChangeReleased: ("error.type", "posten_signering.release_reason"),
    ChangeDeadLettered: (),
    ChangeConfirmed: (),
}

_Record = Callable[[float, dict[str, str | int | float]], None]


def _counter(meter: Meter, name: str, unit: str, description: str) -> _Record:
    return meter.create_counter(name, unit, description).add


def _up_down_counter(meter: Meter, name: str, unit: str, description: str) -> _Record:
    return meter.create_up_down_counter(name, unit, description).add


def _gauge(meter: Meter, name: str, unit: str, description: str) -> _Record:
    return meter.create_gauge(name, unit, description).set


def _histogram(*boundaries: float) -> Callable[[Meter, str, str, str], _Record]:
    def create(meter: Meter, name: str, unit: str, description: str) -> _Record:
        return meter.create_histogram(
            name, unit, description, explicit_bucket_boundaries_advisory=boundaries
        ).record

    return create


# The boundaries of the semantic conventions; and up to the ten minutes of a lease.
_REQUEST = _histogram(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_HANDLING = _histogram(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Metric:
    """A metric, and the event that changes it. A metric that two events change has two rows.

    Attributes:
        event: The class of the event.
        name: The name of the metric.
        unit: Its unit, by UCUM.
        description: What it counts or measures.
        kind: Creates the instrument.
        attributes: The names of its attributes. None of them may have many values, such as a job ID.
        value: The value to add or to record. None if this event has no value.
    """

    event: type[Event]
    name: str
    unit: str
    description: str
    kind: Callable[[Meter, str, str, str], _Record] = _counter
    attributes: tuple[str, ...] = ()
    value: Callable[[Any], float | None] = lambda _: 1


def _seconds(event: CallEnded | HandlerEnded | ChangeConfirmed) -> float:
    return event.duration.total_seconds()


def _clock_difference(event: CallEnded) -> float | None:
    difference = event.clock_difference
    return None if difference is None else difference.total_seconds()


def _not_after(event: CertificateInUse | CertificateExpiring) -> float:
    return event.not_after.timestamp()


_CERTIFICATE_NOT_AFTER = (
    "posten_signering.certificate.not_after",
    "When the enterprise certificate in use expires, or a trust anchor in its last 30 days, in Unix time.",
)
_FLEET_AVAILABLE = (
    "posten_signering.fleet.available",
    "1 if the processes of a fleet share their budget and poll times, 0 if Redis can't be used.",
)
_WORKERS = ("posten_signering.workers", "Workers that run.")

_METRICS = (
    _Metric(
        event=CallEnded,
        name="http.client.request.duration",
        unit="s",
        description="Duration of HTTP client requests.",
        kind=_REQUEST,
        attributes=_OF_A_REQUEST,
        value=_seconds,
    ),
    _Metric(
        event=CallEnded,
        name="posten_signering.clock.difference",
        unit="s",
        description="How far this machine's clock is ahead of the service's, up to a second too much.",
        kind=_gauge,
        attributes=("server.address",),
        value=_clock_difference,
    ),
    _Metric(
        event=CallRetried,
        name="posten_signering.call.retries",
        unit="{retry}",
        description="Calls that failed and were sent again.",
        attributes=("error.type", "posten_signering.operation", *_OF_AN_ORGANIZATION),
    ),
    _Metric(
        event=OrganizationBlocked,
        name="posten_signering.organization.blocks",
        unit="{block}",
        description="Blocks of an organisation by the service, because it made too many calls.",
        attributes=_OF_AN_ORGANIZATION,
    ),
    _Metric(
        event=CertificateInUse,
        name=_CERTIFICATE_NOT_AFTER[0],
        unit="s",
        description=_CERTIFICATE_NOT_AFTER[1],
        kind=_gauge,
        attributes=_OF_A_CERTIFICATE,
        value=_not_after,
    ),
    _Metric(
        event=CertificateExpiring,
        name=_CERTIFICATE_NOT_AFTER[0],
        unit="s",
        description=_CERTIFICATE_NOT_AFTER[1],
        kind=_gauge,
        attributes=_OF_A_CERTIFICATE,
        value=_not_after,
    ),
    _Metric(
        event=QueuePolled,
        name="posten_signering.polls",
        unit="{poll}",
        description="Polls of a polling queue.",
        attributes=("error.type", "posten_signering.poll.result", *_OF_A_QUEUE),
    ),
    _Metric(
        event=WorkerStarted,
        name=_WORKERS[0],
        unit="{worker}",
        description=_WORKERS[1],
        kind=_up_down_counter,
    ),
    _Metric(
        event=WorkerStopped,
        name=_WORKERS[0],
        unit="{worker}",
        description=_WORKERS[1],
        kind=_up_down_counter,
        value=lambda _: -1,
    ),
    _Metric(
        event=SenderUnavailable,
        name="posten_signering.sender.failures",
        unit="{failure}",
        description="How often a worker found that it can't poll the queue of a sender.",
        attributes=("error.type", *_OF_A_QUEUE),
    ),
    _Metric(
        event=ChangeDelivered,
        name="posten_signering.changes.delivered",
        unit="{change}",
        description="Status changes that a worker received and started to handle.",
        attributes=("posten_signering.job_status", *_OF_A_QUEUE),
    ),
    _Metric(
        event=HandlerEnded,
        name="posten_signering.handler.duration",
        unit="s",
        description="Duration of the attempts of a handler.",
        kind=_HANDLING,
        attributes=("error.type", "posten_signering.handler.result"),
        value=_seconds,
    ),
    _Metric(
        event=LeaseRunningOut,
        name="posten_signering.leases.running_out",
        unit="{lease}",
        description="Status changes that used most of their lease and were not confirmed yet.",
    ),
    _Metric(
        event=ChangeConfirmed,
        name="posten_signering.changes.confirmed",
        unit="{change}",
        description="Status changes that were handled and confirmed.",
    ),
    _Metric(
        event=ChangeConfirmed,
        name="posten_signering.change.duration",
        unit="s",
        description="Time from the poll that delivered a status change to its confirmation.",
        kind=_HANDLING,
        value=_seconds,
    ),
    _Metric(
        event=ChangeReleased,
        name="posten_signering.changes.released",
        unit="{change}",
        description="Status changes that a worker stopped working on without confirming them.",
        attributes=("error.type", "posten_signering.release_reason"),
    ),
    _Metric(
        event=ChangeDeadLettered,
        name="posten_signering.changes.dead_lettered",
        unit="{change}",
        description="Status changes that were delivered too often and went to `dead_letter`.",
    ),
    _Metric(
        event=FleetAvailable,
        name=_FLEET_AVAILABLE[0],
        unit="1",
        description=_FLEET_AVAILABLE[1],
        kind=_gauge,
    ),
    _Metric(
        event=FleetUnavailable,
        name=_FLEET_AVAILABLE[0],
        unit="1",
        description=_FLEET_AVAILABLE[1],
        kind=_gauge,
        value=lambda _: 0,
    ),
)


class OpenTelemetryObserver:
    """An observer that makes OpenTelemetry spans and metrics: `observers=[OpenTelemetryObserver()]`.

    - Each attempt of a call is a client span and a value of `http.client.request.duration`, by the semantic
      conventions for HTTP clients. It has `url.template` in place of the URL, which can hold a token. The
      span is a child of the span in which your code made the call.
    - Each status change that a worker handles is a span, from its delivery to its confirmation, in a trace
      of its own. Spans that the handler makes are below it.
    - The page "Traces, metrics and error reports" of the documentation lists the spans, the metrics and their attributes.

    Several clients may share an observer. The client suppresses OpenTelemetry's own instrumentation of httpx
    for its calls, with or without this observer, because that records whole URLs.

    Args:
        tracer_provider: Where the spans go. None: OpenTelemetry's global provider.
        meter_provider: Where the metrics go. None: OpenTelemetry's global provider.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        self._tracer = get_tracer("posten_signering", __version__, tracer_provider)
        self._instruments = _instruments(get_meter("posten_signering", __version__, meter_provider))
        # The span of the status change that the current task handles.
        self._change = create_key("posten_signering_change")

    def __call__(self, event: Event, /) -> None:
        """Receives an event."""
        for metric, record in self._instruments.get(type(event), ()):
            value = metric.value(event)
            if value is not None:
                record(value, _attributes(event, metric.attributes))
        match event:
            case CallEnded():
                name = f"{event.method} {_url_template(event)}"
                self._add_ended_span(event, name, SpanKind.CLIENT)
            case HandlerEnded():
                self._add_ended_span(event, "posten_signering.handler", SpanKind.INTERNAL)
            case ChangeDelivered():
                self._begin_change(event)
            case ChangeDeadLettered():
                self._span_of_change().set_attribute("posten_signering.dead_lettered", value=True)
            case ChangeConfirmed() | ChangeReleased():
                self._end_change(event)
            case _:
                pass

    def _add_ended_span(self, event: CallEnded | HandlerEnded, name: str, kind: SpanKind) -> None:
        """Adds the span of what ended now, below the current span."""
        end = time.time_ns()
        span = self._tracer.start_span(
            name,
            kind=kind,
            attributes=_attributes(event, _SPANS[type(event)]),
            start_time=end - round(event.duration.total_seconds() * 1e9),
        )
        _set_status(span, event.error_type)
        span.end(end)

    def _begin_change(self, event: ChangeDelivered) -> None:
        """Begins the span of a status change, and makes it the current span of its task, to the task's end.

        It has a trace of its own, as is usual for a message from a queue. Otherwise all changes of a worker
        would be in the trace in which the worker was started.
        """
        span = self._tracer.start_span(
            "posten_signering.change",
            context=set_span_in_context(INVALID_SPAN),
            kind=SpanKind.CONSUMER,
            attributes=_attributes(event, _SPANS[ChangeDelivered]),
        )
        attach(set_value(self._change, span, set_span_in_context(span)))

    def _end_change(self, event: ChangeConfirmed | ChangeReleased) -> None:
        span = self._span_of_change()
        span.set_attributes(_attributes(event, _SPANS[type(event)]))
        if isinstance(event, ChangeReleased):
            _set_status(span, event.error_type)
        span.end()

    def _span_of_change(self) -> Span:
        """The span of the status change that this task handles. A span without effect if it handles none."""
        span = get_value(self._change, get_current())
        return span if isinstance(span, Span) else INVALID_SPAN


def _instruments(meter: Meter) -> dict[type[Event], list[tuple[_Metric, _Record]]]:
    """Creates the instruments. Returns the metrics that each event changes."""
    by_name = dict[str, _Record]()
    by_event = dict[type[Event], list[tuple[_Metric, _Record]]]()
    for metric in _METRICS:
        if metric.name not in by_name:
            by_name[metric.name] = metric.kind(meter, metric.name, metric.unit, metric.description)
        by_event.setdefault(metric.event, []).append((metric, by_name[metric.name]))
    return by_event


def _attributes(event: Event, names: Iterable[str]) -> dict[str, str | int | float]:
    values = ((name, _ATTRIBUTES[name](event)) for name in names)
    return {name: value for name, value in values if value is not None}


def _set_status(span: Span, error_type: str | None) -> None:
    # Without a description: the text of an error may quote what was received.
    if error_type is not None:
        span.set_status(StatusCode.ERROR)
