"""The iterator holds no resource between two changes: break, exceptions, cancellation, closing."""

import asyncio
from contextlib import aclosing

import anyio
import pytest
import virtual_time
from hypothesis import given, settings
from hypothesis import strategies as st
from model_service import SENDER, ModelService, now, number_of
from model_transport import process_of
from virtual_time import cancel_natively, run, settle

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@pytest.fixture
def service():
    return ModelService()


async def put_later(service: ModelService, seconds: float) -> None:
    await anyio.sleep(seconds)
    service.put(SENDER)


# --- Between two changes


async def test_after_break_the_iterator_and_the_client_stay_usable(service):
    first, second, third = (service.put(SENDER) for _ in range(3))
    async with process_of(service) as client:
        changes = client.status_changes()
        async for change in changes:
            assert number_of(change) == first.number
            break
        async for change in changes:
            assert number_of(change) == second.number
            break
        assert (await client.get_status_change()).change is not None
    assert len(third.leases) == 1


async def test_after_an_exception_in_the_loop_the_iterator_stays_usable(service):
    service.put(SENDER)
    second = service.put(SENDER)
    async with process_of(service) as client:
        changes = client.status_changes()

        async def consume() -> None:
            async for _ in changes:
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await consume()
        assert number_of(await anext(changes)) == second.number


async def test_aclose_ends_only_its_own_iterator_and_may_be_called_twice(service):
    service.put(SENDER)
    async with process_of(service) as client:
        changes = client.status_changes()
        await changes.aclose()
        await changes.aclose()
        assert [change async for change in changes] == []
        assert service.polls == []
        async with aclosing(client.status_changes()) as other_changes:
            assert number_of(await anext(other_changes)) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(other_changes)


async def test_closing_interrupts_the_sleep(service):
    async with process_of(service) as client:
        changes = client.status_changes()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anext, changes, None)
            await anyio.sleep(100)
            assert len(service.polls) == 1
            await changes.aclose()
        assert now() < 101
        assert len(service.polls) == 1


async def test_closing_lets_a_poll_in_flight_deliver_its_change(service):
    """Otherwise the change would be hidden from every poll until its lease ends."""
    change = service.put(SENDER)
    async with process_of(service) as client:
        changes = client.status_changes()
        task = asyncio.ensure_future(anext(changes))
        await settle()
        assert len(service.polls) == 1
        await changes.aclose()
        assert number_of(await task) == change.number
        assert [change async for change in changes] == []


async def test_two_iterators_on_one_client_get_different_changes(service):
    async with process_of(service) as client:
        one, two = client.status_changes(), client.status_changes()
        delivered = []

        async def consume(changes) -> None:
            delivered.append(number_of(await anext(changes)))

        async with anyio.create_task_group() as tasks:
            for changes in (one, two):
                tasks.start_soon(consume, changes)
            service.put(SENDER)
            service.put(SENDER)
        assert sorted(delivered) == [1, 2]


# When to cancel, in seconds: before sending, in flight, while the response is read, asleep, or while the
# other iterator polls. The event loop takes a few more steps after that.
MOMENTS = st.one_of(
    st.sampled_from([0.0, 1e-6, 600.0, 600.5, 601.0]),
    st.floats(0, 0.3),
    st.floats(599.5, 602.5),
    st.floats(0, 1900),
)


@pytest.mark.parametrize("natively", [False, True], ids=["scope", "Task.cancel"])
@settings(max_examples=60)
@given(moments=st.lists(st.tuples(MOMENTS, st.integers(0, 8)), min_size=1, max_size=4))
def test_after_a_cancellation_at_any_await_everything_stays_usable(natively, moments):
    """In the end every change is delivered and confirmed, no poll was early and no connection is still in use."""

    async def main() -> None:
        service = ModelService()
        delivered = set()

        async def consume() -> None:
            async for change in client.status_changes():
                delivered.add(number_of(change))
                await client.confirm(change)

        async def cancelled_after(seconds: float, steps: int) -> None:
            async with anyio.create_task_group() as tasks:
                consumers = [asyncio.ensure_future(consume()) for _ in range(2)] if natively else []
                if not natively:
                    tasks.start_soon(consume)
                    tasks.start_soon(consume)
                await anyio.sleep(seconds)
                for _ in range(steps):
                    await asyncio.sleep(0)
                tasks.cancel_scope.cancel()
                for task in consumers:
                    task.cancel()
            if consumers:
                await asyncio.wait(consumers)

        async with process_of(service, max_connections=1) as client:
            for seconds, steps in moments:
                service.put(SENDER)
                await cancelled_after(seconds, steps)
            with anyio.move_on_after(1300):
                await consume()
        assert delivered == {change.number for change in service.changes}
        assert all(change.confirmed for change in service.changes)
        assert not any(poll.knowingly_too_early for poll in service.polls)

    run(main)


async def test_after_a_timeout_of_anext_it_can_be_called_again(service):
    async with process_of(service) as client:
        changes = client.status_changes()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(put_later, service, 1000)
            while True:
                try:
                    change = await asyncio.wait_for(anext(changes), 60)
                except TimeoutError:
                    continue
                break
    assert number_of(change) == 1
    assert len(service.polls) == 3
    assert now() < 1203


async def test_after_a_native_cancellation_of_its_sleep_the_iterator_stays_usable(service):
    async with process_of(service) as client:
        changes = client.status_changes()
        task = asyncio.ensure_future(anext(changes))
        await anyio.sleep(100)
        await cancel_natively(task)
        service.put(SENDER)
        assert number_of(await anext(changes)) == 1
