"""A person uses the FastAPI example app: signs, rejects, fails, and follows wrong links."""

import re
from urllib.parse import urlsplit

import example_apps
import pytest
from playwright.async_api import expect

pytestmark = pytest.mark.anyio
pytest_plugins = ("browser_support",)


@pytest.fixture
def sandbox(running):
    return running[0]


@pytest.fixture
async def shop(sandbox, tmp_path, monkeypatch):
    async with example_apps.running("fastapi", sandbox, tmp_path, monkeypatch) as started:
        yield started


def heading(page):
    return page.get_by_role("heading", level=1)


async def at_the_contract(person, shop, who="The tenant"):
    """Goes from the front page to the page of a contract."""
    page = person.page
    await page.goto(shop.url)
    await expect(heading(page)).to_have_text("Rent a flat")
    await page.get_by_role("button", name=who, exact=True).click()
    await expect(page).to_have_url(re.compile(r"/contracts/[\w-]{22}$"))
    await expect(page.get_by_role("status")).to_have_text("Nothing has been signed yet.")
    return page


async def start_signing(page, signer="tenant"):
    """Goes from the contract's page to the signer's page of the service."""
    shop = urlsplit(page.url).netloc
    await page.get_by_role("button", name=f"Sign as the {signer}").click()
    await expect(heading(page)).to_have_text("Lease of a flat")
    assert urlsplit(page.url).netloc != shop


async def expect_return(page, message):
    """Expects the contract's page with this message, at a URL without a token."""
    await expect(page.get_by_role("status")).to_have_text(message)
    assert re.fullmatch(r"/contracts/[\w-]{22}", urlsplit(page.url).path)
    assert urlsplit(page.url).query == ""


async def check_layout(person, name):
    await person.screenshot(name)
    assert await person.contrast_faults() == []
    assert await person.overflow() == 0


@pytest.mark.parametrize("phone", [False, True], ids=["desktop", "phone"])
async def test_a_person_signs_and_reads_the_signed_pdf(visit, shop, sandbox, phone):
    person, developer = await visit(phone=phone), await visit()
    await developer.page.goto(f"{sandbox.signing_pages_url}overview")
    page = await at_the_contract(person, shop)
    await check_layout(person, "shop-draft")
    await start_signing(page)
    job = developer.page.locator(f"[data-job='{sandbox.received[-1].job_id}']")
    await expect(job).to_contain_text("IN_PROGRESS")
    await page.get_by_role("button", name="Sign").click()
    await expect_return(page, "Everybody has signed.")
    await expect(job).to_contain_text("COMPLETED_SUCCESSFULLY")
    await expect(page.get_by_role("listitem")).to_have_text("The tenant has signed")
    await check_layout(person, "shop-signed")
    link = page.get_by_role("link", name="The signed lease")
    address = f"{shop.url}{await link.get_attribute('href')}"
    answer = await person.context.request.get(address)
    assert answer.headers["content-type"] == "application/pdf"
    assert (await answer.body()).startswith(b"%PDF-")
    await page.go_back()  # must not show the signing form again
    assert await page.get_by_role("button", name="Sign", exact=True).count() == 0


async def test_the_front_page_has_contrast_and_fits_the_screen(visit, shop):
    for phone in (False, True):
        person = await visit(phone=phone)
        await person.page.goto(shop.url)
        await check_layout(person, "shop-front")
        answer = await person.context.request.get(f"{shop.url}/lease.pdf")
        assert await answer.body() == example_apps.LEASE.read_bytes()


@pytest.mark.parametrize(
    ("button", "message"),
    [
        ("Reject", "The tenant did not want to sign"),
        ("Simulate an error", "The tenant could not sign, for a technical reason"),
    ],
)
async def test_a_person_does_not_sign(visit, shop, button, message):
    person = await visit(phone=True)
    page = await at_the_contract(person, shop, "The tenant and the landlord")
    await start_signing(page)
    await page.get_by_role("button", name=button).click()
    await expect_return(page, "The lease was not signed.")
    await expect(page.get_by_role("listitem").nth(0)).to_have_text(message)
    await expect(page.get_by_role("listitem").nth(1)).to_contain_text("does not have to sign")
    await expect(page.get_by_role("button")).to_have_count(0)
    await expect(page.get_by_role("link", name="The signed lease")).to_have_count(0)
    await check_layout(person, f"shop-{button.lower().replace(' ', '-')}")


async def test_two_signers_sign_in_separate_browsers(visit, shop):
    tenant, landlord = await visit(), await visit(phone=True)
    page = await at_the_contract(tenant, shop, "The tenant and the landlord")
    await landlord.page.goto(page.url)
    await start_signing(page)
    await page.get_by_role("button", name="Sign").click()
    await expect_return(page, "The lease is ready to be signed.")
    await expect(page.get_by_role("listitem").nth(0)).to_have_text("The tenant has signed")
    await expect(page.get_by_role("button")).to_have_text("Sign as the landlord")
    await check_layout(tenant, "shop-one-of-two")
    await start_signing(landlord.page, "landlord")
    await landlord.page.get_by_role("button", name="Sign").click()
    await expect_return(landlord.page, "Everybody has signed.")
    await page.reload()
    await expect_return(page, "Everybody has signed.")


async def test_a_redirect_url_works_in_one_browser_until_the_signer_has_finished(
    visit, shop, sandbox
):
    person, other = await visit(), await visit()
    page = await at_the_contract(person, shop)
    locations = []
    page.on("response", lambda response: locations.append(response.headers.get("location", "")))
    await start_signing(page)
    [redirect_url] = [location for location in locations if "#/redirect/" in location]
    assert redirect_url.startswith(sandbox.signing_pages_url)
    other.expects("status of 4")  # Chromium logs the HTTP status on its console
    await other.page.goto(redirect_url)
    await expect(heading(other.page)).to_have_text("The job can't be opened in this browser")
    await page.get_by_role("button", name="Sign").click()
    await expect_return(page, "Everybody has signed.")
    await other.page.goto("about:blank")
    await other.page.goto(redirect_url)
    await expect(heading(other.page)).to_have_text("This link has been used")


async def test_it_works_by_keyboard(visit, shop):
    page = (await visit()).page
    await page.goto(shop.url)
    for _ in range(2):  # the first Tab focuses the link to the lease
        await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page).to_have_url(re.compile(r"/contracts/"))
    await page.get_by_role("button", name="Sign as the tenant").focus()
    await page.keyboard.press("Enter")
    await expect(heading(page)).to_have_text("Lease of a flat")


async def test_an_exit_url_without_a_token_shows_a_problem(visit, shop):
    person = await visit(phone=True)
    page = await at_the_contract(person, shop)
    person.expects("status of 400")
    await page.goto(f"{shop.url}/contracts/order-1/signed")
    await expect(page.get_by_role("alert")).to_contain_text(
        "does not belong to a completed signing"
    )
    await check_layout(person, "shop-problem")
