"""A person uses the signer's pages: reads, signs, rejects, fails, reloads, or acts too late."""

import re
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import expect

from posten_signering import Document, DocumentType, ExitUrls
from posten_signering.sandbox.demo import contract

pytestmark = pytest.mark.anyio
pytest_plugins = ("browser_support",)

TITLE = "Leie av bolig på Tøyen"


def heading(page):
    return page.get_by_role("heading", level=1)


async def opened(person, signer, title=TITLE):
    """The signer's page, open in this person's browser."""
    await person.page.goto(signer.redirect_url)
    await expect(heading(person.page)).to_have_text(title)
    return person.page


def statuses(status):
    return sorted(str(signature.status) for signature in status.signatures)


# --- What a signer does


async def test_a_person_reads_the_documents_and_signs(visit, sender):
    created = await sender.create()
    person = await visit(language="nb-NO")
    page = await opened(person, sender.signers(created)[0])
    assert urlsplit(page.url).path == "/signing/1/1"
    assert sender.signers(created)[0].redirect_url.rpartition("/")[2] not in page.url
    for text in ("Organisasjon 123 456 789", "Les begge dokumentene", "Dette er ikke Posten"):
        await expect(page.locator("body")).to_contain_text(text.replace("3 4", "3\xa04"))
    await person.screenshot("signer-page")

    async with page.expect_popup() as popup:
        await page.get_by_role("link", name="Vilkår").click()
    document = await popup.value
    await expect(document.locator("pre")).to_contain_text("Æ, ø og å er velkomne her.")
    await person.screenshot("signer-text-document", document)
    assert await person.contrast_faults(document) == []

    link = page.get_by_role("link", name="Leiekontrakt")
    answer = await person.context.request.get(
        f"http://{urlsplit(page.url).netloc}{await link.get_attribute('href')}"
    )
    assert answer.headers["content-type"] == "application/pdf"
    assert answer.headers["content-disposition"].startswith("inline;")
    assert await answer.body() == contract()
    async with page.expect_popup() as popup:
        await link.click()
    # The browser shows the PDF in its own viewer, without a download or an error.
    assert (await popup.value).url.endswith("/documents/1")

    await page.get_by_role("button", name="Signer").click()
    await expect(page).to_have_url(re.compile(rf"^{re.escape(sender.portal.completion)}\?"))
    query = parse_qs(urlsplit(page.url).query)
    assert query.keys() == {"order", "status_query_token"}
    await expect(heading(page)).to_have_text("Takk! Du er tilbake hos avsenderen")
    await person.screenshot("exit-completion")
    status = await sender.client.get_status(created, query["status_query_token"][0])
    assert statuses(status) == ["SIGNED", "WAITING"]


@pytest.mark.parametrize(
    ("button", "exit_url", "thanks", "outcome"),
    [
        (
            "Reject",
            "rejection",
            "You rejected the job and are back",
            ["NOT_APPLICABLE", "REJECTED"],
        ),
        (
            "Simulate an error",
            "error",
            "Signing failed, and you are back",
            ["FAILED", "NOT_APPLICABLE"],
        ),
    ],
)
async def test_a_person_does_not_sign(visit, sender, button, exit_url, thanks, outcome):
    created = await sender.create()
    person, other = await visit(), await visit()
    page = await opened(person, sender.signers(created)[0])
    waiting = await opened(other, sender.signers(created)[1])
    await page.get_by_role("button", name=button).click()
    await expect(page).to_have_url(re.compile(rf"/{exit_url}\?status_query_token="))
    await expect(heading(page)).to_contain_text(thanks)
    await person.screenshot(f"exit-{exit_url}")
    [token] = parse_qs(urlsplit(page.url).query)["status_query_token"]
    assert statuses(await sender.client.get_status(created, token)) == outcome

    # The other signer has the page open, and acts too late.
    await waiting.get_by_role("button", name="Sign").click()
    await expect(heading(waiting)).to_have_text("The job has ended")
    await expect(waiting.get_by_role("link", name="Continue to the sender")).to_have_count(0)
    await other.screenshot("signer-ended")


