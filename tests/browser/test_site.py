"""A reader opens the documentation site, which `make docs` builds and then passes to these tests.

A request to another site would fail, because the browser reaches only this machine, and a failed request fails a test.
"""

import functools
import http.server
import threading
from pathlib import Path

import pytest
from playwright.async_api import expect

pytestmark = [pytest.mark.anyio, pytest.mark.site]
pytest_plugins = ("browser_support",)

SITE = Path(__file__).parents[2] / "site"
PAGES = sorted(path.relative_to(SITE).as_posix() for path in SITE.rglob("*.html"))
PHOTOGRAPHED = [
    "index.html",
    "tutorial.html",
    "guides/fastapi.html",
    "guides/official-guide.html",
    "explanation/architecture.html",
    "reference/api/client.html",
    "reference/configuration.html",
    "reference/errors.html",
]


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    handler = functools.partial(Quiet, directory=str(SITE))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def name_of(page):
    return f"site-{page.removesuffix('.html').replace('/', '-')}"


@pytest.mark.parametrize(
    ("phone", "pages"), [(False, PHOTOGRAPHED), (True, PAGES)], ids=["desktop", "phone"]
)
async def test_pages_fit_the_screen(visit, site, phone, pages):
    person = await visit(phone=phone)
    too_wide = []
    for page in pages:
        await person.page.goto(f"{site}/{page}")
        await expect(person.page.locator("h1").first).to_be_visible()
        if await person.overflow():
            too_wide.append(page)
        if page in PHOTOGRAPHED:
            await person.screenshot(name_of(page))
    assert too_wide == []
    assert set(PHOTOGRAPHED) <= set(PAGES)


async def test_a_reader_searches(visit, site):
    person = await visit()
    await person.page.goto(f"{site}/index.html")
    await person.page.get_by_placeholder("Search").fill("CreateOutcomeUnknownError")
    results = person.page.locator(".md-search-result__list")
    await expect(results).to_contain_text("CreateOutcomeUnknownError")
    await person.screenshot("site-search")


async def test_the_colours_follow_the_system_or_the_reader(visit, site):
    person = await visit(dark=True)
    await person.page.goto(f"{site}/tutorial.html")
    body = person.page.locator("body")
    await expect(body).to_have_attribute("data-md-color-scheme", "slate")
    await person.screenshot("site-tutorial-dark")
    await person.page.locator("label[title='Use the light colours']").click()
    await expect(body).to_have_attribute("data-md-color-scheme", "default")


async def test_the_copy_button_copies_only_the_commands_of_a_console_block(visit, site):
    person = await visit()
    await person.page.goto(f"{site}/tutorial.html")
    block = person.page.locator(".language-console code", has_text="access.py")
    assert (await block.inner_text()).startswith("$ python access.py\nYou are")
    # The theme sets this attribute while it reads the text to copy.
    await block.evaluate("block => block.setAttribute('data-md-copying', '')")
    assert (await block.inner_text()).rstrip() == "python access.py"
