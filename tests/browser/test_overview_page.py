"""A developer uses the overview page: watches a job, acts on it, and injects faults."""

import re

import pytest
from playwright.async_api import expect

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectJobStatus,
    DirectSigner,
    Document,
    DocumentType,
)
from posten_signering.errors import ApiError, SigningError

pytestmark = pytest.mark.anyio
pytest_plugins = ("browser_support",)

PERSON = "17885599999"


async def watching(person, sender):
    """The overview, connected to the feed of changes."""
    await person.page.goto(f"{sender.sandbox.signing_pages_url}overview")
    await expect(person.page.locator("[data-live=yes]")).to_have_text("Updates automatically")
    return person.page


def card(page, created):
    return page.locator(f"[data-job='{created.job_id}']")


async def test_it_shows_changes_without_a_reload(visit, sender):
    person = await visit()
    page = await watching(person, sender)
    await page.evaluate("window.sameDocument = true")
    created = await sender.create(polled=True)
    job = card(page, created)
    await expect(job).to_contain_text("IN_PROGRESS")
    await expect(job.get_by_role("heading")).to_have_text(
        f"Job {created.job_id} Leie av bolig på Tøyen"
    )
    signers = job.get_by_role("listitem")
    await expect(signers).to_have_count(2)
    await expect(signers.nth(0)).to_contain_text("***********")
    await expect(signers.nth(1)).to_contain_text("customer-42")
    await expect(job).to_contain_text("Documents: Leiekontrakt, Vilkår")

    await sender.sandbox.sign(sender.signers(created)[0].redirect_url)
    await expect(signers.nth(0)).to_contain_text("SIGNED")
    queues = page.locator("[data-part=queues]")
    await expect(queues).to_contain_text("waits for a poll")
    first = await sender.client.get_status_change()
    await expect(queues).to_contain_text("lease ends in 10 min")
    await person.screenshot("overview-running")
    await sender.sandbox.sign(sender.signers(created)[1].redirect_url)
    await expect(job).to_contain_text("COMPLETED_SUCCESSFULLY")
    await expect(job).to_contain_text("not confirmed")
    second = await sender.client.get_status_change()
    for poll in (first, second):
        await sender.client.confirm(poll.change)
    await expect(queues).to_contain_text("Empty.")
    await expect(job).not_to_contain_text("not confirmed")

    requests = page.locator("[data-part=requests] tbody tr")
    await expect(requests.first).to_contain_text("POST")
    await expect(requests.first).to_contain_text("204")
    assert await page.evaluate("window.sameDocument") is True
    assert await person.contrast_faults() == []


async def test_a_refusal_is_shown_with_the_reason_and_without_identity_numbers_and_tokens(
    visit, sender
):
    page = await watching(await visit(), sender)
    created = await sender.create(title=f"Avtale med {PERSON}")
    token = sender.sandbox.status_query_token(sender.signers(created)[0].redirect_url)
    with pytest.raises(ApiError):
        await sender.client.get_status(created, token)
    latest = page.locator("[data-part=requests] tbody tr").first
    await expect(latest).to_contain_text("404")
    await expect(latest).to_contain_text(f"has not finished with job {created.job_id}")
    await expect(latest).to_contain_text("status_query_token=***")
    content = await page.content()
    assert "***********" in content
    for secret in (PERSON, token, sender.signers(created)[1].redirect_url.rpartition("/")[2]):
        assert secret not in content


async def test_it_acts_as_any_signer_expires_jobs_and_deletes_documents(visit, sender):
    person = await visit()
    page = await watching(person, sender)
    done = page.get_by_role("status").filter(has_text="has signed")
    created = await sender.create()
    for number in (1, 2):
        await page.get_by_role(
            "button", name=f"Sign: signer {number} of job {created.job_id}"
        ).click()
        await expect(done).to_have_text(f"Signer {number} of job {created.job_id} has signed.")
    job = card(page, created)
    await expect(job).to_contain_text("COMPLETED_SUCCESSFULLY")
    await job.get_by_role("button", name="Delete documents").click()
    await expect(job).to_contain_text("documents deleted")
    await expect(job.get_by_role("button")).to_have_count(0)

    for act, status in (("Reject", "REJECTED"), ("Fail", "FAILED")):
        job = card(page, await sender.create())
        await job.get_by_role("button", name=f"{act}: signer 2").click()
        await expect(job.get_by_role("listitem").nth(1)).to_contain_text(status)
        await expect(job.get_by_role("listitem").nth(0)).to_contain_text("NOT_APPLICABLE")

    job = card(page, await sender.create())
    await job.get_by_role("button", name="Expire").click()
    await expect(job).to_contain_text("EXPIRED")


