"""Fixtures: a sandbox, a sender that creates jobs in it, and its control API. A test file may override them."""

import aiohttp
import pytest
from callers import Clock, caller_of
from control_caller import ControlCaller
from shared_processes import SharedProcesses

from posten_signering.sandbox import Sandbox

START = "posten_signering.sandbox._sandbox.running"


@pytest.fixture(scope="session", autouse=True)
def _shared_processes():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{START}.DocumentProcesses", SharedProcesses)
        yield
    for process in SharedProcesses.idle:
        process.end()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def sandbox(clock):
    async with Sandbox(clock=clock, rate_limit=None) as running:
        yield running


@pytest.fixture
async def sender(sandbox, clock, tmp_path):
    async with caller_of(sandbox, clock, tmp_path) as caller:
        yield caller


@pytest.fixture
async def control_api(sandbox):
    async with aiohttp.ClientSession() as session:
        yield ControlCaller(session, sandbox.control_url)
