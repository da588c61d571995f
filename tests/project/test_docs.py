"""README and docs are correct: their quotations, imports, links, and the example that they run.

A code block quotes a file if its first line is ```python, a file name and the names of classes or functions.
It then contains exactly the source of those classes and functions, including docstrings. Without names it contains
the whole file.
"""

import ast
import asyncio
import builtins
import dataclasses
import inspect
import io
import json
import logging
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

import doubles
import loopback
import pki
import pytest
import sentry_sdk
from docs_pages import PAGES, ROOT, blocks_of, complete_example, path_of, pictured_code, prose
from PIL import Image

import posten_signering
from posten_signering import ClientConfiguration, DirectClient, Sender, errors
from posten_signering._configuration.variables import PREFIX, VARIABLES, Variable
from posten_signering._session.observers import Observers
from posten_signering._values import events
from posten_signering.sandbox import Sandbox, ThreadedSandbox
from posten_signering.sandbox.__main__ import PAGES_PORT

PUBLIC = {
    "posten_signering",
    "posten_signering.errors",
    "posten_signering.opentelemetry",
    "posten_signering.worker",
    "posten_signering.sandbox",
}


ALL_BLOCKS = [
    pytest.param(block.heading, block.code, id=f"{block.page}-{block.number}")
    for page in PAGES
    for block in blocks_of(page)
]
QUOTED = [block for block in ALL_BLOCKS if block.values[0]]
NOT_QUOTED = [block for block in ALL_BLOCKS if not block.values[0]]


def source(heading: str) -> str:
    """The source of the classes and functions that a block's heading names, in that order."""
    file, *names = heading.split()
    text = (ROOT / file).read_text(encoding="utf-8")
    if not names:
        return text
    lines = text.splitlines()
    definitions = []
    for name in names:
        node: ast.AST = ast.parse(text)
        for part in name.split("."):
            [node] = [child for child in node.body if getattr(child, "name", None) == part]
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        definitions.append(textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])))
    return "\n\n".join(definitions) + "\n"


@pytest.mark.parametrize(("heading", "code"), QUOTED)
def test_a_quoted_block_equals_the_source_in_its_file(heading, code):
    assert code == source(heading)


def test_the_examples_are_quoted():
    files = {block.values[0].split()[0] for block in QUOTED}
    assert {"examples/shop.py", "examples/fastapi_app.py", "examples/worker.py"} <= files


# Blocks that do not quote a file


def parsed(code: str) -> ast.Module:
    """The syntax tree of a block. It may use `await` outside a function."""
    return compile(
        code,
        "block",
        "exec",
        flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )


def faults(code: str) -> list[str]:
    """The names of our package that a block uses although they are private or do not exist."""
    tree = parsed(code)
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("posten_signering"):
            module = inspect.importlib.import_module(node.module)
            public = node.module in PUBLIC
            names += [
                f"{node.module}.{alias.name}"
                for alias in node.names
                if not public or alias.name not in module.__all__
            ]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = CLASSES.get(node.value.id) or getattr(posten_signering, node.value.id, None)
            if inspect.isclass(owner) and not has(owner, node.attr):
                names.append(f"{node.value.id}.{node.attr}")
    return names


CLASSES = {"client": DirectClient, "configuration": ClientConfiguration}


def has(owner: type, name: str) -> bool:
    """Whether a class has a public attribute, or dataclass field, of this name."""
    fields = getattr(owner, "__dataclass_fields__", {})
    return not name.startswith("_") and (hasattr(owner, name) or name in fields)


@pytest.mark.parametrize(("heading", "code"), NOT_QUOTED)
def test_every_block_compiles_and_uses_only_public_names(heading, code):
    assert faults(code) == []
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    compile(code, "block", "exec", flags=flags)


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("from posten_signering import Nothing", "posten_signering.Nothing"),
        (
            "from posten_signering._values.job import Document",
            "posten_signering._values.job.Document",
        ),
        ("await client.create_job(job)", "client.create_job"),
        ("client._open()", "client._open"),
        ("Environment.TEST", "Environment.TEST"),
    ],
)
def test_a_name_that_is_not_public_is_reported(code, fault):
    assert faults(code) == [fault]


