"""The pytest plugin works in plain tests, with anyio's plugin and with pytest-asyncio."""

import textwrap

import pytest
import pytest_asyncio  # noqa: F401 - the plugin is tested together with it, so it must be installed

pytest_plugins = ["pytester"]

CONFTEST = """
pytest_plugins = ["posten_signering.sandbox.pytest"]
"""

SHARED = """
from posten_signering import *
from posten_signering.sandbox import Fault, FaultKind

JOB = DirectJob(
    title="Lease",
    documents=[Document(title="Lease", content=b"A lease", type=DocumentType.TEXT)],
    signers=[DirectSigner(custom_identifier="customer-42")],
    exit_urls=ExitUrls(completion="https://x.example", rejection="https://x.example", error="https://x.example"),
)

async def signed(sandbox, client):
    async with client:
        created = await client.create(JOB)
        exit_url = sandbox.sign(created.single_signer.redirect_url)
        status = await client.get_status(created, exit_url.rpartition("=")[2])
        assert status.status == DirectJobStatus.COMPLETED_SUCCESSFULLY
        assert (await client.get_pades(status)).startswith(b"%PDF-")
    assert len(sandbox.overview().jobs) == 1
    sandbox.faults.add(Fault(kind=FaultKind.RESET))
"""

PLAIN = """
import asyncio
from shared import *

def test_without_a_loop(posten_sandbox, posten_client):
    asyncio.run(signed(posten_sandbox, posten_client))

def test_the_sandbox_is_empty_in_the_next_test(posten_sandbox):
    assert posten_sandbox.overview().jobs == ()
    assert posten_sandbox.overview().faults == ()
    assert posten_sandbox.received == ()
"""

ANYIO = """
import pytest
from shared import *

pytestmark = pytest.mark.anyio

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def client(posten_client):
    async with posten_client:
        yield posten_client

async def test_the_client_runs_in_the_loop_of_anyio(posten_sandbox, posten_client):
    await signed(posten_sandbox, posten_client)

async def test_a_fixture_can_enter_the_client(client):
    assert "123456789" in await client.check_access()
"""

ASYNCIO = """
import pytest
import pytest_asyncio
from shared import *

@pytest_asyncio.fixture
async def client(posten_client):
    async with posten_client:
        yield posten_client

@pytest.mark.asyncio
async def test_the_client_runs_in_the_loop_of_pytest_asyncio(posten_sandbox, posten_client):
    await signed(posten_sandbox, posten_client)

@pytest.mark.asyncio
async def test_a_fixture_can_enter_the_client(client):
    assert "123456789" in await client.check_access()
"""

AUTO = """
import pytest
from shared import *

@pytest.fixture
async def client(posten_client):
    async with posten_client:
        yield posten_client

async def test_without_any_mark(posten_sandbox, posten_client):
    await signed(posten_sandbox, posten_client)

async def test_a_fixture_can_enter_the_client(client):
    assert "123456789" in await client.check_access()
"""

WRONG = """
def test_it_fails(posten_sandbox):
    assert posten_sandbox.overview().jobs
"""

OVERRIDE = """
import pytest
from datetime import timedelta

@pytest.fixture(scope="session")
def posten_sandbox_settings():
    return {"rate_limit": None, "empty_queue_wait": timedelta(seconds=77)}
"""

SETTINGS = """
from datetime import timedelta

def test_the_settings_are_overridden(posten_sandbox):
    environment = posten_sandbox.client_configuration().environment
    assert environment.default_poll_wait == timedelta(seconds=77)
"""

OPTIONS = (
    "-W",
    "error",
    "-p",
    "no:cacheprovider",
    "-p",
    "no:schemathesis",  # importing it would take most of the time
    "-o",
    "asyncio_default_fixture_loop_scope=function",
)


@pytest.fixture
def suite(pytester):
    """Runs a test suite with these files in a separate process."""

    def run(*options, **files):
        sources = {"conftest": CONFTEST, "shared": SHARED} | files
        pytester.makepyfile(**{name: textwrap.dedent(text) for name, text in sources.items()})
        return pytester.runpytest_subprocess(*OPTIONS, *options)

    return run


def test_plain_anyio_and_asyncio_tests_use_the_same_fixtures_and_can_fail(suite):
    result = suite(test_plain=PLAIN, test_anyio=ANYIO, test_asyncio=ASYNCIO, test_wrong=WRONG)
    result.assert_outcomes(passed=6, failed=1)
    result.stdout.fnmatch_lines(["FAILED test_wrong.py::test_it_fails*"])


def test_it_works_in_the_automatic_mode_of_pytest_asyncio_and_with_other_settings(suite):
    files = {"conftest": CONFTEST + OVERRIDE, "test_auto": AUTO, "test_settings": SETTINGS}
    result = suite("-o", "asyncio_mode=auto", **files)
    result.assert_outcomes(passed=3)


def test_without_the_line_in_conftest_the_fixtures_are_missing(suite):
    result = suite(conftest="", test_plain=PLAIN)
    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*fixture 'posten_sandbox' not found*"])