async def test_a_late_action_shows_the_error(visit, sender):
    person = await visit()
    person.expects("status of 409", "ERR_FAILED")
    page = await watching(person, sender)
    created = await sender.create()
    button = page.get_by_role("button", name=f"Sign: signer 1 of job {created.job_id}")
    await expect(button).to_be_visible()
    # The page can't update before the button is pressed.
    await page.route("**/overview/data*", lambda route: route.abort())
    await sender.sandbox.sign(sender.signers(created)[0].redirect_url)
    await button.click()
    await expect(page.get_by_role("alert")).to_contain_text("this signer has finished")
    await person.screenshot("overview-too-late")
    await page.unroute("**/overview/data*")
    await sender.sandbox.sign(sender.signers(created)[1].redirect_url)
    await expect(card(page, created)).to_contain_text("COMPLETED_SUCCESSFULLY")


async def test_a_lease_can_be_ended(visit, sender):
    page = await watching(await visit(), sender)
    created = await sender.create(polled=True)
    await sender.sandbox.reject(sender.signers(created)[0].redirect_url)
    poll = await sender.client.get_status_change()
    assert poll.change.status == DirectJobStatus.FAILED
    await page.get_by_role(
        "button", name=re.compile(rf"End lease: change \d+ of job {created.job_id}")
    ).click()
    await expect(page.locator("[data-part=queues]")).to_contain_text("waits for a poll")
    again = await sender.client.get_status_change()
    assert again.change.job_id == created.job_id
    await sender.client.confirm(again.change)


async def test_faults_can_be_injected_removed_and_cleared(visit, sender):
    person = await visit()
    page = await watching(person, sender)
    form = page.locator("[data-inject]")
    await form.get_by_label("What goes wrong").select_option("error_document")
    await expect(form.get_by_label("Seconds")).to_be_hidden()
    await form.get_by_role("button", name="Inject").click()
    await expect(page.get_by_role("alert")).to_have_text(re.compile("needs the field code"))
    await expect(page.get_by_role("alert")).to_be_in_viewport()
    await expect(form.get_by_role("button", name="Inject")).to_be_in_viewport()
    person.expects("status of 400")
    await form.get_by_label("Error code").fill("NOT_AUTHORIZED")
    await form.get_by_label("Operation").select_option("check_access")
    await form.get_by_role("button", name="Inject").click()
    faults = page.locator("[data-part=faults]")
    await expect(faults).to_contain_text("error_document")
    await expect(faults).to_contain_text("the next request, to check_access, code NOT_AUTHORIZED")
    await person.screenshot("overview-faults")
    with pytest.raises(SigningError):
        await sender.client.check_access()
    await expect(faults).to_have_text("No faults are pending.")
    await expect(page.locator("[data-part=requests] tbody tr").first).to_contain_text(
        "fault: error_document"
    )

    await form.get_by_label("Operation").select_option("")
    await form.get_by_label("What goes wrong").select_option("clock_skew")
    await form.get_by_label("Seconds").fill("-90.5")
    await form.get_by_label("Number of requests").fill("")
    await form.get_by_role("button", name="Inject").click()
    await expect(faults).to_contain_text("every request, seconds -90.5")
    await form.get_by_label("What goes wrong").select_option("reset")
    await form.get_by_role("button", name="Inject").click()
    await faults.get_by_role("button", name="Remove: clock_skew").click()
    await expect(faults.get_by_role("listitem")).to_have_count(1)
    await faults.get_by_role("button", name="Clear all faults").click()
    await expect(faults).to_have_text("No faults are pending.")


