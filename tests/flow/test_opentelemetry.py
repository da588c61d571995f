"""Spans and metrics of a client and a worker against the sandbox, and what no telemetry shows."""

import asyncio
import contextlib
import logging
import re
import runpy
import ssl
import sys
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import anyio
import doubles
import httpx
import pki
import pytest
from doubles import PERSON, shown_in
from opentelemetry.trace import SpanKind, StatusCode
from telemetry import Telemetry

from posten_signering import (
    CallEnded,
    DirectClient,
    DirectJobStatusResponse,
    DirectSigner,
    Event,
    Sender,
    StatusRetrievalMethod,
    status_query_token_in,
)
from posten_signering import opentelemetry as module
from posten_signering._values import events
from posten_signering.errors import SigningError
from posten_signering.opentelemetry import OpenTelemetryObserver
from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox
from posten_signering.worker import StatusChangeWorker

pytestmark = pytest.mark.anyio

SENDER = Sender(organization_number=pki.SENDER, polling_queue="shop")
HANDLERS_TEXT = "the text of an error that the handler raised"
JOBS = "/{organization-number}/direct/signature-jobs"
JOB = f"{JOBS}/{{job-id}}"


@pytest.fixture(scope="module")
def anyio_backend():
    return "asyncio"


@pytest.fixture(scope="module")
async def shared_sandbox():
    async with Sandbox(rate_limit=None, empty_queue_wait=timedelta(minutes=10)) as started:
        yield started


@pytest.fixture
async def sandbox(shared_sandbox):
    await shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def telemetry():
    return Telemetry()


@pytest.fixture
async def client(sandbox, telemetry):
    async with DirectClient(configured(sandbox, telemetry)) as opened:
        yield opened


def configured(sandbox, telemetry, **fields):
    observer = OpenTelemetryObserver(telemetry.tracer_provider, telemetry.meter_provider)
    options = {"observers": [observer], "sleep": skip_short_waits, **fields}
    return sandbox.client_configuration(sender=SENDER, **options)


async def skip_short_waits(seconds: float) -> None:
    """Waits before a retry take no time. A wait for the next poll takes until the worker stops."""
    await (asyncio.sleep(0) if seconds <= 5 else anyio.sleep_forever())


def polled_job(**fields):
    defaults = {
        "signers": [DirectSigner(personal_identification_number=PERSON)],
        "status_retrieval_method": StatusRetrievalMethod.POLLING,
    }
    return doubles.job(**{**defaults, **fields})


async def handle_one(sandbox, client, handler, *, fails: int = 0) -> int:
    """A worker that handles one change. Its handler fails this many times, and then stops the worker."""
    created = await client.create(polled_job())
    await sandbox.sign(created.single_signer.redirect_url)
    attempts = []

    async def handle(change: DirectJobStatusResponse) -> None:
        attempts.append(change)
        if len(attempts) <= fails:
            raise LookupError(HANDLERS_TEXT)
        worker.stop()
        await handler(change)

    worker = StatusChangeWorker(client, handle)
    await worker.run()
    assert worker.counts.confirmed == 1
    return created.job_id


def kept(attributes) -> dict[str, object]:
    """The attributes of a span, except those that depend on the sandbox's port."""
    return {name: value for name, value in attributes.items() if name != "server.port"}


# --- Spans


OF_CALLS = {"server.address": "127.0.0.1", "posten_signering.organization_number": pki.SENDER}
POLL = {
    **OF_CALLS,
    "http.request.method": "GET",
    "posten_signering.operation": "get a status change",
    "url.template": f"/api{JOBS}",
}


async def test_a_call_is_a_client_span_by_the_semantic_conventions(sandbox, client, telemetry):
    await client.get_status_change()
    [span] = telemetry.spans
    assert (span.name, span.kind) == (f"GET /api{JOBS}", SpanKind.CLIENT)
    assert kept(span.attributes) == {**POLL, "http.response.status_code": 204}
    assert span.attributes["server.port"] == urlsplit(sandbox.service_root).port
    assert span.status.status_code is StatusCode.UNSET
    assert span.parent is None


