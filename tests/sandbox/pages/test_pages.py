"""The signer's pages over HTTP, as a browser asks for them: who is let in, and what every answer carries."""

import re
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from urllib.parse import urlsplit

import aiohttp
import bundles
import jinja2
import pytest
from aiohttp.test_utils import make_mocked_request
from callers import Clock, caller_of, redirect_urls, signer_named
from yarl import URL

from posten_signering.sandbox import Sandbox
from posten_signering.sandbox._pages.application import (
    LANGUAGE_COOKIE,
    grouped,
    language_of,
    page,
    shown_size,
)
from posten_signering.sandbox._pages.portal import Portal
from posten_signering.sandbox._pages.texts import TEXTS, Language

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
async def sandbox(clock):
    async with Sandbox(clock=clock, rate_limit=None) as running:
        yield running


@pytest.fixture
async def sender(sandbox, clock, tmp_path):
    async with caller_of(sandbox, clock, tmp_path) as caller:
        yield caller


class Visitor:
    """A browser without a screen: it keeps cookies and goes where it is led."""

    def __init__(self, sandbox, session):
        self.root = sandbox.signing_pages_url.rstrip("/")
        self.session = session

    async def ask(self, method, path, **options):
        options.setdefault("allow_redirects", False)
        async with self.session.request(method, f"{self.root}{path}", **options) as answer:
            self.page = await answer.text(errors="replace")
            self.body = await answer.read()
            return answer

    async def get(self, path, **options):
        return await self.ask("GET", path, **options)

    async def enter(self, redirect_url):
        token = redirect_url.rpartition("/")[2]
        return await self.ask("POST", "/signing", data={"token": token})


@asynccontextmanager
async def visitor(sandbox, **headers):
    # Cookies of a bare address are kept too: browsers do that.
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar, headers=headers) as session:
        yield Visitor(sandbox, session)


@pytest.fixture
async def browser(sandbox):
    async with visitor(sandbox) as come:
        yield come


# --- The way through the pages


async def test_a_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_gets(
    sandbox, sender, browser
):
    first, _ = redirect_urls(await sender.create())
    answer = await browser.enter(first)
    assert answer.status == 303
    assert answer.headers["Location"] == "/signing/1/1"
    [cookie] = answer.cookies.values()
    assert cookie["httponly"]
    assert cookie["samesite"] == "Lax"
    assert cookie["path"] == "/signing/1/1"
    assert cookie.key == f"posten-signering-{urlsplit(browser.root).port}"
    assert (await browser.get("/signing/1/1")).status == 200
    # The cookie is for this signer's pages only.
    assert (await browser.get("/signing/1/2")).status == 403


@pytest.mark.parametrize(
    ("act", "address"),
    [
        ("sign", "https://example.com/done?a=1&amp;b=2&amp;status_query_token="),
        ("reject", "https://example.com/rejected?status_query_token="),
        ("fail", "https://example.com/error?status_query_token="),
    ],
)
async def test_an_act_leads_to_its_exit_url(sandbox, sender, browser, act, address):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    answer = await browser.ask("POST", "/signing/1/1", data={"act": act})
    assert answer.status == 303
    assert answer.headers["Location"] == "/signing/1/1/exit"
    assert (await browser.get("/signing/1/1/exit")).status == 200
    assert f'<meta http-equiv="refresh" content="0; url={address}' in browser.page
    # Whoever comes back is not sent away again.
    await browser.get("/signing/1/1")
    assert 'http-equiv="refresh"' not in browser.page
    assert f'href="{address}' in browser.page
    # A second act, as by a double click, changes nothing and leads to the same place.
    await browser.ask("POST", "/signing/1/1", data={"act": "sign"})
    await browser.get("/signing/1/1/exit")
    assert f"url={address}" in browser.page


async def test_whoever_has_not_acted_is_not_sent_away(sandbox, sender, browser):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    answer = await browser.get("/signing/1/1/exit")
    assert (answer.status, answer.headers["Location"]) == (303, "/signing/1/1")


@pytest.mark.parametrize("form", [{"act": "dance"}, {}])
async def test_an_act_that_no_page_offers_is_refused(sandbox, sender, browser, form):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    assert (await browser.ask("POST", "/signing/1/1", data=form)).status == 400
    await browser.get("/signing/1/1")
    assert 'value="sign"' in browser.page


