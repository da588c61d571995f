"""How often is repeated in all: an outage is not multiplied."""

import anyio
import pytest
import virtual_time
from doubles import Unpaced
from hypothesis import given, settings
from hypothesis import strategies as st
from model_faults import Fault, Kind
from model_service import ModelService
from model_transport import process_of
from virtual_time import run

from posten_signering._session.retry import RetryBudget
from posten_signering.errors import ApiError, SigningError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@pytest.mark.parametrize(
    "outage",
    [
        Fault(kind=Kind.REFUSED),
        Fault(kind=Kind.GATEWAY, status=503),
        Fault(kind=Kind.LOST_ANSWER),
    ],
    ids=lambda fault: fault.kind.name,
)
@pytest.mark.parametrize("at_once", [1, 50])
async def test_a_total_outage_is_not_multiplied(outage, at_once):
    """1,000 calls: at most 10 % extra requests."""
    service = ModelService(rate=10**9)
    service.outages["one"] = outage

    async def some(calls: int) -> None:
        for _ in range(calls):
            with pytest.raises(SigningError):
                await client.check_access()

    async with process_of(service, rate_limiter=Unpaced()) as client:
        async with anyio.create_task_group() as tasks:
            for _ in range(at_once):
                tasks.start_soon(some, 1000 // at_once)
        assert 1000 < len(service.calls) <= 1100

        # When the service is back, what is repeated is earned by what succeeds.
        del service.outages["one"]
        for _ in range(30):
            await client.check_access()
        service.outages["one"] = outage
        before = len(service.calls)
        await some(10)
        assert len(service.calls) - before == 10 + 3


@settings(max_examples=30)
@given(outcomes=st.lists(st.booleans(), max_size=600), reserve=st.integers(0, 20))
def test_repetitions_are_a_tenth_of_the_successes_and_a_reserve(outcomes, reserve):
    budget = RetryBudget(reserve)
    taken = successes = 0
    for succeeded in outcomes:
        if succeeded:
            budget.succeeded()
            successes += 1
        else:
            taken += budget.take()
    assert taken <= reserve + successes / 10 + 1e-6


def test_with_every_third_request_failing_calls_still_succeed_at_first():
    """The reserve is for that; afterwards one repetition for ten successes is left."""

    async def main() -> None:
        service = ModelService(rate=10**9)
        async with process_of(service, rate_limiter=Unpaced()) as client:
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