async def test_each_attempt_is_a_span_below_the_span_of_the_caller(sandbox, client, telemetry):
    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, seconds=1, times=1))
    with telemetry.tracer.start_as_current_span("caller"):
        await client.check_access()
    failed, succeeded, caller = telemetry.spans
    assert {failed.parent.span_id, succeeded.parent.span_id} == {caller.context.span_id}
    assert failed.attributes["error.type"] == "ApiError"
    assert failed.attributes["http.response.status_code"] == 503
    assert "http.request.resend_count" not in failed.attributes
    assert succeeded.attributes["http.request.resend_count"] == 1
    assert (failed.status.status_code, failed.status.description) == (StatusCode.ERROR, None)
    assert failed.events == ()
    assert succeeded.status.status_code is StatusCode.UNSET


async def test_each_task_has_its_own_parent_span(client, telemetry):
    async def call(name):
        with telemetry.tracer.start_as_current_span(name):
            await client.check_access()

    await asyncio.gather(call("one"), call("two"))
    callers = {span.context.span_id: span.name for span in telemetry.spans if span.parent is None}
    calls = [span for span in telemetry.spans if span.parent is not None]
    assert sorted(callers.values()) == ["one", "two"]
    assert sorted(callers[call.parent.span_id] for call in calls) == ["one", "two"]


async def test_a_call_that_gets_no_response_is_a_failed_span(sandbox, client, telemetry):
    sandbox.faults.add(Fault(kind=FaultKind.RESET, operation=Operation.CREATE))
    with pytest.raises(SigningError):
        await client.create(polled_job())
    [span] = telemetry.spans
    assert span.attributes["error.type"] == "TransportError"
    assert "http.response.status_code" not in span.attributes


def test_a_span_has_the_duration_of_its_call(telemetry):
    OpenTelemetryObserver(telemetry.tracer_provider, telemetry.meter_provider)(
        ended(duration=timedelta(seconds=1.25))
    )
    [span] = telemetry.spans
    assert span.end_time - span.start_time == 1_250_000_000


async def test_a_status_change_is_a_trace_with_what_its_handler_did(sandbox, client, telemetry):
    async def download(change: DirectJobStatusResponse) -> None:
        with telemetry.tracer.start_as_current_span("store"):
            await client.get_pades(change)

    with telemetry.tracer.start_as_current_span("program"):
        job_id = await handle_one(sandbox, client, download, fails=1)
    [change] = [span for span in telemetry.spans if span.name == "posten_signering.change"]
    assert (change.kind, change.parent) == (SpanKind.CONSUMER, None)
    assert change.attributes == {
        "posten_signering.deliveries": 1,
        "posten_signering.job_id": job_id,
        "posten_signering.job_status": "COMPLETED_SUCCESSFULLY",
        "posten_signering.organization_number": pki.SENDER,
        "posten_signering.polling_queue": "shop",
    }
    names = {span.context.span_id: span.name for span in telemetry.spans}
    below = [
        (names[span.parent.span_id], span.name)
        for span in telemetry.spans
        if span.context.trace_id == change.context.trace_id and span.parent is not None
    ]
    assert below == [
        ("posten_signering.change", "posten_signering.handler"),
        ("store", f"GET /api{JOB}/pades"),
        ("posten_signering.change", "store"),
        ("posten_signering.change", "posten_signering.handler"),
        ("posten_signering.change", f"POST /api{JOB}/complete"),
    ]
    failed, returned = (span for span in telemetry.spans if span.name == "posten_signering.handler")
    assert failed.attributes == {
        "error.type": "LookupError",
        "posten_signering.handler.attempt": 1,
        "posten_signering.handler.result": "failed",
        "posten_signering.job_id": job_id,
    }
    assert failed.status.status_code is StatusCode.ERROR
    assert returned.attributes["posten_signering.handler.result"] == "returned"


