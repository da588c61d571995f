"""One delivery: its deadline, the retries of its handler, its confirmation and its dead letter. In virtual time."""

import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import anyio
import doubles
import pytest
import virtual_time
from doubles import error_xml
from model_faults import Fault, Kind
from model_service import SENDER, Answer, ModelService, now, number_of
from model_transport import ModelTransport, process_of
from model_worker import Handler, confirmations_sent, confirmed, working
from virtual_time import cancel_natively

from posten_signering import DirectClient, InMemoryFleet, Retries
from posten_signering._values.events import (
    CallRetried,
    ChangeDeadLettered,
    ChangeDelivered,
    ChangeReleased,
    HandlerEnded,
    HandlerResult,
    ReleaseReason,
)
from posten_signering.errors import ArgumentTypeError, ConfigurationError
from posten_signering.worker import StatusChangeWorker, StoreSignedDocuments

pytestmark = pytest.mark.anyio

HANDLER_TIMEOUT = 480


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


def released(work) -> list[tuple[ReleaseReason, int]]:
    """The reason of each release, and the number of deliveries until then."""
    return [(event.reason, event.deliveries) for event in work.events_of(ChangeReleased)]


# --- The arguments


CLIENT = DirectClient(doubles.configuration(doubles.ScriptedTransport()))


async def handle(change) -> None:
    pass


class HandlesWithCall:
    async def __call__(self, change) -> None:
        pass


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "concurrency must be 1 or more, not 0"),
        ({"handler_timeout": timedelta(0)}, "handler_timeout must be above zero and below lease"),
        ({"handler_timeout": timedelta(minutes=10)}, r"below lease \(0:10:00\), but it is 0:10:00"),
        ({"lease": timedelta(minutes=8)}, r"below lease \(0:08:00\), but it is 0:08:00"),
        ({"max_deliveries": 3}, "Give both, or neither"),
        ({"dead_letter": handle}, "Give both, or neither"),
        ({"max_deliveries": 0, "dead_letter": handle}, "max_deliveries must be 1 or more, not 0"),
        (
            {"max_deliveries": 1, "dead_letter": print},
            "dead_letter must be async: .* It is builtin",
        ),
        ({"handler": lambda change: None}, "handler must be async: .* It is function"),
        ({"handler": partial(print)}, "handler must be async: .* It is partial"),
        ({"handler": HandlesWithCall}, "handler must be async: .* It is type"),
        ({"handler": None}, "handler must be async: .* It is NoneType"),
        (
            {"stop_within": timedelta(seconds=-1)},
            "stop_within must not be negative, but it is -1 day",
        ),
    ],
)
def test_arguments_that_can_not_be_used_are_refused(options, message):
    with pytest.raises(ConfigurationError, match=message):
        StatusChangeWorker(CLIENT, **{"handler": handle, **options})


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("client", CLIENT.configuration, "a DirectClient"),
        ("senders", SENDER, "a list of senders or None"),
        ("concurrency", "8", "a whole number"),
        ("handler_timeout", 480, "a timedelta"),
        ("max_deliveries", 2.5, "a whole number or None"),
        ("lease", 600, "a timedelta"),
        ("stop_within", 30, "a timedelta"),
        ("failure_policy", 3, "a FailurePolicy or None"),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(name, value, expected):
    with pytest.raises(ArgumentTypeError, match=f"^The argument {name} must be {expected}, not "):
        StatusChangeWorker(**{"client": CLIENT, "handler": handle, name: value})


@pytest.mark.parametrize(
    "handler",
    [
        handle,
        HandlesWithCall(),
        HandlesWithCall().__call__,
        partial(handle),
        partial(HandlesWithCall()),
        StoreSignedDocuments(None, None),
    ],
)
def test_each_kind_of_async_handler_is_accepted(handler):
    StatusChangeWorker(CLIENT, handler, max_deliveries=1, dead_letter=handler)


# --- The deadline


