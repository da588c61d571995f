"""The signer's pages over HTTP: which browser may open them, and where an act redirects it."""

import asyncio
from urllib.parse import urlsplit

import bundles
import pytest
from callers import redirect_urls, signer_named
from visitors import visitor

pytestmark = pytest.mark.anyio


async def test_a_token_gives_a_cookie_that_scripts_and_other_sites_do_not_get(
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
    # A signer who returns to the page is not redirected again.
    await browser.get("/signing/1/1")
    assert 'http-equiv="refresh"' not in browser.page
    assert f'href="{address}' in browser.page
    # A second act, as by a double click, changes nothing and redirects to the same URL.
    await browser.ask("POST", "/signing/1/1", data={"act": "sign"})
    await browser.get("/signing/1/1/exit")
    assert f"url={address}" in browser.page


async def test_a_signer_who_has_not_acted_is_not_sent_to_the_exit_url(sandbox, sender, browser):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    answer = await browser.get("/signing/1/1/exit")
    assert (answer.status, answer.headers["Location"]) == (303, "/signing/1/1")


async def test_the_page_says_which_signer_it_is_for_and_masks_identity_numbers(sender, browser):
    named = (
        f"<personal-identification-number>{bundles.PERSON}</personal-identification-number>",
        "<signer-identifier>kunde-42</signer-identifier>",
        f"<signer-identifier>nr. {bundles.PERSON}</signer-identifier>",
    )
    signers = "".join(f"<signer>{name}</signer>" for name in named)
    urls = redirect_urls(await sender.create(signers=signers))
    for number, shown in enumerate(("***********", "kunde-42", "nr. ***********"), start=1):
        await browser.enter(urls[number - 1])
        for language, phrase in (
            ("en", "You sign as signer {} of 3:"),
            ("nb", "Du signerer som undertegner {} av 3:"),
        ):
            await browser.get(f"/signing/1/{number}?lang={language}")
            assert f'{phrase.format(number)} <strong dir="auto">{shown}</strong>' in browser.page
            assert bundles.PERSON not in browser.page


@pytest.mark.parametrize("form", [{"act": "dance"}, {}])
async def test_an_unknown_act_is_refused(sandbox, sender, browser, form):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    assert (await browser.ask("POST", "/signing/1/1", data=form)).status == 400
    await browser.get("/signing/1/1")
    assert 'value="sign"' in browser.page


async def test_a_cookie_that_is_not_text_is_refused(sandbox, sender, browser):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    host, _, port = browser.root.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(f"GET /signing/1/1 HTTP/1.1\r\nHost: {host}:{port}\r\n".encode())
    writer.write(f"Cookie: posten-signering-{port}=".encode() + b"\xff\r\n\r\n")
    assert await reader.readline() == b"HTTP/1.1 403 Forbidden\r\n"
    writer.close()
    await writer.wait_closed()


async def test_only_the_signers_browser_can_read_the_documents(sandbox, sender, browser, clock):
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


async def test_an_expired_job_is_shown_as_expired_without_an_act(sandbox, sender, browser, clock):
    first, _ = redirect_urls(await sender.create())
    await browser.enter(first)
    clock.wait(days=31)
    await browser.get("/signing/1/1", headers={"Accept-Language": "en"})
    assert "The deadline has passed" in browser.page


async def test_a_link_that_is_opened_used_replaced_or_unknown_is_refused(sandbox, sender, browser):
    created = await sender.create()
    first, second = redirect_urls(created)
    await browser.enter(first)
    async with visitor(sandbox, **{"Accept-Language": "en"}) as other:
        answer = await other.enter(first)
        assert answer.headers["Location"] == "/signing/1/1"
        assert not answer.cookies
        assert (await other.get("/signing/1/1")).status == 403
        assert "be opened in this browser" in other.page
        assert (await other.ask("POST", "/signing/1/1", data={"act": "sign"})).status == 403

        await sandbox.sign(first)
        signer = signer_named(created, "kunde-42").get("href")
        [fresh] = (await sender.post(signer)).texts("//s:redirect-url/text()")
        for token, status, title in (
            (first, 410, "This link has been used"),
            (second, 410, "This link has been replaced by a newer one"),
            ("#/redirect/nobody", 404, "This link is unknown"),
            ("#/redirect/", 404, "This link is unknown"),
        ):
            answer = await other.enter(token)
            assert answer.status == 303
            assert (await other.get(answer.headers["Location"])).status == status
            assert title in other.page
        await other.enter(fresh)
        assert (await other.get("/signing/1/2")).status == 200


async def test_a_newer_redirect_url_closes_the_page_of_a_signer_who_has_not_acted(
    sandbox, sender, browser
):
    created = await sender.create()
    await browser.enter(redirect_urls(created)[0])
    signer = signer_named(created, bundles.PERSON).get("href")
    [fresh] = (await sender.post(signer)).texts("//s:redirect-url/text()")
    assert (await browser.get("/signing/1/1")).status == 410
    await browser.ask("POST", "/signing/1/1", data={"act": "sign"})
    assert (await sandbox.sign(fresh)).startswith("https://example.com/done")
