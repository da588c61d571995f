"""Stopping an iterator: a poll that was not sent yet is not sent, and a poll in flight is finished."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest
import virtual_time
from doubles import UnlimitedFleet
from hypothesis import given, settings
from hypothesis import strategies as st
from model_service import SENDER, ModelService, Outcome, now, number_of
from model_transport import process_of
from model_worker import Handler, confirmed, working
from virtual_time import cancel_natively, run

from posten_signering.errors import RateLimitedError

pytestmark = pytest.mark.anyio

OURS = SENDER.organization_number


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


async def numbers_of(changes) -> list[int]:
    return [number_of(change) async for change in changes]


async def test_an_iterator_stopped_during_a_block_ends_immediately_and_polls_no_more():
    service = ModelService()
    service.put(SENDER)
    service.block_now(OURS)
    async with process_of(service) as client:
        with pytest.raises(RateLimitedError):
            await client.check_access()
        changes = client.status_changes()
        task = asyncio.ensure_future(numbers_of(changes))
        await anyio.sleep(5)
        assert not task.done()
        changes.stop()
        assert await task == []
        assert now() < 6
        await anyio.sleep(60)
        assert service.polls == []
        # No response was lost, so the next poll need not wait.
        assert (await client.get_status_change()).change is not None


async def test_an_iterator_stopped_just_before_its_poll_is_sent_does_not_poll():
    """Without this check the cancellation would interrupt the poll in flight and lose its response."""

    class StoppingFleet(UnlimitedFleet):
        async def acquire(self, organization_number: str) -> Callable[[], None]:
            changes.stop()
            return await super().acquire(organization_number)

    service = ModelService()
    service.put(SENDER)
    async with process_of(service, fleet=StoppingFleet()) as client:
        changes = client.status_changes()
        assert await numbers_of(changes) == []
        assert service.polls == []
        assert (await client.get_status_change()).change is not None


@pytest.mark.parametrize("block", [30, 60])
async def test_a_worker_stops_promptly_while_its_organisation_is_blocked(block):
    service = ModelService(block=block)
    service.block_now(OURS)
    async with working(changes=1, service=service, handler=Handler()) as work:
        await anyio.sleep(2)
        assert work.worker.counts.polls.failures == 1
        work.worker.stop()
        await work.ended()
        assert now() < 3
    assert len(service.polls) == 1


@settings(max_examples=60)
@given(moment=st.floats(0, 1.5), seed=st.integers(0, 2**16), natively=st.booleans())
def test_a_stop_at_any_moment_either_finishes_the_poll_or_prevents_it(moment, seed, natively):
    """The change is delivered if the poll was sent before the stop."""

    async def main() -> None:
        service = ModelService(seed=seed)
        service.put(SENDER)
        async with process_of(service) as client:
            # These calls use up the rate budget, so the poll has to wait.
            for _ in range(3):
                await client.check_access()
            changes = client.status_changes()
            task = asyncio.ensure_future(numbers_of(changes))
            await anyio.sleep(moment)
            changes.stop()
            if natively:
                await anyio.sleep(5)
                await cancel_natively(task)
            delivered = await task
        outcomes = [poll.outcome for poll in service.polls]
        assert delivered == [1] * outcomes.count(Outcome.CHANGE)
        assert len(outcomes) == outcomes.count(Outcome.CHANGE) + outcomes.count(Outcome.EMPTY)

    run(main)


async def test_a_poll_in_flight_is_cancelled_after_stop_within():
    service = ModelService(busy=9.0)
    async with working(changes=1, service=service, stop_within=timedelta(seconds=3)) as work:
        await anyio.sleep(1)
        assert len(service.polls) == 1
        work.worker.stop()
        await work.ended()
        assert now() == pytest.approx(4, abs=0.1)
    assert confirmed(service) == []


async def test_stop_within_includes_the_time_of_the_poll_in_flight():
    """The time starts when the worker is asked to stop, not when the last poll has ended."""
    service = ModelService(busy=3.0)
    options = {"handler": Handler(seconds=50), "stop_within": timedelta(seconds=20)}
    async with working(changes=1, service=service, **options) as work:
        await anyio.sleep(1)
        work.worker.stop()
        await work.ended()
        assert now() == pytest.approx(21, abs=0.1)
    assert work.handler.cancelled == [1]