async def test_two_signers_sign_one_after_the_other_and_end_at_pages_of_the_sandbox(visit, sender):
    created = await sender.create(exit_urls=sender.sandbox.exit_urls)
    for number, signer in enumerate(sender.signers(created), start=1):
        person = await visit(phone=number == 2, dark=number == 2)
        page = await opened(person, signer)
        await expect(page.locator("main")).to_contain_text(f"You sign as signer {number} of 2:")
        await page.get_by_role("button", name="Sign").dblclick()
        await expect(page).to_have_url(re.compile(r"/exit/completed\?"))
        await expect(heading(page)).to_have_text("Signed")
        [token] = parse_qs(urlsplit(page.url).query)["status_query_token"]
        await page.get_by_role("link", name="Norsk").click()
        await expect(heading(page)).to_have_text("Signert")
        await expect(page.get_by_text(token, exact=True)).to_be_visible()
        await person.screenshot("exit-page")
        assert await person.overflow() == 0
        assert await person.contrast_faults() == []
    status = await sender.client.get_status(created, token)
    assert status.status == "COMPLETED_SUCCESSFULLY"
    await page.get_by_role("link", name="Oversikt over sandkassen").first.click()
    await expect(page.locator(f"[data-job='{created.job_id}']")).to_contain_text("COMPLETED")


async def test_a_job_that_expires_while_its_page_is_open_is_shown_as_expired(visit, sender):
    created = await sender.create(description=None)
    person = await visit()
    page = await opened(person, sender.signers(created)[0])
    await expect(page.get_by_role("heading", name="Message from the sender")).to_have_count(0)
    await sender.sandbox.expire(created.job_id)
    await page.get_by_role("button", name="Sign").click()
    await expect(heading(page)).to_have_text("The deadline has passed")


# --- One redirect URL, one browser


async def test_the_page_works_after_a_reload_and_a_return(visit, sender):
    created = await sender.create()
    person = await visit()
    page = await opened(person, sender.signers(created)[0])
    await page.reload()
    await expect(heading(page)).to_have_text(TITLE)
    # The same browser may open the redirect URL a second time.
    await opened(person, sender.signers(created)[0])
    await page.get_by_role("button", name="Sign").click()
    await expect(page).to_have_url(re.compile(r"/completion\?"))
    await page.goto(f"{sender.sandbox.signing_pages_url}signing/{created.job_id}/1")
    await expect(heading(page)).to_have_text("You have signed")
    await person.screenshot("signer-finished")
    assert await person.contrast_faults() == []
    await page.get_by_role("link", name="Continue to the sender").click()
    await expect(page).to_have_url(re.compile(r"/completion\?"))


async def test_used_replaced_and_unknown_links_show_a_page_with_the_reason(visit, sender):
    created = await sender.create()
    signed, renewed = sender.signers(created)
    page = await opened(await visit(), signed)
    await page.get_by_role("button", name="Sign").click()
    await expect(page).to_have_url(re.compile(r"/completion\?"))
    fresh = await sender.client.request_new_redirect_url(renewed)
    unknown = f"{sender.sandbox.signing_pages_url}#/redirect/nobody"
    person = await visit(language="nb-NO")
    # Chromium logs a console error for every page with one of these statuses.
    person.expects("status of 410", "status of 404")
    for address, title in (
        (signed.redirect_url, "Lenken er brukt"),
        (renewed.redirect_url, "Lenken er erstattet av en nyere"),
        (unknown, "Lenken er ukjent"),
    ):
        await person.page.goto(address)
        await expect(heading(person.page)).to_have_text(title)
    await person.page.get_by_role("link", name="English").click()
    await expect(heading(person.page)).to_have_text("This link is unknown")
    await person.screenshot("signer-refused")
    assert await person.contrast_faults() == []
    await opened(person, fresh)


async def test_a_second_browser_is_refused_and_the_first_continues(visit, sender):
    created = await sender.create()
    first, second = await visit(), await visit(phone=True)
    second.expects("status of 403", "status of 410")
    page = await opened(first, sender.signers(created)[0])
    await second.page.goto(sender.signers(created)[0].redirect_url)
    await expect(heading(second.page)).to_have_text("The job can't be opened in this browser")
    await second.screenshot("signer-second-browser")
    assert await second.contrast_faults() == []
    await page.reload()
    await expect(heading(page)).to_have_text(TITLE)

    # When a new redirect URL is opened, only that browser may act.
    fresh = await sender.client.request_new_redirect_url(sender.signers(created)[0])
    await opened(second, fresh)
    first.expects("status of 403")
    await page.get_by_role("button", name="Sign").click()
    await expect(heading(page)).to_have_text("The job can't be opened in this browser")
    await second.page.get_by_role("button", name="Sign").click()
    await expect(second.page).to_have_url(re.compile(r"/completion\?"))


async def test_a_redirect_url_pasted_into_an_open_tab_is_opened(visit, sender):
    created = await sender.create()
    person = await visit()
    await person.page.goto(sender.sandbox.signing_pages_url)
    await expect(heading(person.page)).to_have_text("The signer's pages of the sandbox")
    assert await person.contrast_faults() == []
    await person.screenshot("front")
    # Only the fragment changes, so the browser does not load the page again.
    await opened(person, sender.signers(created)[0])


