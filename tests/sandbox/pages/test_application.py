"""What all pages share: headers, language, escaped values and error pages."""

import re
from html.parser import HTMLParser

import jinja2
import pytest
from aiohttp.test_utils import make_mocked_request
from callers import redirect_urls
from visitors import visitor
from yarl import URL

from posten_signering.sandbox import Sandbox
from posten_signering.sandbox._pages.application import (
    LANGUAGE_COOKIE,
    grouped,
    language_of,
    page,
    shown_size,
)
from posten_signering.sandbox._pages.texts import TEXTS, Language

pytestmark = pytest.mark.anyio


# --- Every response


@pytest.mark.parametrize(
    "path", ["/", "/overview", "/nowhere", "/web/style.css", "/favicon.ico", "/signing/1/1"]
)
async def test_every_response_has_the_security_headers(browser, path):
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
    """The files that a page loads, and its inline scripts and styles, which the policy would block."""

    def __init__(self, page):
        super().__init__()
        self.loaded, self.inline, self.lang = [], [], None
        self._script = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "html":
            self.lang = values["lang"]
        if tag in {"script", "link", "img", "iframe"} and values.get("type") != "application/json":
            self.loaded.append(values.get("src") or values.get("href"))
        data = values.get("type") == "application/json"  # not a script: a browser does not run it
        self._script = tag in {"script", "style"} and not data
        self.inline += [
            f"{tag} {name}" for name in values if name.startswith("on") or name == "style"
        ]

    def handle_data(self, data):
        if self._script and data.strip():
            self.inline.append(data)


@pytest.mark.parametrize("path", ["/", "/overview", "/nowhere", "/signing/1/1", "/exit/error"])
async def test_pages_load_only_own_files_and_have_no_inline_script_or_style(browser, path):
    await browser.get(path)
    outline = Outline(browser.page)
    assert outline.lang in {"nb", "en"}
    assert outline.inline == []
    assert outline.loaded
    for address in outline.loaded:
        assert re.fullmatch(r"/web/[a-z.-]+", address)
        assert (await browser.get(address)).status == 200
    assert Outline("<html lang=x><p onclick=a><script>b</script>").inline == ["p onclick", "b"]


async def test_an_unknown_address_shows_an_error_page(browser):
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("PUT", "/", 405),
        ("GET", "/signing/1/1/documents/x", 404),
    ):
        answer = await browser.ask(method, path, headers={"Accept-Language": "en"})
        assert (answer.status, answer.content_type) == (status, "text/html")
        assert "This page does not exist" in browser.page


@pytest.fixture(scope="module")
async def shared_browser():
    async with Sandbox() as sandbox, visitor(sandbox) as opened:
        yield opened


FORM = "application/x-www-form-urlencoded"
PARTS = b'--x\r\nContent-Disposition: form-data; name="token"\r\n\r\n\r\n' * 200


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        (FORM, b"token=x", 303),
        (FORM, b"token=\xff", 400),
        (f"{FORM}; charset=unknown", b"token=x", 400),
        (FORM, b"x" * 65_537, 413),
        ("multipart/form-data; boundary=x", PARTS, 415),
        ("multipart/form-data", b"", 415),
        ("application/json", b"{}", 415),
    ],
)
async def test_a_form_that_no_page_sends_is_refused(
    shared_browser, caplog, content_type, content, status
):
    answer = await shared_browser.ask(
        "POST", "/signing", data=content, headers={"Content-Type": content_type}
    )
    assert answer.status == status
    assert caplog.records == []


async def test_a_bug_in_the_sandbox_shows_an_error_page_and_is_logged(
    sandbox, sender, browser, monkeypatch, caplog
):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    monkeypatch.setattr("posten_signering.sandbox._pages.signer.page", lambda *_, **__: 1 / 0)
    answer = await browser.get("/signing/1/1", headers={"Accept-Language": "en"})
    assert answer.status == 500
    assert "The sandbox failed" in browser.page
    assert "A GET request for a page failed" in caplog.text
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
def test_the_language_is_the_chosen_one_or_the_browsers(query, cookie, header, expected):
    headers = {"Cookie": f"{LANGUAGE_COOKIE}={cookie}", "Accept-Language": header}
    request = make_mocked_request("GET", f"/?lang={query}", headers=headers)
    assert language_of(request) is Language(expected)


async def test_the_chosen_language_is_remembered(browser):
    await browser.get("/?lang=en", headers={"Accept-Language": "nb"})
    assert '<html lang="en">' in browser.page
    await browser.get("/", headers={"Accept-Language": "nb"})
    assert '<html lang="en">' in browser.page
    jar = browser.session.cookie_jar.filter_cookies(URL(browser.root))
    assert jar[LANGUAGE_COOKIE].value == "en"


def test_every_text_exists_in_both_languages():
    bokmal, english = TEXTS[Language.BOKMAL], TEXTS[Language.ENGLISH]
    assert bokmal.keys() == english.keys()
    assert all(text.strip() for text in (*bokmal.values(), *english.values()))
    identical = {name for name in bokmal if bokmal[name] == english[name]}
    assert identical == {"kind_pdf"}


# --- Values in templates


def test_templates_escape_values_and_fail_without_them():
    values = {"message": "error", "exit_url": "\"'&<b>", "leaving": True}
    request = make_mocked_request("GET", "/?lang=en")
    content = page(request, "finished.html", **values).text
    assert content.count("&#34;&#39;&amp;&lt;b&gt;") == 3
    assert "<b>" not in content
    for missing in values:
        incomplete = {name: value for name, value in values.items() if name != missing}
        with pytest.raises(jinja2.UndefinedError, match=missing):
            page(request, "finished.html", **incomplete)


@pytest.mark.parametrize(
    ("size", "bokmal", "english"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1500, "2 kB", "2 kB"),
        (10 * 1024 * 1024, "10,5 MB", "10.5 MB"),
    ],
)
def test_sizes_have_a_unit_and_the_decimal_sign_of_the_language(size, bokmal, english):
    assert shown_size(size, Language.BOKMAL).replace("\xa0", " ") == bokmal
    assert shown_size(size, Language.ENGLISH).replace("\xa0", " ") == english


def test_an_organisation_number_is_in_groups_of_three():
    assert grouped("123456789") == "123\xa0456\xa0789"