async def test_the_keyboard_focus_is_kept_while_the_page_updates(visit, sender):
    page = await watching(await visit(), sender)
    created = await sender.create()
    sign = page.get_by_role("button", name=f"Sign: signer 2 of job {created.job_id}")
    await sign.focus()
    await sender.sandbox.sign(sender.signers(created)[0].redirect_url)
    await expect(card(page, created).get_by_role("listitem").nth(0)).to_contain_text("SIGNED")
    await expect(sign).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(card(page, created)).to_contain_text("COMPLETED_SUCCESSFULLY")
    # The button no longer exists, so the heading of its section has the focus.
    await expect(page.get_by_role("heading", name="Jobs")).to_be_focused()


async def top_of(page, section):
    """How many pixels the heading of a section is below the top of the screen."""
    heading = page.locator(f"#{section}-title")
    return await heading.evaluate("at => at.getBoundingClientRect().top")


async def create_many(sender):
    """Creates 17 jobs, of which the first three are rejected, and one of another sender."""
    jobs = []
    for number in range(17):
        created = await sender.create(title=f"Avtale {number}", polled=number % 2 == 0)
        if number < 3:
            await sender.sandbox.reject(sender.signers(created)[0].redirect_url)
        jobs.append(created)
    other = sender.sandbox.client_configuration("987654321")
    async with DirectClient(other) as client:
        job = DirectJob(
            title="Rammeavtale om " + "strømleveranse" * 4,
            documents=[Document(title="Avtale", content=b"Avtale", type=DocumentType.TEXT)],
            signers=[DirectSigner(custom_identifier="customer-42")],
            exit_urls=sender.sandbox.exit_urls,
        )
        return [*jobs, await client.create(job)]


async def test_many_jobs_are_shown_in_pages_by_filter_and_by_direct_link(visit, sender):
    await sender.sandbox.reset()
    first, *_, newest = await create_many(sender)
    person = await visit()
    page = await watching(person, sender)
    jobs, cards = page.locator("[data-part=jobs]"), page.locator("[data-part=jobs] article")
    await expect(cards).to_have_count(6)
    await expect(cards.first).to_have_attribute("data-job", str(newest.job_id))
    await expect(jobs).to_contain_text("Page 1 of 3")
    assert await page.evaluate("document.documentElement.scrollHeight") < 3500

    # Pages: with the keyboard, the focus stays on the link.
    older = jobs.get_by_role("link", name="Older")
    await older.focus()
    await page.keyboard.press("Enter")
    await expect(jobs).to_contain_text("Page 2 of 3")
    await expect(older).to_be_focused()
    await expect(page).to_have_url(re.compile(r"overview\?page=2$"))
    await page.reload()
    await expect(jobs).to_contain_text("Page 2 of 3")
    await jobs.get_by_role("link", name="Oldest").click()
    await expect(cards.last).to_have_attribute("data-job", str(first.job_id))
    await page.go_back()
    await expect(jobs).to_contain_text("Page 2 of 3")

    # The filter, which is kept by a switch of the language.
    await page.get_by_label("Status of the job").select_option("FAILED")
    await expect(jobs).to_contain_text("3 of 18 jobs")
    await expect(page).to_have_url(re.compile(r"overview\?state=FAILED$"))
    await page.get_by_label("Sender").select_option("987654321")
    await expect(jobs).to_contain_text("No job matches the selection.")
    await page.get_by_label("Status of the job").select_option("")
    await expect(cards).to_have_count(1)
    await page.get_by_role("link", name="Norsk").click()
    await expect(page.get_by_label("Avsender")).to_have_value("987654321")
    await expect(jobs).to_contain_text("1 av 18 oppdrag")
    await jobs.get_by_role("link", name="Vis alle oppdrag").click()
    await expect(cards).to_have_count(6)

    # Direct links to one job: by number, and from a queue.
    await page.get_by_label("Oppdragsnummer").fill(str(newest.job_id))
    await page.keyboard.press("Enter")
    await expect(cards).to_have_count(1)
    assert await person.overflow() == 0
    queues = page.locator("[data-part=queues]")
    await queues.get_by_role("link", name=f"Oppdrag {first.job_id}", exact=True).click()
    await expect(cards).to_have_attribute("data-job", str(first.job_id))
    await expect(page).to_have_url(re.compile(rf"job={first.job_id}#jobs$"))