# --- Accessibility and languages


async def test_it_works_with_the_keyboard_alone(visit, sender):
    created = await sender.create()
    person = await visit()
    page = await opened(person, sender.signers(created)[0])
    seen = []
    for _ in range(7):
        await page.keyboard.press("Tab")
        focused = page.locator(":focus")
        seen.append((await focused.inner_text()).split("\n")[0])
        style = await focused.evaluate("at => getComputedStyle(at).outlineStyle")
        assert style == "solid", f"{seen[-1]} has no visible focus"
    assert seen[:2] == ["Skip to the content", "Norsk"]
    assert seen[-3:] == ["Sign", "Reject", "Simulate an error"]
    await person.screenshot("signer-focus")
    await page.keyboard.press("Shift+Tab")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"/rejection\?"))


@pytest.mark.parametrize("dark", [False, True])
async def test_it_fits_a_phone_and_has_contrast(visit, sender, dark):
    created = await sender.create(title="Rammeavtale om " + "strømleveranse" * 4)
    person = await visit(language="nb-NO", phone=True, dark=dark)
    page = await opened(
        person, sender.signers(created)[0], "Rammeavtale om " + "strømleveranse" * 4
    )
    await person.screenshot("signer-page-dark" if dark else "signer-page")
    assert await person.overflow() == 0
    assert await person.contrast_faults() == []
    for control in await page.get_by_role("button").all():
        box = await control.bounding_box()
        assert box["height"] >= 44
        assert box["width"] >= 300


async def test_the_language_is_the_browsers_until_the_reader_switches(visit, sender):
    created = await sender.create()
    person = await visit(language="nn-NO")
    page = await opened(person, sender.signers(created)[0])
    html = page.locator("html")
    await expect(html).to_have_attribute("lang", "nb")
    await expect(page.get_by_role("button", name="Signer")).to_be_visible()
    await page.get_by_role("link", name="English").click()
    await expect(html).to_have_attribute("lang", "en")
    await expect(page.get_by_role("button", name="Sign", exact=True)).to_be_visible()
    await page.goto(sender.sandbox.signing_pages_url)
    await expect(html).to_have_attribute("lang", "en")
    await page.get_by_role("link", name="Norsk").click()
    await expect(html).to_have_attribute("lang", "nb")


# --- Texts of the sender are never executed


HOSTILE = "</title><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\"'"


async def test_texts_of_the_sender_are_shown_and_not_executed(visit, sender):
    hostile = Document(title=HOSTILE[:80], content=contract())
    text = Document(title="Notat", content=f"{HOSTILE}\n".encode(), type=DocumentType.TEXT)
    created = await sender.create(
        title=HOSTILE[:80],
        description=HOSTILE,
        documents=[hostile, text],
        exit_urls=ExitUrls(
            completion=f"{sender.portal.completion}?a=%22%3E%3Cscript%3Ealert(3)%3C/script%3E&b='",
            rejection="a.example:/';alert(4);'",
            error=sender.portal.error,
        ),
    )
    person = await visit()
    person.page.on("dialog", lambda dialog: person.complaints.append(f"executed: {dialog.message}"))
    page = await opened(person, sender.signers(created)[0], HOSTILE[:80])
    assert await page.title() == f"{HOSTILE[:80]} | Posten signering, sandbox"
    await expect(page.locator(".message p")).to_have_text(HOSTILE)
    await expect(page.locator("main img, main script")).to_have_count(0)
    async with page.expect_popup() as popup:
        await page.get_by_role("link", name="Notat").click()
    await expect((await popup.value).locator("pre")).to_have_text(HOSTILE)
    await page.get_by_role("button", name="Sign").click()
    await expect(page).to_have_url(re.compile(r"/completion\?"))
    assert parse_qs(urlsplit(page.url).query)["a"] == ['"><script>alert(3)</script>']


async def test_the_policy_of_a_page_blocks_an_injected_script(visit, sender):
    """If a template ever fails to escape a value, the page's policy still blocks the script."""
    person = await visit()
    person.expects("Content Security Policy", "status of 404")
    await person.page.goto(sender.sandbox.signing_pages_url)
    await person.page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran = 1\">')"
    )
    await person.page.evaluate(
        "document.head.append(Object.assign(document.createElement('script'), {text: 'ran = 2'}))"
    )
    assert await person.page.evaluate("window.ran") is None
    assert any(re.search("Content Security Policy", line) for line in person.complaints)