def test_a_block_that_does_not_compile_is_reported():
    with pytest.raises(SyntaxError):
        faults("async def f(:")


# The tables that map the official clients to ours

MODULES = [inspect.importlib.import_module(name) for name in sorted(PUBLIC)]
PUBLIC_NAMES = {name: getattr(module, name) for module in MODULES for name in module.__all__}
MEMBERS = {
    name
    for owner in PUBLIC_NAMES.values()
    if inspect.isclass(owner)
    for name in (*dir(owner), *getattr(owner, "__dataclass_fields__", {}))
}
# What a variable in a table stands for.
VARIABLES_IN_TABLES = {
    "client": DirectClient,
    "created": posten_signering.DirectJobResponse,
    "poll": posten_signering.StatusPoll,
    "signature": posten_signering.Signature,
    "signer": posten_signering.DirectSignerResponse,
    "status": posten_signering.DirectJobStatusResponse,
}


def codes_in_our_column(page: Path) -> list[str]:
    """The code in the column "Here" of a page's tables."""
    lines = page.read_text(encoding="utf-8").splitlines()
    cells = [re.split(r" ?\| ?", line)[2] for line in lines if re.match(r"\| .* \| .* \|", line)]
    return [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]


def resolved(node: ast.expr) -> object:
    """The class or function of ours that an expression names, or None."""
    if isinstance(node, ast.Name):
        return VARIABLES_IN_TABLES.get(node.id, PUBLIC_NAMES.get(node.id))
    return (
        getattr(resolved(node.value), node.attr, None) if isinstance(node, ast.Attribute) else None
    )


def unknown_names(code: str) -> set[str]:
    """The names in a cell that this package does not have: functions, classes, their members and parameters."""
    unknown = set()
    for node in ast.walk(parsed(f"{code}: ..." if code.startswith("async ") else code)):
        match node:
            case ast.Call(func=function, keywords=arguments):
                known = resolved(function)
                if known is not None:
                    parameters = inspect.signature(known).parameters
                    unknown |= {f"{argument.arg}=" for argument in arguments} - {
                        f"{parameter}=" for parameter in parameters
                    }
                elif isinstance(function, ast.Name) and not hasattr(builtins, function.id):
                    unknown.add(function.id)
            case ast.Name(id=name) if name[0].isupper() and name not in PUBLIC_NAMES:
                unknown.add(name)
            case ast.Attribute(value=ast.Name() as value, attr=member):
                owner = resolved(value)
                if owner is not None and not has(owner, member):
                    unknown.add(member)
            case ast.Assign(targets=[ast.Name(id=name)]) if name not in MEMBERS:
                unknown.add(name)
    return unknown - {"Path"}


@pytest.mark.parametrize("client", ["java", "csharp"])
def test_every_name_of_ours_in_the_tables_of_an_official_client_exists(client):
    codes = codes_in_our_column(ROOT / "docs" / "guides" / f"from-{client}.md")
    assert len(codes) > 70
    assert {code: names for code in codes if (names := unknown_names(code))} == {}


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("Enviroment.STAGING", {"Enviroment"}),
        ("Environment.TEST", {"TEST"}),
        ("Document(name='...')", {"name="}),
        ("client.get_status_change(queue='a')", {"queue="}),
        ("status_query_token_of(url)", {"status_query_token_of"}),
        ("await client.get_state(status)", {"get_state"}),
        ("async for change in client.changes()", {"changes"}),
        ("created.url", {"url"}),
        ("max_sockets=8", {"max_sockets"}),
    ],
)
def test_a_name_in_a_table_that_does_not_exist_is_reported(code, names):
    assert unknown_names(code) == names


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_every_error_that_a_page_names_exists(page):
    text = prose(page.read_text(encoding="utf-8"))
    named = set(re.findall(r"`(\w+Error)\b", text))
    known = {*errors.__all__, *dir(builtins), "CancelledError"}
    assert named - known == set()


