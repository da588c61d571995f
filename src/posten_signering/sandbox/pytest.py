"""A pytest plugin with the sandbox and a client as fixtures.

Name it in the top-level `conftest.py` of your tests:

    pytest_plugins = ["posten_signering.sandbox.pytest"]

It needs the extra `sandbox`. It works in plain tests, with anyio's plugin and with pytest-asyncio: the
sandbox runs in a thread with its own event loop, and the test enters the client in the test's loop.

    async def test_a_signed_lease(posten_sandbox, posten_client):
        async with posten_client as client:
            created = await client.create(job)
            exit_url = posten_sandbox.sign(created.single_signer.redirect_url)
"""

from collections.abc import Iterator

import pytest

from posten_signering import DirectClient
from posten_signering.sandbox import ThreadedSandbox
from posten_signering.sandbox._values.settings import SettingsArguments

__all__ = ["posten_client", "posten_sandbox", "posten_sandbox_settings"]


@pytest.fixture(scope="session")
def posten_sandbox_settings() -> SettingsArguments:
    """The settings of the sandbox for all tests. Override this fixture to change them.

    There is no rate limit by default, because tests make more calls per second than the limit allows.
    """
    return {"rate_limit": None}


@pytest.fixture(scope="session")
def _posten_sandbox(posten_sandbox_settings: SettingsArguments) -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox(**posten_sandbox_settings) as sandbox:
        yield sandbox


@pytest.fixture
def posten_sandbox(_posten_sandbox: ThreadedSandbox) -> ThreadedSandbox:
    """A running sandbox without jobs, faults or counters from earlier tests.

    It is started once and shared by all tests. Its methods are synchronous: call them without `await`.
    """
    _posten_sandbox.reset()
    return _posten_sandbox


@pytest.fixture
def posten_client(posten_sandbox: ThreadedSandbox) -> DirectClient:
    """A client of the sandbox for the organisation 123456789. The test enters it in the test's event loop.

    For a different organisation or different settings, create a client with
    `DirectClient(posten_sandbox.client_configuration(...))`.
    """
    return DirectClient(posten_sandbox.client_configuration())
