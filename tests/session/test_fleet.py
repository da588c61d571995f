"""What the clients of one process share in an `InMemoryFleet`: budgets, turns to poll, and deliveries."""

import asyncio
import threading
from contextlib import AsyncExitStack
from datetime import UTC, datetime

import anyio
import pytest
import virtual_time
from virtual_time import VirtualTime, cancel_natively, settle

from posten_signering import FleetContext, InMemoryFleet, QueueState, Sender
from posten_signering._session import fleet as fleet_module
from posten_signering._session.timing import Time

pytestmark = pytest.mark.anyio

OURS, THEIRS = "123456789", "987654321"
QUEUE = Sender(organization_number=OURS, polling_queue="shop")
KNOWN = QueueState(
    permitted_in=600.0,
    permitted_time=datetime(2026, 1, 2, tzinfo=UTC),
    next_in=900.0,
    early_answers=2,
    leads=True,
)


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


def context_of(root: str = "https://one.example/api") -> FleetContext:
    return FleetContext(
        service_root=root,
        organization_number=OURS,
        time=Time(**VirtualTime().fields),
        notify=lambda event, *, error=None: None,
    )


@pytest.fixture
async def members():
    """Two clients of a fleet, and a client of a different service."""
    fleet = InMemoryFleet()
    async with AsyncExitStack() as exits:
        yield [
            await exits.enter_async_context(fleet.join(context))
            for context in (context_of(), context_of(), context_of("https://two.example/api"))
        ]


async def test_one_client_has_the_turn_and_the_next_one_knows_what_it_learned(members):
    one, other, elsewhere = members
    had = []

    async def wait_for_turn() -> None:
        async with other.turn(QUEUE) as turn:
            had.append((VirtualTime.monotonic(), turn.state))

    async with anyio.create_task_group() as tasks, one.turn(QUEUE) as turn:
        assert turn.state.permitted_in <= 0
        tasks.start_soon(wait_for_turn)
        await anyio.sleep(10)
        assert had == []
        for member, queue in ((other, Sender(organization_number=OURS)), (elsewhere, QUEUE)):
            async with member.turn(queue) as other_turn:
                assert other_turn.state.permitted_time is None
        turn.learned(KNOWN)
    [(moment, state)] = had
    assert 10 <= moment <= 10.1
    assert state.permitted_in == pytest.approx(600, abs=0.1)
    assert state.next_in == pytest.approx(900, abs=0.1)
    assert (state.permitted_time, state.early_answers, state.leads) == (
        KNOWN.permitted_time,
        2,
        True,
    )


async def test_a_turn_in_which_nothing_was_learned_changes_nothing(members):
    async with members[0].turn(QUEUE) as turn:
        turn.learned(KNOWN)
    await anyio.sleep(100)
    async with members[0].turn(QUEUE):
        pass
    async with members[1].turn(QUEUE) as turn:
        assert turn.state.permitted_in == pytest.approx(500)


async def test_a_cancelled_poll_ends_its_turn(members):
    async def poll() -> None:
        async with members[0].turn(QUEUE):
            await anyio.sleep_forever()

    task = asyncio.ensure_future(poll())
    await settle()
    await cancel_natively(task)
    async with members[1].turn(QUEUE):
        assert VirtualTime.monotonic() < 1


async def test_a_turn_ends_by_itself_and_its_late_end_does_not_end_the_next_one(members):
    """The event loop of a client may end in the middle of a poll."""
    late = members[0].turn(QUEUE)
    await late.__aenter__()
    async with members[1].turn(QUEUE):
        assert 300 <= VirtualTime.monotonic() <= 301
        await late.__aexit__(None, None, None)
        with anyio.move_on_after(10) as scope:
            async with members[0].turn(QUEUE):
                pass
        assert scope.cancelled_caught


async def test_deliveries_are_counted_until_the_change_is_confirmed(members):
    one, other, _ = members
    assert [await member.begin_delivery("key") for member in (one, other, one)] == [1, 2, 3]
    assert await one.begin_delivery("other key") == 1
    await other.end_delivery("key")
    await other.end_delivery("unknown key")
    assert await one.begin_delivery("key") == 1


async def test_the_count_of_the_change_that_was_delivered_longest_ago_is_forgotten_first(
    members, monkeypatch
):
    monkeypatch.setattr(fleet_module, "_MOST_DELIVERIES", 2)
    one, *_ = members
    for key in ("first", "second", "first", "third"):
        await one.begin_delivery(key)
    assert [await one.begin_delivery(key) for key in ("first", "second")] == [3, 1]


@pytest.mark.parametrize("per_certificate", [False, True])
async def test_each_sender_has_a_budget_or_all_have_that_of_the_certificate(per_certificate):
    fleet = InMemoryFleet(per_certificate=per_certificate)
    async with fleet.join(context_of()) as member:
        await member.block(THEIRS, 30)
        await member.acquire(OURS)
        assert VirtualTime.monotonic() == (30 if per_certificate else 0)
        await member.acquire(THEIRS)
        assert VirtualTime.monotonic() >= 30


async def test_clients_of_different_services_have_different_budgets(members):
    one, other, elsewhere = members
    await one.block(OURS, 30)
    await elsewhere.acquire(OURS)
    assert VirtualTime.monotonic() == 0
    await other.acquire(OURS)
    assert VirtualTime.monotonic() == 30


async def test_without_a_share_calls_are_neither_counted_nor_blocked():
    async with InMemoryFleet(share=None).join(context_of()) as member:
        await member.block(OURS, 30)
        for _ in range(100):
            (await member.acquire(OURS))()
        assert VirtualTime.monotonic() == 0


def test_threads_can_share_a_fleet():
    fleet, counts = InMemoryFleet(), []

    async def client() -> None:
        async with fleet.join(context_of()) as member:
            counts.extend([await member.begin_delivery("key") for _ in range(200)])

    threads = [threading.Thread(target=lambda: asyncio.run(client())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(counts) == list(range(1, 601))
