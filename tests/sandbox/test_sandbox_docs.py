"""docs/reference/sandbox.md is correct: the tests run its faults, its control API commands and its example test."""

import inspect
import re
import shlex
from pathlib import Path

import aiohttp
import pytest

from posten_signering.sandbox import Fault, FaultKind, Sandbox, ThreadedSandbox
from posten_signering.sandbox import __main__ as command
from posten_signering.sandbox._api import faults as faults_module
from posten_signering.sandbox._control.endpoints import ENDPOINTS
from posten_signering.sandbox._control.openapi import openapi_document
from posten_signering.sandbox._values.settings import Settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "sandbox.md"
TEXT = PAGE.read_text(encoding="utf-8")

pytest_plugins = ["pytester"]


def section(title):
    return TEXT.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def python(title):
    return re.findall(r"```python\n(.*?)```", section(title), re.DOTALL)


def test_every_kind_of_fault_has_a_valid_example():
    examples = re.findall(r"^\| `(Fault\(.*?\))` \|", section("Faults"), re.MULTILINE)
    faults = [eval(example, {"Fault": Fault, "FaultKind": FaultKind}) for example in examples]
    assert [fault.kind for fault in faults] == list(FaultKind)
    for kind, fields in faults_module.TAKES.items():
        [row] = [
            line
            for line in section("Faults").splitlines()
            if f"FaultKind.{kind.name}" in line[:60] and line.startswith("|")
        ]
        if "after" in fields:
            assert "after" in row


def test_the_example_with_faults_runs():
    names = {}
    exec(python("Faults")[0], names)
    with ThreadedSandbox() as sandbox:
        names["make_the_service_flaky"](sandbox)
        assert [pending.fault.kind for pending in sandbox.faults.pending] == [
            FaultKind.RESET,
            FaultKind.SERVER_ERROR,
        ]


def test_the_documented_methods_and_settings_exist():
    rows = re.findall(r"^\| (`.*?) \|", section("From tests"), re.MULTILINE)
    documented = {name for row in rows for name in re.findall(r"`(\w+)", row)}
    public = {name for name in vars(Sandbox) if not name.startswith("_")}
    assert documented - public == set()
    assert public - documented <= {
        "service_root",
        "signing_pages_url",
        "overview_url",
        "control_url",
        "ca_pem",
        "ca_certificates",
    }
    settings = set(inspect.signature(Settings).parameters)
    assert [name for name in settings if f"`{name}`" not in Sandbox.__doc__] == []
    comparison = section("How far it is the real service")
    for name in ("organizations", "empty_queue_wait", "early_poll_penalty", "lease", "rate_limit"):
        assert name in settings
        assert f"`{name}`" in comparison


def test_the_documented_ports_are_the_defaults():
    assert f"{command.PORT} for the API and {command.PAGES_PORT} for its pages" in TEXT


def curls():
    """The curl commands as tuples (method, path, body)."""
    for line in re.findall(r"^\$ curl (.*)$", section("The control API"), re.MULTILINE):
        words = shlex.split(line)
        method, body = "GET", None
        if words[0] == "-X":
            method = words[1]
        if words[0] == "--json":
            method, body = "POST", words[1]
        yield method, words[-1].removeprefix("http://127.0.0.1:9080"), body


@pytest.mark.anyio
async def test_the_control_api_accepts_every_documented_command():
    document = openapi_document(ENDPOINTS)["paths"]
    called = set()
    async with Sandbox() as sandbox, aiohttp.ClientSession() as session:
        for method, path, body in curls():
            [template] = [
                known for known in document if re.fullmatch(re.sub(r"{\w+}", r"\\w+", known), path)
            ]
            assert method.lower() in document[template]
            called.add((method, template))
            headers = {} if body is None else {"Content-Type": "application/json"}
            url = sandbox.signing_pages_url.rstrip("/") + path
            async with session.request(method, url, data=body, headers=headers) as answer:
                # The sandbox has no job. No other error is allowed.
                assert answer.status in ({404} if "/jobs/" in path else {200, 204}), path
    changing = {
        (method.upper(), path)
        for path, item in document.items()
        for method in item
        if method != "get" and path != "/control/faults/{fault}"
    }
    assert changing - called == {("DELETE", "/control/faults")}


def test_the_example_test_passes(pytester):
    conftest, test = python("With pytest")
    backend = "import pytest\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n"
    pytester.makepyfile(conftest=conftest + backend, test_page=test)
    result = pytester.runpytest_subprocess(
        "-W", "error", "-p", "no:asyncio", "-p", "no:schemathesis"
    )
    result.assert_outcomes(passed=1)