async def test_documents_are_shown_where_they_are_read(sandbox, sender, browser, clock):
    first, second = redirect_urls(await sender.create())
    await browser.enter(first)
    answer = await browser.get("/signing/1/1/documents/1")
    assert answer.content_type == "application/pdf"
    assert answer.headers["Content-Disposition"] == "inline; filename*=UTF-8''Leiekontrakt.pdf"
    assert browser.body == bundles.pdf()
    answer = await browser.get("/signing/1/1/documents/2")
    assert answer.content_type == "text/html"
    assert "Husleie på ettersommeren." in browser.page
    for number in (0, 3):
        assert (await browser.get(f"/signing/1/1/documents/{number}")).status == 404
    async with visitor(sandbox) as other:
        assert (await other.get("/signing/1/1/documents/1")).status == 403
        assert b"%PDF" not in other.body

    await sandbox.sign(first)
    await sandbox.sign(second)
    clock.wait(days=41)
    assert (await browser.get("/signing/1/1/documents/1")).status == 410
    assert (await browser.get("/signing/1/1")).status == 200


async def test_a_job_whose_time_is_over_shows_that_without_an_act(sandbox, sender, browser, clock):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    clock.wait(days=31)
    await browser.get("/signing/1/1", headers={"Accept-Language": "en"})
    assert "The time is over" in browser.page


async def test_a_link_opened_elsewhere_used_replaced_or_unknown_is_refused(
    sandbox, sender, browser
):
    created = await sender.create()
    first, second = redirect_urls(created)
    await browser.enter(first)
    async with visitor(sandbox, **{"Accept-Language": "en"}) as other:
        answer = await other.enter(first)
        assert answer.headers["Location"] == "/signing/1/1"
        assert not answer.cookies
        assert (await other.get("/signing/1/1")).status == 403
        assert "open in another browser" in other.page
        assert (await other.ask("POST", "/signing/1/1", data={"act": "sign"})).status == 403

        await sandbox.sign(first)
        signer = signer_named(created, "kunde-42").get("href")
        [fresh] = (await sender.post(signer)).texts("//s:redirect-url/text()")
        for token, status, said in (
            (first, 410, "This link is used"),
            (second, 410, "A newer link took the place of this one"),
            ("#/redirect/nobody", 404, "This link is unknown"),
            ("#/redirect/", 404, "This link is unknown"),
        ):
            answer = await other.enter(token)
            assert answer.status == 303
            assert (await other.get(answer.headers["Location"])).status == status
            assert said in other.page
        await other.enter(fresh)
        assert (await other.get("/signing/1/2")).status == 200


async def test_a_newer_redirect_url_takes_the_page_away_from_whoever_has_not_acted(
    sandbox, sender, browser
):
    created = await sender.create()
    await browser.enter(redirect_urls(created)[0])
    signer = signer_named(created, bundles.PERSON).get("href")
    [fresh] = (await sender.post(signer)).texts("//s:redirect-url/text()")
    assert (await browser.get("/signing/1/1")).status == 410
    await browser.ask("POST", "/signing/1/1", data={"act": "sign"})
    assert (await sandbox.sign(fresh)).startswith("https://example.com/done")


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


# --- Where exit URLs lead


async def test_the_portal_tells_of_each_browser_that_comes_back_once():
    async with (
        Portal("http://127.0.0.1:1/overview", patience=0) as portal,
        aiohttp.ClientSession() as session,
    ):

        async def come(address):
            async with session.get(address, headers={"Accept-Language": "en"}) as answer:
                assert answer.status == 200
                assert "Referrer-Policy" in answer.headers
                return await answer.text()

        said = await come(f"{portal.completion}?status_query_token=a")
        assert "You are back at the sender" in said
        assert 'href="http://127.0.0.1:1/overview"' in said
        await come(f"{portal.completion}?status_query_token=a")
        await come(portal.completion)
        assert "rejected" in await come(f"{portal.rejection}?status_query_token=b")
        assert "failed" in await come(f"{portal.error}?status_query_token=c")
        arrivals = [await portal.came_back() for _ in range(3)]
        assert [address.rpartition("=")[2] for address in arrivals] == ["a", "b", "c"]
        assert "status_query_token" not in repr(arrivals)
        async with session.get(portal.completion.replace("completion", "nowhere")) as answer:
            assert answer.status == 404