async def test_at_the_deadline_the_handler_is_cancelled_and_the_change_comes_back():
    """The deadline is counted from sending the poll. Here, its response takes 20 s."""
    handler = Handler(seconds=HANDLER_TIMEOUT - 10)
    async with working(changes=1, handler=handler, service=ModelService(busy=20)) as work:
        await anyio.sleep(HANDLER_TIMEOUT + 5)
        assert handler.cancelled == [1]
        [ended] = work.events_of(HandlerEnded)
        assert ended.result is HandlerResult.TIMED_OUT
        began_at = handler.begun[0][1]
        sent_at = work.service.polls[0].sent_at
        assert began_at + ended.duration.total_seconds() == pytest.approx(sent_at + HANDLER_TIMEOUT)
        assert released(work) == [(ReleaseReason.TIMED_OUT, 1)]
        assert work.worker.counts.timed_out == 1
        handler.seconds = 1
        await anyio.sleep(1300)
        assert confirmed(work.service) == [1]
        assert [event.deliveries for event in work.events_of(ChangeDelivered)] == [1, 2]


async def test_handlers_that_never_return_do_not_end_all_work():
    async def hangs_at_first(change):
        if number_of(change) <= 4:
            await anyio.sleep_forever()

    async with working(changes=6, handler=hangs_at_first, concurrency=4) as work:
        await anyio.sleep(HANDLER_TIMEOUT - 5)
        assert confirmed(work.service) == []
        await anyio.sleep(10)
        assert confirmed(work.service) == [5, 6]


@pytest.mark.parametrize("shielded", [True, False])
async def test_a_handler_that_ignores_its_cancellation_keeps_its_slot_only(shielded):
    """It also uses no CPU: in a tight loop of cancellations, the virtual time would stand still."""
    end, cancellations = asyncio.Event(), []

    async def ignores_cancellation(change):
        if number_of(change) != 1:
            return
        while not end.is_set():
            try:
                with anyio.CancelScope(shield=shielded):
                    await end.wait()
            except asyncio.CancelledError:
                cancellations.append(now())

    async with working(changes=1, handler=ignores_cancellation, concurrency=2) as work:
        await anyio.sleep(HANDLER_TIMEOUT - 5)
        assert work.worker.health.ignoring_cancellation == 0
        await anyio.sleep(60)
        assert work.worker.health.ignoring_cancellation == 1
        assert len(cancellations) == (0 if shielded else 12)
        for _ in range(3):
            work.service.put(SENDER)
        await anyio.sleep(700)
        assert confirmed(work.service) == [2, 3, 4]
        assert work.worker.health.handling == 1
        end.set()
        await anyio.sleep(1300)
        assert confirmed(work.service) == [1, 2, 3, 4]
        assert work.worker.counts.timed_out == 1


async def test_a_handler_may_await_something_to_clean_up_when_it_is_cancelled():
    cleaned_up = []

    async def cleans_up(change):
        try:
            await anyio.sleep_forever()
        finally:
            await anyio.sleep(2)
            cleaned_up.append(now())

    async with working(changes=1, handler=cleans_up) as work:
        await anyio.sleep(HANDLER_TIMEOUT + 5)
        assert len(cleaned_up) == 1
        assert released(work) == [(ReleaseReason.TIMED_OUT, 1)]


# --- Retries of the handler


async def test_a_failing_handler_is_retried_with_a_growing_wait():
    handler = Handler(seconds=0, fails=[1] * 8)
    async with working(changes=1, handler=handler) as work:
        await anyio.sleep(200)
        assert confirmed(work.service) == [1]
        assert work.worker.counts.retried == 8
        ended = work.events_of(HandlerEnded)
        assert [event.attempt for event in ended] == list(range(1, 10))
        waits = [event.retry_in.total_seconds() for event in ended[:-1]]
        longest = [1, 2, 4, 8, 16, 30, 30, 30]
        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
        assert ended[-1].result is HandlerResult.RETURNED
        assert work.events_of(ChangeReleased) == []


async def test_a_change_whose_handler_keeps_failing_is_released_before_the_deadline(caplog):
    async with working(changes=1, handler=Handler(always_fails=[1])) as work:
        await anyio.sleep(HANDLER_TIMEOUT)
        assert released(work) == [(ReleaseReason.HANDLER_FAILED, 1)]
        assert work.handler.begun[-1][1] > HANDLER_TIMEOUT - 35
        assert work.worker.health.handling == 0
        await anyio.sleep(1100)
        # There is no maximum by default. An ERROR says how often the change failed.
        assert released(work) == [
            (ReleaseReason.HANDLER_FAILED, 1),
            (ReleaseReason.HANDLER_FAILED, 2),
        ]
        errors = [record for record in caplog.records if record.levelname == "ERROR"]
        assert "(LookupError). The service will redeliver it. Deliveries so far: 2." in (
            errors[-1].getMessage()
        )
        assert errors[-1].exc_info[0] is LookupError


