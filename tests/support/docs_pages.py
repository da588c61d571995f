"""README and the pages of docs, and their code blocks."""

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^( *)```(\w*)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)

# Blocks that have a test of their own: the page, a text that only this block of the page has, and the test.
ELSEWHERE = {
    ("README.md", "async def main("): "test_the_complete_example_runs",
    ("tutorial.md", "LEASE"): "test_the_program_of_the_tutorial_runs",
    (
        "guides/programs-without-a-loop.md",
        "import pytest_asyncio",
    ): "test_the_example_for_pytest_asyncio_runs_only_with_the_loop_scope_of_its_fixture",
    ("guides/programs-without-a-loop.md", "__aenter__"): "test_the_example_for_jupyter_runs",
    (
        "guides/rotating-certificates.md",
        "def follow_secret",
    ): "test_the_example_for_a_mounted_secret_uses_each_new_certificate",
    ("reference/configuration.md", "BaseSettings"): "test_the_example_for_pydantic_settings_runs",
    (
        "guides/telemetry.md",
        "sentry_sdk",
    ): "test_sentry_with_the_settings_of_the_example_sends_no_local_variable",
    ("guides/telemetry.md", "structlog"): "test_structlog_formats_the_fields_of_an_event",
    ("guides/programs-without-a-loop.md", "def create_all"): "test_the_example_for_threads_runs",
    (
        "guides/storing-and-confirming.md",
        "class ObjectStore",
    ): "test_the_example_for_object_storage_saves_each_document",
    (
        "guides/deleting-documents.md",
        "async def delete(",
    ): "test_the_example_for_deletion_deletes_only_when_it_is_possible",
    (
        "guides/worker-in-a-web-server.md",
        "cleanup_ctx",
    ): "test_the_example_with_a_worker_in_aiohttp_runs",
    ("reference/sandbox.md", "def make_the_service_flaky"): "test_the_example_with_faults_runs",
    **{
        ("guides/testing.md", f"# {file}\n"): "test_the_printed_tests_pass"
        for file in (
            "lease.py",
            "test_lease.py",
            "conftest.py",
            "test_with_anyio.py",
            "test_with_asyncio.py",
            "test_faults.py",
            "test_time.py",
            "test_transport.py",
        )
    },
}


@dataclass(frozen=True)
class Block:
    """A Python block of a page.

    Attributes:
        page: The path of the page, without docs/.
        number: Its number on the page, from 1.
        heading: The text after ```python on its first line: a file and names of it, if the block quotes them.
        code: The code.
    """

    page: str
    number: int
    heading: str
    code: str

    @property
    def tested_by(self) -> str | None:
        """The name of its own test."""
        tests = [
            test
            for (page, text), test in ELSEWHERE.items()
            if page == self.page and text in self.code
        ]
        return tests[0] if tests else None


def blocks(text: str, page: str = "") -> list[Block]:
    """The Python blocks of a text."""
    return [
        Block(page, number, heading.strip(), code)
        for number, (heading, code) in enumerate(
            (
                (heading, re.sub(f"^{indent}", "", code, flags=re.MULTILINE))
                for indent, language, heading, code in BLOCK.findall(text)
                if language == "python"
            ),
            start=1,
        )
    ]


def path_of(page: Path) -> str:
    """The path of a page, without docs/."""
    return page.relative_to(ROOT).as_posix().removeprefix("docs/")


def blocks_of(page: Path) -> list[Block]:
    """The Python blocks of a page."""
    return blocks(page.read_text(encoding="utf-8"), path_of(page))


def prose(text: str) -> str:
    """The text without its code blocks."""
    return BLOCK.sub("", text)


def complete_example() -> str:
    """The complete example of README."""
    [code] = [
        block.code for block in blocks_of(ROOT / "README.md") if "async def main(" in block.code
    ]
    return code


def pictured_code() -> str:
    """The part of README's complete example that its picture shows: from the job to its redirect URL."""
    before, start, after = complete_example().partition("    job = DirectJob(")
    assert before
    shown, end, _ = after.partition("single_signer.redirect_url)\n")
    return textwrap.dedent(start + shown + end)