def test_the_tables_of_the_errors_page_list_each_error_once():
    text = (ROOT / "docs" / "reference" / "errors.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+Error)` \|", text, re.MULTILINE)
    assert sorted(listed) == sorted({*errors.__all__} - {"Violation", "SigningError"})


def rows_of_variables(variables: Iterable[Variable]) -> list[str]:
    """The rows of the table of environment variables in docs/reference/configuration.md."""
    return [
        f"| `{PREFIX}{row.name}` | {row.value}{' (secret)' if row.secret else ''} | {row.default} | {row.setting} |"
        for row in variables
    ]


def test_the_configuration_page_has_the_table_of_environment_variables():
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text(encoding="utf-8")
    table = [line for line in text.splitlines() if re.match(r"\| `POSTEN_SIGNERING_\w+` \|", line)]
    assert table == rows_of_variables(VARIABLES)


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_every_environment_variable_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8").replace("`POSTEN_SIGNERING_SERVICE_HOST`", "")
    named = set(re.findall(r"\bPOSTEN_SIGNERING_\w+", text)) - {"POSTEN_SIGNERING_"}
    assert named - {f"{PREFIX}{row.name}" for row in VARIABLES} == set()


# Links


def anchor(heading: str) -> str:
    """The URL fragment of a heading."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def headings(page: Path) -> set[str]:
    text = prose(page.read_text(encoding="utf-8"))
    return {anchor(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def dead_links(page: Path, text: str) -> list[str]:
    """The relative links whose target does not exist."""
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\n\s*", " ", prose(text))):
        if re.match(r"\w+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in headings(target)):
            dead.append(link)
    return dead


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_every_relative_link_has_a_target(page):
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


def test_a_dead_link_is_reported():
    text = "[a](nowhere.md) [b](../../README.md#no-such-heading) [c](#nor-here) [d](../guides/index.md)"
    page = ROOT / "docs" / "reference" / "errors.md"
    assert dead_links(page, text) == ["nowhere.md", "../../README.md#no-such-heading", "#nor-here"]


def test_llms_txt_links_to_every_page_once_with_its_title():
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    linked = {ROOT / link: title for title, link in re.findall(r"\[(.+?)\]\((.+?\.md)\)", text)}
    titles = {page: re.findall(r"^# (.+)", page.read_text("utf-8"))[0] for page in PAGES}
    assert linked == titles | {ROOT / "README.md": "README"}
    assert text.count(".md)") == len(PAGES)


# The examples run


async def sign_what_a_program_prints(code, *arguments):
    """Run the `main` of a page's program, as a signer who opens the redirect URL that it prints.

    Returns the lines that it prints.
    """
    async with Sandbox(rate_limit=None) as sandbox:
        lines, signing = [], []

        def sign_at_printed_url(*words: object) -> None:
            lines.append(" ".join(map(str, words)))
            signing.extend(
                asyncio.ensure_future(sandbox.sign(word))
                for word in words
                if str(word).startswith("http:")
            )

        names = {"__name__": "example", "print": sign_at_printed_url}
        exec(compile(code, "page", "exec"), names)
        await names["main"](sandbox.client_configuration(), *arguments)
        assert len(await asyncio.gather(*signing)) == 1
        [received] = sandbox.received
        # The first run of a program ends at a page of the sandbox on its default port.
        for name, url in dataclasses.asdict(sandbox.exit_urls).items():
            default = re.sub(r":\d+/", f":{PAGES_PORT}/", url)
            assert f"<{name}-url>{default}</{name}-url>" in received.request.decode()
        async with DirectClient(sandbox.client_configuration()) as client:
            poll = await client.get_status_change()
        assert poll.change is None  # the program confirmed its change
    return lines


@pytest.mark.anyio
async def test_the_complete_example_runs(tmp_path):
    contract, signed = tmp_path / "contract.pdf", tmp_path / "signed.pdf"
    contract.write_bytes((ROOT / "examples" / "lease.pdf").read_bytes())
    lines = await sign_what_a_program_prints(complete_example(), contract, signed)
    assert signed.read_bytes().startswith(b"%PDF-")
    assert lines[1:] == [f"Signed: {signed}", "The job has ended: COMPLETED_SUCCESSFULLY"]


def test_the_picture_of_readme_shows_its_code():
    """tests/browser/test_readme_picture.py makes the picture, and writes the code into it."""
    with Image.open(ROOT / "docs" / "images" / "first-signature.png") as picture:
        assert picture.text["code"] == pictured_code()


@pytest.mark.anyio
async def test_the_program_of_the_tutorial_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = block_of("tutorial.md", "LEASE")
    lines = await sign_what_a_program_prints(code)
    assert (tmp_path / "signed-1.pdf").read_bytes().startswith(b"%PDF-")
    assert re.fullmatch(r"Signed: signed-1.pdf \([\d,]+ bytes\)", lines[-1])


def block_of(page: str, part: str) -> str:
    """The only block of a page that contains this text."""
    [code] = [block.code for block in blocks_of(ROOT / "docs" / page) if part in block.code]
    return code


def test_the_example_for_threads_runs():
    names = {}
    code = block_of("guides/programs-without-a-loop.md", "def create_all")
    exec(compile(code, "block", "exec"), names)
    with ThreadedSandbox(rate_limit=None) as sandbox:
        urls = names["create_all"](sandbox.client_configuration(), [doubles.job(), doubles.job()])
        assert len(sandbox.received) == 2
    assert all(url.startswith("https://") for url in urls)


@pytest.mark.anyio
async def test_the_example_for_jupyter_runs(monkeypatch, capsys):
    code = block_of("guides/programs-without-a-loop.md", "__aenter__")
    cell = compile(code, "block", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    async with Sandbox() as sandbox:
        configuration = sandbox.client_configuration()
        monkeypatch.setattr(ClientConfiguration, "from_env", lambda: configuration)
        await eval(cell, {})
    assert "123456789" in capsys.readouterr().out


def test_the_example_for_pytest_asyncio_runs_only_with_the_loop_scope_of_its_fixture(tmp_path):
    code = block_of("guides/programs-without-a-loop.md", "import pytest_asyncio")
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_block.py").write_text(code)
    without_scope = code.replace('mark.asyncio(loop_scope="module")', "mark.asyncio")
    (tmp_path / "test_without_scope.py").write_text(without_scope)
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tmp_path],
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert "2 failed, 2 passed" in result.stdout
    assert "belongs to a different event loop" in result.stdout
    assert "FAILED test_block.py" not in result.stdout


@pytest.mark.anyio
async def test_the_example_for_a_mounted_secret_uses_each_new_certificate(
    tmp_path, monkeypatch, caplog
):
    name = pki.subject("New", organization_identifier=f"NTRNO-{pki.SENDER}")
    new = pki.issue(name, pki.intermediate("Sender CA"))
    secret, anchors = tmp_path / "enterprise.p12", tmp_path / "root.pem"
    secret.write_bytes(pki.sender().p12(b"password"))
    anchors.write_bytes(pki.root().pem)
    for variable, value in {
        "CERTIFICATE": secret,
        "CERTIFICATE_PASSWORD": "password",
        "SERVICE_ROOT": "https://localhost/api",
        "TRUST_ANCHORS": anchors,
    }.items():
        monkeypatch.setenv(f"POSTEN_SIGNERING_{variable}", str(value))
    names = {}
    code = block_of("guides/rotating-certificates.md", "def follow_secret")
    exec(compile(code, "block", "exec"), names)
    names["SECONDS_BETWEEN_CHECKS"] = 0
    async with names["lifespan"](names["app"]):
        client = names["app"].state.client
        first = client.certificate
        secret.write_bytes(b"half of a file")
        await loopback.until(lambda: "The file is not PKCS#12" in caplog.text)
        assert client.certificate is first
        secret.write_bytes(new.p12(b"password"))
        await loopback.until(lambda: client.certificate is not first)
        assert client.certificate.sha256 == new.enterprise().sha256


def test_the_example_for_pydantic_settings_runs(tmp_path, monkeypatch):
    (tmp_path / "client.p12").write_bytes(pki.sender().p12(b"a"))
    monkeypatch.setenv("SHOP_SIGNING_CERTIFICATE", str(tmp_path / "client.p12"))
    monkeypatch.setenv("SHOP_SIGNING_CERTIFICATE_PASSWORD", "a")
    monkeypatch.setenv("SHOP_SIGNING_ORGANIZATION_NUMBER", pki.SENDER)
    names = {"__name__": "example"}
    exec(compile(block_of("reference/configuration.md", "BaseSettings"), "block", "exec"), names)
    configuration = names["Settings"]().client_configuration()
    assert configuration.certificate == pki.sender().enterprise()
    assert configuration.sender == Sender(organization_number=pki.SENDER)


POLLED = events.QueuePolled(
    organization_number="123456789",
    polling_queue="shop",
    result=events.PollResult.FAILURE,
    next_poll_in=timedelta(seconds=9),
    error_type="ApiError",
)


@pytest.mark.parametrize("settings", [{}, {"include_local_variables": True}])
def test_sentry_with_the_settings_of_the_example_sends_no_local_variable(settings, monkeypatch):
    sent, initialise = [], sentry_sdk.init

    class Kept(sentry_sdk.Transport):
        def capture_envelope(self, envelope):
            sent.append(envelope.get_event())

    def init(**example):
        here = {"dsn": "http://key@127.0.0.1/1", "transport": Kept}
        # Integrations patch other libraries, and would stay in this process.
        off = {"default_integrations": False, "auto_enabling_integrations": False}
        initialise(**{**example, **here, **off, **settings})

    monkeypatch.setattr(sentry_sdk, "init", init)
    try:
        exec(block_of("guides/telemetry.md", "sentry_sdk"), {})
        try:
            document = "yranac"[::-1]  # Sentry also sends these lines of source code
            document.index("nothing")
        except ValueError as error:
            query = {"request": {"query_string": "status_query_token=7"}}
            sentry_sdk.get_current_scope().add_event_processor(lambda event, _: {**event, **query})
            sentry_sdk.capture_exception(error)
    finally:
        sentry_sdk.get_client().close()
        sentry_sdk.get_global_scope().set_client(None)
        sentry_sdk.get_current_scope().clear()
    [event] = sent
    assert "query_string" not in event["request"]
    assert ("canary" in json.dumps(event, default=str)) == bool(settings)


def test_structlog_formats_the_fields_of_an_event(monkeypatch):
    logger, stream = logging.getLogger("posten_signering"), io.StringIO()
    before, level = logger.handlers[:], logger.level
    monkeypatch.setattr(sys, "stderr", stream)
    try:
        exec(block_of("guides/telemetry.md", "structlog"), {})
        Observers().notify(POLLED)
    finally:
        logger.handlers, logger.level = before, level
    record = json.loads(stream.getvalue())
    assert record["level"] == "warning"
    assert record["posten_signering"]["result"] == "failure"


def commands_with_a_comment(text: str) -> list[str]:
    """The commands of console blocks that end with a comment, which zsh passes to the command as arguments."""
    return re.findall(r"^\$ .*[ \t]#.*", text, re.MULTILINE)


@pytest.mark.parametrize("page", PAGES, ids=path_of)
def test_no_command_of_a_console_block_ends_with_a_comment(page):
    assert commands_with_a_comment(page.read_text(encoding="utf-8")) == []


def test_a_command_with_a_comment_is_reported():
    text = "$ make test # all tests\n$ curl http://127.0.0.1/#/page\n# Heading\n"
    assert commands_with_a_comment(text) == ["$ make test # all tests"]
