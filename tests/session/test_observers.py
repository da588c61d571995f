"""Which events a call causes, what the log says of every event, and that no observer changes an outcome."""

import asyncio
import dataclasses
import json
import logging
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import StrEnum
from typing import get_args, get_origin, get_type_hints

import pki
import pytest
import virtual_time
from doubles import ROOT as SERVICE_ROOT
from doubles import Answer, client_of, created_xml, job

from posten_signering import (
    CallEnded,
    CallRetried,
    CertificateInUse,
    Event,
    OrganizationBlocked,
    Retries,
)
from posten_signering._session.observers import Observers, queue_name
from posten_signering._values import events
from posten_signering.errors import ConfigurationError, RateLimitedError, TransportError

pytestmark = pytest.mark.anyio

LOST = TransportError("The connection was lost.", request_may_have_left=True)
BLOCKED = Answer(status=429, headers={"dosfilter": "delayed"})


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


# --- The events of a call


async def test_a_retried_call_causes_an_event_for_each_attempt_and_each_retry():
    seen = []
    served = {"date": format_datetime(pki.NOW + timedelta(hours=1), usegmt=True)}
    answer = Answer(headers=served, chunks=b"The organisation is known.")
    async with client_of(
        LOST, answer, retries=Retries(), observers=[seen.append], random=lambda: 0.5
    ) as (client, _):
        await client.check_access()
    assert seen.pop(0) == CertificateInUse(
        subject=client.certificate.subject,
        sha256=client.certificate.sha256,
        not_after=client.certificate.not_after,
    )
    name = seen[0].operation
    call = {"operation": name, "organization_number": "123456789"}
    ended = {
        **call,
        "method": "GET",
        "service_root": SERVICE_ROOT,
        "path": "/{organization-number}",
        "duration": timedelta(0),
    }
    assert [dataclasses.replace(event, **zeroed(event)) for event in seen] == [
        CallEnded(**ended, attempt=1, status=None, error_type="TransportError"),
        CallRetried(**call, attempt=1, delay=timedelta(0), error_type="TransportError"),
        CallEnded(**ended, attempt=2, status=200, error_type=None, clock_difference=timedelta(0)),
    ]
    assert timedelta(minutes=-61) < seen[2].clock_difference < timedelta(minutes=-59)
    assert seen[1].delay == timedelta(seconds=0.125)


def zeroed(event: Event) -> dict[str, timedelta]:
    return {
        field.name: timedelta(0)
        for field in dataclasses.fields(event)
        if isinstance(getattr(event, field.name), timedelta)
    }


async def test_a_block_and_a_cancelled_call_are_events_too():
    seen = []
    async with client_of(BLOCKED, observers=[seen.append]) as (client, _):
        with pytest.raises(RateLimitedError):
            await client.create(job())
    assert [type(event) for event in seen] == [CertificateInUse, CallEnded, OrganizationBlocked]
    assert (seen[1].status, seen[1].error_type) == (429, "RateLimitedError")
    assert seen[2].duration == timedelta(seconds=30)
    async with client_of(asyncio.CancelledError(), observers=[seen.append]) as (client, _):
        with pytest.raises(asyncio.CancelledError):
            await client.check_access()
    assert seen[-1].error_type == "CancelledError"


# --- Observers


@pytest.mark.parametrize("error", [ValueError("canary"), asyncio.CancelledError()])
async def test_an_observer_that_raises_changes_no_outcome_and_is_logged(error, caplog):
    def raises(event: Event) -> None:
        raise error

    seen = []
    async with client_of(Answer(chunks=created_xml()), observers=[raises, seen.append]) as (
        client,
        _,
    ):
        created = await client.create(job())
    assert created.job_id == 7
    assert [type(event) for event in seen] == [CertificateInUse, CallEnded]
    for record, event in zip(caplog.records, ("CertificateInUse", "CallEnded"), strict=True):
        assert f"An observer raised an error for the event {event}" in record.getMessage()


async def test_an_observer_may_end_the_program():
    def end(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observers([end]).notify(events.FleetAvailable())


async def observe(event: Event) -> None: ...


class AsyncObserver:
    async def __call__(self, event: Event) -> None: ...


@pytest.mark.parametrize("observer", [observe, AsyncObserver(), "logging"])
async def test_an_observer_must_be_a_plain_function(observer):
    with pytest.raises(ConfigurationError, match=r"^observers contains"):
        async with client_of(observers=[observer]):
            pass


# --- The log


EVENTS = [
    kind
    for kind in vars(events).values()
    if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
]
EXAMPLES = {
    str: "text",
    int: 7,
    float: 0.5,
    timedelta: timedelta(seconds=90),
    datetime: datetime(2026, 1, 2, tzinfo=UTC),
    tuple: ("1/a", "2"),
}


def example(kind: type[Event], *, failed: bool) -> Event:
    """An event with made-up values. With `failed`, its optional fields have values too."""

    def value(hint: object) -> object:
        if get_origin(hint) is tuple:
            return EXAMPLES[tuple]
        if type(None) in get_args(hint):
            return value(get_args(hint)[0]) if failed else None
        return next(iter(hint)) if issubclass(hint, StrEnum) else EXAMPLES[hint]

    return kind(**{name: value(hint) for name, hint in get_type_hints(kind).items()})


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("kind", EVENTS, ids=lambda kind: kind.__name__)
def test_every_event_has_a_sentence_and_its_fields_in_the_log(kind, failed, caplog):
    caplog.set_level(logging.DEBUG)
    event = example(kind, failed=failed)
    seen = []
    Observers([seen.append]).notify(event, error=LOST)
    [record] = caplog.records
    assert record.getMessage()[-1] == "."
    assert "None" not in record.getMessage().replace("HTTP status None", "")
    assert record.name.startswith("posten_signering.")
    assert json.loads(json.dumps(record.posten_signering))["event"] == kind.__name__
    assert {"event", *get_type_hints(kind)} == set(record.posten_signering)
    assert seen == [event]


@pytest.mark.parametrize(("seconds", "text"), [(2, "failed; next poll in 2 s: "), (0, "failed: ")])
def test_a_poll_that_failed_for_good_announces_no_next_poll(seconds, text, caplog):
    polled = events.QueuePolled(
        organization_number="123456789",
        polling_queue=None,
        result=events.PollResult.FAILURE,
        next_poll_in=timedelta(seconds=seconds),
        error_type="NotAuthorizedError",
    )
    Observers().notify(polled)
    assert text in caplog.text


def test_a_worker_of_many_queues_names_the_first_ten(caplog):
    caplog.set_level(logging.INFO)
    queues = tuple(queue_name("123456789", f"queue{number}") for number in range(12))
    Observers().notify(events.WorkerStarted(queues=queues, concurrency=4))
    assert "queue9 and 2 more queues" in caplog.text
    assert "queue10" not in caplog.text


def test_an_error_of_the_applications_logging_changes_no_outcome(caplog):
    class Refusing(logging.Filter):
        def filter(self, record):
            raise ValueError

    caplog.set_level(logging.INFO)
    refusing, seen = Refusing(), []
    logger = logging.getLogger("posten_signering.fleet")
    logger.addFilter(refusing)
    try:
        Observers([seen.append]).notify(events.FleetAvailable())
    finally:
        logger.removeFilter(refusing)
    assert (len(seen), caplog.records) == (1, [])
