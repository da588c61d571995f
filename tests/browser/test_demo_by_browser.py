"""The demo with `--browser`: it waits for a person, who signs or rejects in a real browser."""

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
        self.said = ""
        self._read = 0
        self._stream = TextReceiveStream(process.stdout)

    async def redirect_url(self):
        """The next redirect URL that it prints."""
        while not (found := REDIRECT_URL.search(self.said, self._read)):
            self.said += await self._stream.receive()
        self._read = found.end()
        return found[1]

    async def rest(self):
        async for text in self._stream:
            self.said += text
        assert await self.process.wait() == 0
        return self.said


@asynccontextmanager
async def started(tmp_path):
    # As `make demo BROWSER=1` passes it on; it names no browser, so that none is opened.
    environment = {**os.environ, "BROWSER": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "posten_signering.sandbox.demo", "--browser"]
    with anyio.fail_after(60):
        process = await anyio.open_process(
            [*command, "--output", tmp_path], env=environment, stderr=None
        )
        async with process:
            yield Demo(process)


async def test_a_person_does_the_signing_and_the_demo_goes_on(visit, tmp_path):
    (tmp_path / "signed.pdf").write_text("of an earlier run")
    person = await visit()
    # The demo ends as soon as nothing is left to do; only the page's style is waited for.
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
        said = await running.rest()
    assert "FAILED; its signers: " in said
    assert "COMPLETED_SUCCESSFULLY" in said
    assert "pdfsig" in said
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


def test_a_browser_that_would_take_over_the_terminal_is_not(monkeypatch, tmp_path):
    opened = tmp_path / "opened"
    terminal = webbrowser.GenericBrowser(["touch", str(opened), "%s"])
    monkeypatch.setattr(webbrowser, "get", lambda: terminal)
    demo.open_window(str(tmp_path / "a"))
    assert not opened.exists()
    terminal.open(str(tmp_path / "a"))
    assert opened.exists()


def test_no_browser_at_all_is_no_mistake(monkeypatch):
    def get():
        raise webbrowser.Error

    monkeypatch.setattr(webbrowser, "get", get)
    demo.open_window("http://127.0.0.1/a")