@pytest.mark.parametrize(("concurrency", "waiting"), [(1, 1), (2, 1), (5, 2), (8, 4)])
async def test_at_most_half_of_the_slots_wait_for_a_retry(concurrency, waiting):
    handler = Handler(seconds=0.5, always_fails=range(1, 11))
    async with working(changes=10, handler=handler, concurrency=concurrency) as work:
        most = 0
        for _ in range(1000):
            await anyio.sleep(0.1)
            most = max(most, work.worker.health.waiting_for_retry)
        assert most == waiting
        assert (work.worker.counts.failed > 0) == (concurrency > 1)


@pytest.mark.parametrize(
    ("away", "changes", "seconds", "in_time"), [(20, 20, 45, 19), (60, 200, 120, 195)]
)
async def test_an_outage_of_a_database_delays_few_changes_by_more_than_the_outage(
    away, changes, seconds, in_time
):
    """Without an outage, 200 changes take 60 s, because of the rate limit."""

    async def needs_database(change):
        if now() < away:
            raise ConnectionError

    async with working(changes=changes, handler=needs_database) as work:
        await anyio.sleep(away)
        assert confirmed(work.service) == []
        await anyio.sleep(seconds - away)
        assert len(confirmed(work.service)) >= in_time
        await anyio.sleep(1300)
        assert len(confirmed(work.service)) == changes


async def test_a_few_changes_that_always_fail_do_not_delay_the_others():
    handler = Handler(seconds=0.1, always_fails=range(1, 7))
    async with working(changes=50, handler=handler, concurrency=8) as work:
        await anyio.sleep(60)
        assert confirmed(work.service) == list(range(7, 51))


# --- Confirmation


async def test_a_confirmation_is_retried_after_a_block_and_an_outage():
    service = ModelService()
    async with working(changes=1, service=service, handler=Handler(seconds=5)) as work:
        await anyio.sleep(3)
        service.block_now(SENDER.organization_number)
        await anyio.sleep(10)
        assert confirmed(service) == []
        service.outages["one"] = Fault(kind=Kind.GATEWAY)
        await anyio.sleep(120)
        assert confirmed(service) == []
        service.outages.clear()
        await anyio.sleep(35)
        assert confirmed(service) == [1]
        assert len(work.handler.begun) == 1
        assert work.worker.counts.handled == work.worker.counts.confirmed == 1


async def test_a_confirmation_is_retried_after_the_time_that_the_service_asks_for():
    service = ModelService()
    service.script.extend([None, Fault(kind=Kind.GATEWAY, headers={"retry-after": "90"})])
    async with working(changes=1, service=service, concurrency=1) as work:
        await anyio.sleep(95)
        first, second = [sent_at for _, sent_at in confirmations_sent(service)]
        assert 90 <= second - first < 91
        assert confirmed(service) == [1]
        assert [event.delay for event in work.events_of(CallRetried)] == [timedelta(seconds=90)]


async def test_a_change_that_is_not_confirmed_at_the_deadline_comes_back():
    service = ModelService()
    async with working(changes=1, service=service, handler=Handler(seconds=5)) as work:
        await anyio.sleep(3)
        service.outages["one"] = Fault(kind=Kind.GATEWAY)
        await anyio.sleep(HANDLER_TIMEOUT)
        assert released(work) == [(ReleaseReason.NOT_CONFIRMED, 1)]
        assert confirmations_sent(service)[-1][1] > HANDLER_TIMEOUT - 35
        assert work.worker.counts.unconfirmed == 1
        service.outages.clear()
        await anyio.sleep(1300)
        assert confirmed(service) == [1]


