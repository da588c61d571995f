"""A pytest plugin: the sandbox, and a client of it, as fixtures.

Name it in the `conftest.py` at the top of your tests:

    pytest_plugins = ["posten_signering.sandbox.pytest"]

It needs the extra `sandbox`, and works alike in plain tests, with anyio's plugin and with
pytest-asyncio: the sandbox runs in a thread with an event loop of its own, and the client is entered
in the loop of the test.

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
    """The settings of the sandbox, for all tests: override this fixture for others.

    There is no rate limit here: tests make more calls in a second than an organisation does.
    """
    return {"rate_limit": None}


@pytest.fixture(scope="session")
def _posten_sandbox(posten_sandbox_settings: SettingsArguments) -> Iterator[ThreadedSandbox]:
    with ThreadedSandbox(**posten_sandbox_settings) as sandbox:
        yield sandbox


@pytest.fixture
def posten_sandbox(_posten_sandbox: ThreadedSandbox) -> ThreadedSandbox:
    """A sandbox without jobs, faults and counters from earlier tests.

    It is started once for all tests. Its verbs wait, and need no `await`.
    """
    _posten_sandbox.reset()
    return _posten_sandbox


@pytest.fixture
def posten_client(posten_sandbox: ThreadedSandbox) -> DirectClient:
    """A client of the sandbox, as the organisation 123456789; the test enters it, in its own loop.

    For another organisation or other settings make one with
    `DirectClient(posten_sandbox.client_configuration(...))`.
    """
    return DirectClient(posten_sandbox.client_configuration())
