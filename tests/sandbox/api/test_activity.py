"""The counters of each organisation, and the record of the last requests."""

import asyncio
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from bundles import NOW, PERSON, SENDER
from callers import caller_of, client_context, redirect_urls

from posten_signering.sandbox import Fault, FaultKind, RateLimit, Sandbox

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
BROKER = "111222333"


def poll(sender, client, queue=""):
    return sender.call("GET", f"{sender.jobs}{queue}", headers={"User-Agent": client})


async def test_calls_are_counted_by_operation_and_refusals_by_code(sandbox, sender):
    assert sandbox.counters == {}
    await sender.get(sender.root)
    created = await sender.create()
    await sender.get(created.text("//s:status-url/text()"))
    await sender.get(f"{sender.root}/elsewhere")
    await sender.get(sender.jobs)
    await sender.get(sender.jobs)
    counters = sandbox.counters[SENDER]
    assert counters.calls == {"check_access": 1, "create": 1, "status": 1, "other": 1, "poll": 2}
    assert counters.refusals == {
        "INVALID_STATUS_QUERY_TOKEN": 1,
        "NOT_FOUND": 1,
        "TOO_EAGER_POLLING": 1,
    }
    with pytest.raises(TypeError):
        counters.calls["poll"] = 0


async def test_calls_of_a_broker_are_counted_for_the_sender(sandbox, clock, tmp_path):
    async with caller_of(sandbox, clock, tmp_path, certificate=BROKER) as broker:
        await broker.get(broker.root)
        await broker.get(f"{sandbox.service_root}/x")
    assert sandbox.counters[SENDER].refusals == {"BROKER_NOT_AUTHORIZED": 1}
    assert sandbox.counters[BROKER].refusals == {"NOT_FOUND": 1}


async def test_calls_during_a_block_are_counted_as_refused(clock, tmp_path):
    async with (
        Sandbox(clock=clock, rate_limit=RateLimit(calls=1)) as sandbox,
        caller_of(sandbox, clock, tmp_path) as sender,
    ):
        for _ in range(3):
            await sender.get(sender.root)
        assert sandbox.counters[SENDER].calls == {"check_access": 3}
        assert sandbox.counters[SENDER].refusals == {"DoSFilter": 2}


async def test_early_polls_of_one_client_and_between_clients_are_counted_separately(
    sandbox, sender, clock
):
    def early():
        counters = sandbox.counters[SENDER]
        return counters.early_polls_of_one_client, counters.early_polls_between_clients

    await poll(sender, "one")
    assert early() == (0, 0)
    await poll(sender, "two")  # this client has received no poll time yet
    assert early() == (0, 1)
    await poll(sender, "two")  # now it has received one
    assert early() == (1, 1)
    await poll(sender, "one")
    assert early() == (2, 1)
    clock.wait(seconds=30)
    await poll(sender, "two")
    await poll(sender, "one")  # the poll time that it received is past
    assert early() == (2, 2)
    await poll(sender, "one", "?polling_queue=other")  # a different queue
    assert early() == (2, 2)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.RESET, after=True, times=1),
        Fault(kind=FaultKind.SERVER_ERROR, after=True, times=1),
        Fault(kind=FaultKind.MISSING_HEADER, header="X-Next-permitted-poll-time", times=1),
    ],
    ids=lambda fault: fault.kind.value,
)
async def test_a_lost_response_gives_the_client_no_poll_time(sandbox, sender, fault):
    sandbox.faults.add(fault)
    await poll(sender, "one")
    # After a reset, aiohttp's client retries the request itself.
    if fault.kind is not FaultKind.RESET:
        await poll(sender, "one")
    assert sandbox.counters[SENDER].calls == {"poll": 2}
    assert sandbox.counters[SENDER].early_polls_of_one_client == 0
    assert sandbox.counters[SENDER].early_polls_between_clients == 1


async def test_a_clock_skew_does_not_change_the_poll_time_that_counts(sandbox, sender, clock):
    sandbox.faults.add(Fault(kind=FaultKind.CLOCK_SKEW, seconds=-600, times=1))
    await poll(sender, "one")
    clock.wait(seconds=29)
    await poll(sender, "one")
    assert sandbox.counters[SENDER].early_polls_of_one_client == 1


async def test_the_record_has_the_last_requests_and_their_refusals(sandbox, sender, clock):
    await sender.get(sender.root)
    clock.wait(seconds=1)
    await sender.call("DELETE", sender.jobs, headers={"User-Agent": f"shop/1.0 {PERSON}"})
    last, first = sandbox.overview().requests
    assert (first.number, first.time, first.method, first.status) == (1, NOW, "GET", 200)
    assert (first.path, first.operation) == (f"/api/{SENDER}", "check_access")
    assert first.refusal is None
    assert last.number == 2
    assert last.time == clock.now
    assert (last.operation, last.status, last.organization) == (None, 405, SENDER)
    assert last.refusal.startswith("Method Not Allowed")
    assert last.client == "shop/1.0 ***********"
    for _ in range(250):
        sandbox._now_running.control.activity.record_request(first, refusal_code=None)
    assert len(sandbox.overview().requests) == 200


async def test_the_record_contains_no_token_and_no_identity_number(sandbox, sender):
    created = await sender.create()
    exit_url = await sandbox.sign(redirect_urls(created)[0])
    token = exit_url.rpartition("=")[2]
    status = created.text("//s:status-url/text()")
    await sender.get(f"{status}?status_query_token={token}")
    await sender.get(f"{sender.jobs}?polling_queue=queue+of+{PERSON}&status_query_token=secret")
    await sender.get(f"{sender.root}/{PERSON}/%30%31817099921")
    shown = repr(sandbox.overview())
    for secret in (token, "secret", PERSON):
        assert secret not in shown
    paths = [request.path for request in sandbox.overview().requests]
    assert paths[0] == f"/api/{SENDER}/***********/***********"
    assert paths[1].endswith("?polling_queue=queue of ***********&status_query_token=***")
    assert paths[2].endswith("/status?status_query_token=***")


async def test_a_user_agent_that_is_not_text_is_recorded_as_text(sandbox, sender, tmp_path):
    url = urlsplit(sender.root)
    context = client_context(sandbox.ca_pem, tmp_path, sender.holder)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    writer.write(f"GET {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n".encode())
    writer.write(b"User-Agent: client \xe6\xff\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
    writer.close()
    await writer.wait_closed()
    [request] = sandbox.overview().requests
    assert request.client == "client \ufffd\ufffd"


async def test_a_reset_clears_the_record_and_the_counters(sandbox, sender):
    await sender.get(sender.root)
    await sandbox.reset()
    assert sandbox.counters == {}
    assert sandbox.overview().requests == ()


async def test_a_call_without_an_organisation_is_recorded_but_not_counted(sandbox, sender):
    """The path and the certificate may both have no organisation number."""
    await sender.get(sender.root)
    activity = sandbox._now_running.control.activity
    unknown = replace(sandbox.overview().requests[0], organization=None)
    activity.record_request(unknown, refusal_code=None)
    assert len(sandbox.overview().requests) == 2
    assert list(sandbox.counters) == [SENDER]