async def test_a_change_that_is_released_is_a_failed_span(telemetry):
    observer = OpenTelemetryObserver(telemetry.tracer_provider, telemetry.meter_provider)

    async def deliver():
        observer(DELIVERED)
        observer(events.ChangeDeadLettered(job_id=7, deliveries=4))
        observer(RELEASED)

    await asyncio.create_task(deliver())
    observer(RELEASED)  # of a delivery that has no span, because the worker does not handle it
    [span] = telemetry.spans
    assert span.status.status_code is StatusCode.ERROR
    assert span.attributes["error.type"] == "LookupError"
    assert span.attributes["posten_signering.release_reason"] == "handler_failed"
    assert span.attributes["posten_signering.dead_lettered"] is True


async def test_two_observers_have_a_span_each_for_a_change(telemetry):
    other = Telemetry()
    observers = [
        OpenTelemetryObserver(recorded.tracer_provider, recorded.meter_provider)
        for recorded in (telemetry, other)
    ]

    async def deliver():
        for event in (DELIVERED, CONFIRMED):
            for observer in observers:
                observer(event)

    await asyncio.create_task(deliver())
    assert [len(recorded.spans) for recorded in (telemetry, other)] == [1, 1]
    assert telemetry.spans[0].context.trace_id != other.spans[0].context.trace_id


# --- Metrics


async def test_calls_and_changes_are_counted_and_measured(sandbox, client, telemetry):
    async def nothing(change: DirectJobStatusResponse) -> None:
        pass

    sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, seconds=1, times=1))
    await client.check_access()
    await handle_one(sandbox, client, nothing, fails=1)
    metrics = telemetry.metrics()
    queue = {
        "posten_signering.organization_number": pki.SENDER,
        "posten_signering.polling_queue": "shop",
    }
    assert ({**queue, "posten_signering.poll.result": "change"}, 1) in metrics[
        "posten_signering.polls"
    ]
    assert metrics["posten_signering.call.retries"] == [
        (
            {
                "error.type": "ApiError",
                "posten_signering.operation": "check the access",
                "posten_signering.organization_number": pki.SENDER,
            },
            1,
        )
    ]
    assert metrics["posten_signering.changes.delivered"] == [
        ({**queue, "posten_signering.job_status": "COMPLETED_SUCCESSFULLY"}, 1)
    ]
    assert metrics["posten_signering.changes.confirmed"] == [({}, 1)]
    assert metrics["posten_signering.workers"] == [({}, 0)]
    [(_, seconds)] = metrics["posten_signering.change.duration"]
    assert seconds > 0
    [(attributes, difference)] = metrics["posten_signering.clock.difference"]
    assert attributes == {"server.address": "127.0.0.1"}
    assert 0 <= difference <= 2
    durations = {
        (
            attributes["http.request.method"],
            attributes["url.template"],
            attributes.get("http.response.status_code"),
            attributes.get("error.type"),
        )
        for attributes, _ in metrics["http.client.request.duration"]
    }
    organization = "/api/{organization-number}"
    assert durations >= {
        ("GET", organization, 503, "ApiError"),
        ("GET", organization, 200, None),
        ("POST", f"/api{JOBS}", 200, None),
        ("GET", f"/api{JOBS}", 200, None),
        ("POST", f"/api{JOB}/complete", 204, None),
    }
    for attributes, _ in metrics["http.client.request.duration"]:
        assert set(attributes) - {"error.type", "http.response.status_code"} == {
            "http.request.method",
            "server.address",
            "server.port",
            "url.template",
        }


def ended(**fields) -> CallEnded:
    defaults = {
        "operation": "create the job",
        "organization_number": pki.SENDER,
        "attempt": 1,
        "duration": timedelta(seconds=1),
        "status": None,
        "error_type": None,
        "method": "POST",
        "service_root": "https://api.example/api",
        "path": JOBS,
    }
    return CallEnded(**{**defaults, **fields})


