"""A change that can't be read holds up nothing but itself."""

import logging

import anyio
import pytest
import virtual_time
from model_faults import Fault, Kind
from model_service import SENDER, ModelService, now, number_of
from model_transport import process_of

from posten_signering.errors import TooEagerPollingError, UnexpectedResponseError

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


@pytest.fixture
def service():
    return ModelService()


async def test_those_behind_it_are_delivered_and_it_is_when_it_can_be_read(service, caplog):
    """As long as a lease: the next poll after the documented wait would get the same one for ever."""
    bad, *good = (service.put(SENDER) for _ in range(5))
    bad.readable = False
    got = {}

    async def consume() -> None:
        async for change in changes:
            got[number_of(change)] = now()
            await client.confirm(change)

    async with process_of(service) as client:
        changes = client.status_changes()
        with anyio.move_on_after(3 * 3600):
            await consume()
        assert got.keys() == {each.number for each in good}
        assert max(got.values()) < 30
        # It is told of once in each lease, not in a loop.
        warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
        assert 10 <= changes.counts.failures == len(warnings) <= 3 * 3600 / service.lease + 1
        assert "can't be read" in warnings[0].getMessage() or "not a whole" in caplog.text
        bad.readable = True
        with anyio.move_on_after(2 * service.lease):
            await consume()
    assert got.keys() == {each.number for each in service.changes}
    assert not any(poll.too_early_as_told for poll in service.polls)


async def test_those_behind_it_are_delivered_however_many_there_are(service):
    """As when all jobs of one kind can't be read: the first comes back before the last was fetched."""
    for _ in range(30):
        service.put(SENDER).readable = False
    good = service.put(SENDER)
    async with process_of(service) as client:
        with anyio.fail_after(300):
            assert number_of(await anext(client.status_changes())) == good.number


async def test_what_its_answer_told_of_the_next_poll_holds(service):
    service.put(SENDER).readable = False
    service.wait_after_change = 1200
    async with process_of(service, default_wait=30) as client:
        with pytest.raises(UnexpectedResponseError) as caught:
            await client.get_status_change()
        assert 1200 <= caught.value.wait.total_seconds() <= 1201
        assert caught.value.next_permitted_poll_time is not None
        await anyio.sleep(1000)
        with pytest.raises(TooEagerPollingError) as early:
            await client.get_status_change()
        assert not early.value.polled
        assert early.value.next_permitted_poll_time == caught.value.next_permitted_poll_time


@pytest.mark.parametrize("kind", [Kind.NO_DATE, Kind.BROKEN_POLL_TIME, Kind.PAGE])
async def test_where_its_answer_tells_nothing_the_documented_wait_does(service, kind):
    service.put(SENDER).readable = False
    service.script += [Fault(kind=kind)]
    async with process_of(service, default_wait=900) as client:
        with pytest.raises(UnexpectedResponseError) as caught:
            await client.get_status_change()
        assert caught.value.wait is None
        await anyio.sleep(890)
        with pytest.raises(TooEagerPollingError):
            await client.get_status_change()
        await anyio.sleep(11)
        with pytest.raises(UnexpectedResponseError):
            await client.get_status_change()
    assert len(service.polls) == 2
