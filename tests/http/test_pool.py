"""Connections that are lent out: what is cancelled is closed all the same, and never lent again."""

import anyio
import pytest

from posten_signering._http.pool import Pool

pytestmark = pytest.mark.anyio


class Connection:
    """Takes a moment to close, as a TLS connection does."""

    def __init__(self):
        self.closed = False

    async def aclose(self):
        await anyio.lowlevel.checkpoint()
        self.closed = True


@pytest.fixture
def pool():
    return Pool(Connection)


async def test_a_cancelled_loan_is_closed_although_closing_takes_a_moment(pool):
    with anyio.CancelScope() as scope:
        async with pool.lend() as loan:
            scope.cancel()
            await anyio.sleep_forever()
    assert loan.connection.closed
    async with pool.lend() as next_loan:
        assert next_loan.connection is not loan.connection


async def test_a_cancelled_close_of_the_pool_closes_every_connection(pool):
    async with pool.lend() as first, pool.lend() as second:
        first.reusable = second.reusable = True
    with anyio.CancelScope() as scope:
        scope.cancel()
        await pool.aclose()
    assert first.connection.closed
    assert second.connection.closed
