"""The feed of changes (Server-Sent Events) of the control API."""

import asyncio
import json
import logging

import aiohttp
import pytest
from bundles import SENDER
from callers import redirect_urls

from posten_signering.sandbox import Fault, FaultKind, Sandbox
from posten_signering.sandbox._control.endpoints import ControlApi

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
BROKER = "111222333"


class Feed:
    def __init__(self, content):
        self.content = content

    async def line(self):
        async with asyncio.timeout(20):
            while not (line := (await self.content.readline()).decode().strip()):
                if self.content.at_eof():
                    return None
            return line

    async def version(self):
        """The next version in the feed. Heartbeats are skipped."""
        while (line := await self.line()) is not None:
            if line.startswith("data: "):
                return json.loads(line.removeprefix("data: "))["version"]
        return None


async def test_the_feed_reports_every_kind_of_change(sandbox, sender, control_api):
    async with control_api.session.get(f"{control_api.root}/events") as response:
        assert response.headers["Content-Type"] == "text/event-stream"
        feed = Feed(response.content)
        assert await feed.line() == "event: change"
        last = await feed.version()

        async def expect_change():
            nonlocal last
            before, last = last, await feed.version()
            assert last > before

        created = await sender.create()
        await expect_change()
        await sandbox.sign(redirect_urls(created)[0])
        await expect_change()
        await control_api("POST", "/jobs/1/expire")
        await expect_change()
        sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0))
        await expect_change()
        sandbox.authorize_broker(BROKER, SENDER)
        await expect_change()
        _, overview = await control_api("GET", "/overview")
        assert overview["version"] >= last


async def test_the_feed_has_a_heartbeat_and_ends_when_the_sandbox_stops(clock, monkeypatch):
    monkeypatch.setattr(
        "posten_signering.sandbox._sandbox.running.ControlApi",
        lambda control: ControlApi(control=control, heartbeat=0.01),
    )
    async with aiohttp.ClientSession() as session:
        async with Sandbox(clock=clock) as sandbox:
            response = await session.get(f"{sandbox.control_url}/events")
            feed = Feed(response.content)
            await feed.version()
            assert await feed.line() == ": heartbeat"
            assert await feed.line() == ": heartbeat"
            sandbox.faults.clear()
            assert await feed.version() is not None
        while await feed.line() is not None:
            pass
        response.close()


async def test_a_client_may_close_the_feed(sandbox, control_api, caplog):
    response = await control_api.session.get(f"{control_api.root}/events")
    await response.content.readline()
    response.close()
    for _ in range(3):
        sandbox.faults.clear()
        assert (await control_api("GET", "/faults"))[0] == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []
