"""The pages about the sandbox are correct: the tests run their faults, commands and printed tests."""

import inspect
import re
import shlex

import aiohttp
import pytest
from docs_pages import ROOT, blocks_of

from posten_signering.sandbox import Fault, FaultKind, Sandbox, ThreadedSandbox
from posten_signering.sandbox import __main__ as command
from posten_signering.sandbox._api import faults as faults_module
from posten_signering.sandbox._control.endpoints import ENDPOINTS
from posten_signering.sandbox._control.openapi import openapi_document
from posten_signering.sandbox._values.settings import Settings

TESTING = ROOT / "docs" / "guides" / "testing.md"
TEXT = (ROOT / "docs" / "reference" / "sandbox.md").read_text(encoding="utf-8")
CONTROL_API = (ROOT / "docs" / "reference" / "control-api.md").read_text(encoding="utf-8")

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
    rows = re.findall(r"^\| (`.*?) \|", section("In a program"), re.MULTILINE)
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


def test_the_documented_options_are_those_of_the_command(capsys):
    rows = re.findall(
        r"^\| `(--[\w-]+)` \| `?(\w+)`? \|", section("From the command line"), re.MULTILINE
    )
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    options = re.findall(r"^  (--[\w-]+)", capsys.readouterr().out, re.MULTILINE)
    assert [option for option, _ in rows] == options
    defaults = vars(command._parse([], "program"))
    for option, default in rows:
        value = defaults[option.removeprefix("--").replace("-", "_")]
        seconds = getattr(value, "total_seconds", lambda value=value: value)()
        assert default == ("none" if value is None else f"{seconds}".removesuffix(".0"))


def curls():
    """The curl commands as tuples (method, path, body)."""
    for line in re.findall(r"^\$ curl (.*)$", CONTROL_API, re.MULTILINE):
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
    operations = {(method.upper(), path) for path, item in document.items() for method in item}
    assert operations - called == set()


PLUGINS = ["-p", "anyio.pytest_plugin", "-p", "pytest_asyncio.plugin"]


@pytest.mark.parametrize(
    ("files", "plugins", "outcomes"),
    [
        # The test with the mark of anyio shows that no other plugin is active.
        (["lease", "test_lease", "conftest", "test_with_anyio"], [], {"passed": 1, "failed": 1}),
        (None, PLUGINS, {"passed": 6}),
    ],
    ids=["plain", "plugins"],
)
def test_the_printed_tests_pass(pytester, monkeypatch, files, plugins, outcomes):
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    printed = {block.code.split()[1]: block.code for block in blocks_of(TESTING)}
    for name, code in printed.items():
        if files is None or name.removesuffix(".py") in files:
            (pytester.path / name).write_text(code)
    result = pytester.runpytest_subprocess(*plugins)
    result.assert_outcomes(**outcomes)
