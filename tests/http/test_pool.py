"""The connection pool: a connection whose exchange was cancelled is closed, and never used again."""

import anyio
import pytest

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


async def test_after_a_cancelled_exchange_the_connection_is_closed(pool):
    with anyio.CancelScope() as scope:
        async with pool.borrow() as borrowed:
            scope.cancel()
            await anyio.sleep_forever()
    assert borrowed.connection.closed
    async with pool.borrow() as next_borrowed:
        assert next_borrowed.connection is not borrowed.connection


async def test_closing_the_pool_closes_every_connection_even_when_cancelled(pool):
    async with pool.borrow() as first, pool.borrow() as second:
        first.reusable = second.reusable = True
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pool.aclose()
    assert first.connection.closed
    assert second.connection.closed
