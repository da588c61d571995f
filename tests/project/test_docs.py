"""README and docs tell the truth: what they quote, what they import, what they link to, what they run.

A block that begins with ```python and a file, followed by names, is quoted: it is those classes and
functions as they stand in that file, docstrings and all.
"""

import ast
import asyncio
import builtins
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import posten_signering
from posten_signering import ClientConfiguration, DirectClient, errors
from posten_signering.sandbox import Sandbox

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w*)([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PUBLIC = {
    "posten_signering",
    "posten_signering.errors",
    "posten_signering.worker",
    "posten_signering.sandbox",
}


def blocks(text: str) -> list[tuple[str, str]]:
    """What stands after ```python, and the code below it."""
    return [(rest.strip(), code) for kind, rest, code in BLOCK.findall(text) if kind == "python"]


def prose(text: str) -> str:
    """The text without its blocks."""
    return BLOCK.sub("", text)


ALL_BLOCKS = [
    pytest.param(heading, code, id=f"{page.name}-{number}")
    for page in PAGES
    for number, (heading, code) in enumerate(blocks(page.read_text(encoding="utf-8")), start=1)
]
QUOTED = [block for block in ALL_BLOCKS if block.values[0]]
OWN = [block for block in ALL_BLOCKS if not block.values[0]]


def source(heading: str) -> str:
    """The classes and functions that the heading of a block names, in its order."""
    file, *names = heading.split()
    text = (ROOT / file).read_text(encoding="utf-8")
    lines = text.splitlines()
    found = []
    for name in names:
        node: ast.AST = ast.parse(text)
        for part in name.split("."):
            [node] = [each for each in node.body if getattr(each, "name", None) == part]
        first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
        found.append(textwrap.dedent("\n".join(lines[first - 1 : node.end_lineno])))
    return "\n\n".join(found) + "\n"


@pytest.mark.parametrize(("heading", "code"), QUOTED)
def test_what_is_quoted_stands_so_in_its_file(heading, code):
    assert code == source(heading)


def test_the_examples_are_quoted():
    files = {block.values[0].split()[0] for block in QUOTED}
    assert {"examples/shop.py", "examples/fastapi_app.py", "examples/worker.py"} <= files


# Blocks of the pages' own


def parsed(code: str) -> ast.Module:
    """The code, which may await outside a function, as a piece of one does."""
    return compile(
        code,
        "block",
        "exec",
        flags=ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
    )


def faults(code: str) -> list[str]:
    """What of our package a block uses that is not public, or not there."""
    tree = parsed(code)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("posten_signering"):
            module = inspect.importlib.import_module(node.module)
            public = node.module in PUBLIC
            found += [
                f"{node.module}.{each.name}"
                for each in node.names
                if not public or each.name not in module.__all__
            ]
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner = CLASSES.get(node.value.id) or getattr(posten_signering, node.value.id, None)
            if inspect.isclass(owner) and not has(owner, node.attr):
                found.append(f"{node.value.id}.{node.attr}")
    return found


CLASSES = {"client": DirectClient, "configuration": ClientConfiguration}


def has(owner: type, name: str) -> bool:
    """Whether a class has a public attribute of this name; of a dataclass, a field too."""
    fields = getattr(owner, "__dataclass_fields__", {})
    return not name.startswith("_") and (hasattr(owner, name) or name in fields)


@pytest.mark.parametrize(("heading", "code"), OWN)
def test_every_block_compiles_and_uses_public_names_only(heading, code):
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
def test_a_name_that_is_not_public_is_seen(code, fault):
    assert faults(code) == [fault]


def test_a_block_that_does_not_compile_is_seen():
    with pytest.raises(SyntaxError):
        faults("async def f(:")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_error_that_is_named_exists(page):
    text = prose(page.read_text(encoding="utf-8"))
    named = set(re.findall(r"`(\w+Error)\b", text))
    known = {*errors.__all__, *dir(builtins), "CancelledError"}
    assert named - known == set()


def test_the_page_of_errors_has_each_once_in_a_table():
    text = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(\w+Error)` \|", text, re.MULTILINE)
    assert sorted(told) == sorted({*errors.__all__} - {"Violation", "SigningError"})


def test_getting_started_has_every_variable():
    text = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| `(POSTEN_SIGNERING_\w+)` \|", text, re.MULTILINE)
    assert sorted(told) == sorted(
        set(re.findall(r"POSTEN_SIGNERING_\w+", ClientConfiguration.from_env.__doc__))
    )


# Links


def anchor(heading: str) -> str:
    """The fragment that a heading is reached by."""
    kept = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return kept.replace(" ", "-")


def headings(page: Path) -> set[str]:
    text = prose(page.read_text(encoding="utf-8"))
    return {anchor(found) for found in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def dead_links(page: Path, text: str) -> list[str]:
    """The relative links that lead nowhere."""
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"\n\s*", " ", prose(text))):
        if re.match(r"\w+:", link):
            continue
        path, _, fragment = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (fragment and fragment not in headings(target)):
            found.append(link)
    return found


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page):
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


def test_a_dead_link_is_seen():
    text = "[a](nowhere.md) [b](../README.md#no-such-heading) [c](#nor-here) [d](../README.md)"
    page = ROOT / "docs" / "errors.md"
    assert dead_links(page, text) == ["nowhere.md", "../README.md#no-such-heading", "#nor-here"]


def test_every_page_is_reached_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    linked = {(ROOT / link).resolve() for link in re.findall(r"\]\((docs/[\w-]+\.md)", text)}
    assert linked >= set(PAGES) - {ROOT / "README.md"}


# The README's example, run


@pytest.mark.anyio
async def test_the_complete_example_runs(tmp_path):
    """As it stands, against the sandbox, with a signer who follows the redirect URL that it prints."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    after = text.partition("## A complete example")[2]
    code = blocks(after)[0][1]
    (tmp_path / "contract.pdf").write_bytes((ROOT / "examples" / "lease.pdf").read_bytes())
    async with Sandbox(rate_limit=None) as sandbox:
        signing = []

        def act(*words: str) -> None:
            signing.append(asyncio.ensure_future(sandbox.sign(words[-1])))

        names = {"__name__": "example", "print": act}
        exec(compile(code, "README.md", "exec"), names)
        await names["main"](
            sandbox.client_configuration(), tmp_path / "contract.pdf", tmp_path / "signed.pdf"
        )
        assert len(await asyncio.gather(*signing)) == 1
        assert (tmp_path / "signed.pdf").read_bytes().startswith(b"%PDF-")
        assert len(sandbox.received) == 1
        async with DirectClient(sandbox.client_configuration()) as client:
            poll = await client.get_status_change()
        assert poll.change is None  # the example confirmed what it got