OF_QUEUE = {"organization_number": pki.SENDER, "polling_queue": None}
DELIVERED = events.ChangeDelivered(
    **OF_QUEUE, job_id=7, job_status="COMPLETED_SUCCESSFULLY", deliveries=4
)
CONFIRMED = events.ChangeConfirmed(job_id=7, duration=timedelta(seconds=5))
RELEASED = events.ChangeReleased(
    job_id=7,
    reason=events.ReleaseReason.HANDLER_FAILED,
    deliveries=4,
    error_type="LookupError",
)
MINUTE = timedelta(minutes=1)
ORGANIZATION = {"posten_signering.organization_number": pki.SENDER}
UNAVAILABLE = events.FleetUnavailable(error_type="OSError", calls_per_second=1.0)


@pytest.mark.parametrize(
    ("happened", "metric", "attributes", "value"),
    [
        (
            [events.OrganizationBlocked(organization_number=pki.SENDER, duration=MINUTE)] * 2,
            "posten_signering.organization.blocks",
            ORGANIZATION,
            2,
        ),
        (
            [events.SenderUnavailable(**OF_QUEUE, error_type="ApiError", retry_in=MINUTE)],
            "posten_signering.sender.failures",
            {**ORGANIZATION, "error.type": "ApiError"},
            1,
        ),
        (
            [events.LeaseRunningOut(job_id=7, used=MINUTE, lease=MINUTE)],
            "posten_signering.leases.running_out",
            {},
            1,
        ),
        (
            [RELEASED],
            "posten_signering.changes.released",
            {"error.type": "LookupError", "posten_signering.release_reason": "handler_failed"},
            1,
        ),
        (
            [events.ChangeDeadLettered(job_id=7, deliveries=4)],
            "posten_signering.changes.dead_lettered",
            {},
            1,
        ),
        (
            [events.WorkerStarted(queues=("1",), concurrency=1)] * 2,
            "posten_signering.workers",
            {},
            2,
        ),
        ([UNAVAILABLE], "posten_signering.fleet.available", {}, 0),
        ([UNAVAILABLE, events.FleetAvailable()], "posten_signering.fleet.available", {}, 1),
        (
            [ended(clock_difference=timedelta(seconds=-90))],
            "posten_signering.clock.difference",
            {"server.address": "api.example"},
            -90,
        ),
        (
            [ended(error_type="TransportTimeoutError")],
            "http.client.request.duration",
            {
                "error.type": "TransportTimeoutError",
                "http.request.method": "POST",
                "server.address": "api.example",
                "server.port": 443,
                "url.template": f"/api{JOBS}",
            },
            1,
        ),
    ],
)
def test_an_event_changes_its_metric(happened, metric, attributes, value, telemetry):
    observer = OpenTelemetryObserver(telemetry.tracer_provider, telemetry.meter_provider)
    for event in happened:
        observer(event)
    assert telemetry.metrics()[metric] == [(attributes, value)]


def test_a_response_without_a_date_has_no_clock_difference(telemetry):
    OpenTelemetryObserver(telemetry.tracer_provider, telemetry.meter_provider)(ended())
    assert "posten_signering.clock.difference" not in telemetry.metrics()


def test_an_event_of_a_new_version_is_ignored(telemetry):
    class Unknown(Event):
        pass

    OpenTelemetryObserver(telemetry.tracer_provider, telemetry.meter_provider)(Unknown())
    assert (telemetry.spans, telemetry.metrics()) == ([], {})


def test_every_event_changes_a_metric():
    kinds = {
        kind
        for kind in vars(events).values()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }
    assert {metric.event for metric in module._METRICS} == kinds


def test_no_metric_has_an_attribute_with_many_values():
    used = {name for metric in module._METRICS for name in metric.attributes}
    assert not used & {"posten_signering.job_id", "posten_signering.deliveries"}


