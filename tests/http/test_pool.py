"""The connection pool: a connection whose exchange was cancelled is closed, and never used again."""

import asyncio

import anyio
import pytest
from virtual_time import cancel_natively

from posten_signering._http.pool import Pool

pytestmark = pytest.mark.anyio


class Connection:
    """A connection whose closing takes a moment, as with TLS."""

    def __init__(self):
        self.closed = False

    async def aclose(self):
        await anyio.lowlevel.checkpoint()
        self.closed = True


@pytest.fixture
def pool():
    return Pool(Connection)


async def test_a_connection_is_reused_only_if_its_exchange_is_complete(pool):
    first = pool.take()
    await pool.give_back(first, reusable=True)
    assert pool.take() is first
    await pool.give_back(first, reusable=False)
    assert first.closed
    assert pool.take() is not first


async def test_a_connection_is_closed_even_when_the_caller_is_cancelled(pool):
    connection = pool.take()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pool.give_back(connection, reusable=False)
    assert connection.closed


async def test_closing_the_pool_closes_every_connection_even_when_cancelled(pool):
    idle, in_use = pool.take(), pool.take()
    await pool.give_back(idle, reusable=True)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pool.aclose()
    assert idle.closed
    assert in_use.closed


async def test_a_native_cancellation_interrupts_the_closing_of_one_connection_only(pool):
    connections = [pool.take() for _ in range(4)]
    for connection in connections[:2]:
        await pool.give_back(connection, reusable=True)
    closing = asyncio.create_task(pool.aclose())
    await asyncio.sleep(0)
    await cancel_natively(closing)
    assert closing.cancelled()
    assert [connection.closed for connection in connections].count(False) == 1


async def test_a_retired_pool_keeps_no_connection_and_still_serves_the_calls_that_use_it(pool):
    idle, in_use = pool.take(), pool.take()
    await pool.give_back(idle, reusable=True)
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pool.retire()
    assert (idle.closed, in_use.closed) == (True, False)
    await pool.give_back(in_use, reusable=True)
    assert in_use.closed
    retried = pool.take()
    assert retried not in (idle, in_use)
    await pool.aclose()
    assert retried.closed
