"""Which calls are retried after which failure, after what delay, and how often."""

import asyncio
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import anyio
import pytest
import virtual_time
from client_calls import URL, URL_OPERATIONS, all_calls
from doubles import PADES, Answer, Clock, Sleep, UnlimitedFleet, Unsent, client_of, status_xml
from hypothesis import given, settings
from hypothesis import strategies as st
from model_faults import Fault, Kind
from model_service import ModelService
from model_transport import process_of
from virtual_time import VirtualTime, cancel_natively, run

from posten_signering import Retries
from posten_signering._session.retry import RetryBudget, delay
from posten_signering.errors import (
    ApiError,
    ConfigurationError,
    CreateOutcomeUnknownError,
    RateLimitedError,
    SigningError,
    TlsError,
    TooEagerPollingError,
    TransportError,
    TransportTimeoutError,
    UnexpectedResponseError,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


# --- Operation by failure

FAILURES = {
    "refused": Unsent(TransportError("refused", request_may_have_left=False)),
    "connect-timeout": Unsent(TransportTimeoutError("slow", request_may_have_left=False)),
    "lost": TransportError("lost", request_may_have_left=True),
    "timeout": TransportTimeoutError("silent", request_may_have_left=True),
    "cut": Answer(200, b"<", broken_by=TransportError("cut", request_may_have_left=True)),
    "502": Answer(502, b"<html>"),
    "503": Answer(503),
    "504": Answer(504, b"<html>"),
    "tls-before": Unsent(TlsError("untrusted", request_may_have_left=False)),
    "tls-after": TlsError("refused", request_may_have_left=True),
    "blocked": Answer(429, b"", {"dosfilter": "delayed"}),
    "429": Answer(429),
    "500": Answer(500),
    "501": Answer(501),
    "400": Answer(400),
    "403": Answer(403),
    "404": Answer(404),
    "410": Answer(410),
    "302": Answer(302, b"", {"location": URL}),
}

TRANSIENT = {"refused", "connect-timeout", "lost", "timeout", "cut", "502", "503", "504"}
NEVER_SENT = {"refused", "connect-timeout"}
# The failures of a create after which the job may exist.
OUTCOME_UNKNOWN = {"lost", "timeout", "tls-after", "cut", "302"}
OUTCOME_UNKNOWN |= {"500", "501", "502", "503", "504"}
ERRORS = {
    "refused": TransportError,
    "connect-timeout": TransportTimeoutError,
    "lost": TransportError,
    "timeout": TransportTimeoutError,
    "cut": TransportError,
    "tls-before": TlsError,
    "tls-after": TlsError,
    "blocked": RateLimitedError,
    "429": RateLimitedError,
}


def expected(name: str, failure: str) -> type[SigningError]:
    """The error that the caller gets when every attempt fails."""
    if name == "create" and failure in OUTCOME_UNKNOWN:
        return CreateOutcomeUnknownError
    if name == "get_status_change" and failure == "429":
        return TooEagerPollingError
    return ERRORS.get(failure, ApiError)


def attempts(name: str, failure: str) -> int:
    """The number of attempts, with at most two retries."""
    if name == "create":
        return 3 if failure in NEVER_SENT else 1
    if name == "get_status_change" or (name.startswith("open") and failure == "cut"):
        return 1
    return 3 if failure in TRANSIENT else 1


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("name", [name for name in all_calls(Path()) if name != "status_changes"])
async def test_each_operation_is_retried_after_transient_failures_only(name, failure, tmp_path):
    script = [FAILURES[failure]] * 4
    async with client_of(*script, retries=Retries()) as (client, transport):
        with pytest.raises(SigningError) as caught:
            await all_calls(tmp_path / "signed.pdf")[name](client)
        assert transport.open == 0
    assert type(caught.value) is expected(name, failure)
    assert len(script) - len(transport.script) == attempts(name, failure)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("create", CreateOutcomeUnknownError),
        ("get_status", UnexpectedResponseError),
        ("request_new_redirect_url", UnexpectedResponseError),
    ],
)
async def test_a_response_that_can_not_be_read_is_not_retried(name, error, tmp_path):
    async with client_of(Answer(200, status_xml()[:-30]), retries=Retries()) as (client, transport):
        with pytest.raises(error):
            await all_calls(tmp_path)[name](client)
    assert len(transport.sent) == 1


@pytest.mark.parametrize("failure", ["refused", "cut", "503"])
@pytest.mark.parametrize("name", URL_OPERATIONS)
async def test_the_caller_does_not_see_a_transient_failure(name, failure, tmp_path):
    answer = Answer(200, URL_OPERATIONS[name].answer)
    script = [FAILURES[failure], FAILURES[failure], answer]
    async with client_of(*script, retries=Retries()) as (client, transport):
        if failure == "cut" and name in {"open_pades", "open_xades"}:
            # No retry, because the caller has already read a part of the body.
            with pytest.raises(TransportError):
                await all_calls(tmp_path / "signed")[name](client)
            assert len(transport.sent) == 1
            return
        await all_calls(tmp_path / "signed")[name](client)
    assert not transport.script


