"""An iteration that is ended while its poll waits for its turn: nothing is sent any more."""

import asyncio
from collections.abc import Callable
from datetime import timedelta

import anyio
import pytest
import virtual_time
from doubles import Unpaced
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


async def stepping(changes) -> list[int]:
    return [number_of(change) async for change in changes]


async def test_stopped_while_its_organisation_is_held_it_ends_at_once_and_polls_no_more():
    service = ModelService()
    service.put(SENDER)
    service.block_now(OURS)
    async with process_of(service) as client:
        with pytest.raises(RateLimitedError):
            await client.check_access()
        changes = client.status_changes()
        task = asyncio.ensure_future(stepping(changes))
        await anyio.sleep(5)
        assert not task.done()
        changes.stop()
        assert await task == []
        assert now() < 6
        await anyio.sleep(60)
        assert service.polls == []
        # Nothing was lost: there is no wait that a lost answer would ask for.
        assert (await client.get_status_change()).change is not None


async def test_stopped_at_the_very_moment_of_its_turn_it_does_not_poll():
    """The cancellation would reach the poll only on its way, and lose the answer."""

    class Stopping(Unpaced):
        async def acquire(self, organization_number: str) -> Callable[[], None]:
            changes.stop()
            return await super().acquire(organization_number)

    service = ModelService()
    service.put(SENDER)
    async with process_of(service, rate_limiter=Stopping()) as client:
        changes = client.status_changes()
        assert await stepping(changes) == []
        assert service.polls == []
        assert (await client.get_status_change()).change is not None


@pytest.mark.parametrize("held", [30, 60])
async def test_a_worker_ends_in_time_though_its_organisation_is_held(held):
    service = ModelService(block=held)
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
def test_at_whatever_moment_a_poll_is_sent_and_finished_or_not_sent(moment, seed, natively):
    """With a poll on its way the change is delivered; before it has left nothing is."""

    async def main() -> None:
        service = ModelService(seed=seed)
        service.put(SENDER)
        async with process_of(service) as client:
            # Uses up the budget of the moment, so that the poll waits for its turn.
            for _ in range(3):
                await client.check_access()
            changes = client.status_changes()
            task = asyncio.ensure_future(stepping(changes))
            await anyio.sleep(moment)
            changes.stop()
            if natively:
                await anyio.sleep(5)
                await cancel_natively(task)
            got = await task
        outcomes = [poll.outcome for poll in service.polls]
        assert got == [1] * outcomes.count(Outcome.CHANGE)
        assert len(outcomes) == outcomes.count(Outcome.CHANGE) + outcomes.count(Outcome.EMPTY)

    run(main)


async def test_a_poll_on_its_way_takes_no_longer_than_handlers_may():
    service = ModelService(busy=9.0)
    async with working(changes=1, service=service, stop_within=timedelta(seconds=3)) as work:
        await anyio.sleep(1)
        assert len(service.polls) == 1
        work.worker.stop()
        await work.ended()
        assert now() == pytest.approx(4, abs=0.1)
    assert confirmed(service) == []


async def test_a_handler_has_the_time_that_is_left_after_the_poll():
    """The time begins when the worker is asked to stop, not when the last poll has come back."""
    service = ModelService(busy=3.0)
    options = {"handler": Handler(seconds=50), "stop_within": timedelta(seconds=20)}
    async with working(changes=1, service=service, **options) as work:
        await anyio.sleep(1)
        work.worker.stop()
        await work.ended()
        assert now() == pytest.approx(21, abs=0.1)
    assert work.handler.cancelled == [1]
