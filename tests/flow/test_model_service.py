"""The model of the service that the tests of polling stand on sees what it must see."""

import anyio
import pytest
import virtual_time
from model_faults import Fault, Kind
from model_service import SENDER, ModelService, Outcome, now
from model_transport import ModelTransport

from posten_signering._wire import exchange, operations
from posten_signering.errors import TransportError

pytestmark = pytest.mark.anyio

ROOT = "https://api.example/api"


@pytest.fixture
def anyio_backend():
    return virtual_time.BACKEND


async def naive_poll(transport: ModelTransport) -> int:
    """A poll by somebody who listens to nothing."""
    async with transport.exchange(operations.poll(ROOT, SENDER).request) as answer:
        async for _ in answer.chunks():
            pass
        return answer.status


async def test_a_poll_before_the_time_that_its_process_was_told_is_seen():
    service = ModelService()
    one, two = ModelTransport(service, "one"), ModelTransport(service, "two")
    assert await naive_poll(one) == 204
    assert await naive_poll(two) == 429
    assert not any(poll.too_early_as_told for poll in service.polls)
    assert await naive_poll(two) == 429
    assert await naive_poll(one) == 429
    assert [poll.too_early_as_told for poll in service.polls] == [False, False, True, True]
    await anyio.sleep(600)
    assert await naive_poll(one) == 204
    assert not service.polls[-1].too_early_as_told


async def test_a_time_that_never_arrived_was_not_told():
    service = ModelService()
    transport = ModelTransport(service, "one")
    service.script += [Fault(kind=Kind.LOST_ANSWER), Fault(kind=Kind.NO_DATE)]
    with pytest.raises(TransportError):
        await naive_poll(transport)
    assert [await naive_poll(transport), await naive_poll(transport)] == [429, 429]
    assert [poll.too_early_as_told for poll in service.polls] == [False] * 3
    assert service.polls[1].lost_at is not None
    await naive_poll(transport)
    assert service.polls[3].too_early_as_told


async def test_a_change_is_hidden_for_its_lease_and_gone_when_confirmed():
    service = ModelService(empty_wait=0.0)
    transport = ModelTransport(service, "one")
    change = service.put(SENDER)
    assert [await naive_poll(transport), await naive_poll(transport)] == [200, 204]
    await anyio.sleep(600)
    assert await naive_poll(transport) == 200
    assert [process for _, process in change.leases] == ["one", "one"]
    confirm = exchange.Request(
        method="POST",
        url=exchange.Secret(f"{ROOT}/123456789/direct/signature-jobs/1001/changes/1/complete"),
    )
    for status in (204, 404):
        async with transport.exchange(confirm) as answer:
            assert answer.status == status
    await anyio.sleep(700)
    assert await naive_poll(transport) == 204


async def test_one_call_too_many_in_a_second_blocks_for_thirty():
    service = ModelService(slow=0.001, empty_wait=0.0)
    transport = ModelTransport(service, "one")
    statuses = [await naive_poll(transport) for _ in range(12)]
    assert statuses == [204] * 10 + [429] * 2
    assert [poll.outcome for poll in service.polls][10:] == [Outcome.BLOCKED] * 2
    assert service.blocks[SENDER.organization_number] == 1
    blocked_at = now()
    await anyio.sleep(29)
    assert await naive_poll(transport) == 429
    await anyio.sleep(blocked_at + 30.1 - now())
    assert await naive_poll(transport) == 204
