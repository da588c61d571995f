"""A real browser for tests: Debian's Chromium, controlled by Playwright.

A test module declares `pytest_plugins = ("browser_support",)` and uses the fixture `visit`. Each `await visit()` returns a new person with a separate browser: cookies, language, screen size, and a
Playwright `page`. The test fails at its end if a browser had an unexpected complaint: an error or warning in the
console, an uncaught exception, or a failed request. For example:

    async def test_a_person_signs(visit, address):
        person = await visit(language="nb-NO", phone=True)
        await person.page.goto(address)
        await person.page.get_by_role("button", name="Signer").click()
        await person.screenshot("signed")        # test-output/screenshots/signed-390.png
        assert await person.contrast_faults() == []

Tests never sleep: Playwright's locators wait for their element, and `expect(page).to_have_url(...)` waits for a URL.
Do not use `page.wait_for_url`. It fails when one navigation interrupts another, for example after a double click.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

SCREENSHOTS = Path(__file__).parents[2] / "test-output" / "screenshots"

# The pages come from a server on loopback, so a page that takes longer than this hangs.
TIMEOUT_MILLISECONDS = 20_000

_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
]
_PHONE = {"width": 390, "height": 844}
_DESKTOP = {"width": 1280, "height": 800}
_CONTRAST = (Path(__file__).parents[1] / "browser" / "browser_contrast.js").read_text(
    encoding="utf-8"
)


@dataclass
class Person:
    """A person with a separate browser.

    `expected` contains patterns for complaints that are normal in this test. An example is the line that
    Chromium itself writes when a page has status 410.
    """

    context: BrowserContext
    page: Page
    phone: bool
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def expects(self, *patterns: str) -> None:
        """Adds regular expressions for complaints that do not fail the test."""
        self.expected.extend(patterns)

    def watch(self, page: Page) -> Page:
        """Records the complaints of a page from now on. Called for every new page of this browser."""
        page.on(
            "console",
            lambda message: self._record(f"console {message.type}: {message.text}", message.type),
        )
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.message}"))
        page.on(
            "requestfailed",
            # A navigation to another page aborts open requests; this is no fault.
            lambda request: (
                request.failure == "net::ERR_ABORTED"
                or self.complaints.append(
                    f"failed: {request.method} {request.url}: {request.failure}"
                )
            ),
        )
        return page

    def _record(self, line: str, kind: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(line)

    @property
    def unexpected(self) -> list[str]:
        """The browser's complaints that the test did not expect."""
        return [
            line
            for line in self.complaints
            if not any(re.search(pattern, line) for pattern in self.expected)
        ]

    async def screenshot(self, name: str, page: Page | None = None) -> Path:
        """Saves an image of the whole page, and returns its path."""
        path = SCREENSHOTS / f"{name}-{390 if self.phone else 1280}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        await (page or self.page).screenshot(path=path, full_page=True, animations="disabled")
        return path

    async def contrast_faults(self, page: Page | None = None) -> list[str]:
        """Texts and control outlines with less contrast than WCAG 2.2 level AA requires (1.4.3, 1.4.11)."""
        return await (page or self.page).evaluate(_CONTRAST)

    async def overflow(self) -> int:
        """The number of pixels by which the page is wider than the screen."""
        return await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


Visit = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="module")
async def browser(chromium) -> AsyncIterator[Browser]:
    """Chromium without a window, with an empty profile that Playwright creates."""
    async with async_playwright() as playwright:
        expect.set_options(timeout=TIMEOUT_MILLISECONDS)
        started = await playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield started
        await started.close()


@pytest.fixture
async def visit(browser) -> AsyncIterator[Visit]:
    """Creates a new person with a separate browser: `await visit(language=..., phone=...)`."""
    persons: list[Person] = []

    async def visit_as_new_person(
        *, language: str = "en-GB", phone: bool = False, dark: bool = False, **options: Any
    ) -> Person:
        context = await browser.new_context(
            locale=language,
            viewport=_PHONE if phone else _DESKTOP,
            has_touch=phone,
            is_mobile=phone,
            color_scheme="dark" if dark else "light",
            reduced_motion="reduce",
            timezone_id="Europe/Oslo",
            **options,
        )
        context.set_default_timeout(TIMEOUT_MILLISECONDS)
        person = Person(context=context, page=await context.new_page(), phone=phone)
        person.watch(person.page)
        context.on("page", person.watch)
        persons.append(person)
        return person

    yield visit_as_new_person
    unexpected: Sequence[str] = [line for person in persons for line in person.unexpected]
    for person in persons:
        await person.context.close()
    assert unexpected == []
