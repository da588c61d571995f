"""A real browser for tests: Debian's Chromium, driven by Playwright, whose console must stay clean.

A test module asks for it with `pytest_plugins = ("browser_support",)` and takes the fixture `visit`;
nothing is imported from here. Each `await visit()` is a person with a browser of their own: cookies,
language, size of the screen, and a `page` of Playwright's. When the test ends, every complaint of each
person's browser (errors and warnings of the console, uncaught exceptions, requests that failed) fails
it, except those the test said it expects:

    async def test_a_person_signs(visit, address):
        person = await visit(language="nb-NO", phone=True)
        await person.page.goto(address)
        await person.page.get_by_role("button", name="Signer").click()
        await person.screenshot("signed")        # test-output/screenshots/signed-390.png
        assert await person.contrast_faults() == []

Playwright waits for what a locator names, and `expect(page).to_have_url(...)` for an address; tests
never sleep. `page.wait_for_url` is not for here: it fails with any navigation that is cut off by another
one, as the first of a double click is.
"""

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright, expect

SCREENSHOTS = Path(__file__).parents[2] / "test-output" / "screenshots"

# A page of a loopback server that takes longer is taken to hang.
PATIENCE = 20_000  # milliseconds

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
    """Somebody with a browser of their own.

    `expected` holds patterns of complaints that belong to what the test does, such as the line that
    Chromium writes itself about a page that it was answered with status 410.
    """

    context: BrowserContext
    page: Page
    phone: bool
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)

    def expects(self, *patterns: str) -> None:
        """Says which complaints are right: patterns of regular expressions."""
        self.expected.extend(patterns)

    def watch(self, page: Page) -> Page:
        """Listens to a page; every page of this person's browser is listened to from its start."""
        page.on("console", lambda said: self._hear(f"console {said.type}: {said.text}", said.type))
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error.message}"))
        page.on(
            "requestfailed",
            # A navigation away cuts off what the page was still listening to.
            lambda request: (
                request.failure == "net::ERR_ABORTED"
                or self.complaints.append(
                    f"failed: {request.method} {request.url}: {request.failure}"
                )
            ),
        )
        return page

    def _hear(self, line: str, kind: str) -> None:
        if kind in {"error", "warning"}:
            self.complaints.append(line)

    @property
    def unexpected(self) -> list[str]:
        """What the browser complained of and the test did not expect."""
        return [
            line
            for line in self.complaints
            if not any(re.search(pattern, line) for pattern in self.expected)
        ]

    async def screenshot(self, name: str, page: Page | None = None) -> Path:
        """Keeps how the whole page looks, as a file of the test run."""
        path = SCREENSHOTS / f"{name}-{390 if self.phone else 1280}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        await (page or self.page).screenshot(path=path, full_page=True, animations="disabled")
        return path

    async def contrast_faults(self, page: Page | None = None) -> list[str]:
        """Texts and outlines of controls that miss the contrast of WCAG 2.2 level AA (1.4.3, 1.4.11)."""
        return await (page or self.page).evaluate(_CONTRAST)

    async def overflow(self) -> int:
        """By how many pixels the page is wider than the screen."""
        return await self.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )


Visit = Callable[..., Awaitable[Person]]


@pytest.fixture(scope="module")
async def browser(chromium) -> AsyncIterator[Browser]:
    """Chromium, without a window; Playwright gives it an empty profile of its own."""
    async with async_playwright() as playwright:
        expect.set_options(timeout=PATIENCE)
        started = await playwright.chromium.launch(executable_path=chromium, args=_ARGUMENTS)
        yield started
        await started.close()


@pytest.fixture
async def visit(browser) -> AsyncIterator[Visit]:
    """Brings a new person with a browser of their own: `await visit(language=..., phone=...)`."""
    persons: list[Person] = []

    async def come(
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
        context.set_default_timeout(PATIENCE)
        person = Person(context=context, page=await context.new_page(), phone=phone)
        person.watch(person.page)
        context.on("page", person.watch)
        persons.append(person)
        return person

    yield come
    found: Sequence[str] = [line for person in persons for line in person.unexpected]
    for person in persons:
        await person.context.close()
    assert found == []