@pytest.mark.parametrize("max_retries", [0, 1, 5])
async def test_max_retries_limits_the_attempts(max_retries):
    script = [FAILURES["503"]] * 9
    async with client_of(*script, retries=Retries(max_retries=max_retries)) as (client, transport):
        with pytest.raises(ApiError):
            await client.confirm(URL)
    assert len(transport.sent) == max_retries + 1


@pytest.mark.parametrize("name", ["max_retries", "budget"])
async def test_a_negative_setting_is_refused(name):
    with pytest.raises(ConfigurationError, match=rf"Retries\.{name} is -1: it must be 0 or more"):
        Retries(**{name: -1})


# --- HTTP 404 and 410 after a retry


@pytest.mark.parametrize("gone", [404, 410])
@pytest.mark.parametrize("name", ["confirm", "delete_documents"])
async def test_a_retry_that_gets_404_or_410_succeeds(name, gone):
    for failures in (["lost"], ["503"], ["refused", "lost"], ["lost", "refused"]):
        script = [*(FAILURES[failure] for failure in failures), Answer(gone)]
        async with client_of(*script, retries=Retries()) as (client, _):
            assert await all_calls(Path())[name](client) is None


@pytest.mark.parametrize("gone", [404, 410])
@pytest.mark.parametrize("name", ["confirm", "delete_documents"])
async def test_404_and_410_are_errors_when_no_earlier_attempt_reached_the_service(name, gone):
    """The URL is wrong or from a different environment: nothing was confirmed or deleted."""
    for failures in (["refused"], ["connect-timeout", "refused"]):
        script = [*(FAILURES[failure] for failure in failures), Answer(gone)]
        async with client_of(*script, retries=Retries()) as (client, _):
            with pytest.raises(ApiError) as caught:
                await all_calls(Path())[name](client)
            assert caught.value.status == gone


@pytest.mark.parametrize("gone", [404, 410])
@pytest.mark.parametrize("name", [name for name in URL_OPERATIONS if name != "confirm"])
async def test_without_a_retry_or_for_other_operations_404_and_410_are_errors(name, gone, tmp_path):
    first_attempt = [Answer(gone)]
    retry = [FAILURES["lost"], Answer(gone)] if name != "delete_documents" else first_attempt
    for script in (first_attempt, retry):
        async with client_of(*script, retries=Retries()) as (client, _):
            with pytest.raises(ApiError) as caught:
                await all_calls(tmp_path / "signed")[name](client)
            assert caught.value.status == gone
    async with client_of(Answer(gone), retries=Retries()) as (client, _):
        with pytest.raises(ApiError):
            await client.confirm(URL)


async def test_other_refusals_of_a_retry_are_errors():
    script = [FAILURES["lost"], Answer(403)]
    async with client_of(*script, retries=Retries()) as (client, _):
        with pytest.raises(ApiError) as caught:
            await client.confirm(URL)
    assert caught.value.status == HTTPStatus.FORBIDDEN


# --- Delays

LOST = TransportError("lost", request_may_have_left=True)


@given(
    attempts=st.integers(1, 50),
    random=st.floats(0, 1),
    longest=st.integers(0, 60),
    retry_after=st.integers(0, 99),
)
def test_delays_are_random_up_to_a_bound_that_doubles(attempts, random, longest, retry_after):
    bound = min(4.0, 0.25 * 2 ** (attempts - 1))
    assert delay(LOST, attempts, random, Retries()) == pytest.approx(random * bound)
    error = ApiError(operation="x", status=503, retry_after=timedelta(seconds=retry_after))
    retries = Retries(longest_retry_after=timedelta(seconds=longest))
    waited = delay(error, attempts, random, retries)
    if retry_after > longest:
        assert waited is None
    else:
        assert waited == pytest.approx(retry_after + random * bound)


@pytest.mark.parametrize(("random", "slept"), [(0.0, [0, 0]), (0.5, [0.125, 0.25])])
async def test_the_client_sleeps_for_the_delays(random, slept):
    sleep = Sleep(Clock())
    script = [FAILURES["503"]] * 3
    async with client_of(*script, retries=Retries(), sleep=sleep, random=lambda: random) as (
        client,
        _,
    ):
        with pytest.raises(ApiError):
            await client.confirm(URL)
    assert sleep.slept == slept


@pytest.mark.parametrize(
    ("retry_after", "slept"),
    [("7", [7]), ("20", [20]), ("21", None), ("99999", None), ("soon", [0]), ("-3", [0])],
)
async def test_retry_after_is_obeyed_up_to_a_limit(retry_after, slept):
    """Above the limit the call fails without a retry, and the error has the `Retry-After`."""
    sleep = Sleep(Clock())
    script = [Answer(503, b"", {"retry-after": retry_after}), Answer(204)]
    async with client_of(*script, retries=Retries(), sleep=sleep) as (client, transport):
        if slept is None:
            with pytest.raises(ApiError) as caught:
                await client.confirm(URL)
            assert caught.value.retry_after == timedelta(seconds=int(retry_after))
            assert len(transport.sent) == 1
        else:
            await client.confirm(URL)
    assert sleep.slept == (slept or [])


