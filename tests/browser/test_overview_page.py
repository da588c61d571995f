"""A developer uses the overview page: watches a job, acts on it, and injects faults."""

import re

import pytest
from playwright.async_api import expect

from posten_signering import DirectJobStatus
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


async def test_no_identity_number_and_no_token_is_shown(visit, sender):
    created = await sender.create(title=f"Avtale med {PERSON}")
    page = await watching(await visit(), sender)
    exit_url = await sender.sandbox.sign(sender.signers(created)[0].redirect_url)
    token = exit_url.rpartition("=")[2]
    await sender.client.get_status(created, token)
    await expect(page.locator("[data-part=requests]")).to_contain_text("status_query_token=***")
    content = await page.content()
    assert "***********" in content
    for secret in (PERSON, token, sender.signers(created)[1].redirect_url.rpartition("/")[2]):
        assert secret not in content


async def test_a_refused_request_is_shown_with_the_reason(visit, sender):
    page = await watching(await visit(), sender)
    created = await sender.create()
    token = sender.sandbox.status_query_token(sender.signers(created)[0].redirect_url)
    with pytest.raises(ApiError):
        await sender.client.get_status(created, token)
    latest = page.locator("[data-part=requests] tbody tr").first
    await expect(latest).to_contain_text("404")
    await expect(latest).to_contain_text(f"has not finished with job {created.job_id}")


async def test_it_acts_as_any_signer_expires_jobs_and_deletes_documents(visit, sender):
    person = await visit()
    page = await watching(person, sender)
    done = page.get_by_role("status").filter(has_text="ob")
    created = await sender.create()
    for number in (1, 2):
        await page.get_by_role(
            "button", name=f"Sign: signer {number} of job {created.job_id}"
        ).click()
        await expect(done).to_have_text(f"signer {number} of job {created.job_id} signed.")
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
    person.expects("status of 410", "ERR_FAILED")
    page = await watching(person, sender)
    created = await sender.create()
    button = page.get_by_role("button", name=f"Sign: signer 1 of job {created.job_id}")
    await expect(button).to_be_visible()
    # The page can't update before the button is pressed.
    await page.route("**/control/overview", lambda route: route.abort())
    await sender.sandbox.sign(sender.signers(created)[0].redirect_url)
    await button.click()
    await expect(page.get_by_role("alert")).to_contain_text("this signer has finished")
    await person.screenshot("overview-too-late")
    await page.unroute("**/control/overview")
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


@pytest.mark.parametrize("dark", [False, True])
async def test_it_fits_a_phone_and_has_contrast(visit, sender, dark):
    await sender.create(polled=True, title="Rammeavtale om " + "strømleveranse" * 4)
    person = await visit(phone=True, dark=dark)
    page = await watching(person, sender)
    await expect(page.locator("[data-part=jobs] article").first).to_be_visible()
    await person.screenshot("overview-dark" if dark else "overview")
    assert await person.overflow() == 0
    assert await person.contrast_faults() == []


async def test_without_the_feed_the_page_polls(visit, sender):
    person = await visit()
    person.expects("/control/events", "ERR_FAILED")
    await person.page.route("**/control/events", lambda route: route.abort())
    await person.page.goto(f"{sender.sandbox.signing_pages_url}overview")
    await expect(person.page.locator("[data-live=asking]")).to_be_visible()
    created = await sender.create()
    await expect(card(person.page, created)).to_contain_text("IN_PROGRESS")


async def test_the_clock_can_be_moved_forward_and_the_sandbox_reset(visit, sender):
    page = await watching(await visit(), sender)
    created = await sender.create()
    await page.get_by_role("button", name="Move the clock forward by 10 minutes").click()
    await expect(page.locator("[data-advanced]")).to_contain_text("moved forward by 600 s")
    page.on("dialog", lambda dialog: dialog.accept())
    await page.get_by_role("button", name="Reset the sandbox").click()
    await expect(page.locator("[data-part=jobs]")).to_contain_text("No jobs yet.")
    await expect(page.locator("[data-advanced]")).to_be_empty()
    await expect(card(page, created)).to_have_count(0)