async def test_anchors_lead_to_their_section_on_load_and_while_the_page_updates(visit, sender):
    await sender.sandbox.reset()
    for _ in range(8):
        created = await sender.create()
    person = await visit()
    page, cards = person.page, person.page.locator("[data-part=jobs] article")
    root = f"{sender.sandbox.signing_pages_url}overview"
    await page.goto(f"{root}#faults")
    await expect(cards).to_have_count(6)
    assert 0 <= await top_of(page, "faults") < 100

    # Now the section above grows.
    await page.goto(f"{root}?state=FAILED#faults")
    await expect(page.locator("[data-part=jobs]")).to_contain_text("0 of 8 jobs")
    await expect(page.locator("[data-live=yes]")).to_be_visible()
    assert 0 <= await top_of(page, "faults") < 100
    await sender.sandbox.reject(sender.signers(created)[0].redirect_url)
    await expect(cards).to_have_count(1)
    assert 0 <= await top_of(page, "faults") < 100

    # Desktop and phone, light and dark, in both languages.
    for language, phone, dark in (("nb", False, False), ("nb", True, True), ("en", True, False)):
        person = await visit(language=language, phone=phone, dark=dark)
        await person.page.goto(root)
        await expect(person.page.locator("[data-live=yes]")).to_be_visible()
        await expect(person.page.locator("html")).to_have_attribute("lang", language)
        await person.screenshot(f"overview-{language}{'-dark' if dark else ''}")
        assert await person.overflow() == 0
        assert await person.contrast_faults() == []


async def test_without_the_feed_the_page_polls(visit, sender):
    person = await visit()
    person.expects("/control/events", "ERR_FAILED")
    await person.page.clock.install()
    await person.page.route("**/control/events", lambda route: route.abort())
    await person.page.goto(f"{sender.sandbox.signing_pages_url}overview")
    await expect(person.page.locator("[data-live=asking]")).to_be_visible()
    created = await sender.create()
    await person.page.clock.run_for(2000)
    await expect(card(person.page, created)).to_contain_text("IN_PROGRESS")


async def test_in_bokmal_the_clock_can_be_moved_forward_and_the_sandbox_reset(visit, sender):
    person = await visit(language="nb-NO")
    person.expects("status of 400")
    page = person.page
    created = await sender.create()
    await page.goto(f"{sender.sandbox.signing_pages_url}overview")
    await expect(page.locator("[data-live=yes]")).to_have_text("Oppdateres automatisk")
    job = card(page, created)
    await expect(job).to_contain_text("utløper om 30 dager")
    await job.get_by_role("button", name=f"Avvis: undertegner 2 i oppdrag {created.job_id}").click()
    await expect(page.locator("[data-result]")).to_have_text(
        f"Undertegner 2 i oppdrag {created.job_id} har avvist oppdraget."
    )
    # The control API explains errors in English, and the page marks them as English.
    await page.get_by_role("button", name="Legg inn", exact=True).click()
    problem = page.get_by_role("alert").locator("[lang=en]")
    await expect(problem).to_contain_text("needs the field seconds")

    await page.get_by_role("button", name="Still klokken 24 timer fram").click()
    await expect(page.locator("[data-advanced]")).to_contain_text("stilt fram 86400 s")
    time = r"\d\d:\d\d:\d\d"
    date = r"\d{1,2}\. [a-z]{3,4}\.? \d{4}"
    await expect(job.locator("time").first).to_have_text(re.compile(f"^{date} {time}$"))
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Nullstill sandkassen").click()
    await expect(page.locator("[data-part=jobs]")).to_contain_text("Ingen oppdrag ennå.")
    await expect(page.locator("[data-advanced]")).to_be_empty()
    await expect(card(page, created)).to_have_count(0)
