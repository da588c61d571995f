"""The sandbox's clock, which `advance` moves forward, and the clients that follow it."""

from datetime import timedelta
from itertools import count

import anyio
import anyio.lowlevel
import pytest
from callers import Clock
from doubles import PERSON, job

from posten_signering import (
    DirectClient,
    DirectSigner,
    StatusRetrievalMethod,
)
from posten_signering.errors import TooEagerPollingError
from posten_signering.sandbox import Sandbox, SandboxError
from posten_signering.sandbox._values.clock import AdvancedClock

pytestmark = pytest.mark.anyio

YEAR = 365 * 24 * 3600


def polled_job():
    return job(
        signers=[DirectSigner(personal_identification_number=PERSON)],
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )


@pytest.fixture
def no_warning(caplog):
    """Fails a test in which the SDK logs anything."""
    yield
    assert [record for record in caplog.records if record.name == "posten_signering"] == []


async def until_polled(sandbox, times):
    for _ in count():
        if sandbox.counters and sandbox.counters["123456789"].calls.get("poll") == times:
            return
        await anyio.lowlevel.checkpoint()


@pytest.mark.usefixtures("no_warning")
async def test_a_client_follows_the_sandbox_when_its_time_is_advanced():
    async with Sandbox() as sandbox, DirectClient(sandbox.client_configuration()) as client:
        changes, found = client.status_changes(), []

        async def find():
            found.append(await anext(changes))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(find)
            await until_polled(sandbox, 1)
            created = await client.create(polled_job())
            await sandbox.sign(created.single_signer.redirect_url)
            with pytest.raises(TooEagerPollingError, match="did not send"):
                await client.get_status_change()
            # The queue was empty, so the iterator waits for half a minute.
            await sandbox.advance(31)
        assert (await client.get_status_change()).change is None
        # The change is leased for 10 minutes.
        await sandbox.advance(601)
        again = await anext(changes)
        assert again.job_id == created.job_id
        assert again.confirmation_url == found[0].confirmation_url
        await client.confirm(again)
        await sandbox.reset()
        await client.create(polled_job())


@pytest.mark.usefixtures("no_warning")
async def test_a_client_works_years_later():
    async with Sandbox(rate_limit=None) as sandbox:
        async with DirectClient(sandbox.client_configuration()) as client:
            for _ in range(50):
                await sandbox.advance(YEAR)
            with pytest.raises(SandboxError, match="at most 50 years ahead"):
                await sandbox.advance(1)
            created = await client.create(polled_job())
            await sandbox.sign(created.single_signer.redirect_url)
            change = (await client.get_status_change()).change
            assert (await client.get_pades(change)).startswith(b"%PDF")
        async with DirectClient(sandbox.client_configuration("987654321")) as new_client:
            assert "987654321" in await new_client.check_access()


async def test_a_client_with_the_given_clock_is_understood_after_an_advance(caplog):
    async with Sandbox(clock=Clock()) as sandbox:
        await sandbox.advance(YEAR)
        configuration = sandbox.client_configuration(clock=Clock())
        async with DirectClient(configuration) as client:
            await client.create(polled_job())
    assert f"clock is -{YEAR} seconds off" in caplog.text


async def test_after_an_advance_a_signing_time_must_be_by_one_of_the_two_clocks(
    sandbox, sender, clock
):
    await sandbox.advance(3600)
    sender.clock = Clock()
    for seconds in (-5, 5, 3595, 3605):
        sender.clock.now = clock() + timedelta(seconds=seconds)
        await sender.create()
    for seconds, problem in (
        (-6, "6.0 s behind"),
        (6, "6.0 s ahead"),
        (3594, "6.0 s behind"),
        (3606, "6.0 s ahead"),
        (7200, "3600.0 s ahead"),
    ):
        sender.clock.now = clock() + timedelta(seconds=seconds)
        refused = await sender.send(sender.body())
        assert refused.error == (400, "ASICE_VALIDATION_FAILED")
        assert problem in refused.text("//s:error-message/text()")


async def test_a_configuration_follows_a_sandbox_that_is_started_again(clock, tmp_path):
    sandbox = Sandbox(clock=clock, directory=tmp_path)
    async with sandbox:
        configuration = sandbox.client_configuration()
        await sandbox.advance(600)
        before = configuration.monotonic()
    assert configuration.clock() == clock() + timedelta(seconds=600)
    async with sandbox:
        await sandbox.advance(60)
        assert configuration.clock() == clock() + timedelta(seconds=660)
        await sandbox.reset()
        assert configuration.clock() == clock()
        # If it went back, a wait of the client would last longer.
        assert configuration.monotonic() >= before + 60


async def test_a_sleep_ends_when_the_time_is_advanced():
    clock, ended = AdvancedClock(Clock()), []

    async def sleep(seconds):
        await clock.sleep(seconds)
        ended.append(seconds)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(sleep, 60)
        tasks.start_soon(sleep, 7200)
        await sleep(0)
        clock.advance(3600)
        while len(ended) < 2:
            await anyio.lowlevel.checkpoint()
        assert ended == [0, 60]
        tasks.cancel_scope.cancel()


async def test_the_clocks_of_a_client_can_be_chosen(sandbox):
    chosen = {"clock": Clock(), "monotonic": lambda: 7.0, "sleep": anyio.sleep}
    configuration = sandbox.client_configuration(**chosen)
    for name, value in chosen.items():
        assert getattr(configuration, name) is value