async def test_a_confirmation_without_a_response_ends_at_the_deadline():
    class NeverConfirms(ModelTransport):
        @asynccontextmanager
        async def exchange(self, request):
            if request.method == "POST":
                await anyio.sleep_forever()
            async with super().exchange(request) as response:
                yield response

    service = ModelService()
    async with working(changes=1, service=service, transport=NeverConfirms(service, "one")) as work:
        await anyio.sleep(HANDLER_TIMEOUT + 1)
        assert released(work) == [(ReleaseReason.NOT_CONFIRMED, 1)]


async def test_a_permanent_refusal_ends_the_confirmation():
    class Refuses(ModelTransport):
        @asynccontextmanager
        async def exchange(self, request):
            async with super().exchange(request) as response:
                refusal = Answer(
                    403, {"content-type": "application/xml"}, error_xml("NOT_AUTHORIZED")
                )
                yield refusal if request.method == "POST" else response

    service = ModelService()
    async with working(changes=1, service=service, transport=Refuses(service, "one")) as work:
        await anyio.sleep(5)
        assert released(work) == [(ReleaseReason.NOT_CONFIRMED, 1)]
        assert len(confirmations_sent(service)) == 1


@pytest.mark.parametrize(
    ("faults", "sent"),
    [
        # The model of the service responds with 404 to the second confirmation, as the service does.
        ([Fault(kind=Kind.LOST_ANSWER)], 2),
        # A gateway responds with 404, so that the service has received no confirmation.
        ([Fault(kind=Kind.GATEWAY, status=404)] * 2, 3),
    ],
)
async def test_not_found_means_confirmed_only_after_a_lost_response(faults, sent):
    service = ModelService()
    service.script.extend([None, *faults])
    options = {"concurrency": 1, "fields": {"retries": Retries(max_retries=0)}}
    async with working(changes=1, service=service, **options) as work:
        await anyio.sleep(10)
        assert work.worker.counts.confirmed == 1
        assert confirmed(service) == [1]
        assert len(confirmations_sent(service)) == sent


# --- Dead letters


async def test_a_change_goes_to_the_dead_letter_handler_after_max_deliveries():
    dead_letter = Handler()
    options = {"max_deliveries": 2, "dead_letter": dead_letter}
    async with working(changes=2, handler=Handler(always_fails=[1]), **options) as work:
        await anyio.sleep(1200)
        assert released(work) == [
            (ReleaseReason.HANDLER_FAILED, 1),
            (ReleaseReason.HANDLER_FAILED, 2),
        ]
        assert work.events_of(ChangeDeadLettered) == []
        await anyio.sleep(700)
        assert work.events_of(ChangeDeadLettered) == [ChangeDeadLettered(job_id=1001, deliveries=3)]
        assert list(dead_letter.finished) == [1]
        assert confirmed(work.service) == [1, 2]
        assert work.worker.counts.dead_lettered == 1


async def test_a_dead_letter_handler_that_raises_leaves_the_change_unconfirmed():
    dead_letter = Handler(always_fails=[1])
    options = {"max_deliveries": 1, "dead_letter": dead_letter}
    async with working(changes=1, handler=Handler(always_fails=[1]), **options) as work:
        await anyio.sleep(1200)
        assert [deliveries for _, deliveries in released(work)] == [1, 2]
        assert confirmed(work.service) == []
        # The next delivery goes to it again.
        dead_letter.always_fails = ()
        await anyio.sleep(700)
        assert confirmed(work.service) == [1]
        assert [event.deliveries for event in work.events_of(ChangeDeadLettered)] == [2, 3]


async def test_deliveries_that_another_process_did_not_finish_count():
    """For example, a change that kills each process that handles it. The processes share a fleet."""
    service, fleet, dead_letter = ModelService(empty_wait=30), InMemoryFleet(), Handler()
    service.put(SENDER)
    for _ in range(2):
        async with process_of(service, fleet=fleet) as client:
            task = asyncio.ensure_future(StatusChangeWorker(client, Handler(seconds=470)).run())
            await anyio.sleep(400)
            task.cancel()
            await anyio.sleep(1)
            await cancel_natively(task)
    options = {"max_deliveries": 2, "dead_letter": dead_letter, "fields": {"fleet": fleet}}
    async with working(service=service, **options) as work:
        await anyio.sleep(1200)
        assert [event.deliveries for event in work.events_of(ChangeDelivered)] == [3]
        assert confirmed(service) == list(dead_letter.finished) == [1]
