"""The demo with `--browser`: it waits for a person who signs or rejects in a real browser."""

import os
import re
import sys
import webbrowser
from contextlib import asynccontextmanager

import anyio
import pytest
from anyio.streams.text import TextReceiveStream
from playwright.async_api import expect

from posten_signering.sandbox import demo

pytestmark = pytest.mark.anyio
pytest_plugins = ("browser_support",)

REDIRECT_URL = re.compile(r"^(http://127\.0\.0\.1:\d+/#/redirect/\S+)$", re.MULTILINE)


class Demo:
    def __init__(self, process):
        self.process = process
        self.output = ""
        self._read = 0
        self._stream = TextReceiveStream(process.stdout)

    async def redirect_url(self):
        """The next redirect URL that the demo prints."""
        while not (match := REDIRECT_URL.search(self.output, self._read)):
            self.output += await self._stream.receive()
        self._read = match.end()
        return match[1]

    async def whole_output(self):
        """Everything that the demo printed, after it has ended."""
        async for text in self._stream:
            self.output += text
        assert await self.process.wait() == 0
        return self.output


@asynccontextmanager
async def started(tmp_path):
    # `make demo BROWSER=1` passes this variable on. It names no browser, so the demo opens none.
    environment = {**os.environ, "BROWSER": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "posten_signering.sandbox.demo", "--browser"]
    with anyio.fail_after(60):
        process = await anyio.open_process(
            [*command, "--output", tmp_path], env=environment, stderr=None
        )
        async with process:
            yield Demo(process)


async def test_a_person_signs_and_the_demo_continues(visit, tmp_path):
    (tmp_path / "signed.pdf").write_text("of an earlier run")
    person = await visit()
    # The demo waits only for the style sheet of the last page. Other files of the page may fail to load.
    person.expects("ERR_CONNECTION_REFUSED")
    page = person.page
    heading = page.get_by_role("heading", level=1)
    async with started(tmp_path) as running:
        for button, exit_page in (
            ("Sign", "Thank you!"),
            ("Reject", "You rejected"),
            ("Sign", "Thank you!"),
            ("Sign", "Thank you!"),
        ):
            await page.goto(await running.redirect_url())
            await expect(heading).to_have_text("Lease of a flat")
            await page.get_by_role("button", name=button).click()
            await expect(heading).to_contain_text(exit_page)
        output = await running.whole_output()
    assert "FAILED; its signers: " in output
    assert "COMPLETED_SUCCESSFULLY" in output
    assert "pdfsig" in output
    assert (tmp_path / "signed.pdf").read_bytes().startswith(b"%PDF-")
    assert await heading.evaluate("at => getComputedStyle(at).marginTop") == "0px"


class Window(webbrowser.BaseBrowser):
    def __init__(self):
        super().__init__()
        self.opened = []

    def open(self, url, *_):
        self.opened.append(url)
        return True


def test_a_browser_with_a_window_is_opened(monkeypatch):
    window = Window()
    monkeypatch.setattr(webbrowser, "get", lambda: window)
    demo.open_window("http://127.0.0.1/a")
    assert window.opened == ["http://127.0.0.1/a"]


def test_a_text_browser_is_not_opened(monkeypatch, tmp_path):
    opened = tmp_path / "opened"
    terminal = webbrowser.GenericBrowser(["touch", str(opened), "%s"])
    monkeypatch.setattr(webbrowser, "get", lambda: terminal)
    demo.open_window(str(tmp_path / "a"))
    assert not opened.exists()
    terminal.open(str(tmp_path / "a"))
    assert opened.exists()


def test_a_machine_without_a_browser_is_no_error(monkeypatch):
    def get():
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "get", get)
    demo.open_window("http://127.0.0.1/a")