# --- The documentation


def listed(heading: str) -> dict[str, tuple[str, ...]]:
    """The first column of a table of the documentation, and the code in its last column."""
    page = Path(__file__).parents[2] / "docs" / "guides" / "telemetry.md"
    section = page.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    rows = [
        row.split("|") for row in re.findall(r"^\| `.*$", section.partition("\n#")[0], re.MULTILINE)
    ]
    return {
        row[1].strip().strip("`"): (row[2].strip(), *sorted(re.findall(r"`([\w.]+)`", row[-2])))
        for row in rows
    }


def test_the_documentation_lists_the_metrics_with_their_units_and_attributes():
    assert listed("Metrics") == {
        metric.name: (metric.unit, *sorted(metric.attributes)) for metric in module._METRICS
    }


def test_the_documentation_lists_the_attributes_of_the_spans():
    of_change = (
        *module._SPANS[events.ChangeDelivered],
        *module._SPANS[events.ChangeReleased],
        "posten_signering.dead_lettered",
    )
    documented = {name: set(row[1:]) for name, row in listed("Spans").items()}
    assert documented == {
        "{method} {url.template}": set(module._SPANS[CallEnded]),
        "posten_signering.change": set(of_change),
        "posten_signering.handler": set(module._SPANS[events.HandlerEnded]),
    }


# --- Secrets


async def test_no_span_metric_or_log_line_holds_a_token(sandbox, client, telemetry, caplog):
    """A worker, with OpenTelemetry's own instrumentation of httpx switched on, and every other operation."""
    caplog.set_level(logging.DEBUG)
    canaries = [PERSON]

    async def use(change: DirectJobStatusResponse) -> None:
        created = await client.create(
            polled_job(status_retrieval_method=StatusRetrievalMethod.WAIT_FOR_CALLBACK)
        )
        signer = await client.request_new_redirect_url(created.single_signer)
        exit_url = await sandbox.sign(signer.redirect_url)
        token = status_query_token_in(exit_url)
        canaries.extend([token, signer.redirect_url, created.single_signer.redirect_url])
        canaries.extend(urlsplit(url).fragment for url in canaries[-2:])
        sandbox.faults.add(Fault(kind=FaultKind.UNAVAILABLE, operation=Operation.STATUS, times=1))
        status = await client.get_status(created, token)
        sandbox.faults.add(Fault(kind=FaultKind.RESET, operation=Operation.PADES, times=1))
        await client.get_pades(status)
        await client.get_xades(status.signatures[0])
        await client.confirm(status)

    with telemetry.of_httpx():
        await handle_one(sandbox, client, use, fails=1)
        assert len(telemetry.spans) > 10
        assert telemetry.urls == []
        assert shown_in(telemetry.text() + caplog.text, canaries) == []
        assert HANDLERS_TEXT not in telemetry.text()
        # The same check finds the token of a call that the application makes itself.
        async with httpx.AsyncHTTPTransport(verify=False) as bare:
            url = f"{sandbox.service_root}/status?status_query_token={canaries[1]}"
            with contextlib.suppress(httpx.TransportError, ssl.SSLError):
                await bare.handle_async_request(httpx.Request("GET", url))
        assert shown_in(telemetry.text(), canaries) == [canaries[1]]


# --- The extra


def test_without_the_extra_the_import_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ImportError, match=r"pip install 'posten-signering\[opentelemetry\]'$"):
        runpy.run_path(module.__file__)


def test_a_broken_installation_is_not_reported_as_a_missing_extra(monkeypatch):
    class Broken:
        def find_spec(self, name, *_):
            raise ModuleNotFoundError("No module named 'needed'", name="needed")

    monkeypatch.delitem(sys.modules, "opentelemetry.trace")
    monkeypatch.setattr(sys, "meta_path", [Broken()])
    with pytest.raises(ModuleNotFoundError, match="needed"):
        runpy.run_path(module.__file__)
