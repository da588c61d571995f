"""What every page has around it: headers, language, escaped values, and how what is refused looks."""

import re
from html.parser import HTMLParser

import jinja2
import pytest
from aiohttp.test_utils import make_mocked_request
from callers import redirect_urls
from yarl import URL

from posten_signering.sandbox._pages.application import (
    LANGUAGE_COOKIE,
    grouped,
    language_of,
    page,
    shown_size,
)
from posten_signering.sandbox._pages.texts import TEXTS, Language

pytestmark = pytest.mark.anyio


# --- Every answer


@pytest.mark.parametrize(
    "path", ["/", "/overview", "/nowhere", "/web/style.css", "/favicon.ico", "/signing/1/1"]
)
async def test_every_answer_is_kept_nowhere_tells_nobody_and_runs_nothing_foreign(browser, path):
    answer = await browser.get(path)
    assert answer.headers["Cache-Control"] == "no-store"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = dict(
        part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; ")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["form-action"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


class Outline(HTMLParser):
    """What a page loads and links to, and what stands in it that the policy would not run."""

    def __init__(self, page):
        super().__init__()
        self.loaded, self.inline, self.lang, self.unlabelled = [], [], None, []
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        if tag == "html":
            self.lang = given["lang"]
        if tag in {"script", "link", "img", "iframe"}:
            self.loaded.append(given.get("src") or given.get("href"))
        self._script = tag in {"script", "style"}
        self.inline += [
            f"{tag} {name}" for name in given if name.startswith("on") or name == "style"
        ]

    def handle_data(self, data):
        if self._script and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("path", ["/", "/overview", "/nowhere", "/signing/1/1"])
async def test_pages_load_nothing_from_elsewhere_and_hold_no_script_or_style(browser, path):
    await browser.get(path)
    outline = Outline(browser.page)
    assert outline.lang in {"nb", "en"}
    assert outline.inline == []
    assert outline.loaded
    for address in outline.loaded:
        assert re.fullmatch(r"/web/[a-z.-]+", address)
        assert (await browser.get(address)).status == 200
    assert Outline("<html lang=x><p onclick=a><script>b</script>").inline == ["p onclick", "b"]


async def test_what_is_not_there_is_told_on_a_page(browser):
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("PUT", "/", 405),
        ("GET", "/signing/1/1/documents/x", 404),
    ):
        answer = await browser.ask(method, path, headers={"Accept-Language": "en"})
        assert (answer.status, answer.content_type) == (status, "text/html")
        assert "There is no such page" in browser.page


async def test_a_mistake_of_the_sandbox_is_told_on_a_page_and_in_the_log(
    sandbox, sender, browser, monkeypatch, caplog
):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    monkeypatch.setattr("posten_signering.sandbox._pages.signer.page", lambda *_, **__: 1 / 0)
    answer = await browser.get("/signing/1/1", headers={"Accept-Language": "en"})
    assert answer.status == 500
    assert "The sandbox failed" in browser.page
    assert "A page failed at a GET" in caplog.text
    assert first.rpartition("/")[2] not in caplog.text


# --- Languages


@pytest.mark.parametrize(
    ("query", "cookie", "header", "expected"),
    [
        ("", "", "", "nb"),
        ("", "", "nb-NO,nb;q=0.9,en;q=0.8", "nb"),
        ("", "", "nn", "nb"),
        ("", "", "en-GB,en;q=0.9", "en"),
        ("", "", "fr, en;q=0.5, no;q=0.3", "en"),
        ("", "", "en;q=0.2, NO ; q=0.9", "nb"),
        ("", "", "en;q=much, fr", "nb"),
        ("", "", "en;level=1", "en"),
        ("", "en", "nb", "en"),
        ("nb", "en", "en", "nb"),
        ("xx", "yy", "en", "en"),
    ],
)
def test_the_language_is_that_of_the_switch_else_that_of_the_browser(
    query, cookie, header, expected
):
    headers = {"Cookie": f"{LANGUAGE_COOKIE}={cookie}", "Accept-Language": header}
    request = make_mocked_request("GET", f"/?lang={query}", headers=headers)
    assert language_of(request) is Language(expected)


async def test_the_switch_is_remembered(browser):
    await browser.get("/?lang=en", headers={"Accept-Language": "nb"})
    assert '<html lang="en">' in browser.page
    await browser.get("/", headers={"Accept-Language": "nb"})
    assert '<html lang="en">' in browser.page
    jar = browser.session.cookie_jar.filter_cookies(URL(browser.root))
    assert jar[LANGUAGE_COOKIE].value == "en"


def test_every_text_is_there_in_both_languages():
    bokmal, english = TEXTS[Language.BOKMAL], TEXTS[Language.ENGLISH]
    assert bokmal.keys() == english.keys()
    assert all(text.strip() for text in (*bokmal.values(), *english.values()))
    alike = {name for name in bokmal if bokmal[name] == english[name]}
    assert alike == {"kind_pdf"}


# --- Values as text


def test_templates_escape_every_value_and_miss_none():
    values = {"what": "error", "exit_url": "\"'&<b>", "leaving": True}
    request = make_mocked_request("GET", "/?lang=en")
    content = page(request, "finished.html", **values).text
    assert content.count("&#34;&#39;&amp;&lt;b&gt;") == 3
    assert "<b>" not in content
    for missing in values:
        given = {name: value for name, value in values.items() if name != missing}
        with pytest.raises(jinja2.UndefinedError, match=missing):
            page(request, "finished.html", **given)


@pytest.mark.parametrize(
    ("size", "bokmal", "english"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1500, "2 kB", "2 kB"),
        (10 * 1024 * 1024, "10,5 MB", "10.5 MB"),
    ],
)
def test_sizes_are_written_as_people_write_them(size, bokmal, english):
    assert shown_size(size, Language.BOKMAL).replace("\xa0", " ") == bokmal
    assert shown_size(size, Language.ENGLISH).replace("\xa0", " ") == english


def test_an_organisation_number_is_grouped():
    assert grouped("123456789") == "123\xa0456\xa0789"