@pytest.mark.parametrize("natively", [False, True], ids=["scope", "Task.cancel"])
async def test_a_client_is_usable_after_a_cancellation_between_two_attempts(natively):
    service = ModelService()
    time = VirtualTime()
    time.random = lambda: 1.0
    async with process_of(service, time=time, max_connections=1) as client:
        service.script += [Fault(kind=Kind.REFUSED)] * 2
        if natively:
            task = asyncio.ensure_future(client.check_access())
            await anyio.sleep(0.3)
            await cancel_natively(task)
        else:
            with anyio.move_on_after(0.3):
                await client.check_access()
        assert len(service.calls) == 1
        service.script.clear()
        assert await client.check_access() == "known"


# --- Downloads


@pytest.mark.parametrize("name", ["download_pades", "download_xades"])
@pytest.mark.parametrize("older", [None, b"older"])
async def test_between_attempts_a_download_leaves_no_partial_file(name, older, tmp_path):
    path = tmp_path / "signed"
    if older is not None:
        path.write_bytes(older)
    before = [] if older is None else [path]
    whole = URL_OPERATIONS[name].answer
    cut = Answer(200, whole[:-3], broken_by=LOST)
    seen = []

    async def sleep(_: float) -> None:
        seen.append(list(tmp_path.iterdir()))

    async with client_of(cut, cut, Answer(200, whole), retries=Retries(), sleep=sleep) as (
        client,
        _,
    ):
        assert await all_calls(path)[name](client) == len(whole)
        assert seen == [before, before]
        assert (list(tmp_path.iterdir()), path.read_bytes()) == ([path], whole)
    path.unlink()
    if older is not None:
        path.write_bytes(older)
    async with client_of(cut, cut, cut, retries=Retries(), sleep=sleep) as (client, _):
        with pytest.raises(TransportError):
            await all_calls(path)[name](client)
    assert list(tmp_path.iterdir()) == before
    assert older is None or path.read_bytes() == older


async def test_an_open_download_is_retried_only_until_its_response_begins():
    cut = Answer(200, [PADES[:5], PADES[5:-3]], broken_by=LOST)
    script = [FAILURES["503"], FAILURES["lost"], cut, Answer(200, PADES)]

    async def read() -> None:
        async with client.open_pades(URL) as stream:
            assert [chunk async for chunk in stream]

    async with client_of(*script, retries=Retries()) as (client, transport):
        with pytest.raises(TransportError):
            await read()
        assert len(transport.script) == 1
        assert transport.open == 0


# --- The retry budget: retries do not multiply the load of an outage


@pytest.mark.parametrize(
    "outage",
    [
        Fault(kind=Kind.REFUSED),
        Fault(kind=Kind.GATEWAY, status=503),
        Fault(kind=Kind.LOST_ANSWER),
    ],
    ids=lambda fault: fault.kind.name,
)
@pytest.mark.parametrize("concurrent", [1, 50])
async def test_in_a_total_outage_there_are_few_retries(outage, concurrent):
    """1,000 calls cause at most 10 % extra requests."""
    service = ModelService(rate=10**9)
    service.outages["one"] = outage

    async def fail(calls: int) -> None:
        for _ in range(calls):
            with pytest.raises(SigningError):
                await client.check_access()

    async with process_of(service, fleet=UnlimitedFleet()) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(concurrent):
                tasks.start_soon(fail, 1000 // concurrent)
        assert 1000 < len(service.calls) <= 1100

        # When the service is back, 30 successful calls earn 3 retries.
        del service.outages["one"]
        for _ in range(30):
            await client.check_access()
        service.outages["one"] = outage
        before = len(service.calls)
        await fail(10)
        assert len(service.calls) - before == 10 + 3


@settings(max_examples=30)
@given(outcomes=st.lists(st.booleans(), max_size=600), initial=st.integers(0, 20))
def test_retries_are_at_most_the_budget_and_a_tenth_of_the_successes(outcomes, initial):
    budget = RetryBudget(initial)
    taken = successes = 0
    for succeeded in outcomes:
        if succeeded:
            budget.succeeded()
            successes += 1
        else:
            taken += budget.take()
    assert taken <= initial + successes / 10 + 1e-6


def test_when_every_third_call_fails_the_budget_limits_the_retries():
    """At first the whole budget is there. Afterwards ten successes earn one retry."""

    async def main() -> None:
        service = ModelService(rate=10**9)
        async with process_of(service, fleet=UnlimitedFleet()) as client:
            failed = 0
            for number in range(300):
                if number % 3 == 0:
                    service.script.append(Fault(kind=Kind.GATEWAY, status=502))
                try:
                    await client.check_access()
                except ApiError:
                    failed += 1
            extra = len(service.calls) - 300
            assert extra <= 10 + 300 / 10
            assert failed == 100 - extra

    run(main)
