"""The sandbox's own exit pages, where a job without a web site ends."""

import logging

import pytest

from posten_signering import DirectClient, DirectJob, DirectSigner, Document, DocumentType
from posten_signering.sandbox import ThreadedSandbox

pytestmark = pytest.mark.anyio

TOKEN = "A-token_that.a~signer-came-with"


@pytest.fixture(scope="module")
def sandbox():
    with ThreadedSandbox() as running:
        yield running


async def test_each_page_says_what_happened_and_what_to_do_next(browser, caplog):
    caplog.set_level(logging.DEBUG)
    for name, happened, outcome in (
        ("completed", ("<h1>Signed</h1>", "<h1>Signert</h1>"), "COMPLETED_SUCC"),
        ("rejected", ("<h1>Rejected</h1>", "<h1>Avvist</h1>"), "REJECTED"),
        ("error", ("<h1>Signing failed</h1>", "<h1>Signeringen feilet</h1>"), "FAILED"),
    ):
        for language, title in zip(("en", "nb"), happened, strict=True):
            path = f"/exit/{name}?order=7&status_query_token={TOKEN}&lang={language}"
            answer = await browser.get(path)
            assert answer.status == 200
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.headers["Referrer-Policy"] == "no-referrer"
            assert title in browser.page
            assert outcome in browser.page
            assert f">{TOKEN}<" in browser.page
            assert "get_status(" in browser.page
            assert "status_changes()" in browser.page
            # The link to the other language keeps the token.
            other = {"en": "nb", "nb": "en"}[language]
            query = f"order=7&amp;status_query_token={TOKEN}&amp;lang={other}"
            assert f'href="?{query}"' in browser.page
            assert (await browser.ask("HEAD", path)).status == 200
            assert browser.body == b""
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    "query",
    ["", "?status_query_token=", "?token=abc", "?status_query_token=Call%20us", "?%ff=%zz&lang=en"],
)
async def test_a_visit_without_a_token_says_so(browser, query):
    answer = await browser.get(f"/exit/completed{query}", headers={"Accept-Language": "en"})
    assert answer.status == 200
    assert "The address has no valid status_query_token." in browser.page
    assert "Call us" not in browser.page


async def test_only_a_get_of_an_existing_page_is_answered(browser):
    exit_url = f"/exit/completed?status_query_token={TOKEN}"
    for method, path, headers, status in (
        ("POST", exit_url, {}, 405),
        ("POST", exit_url, {"Origin": "http://evil.example"}, 403),
        ("DELETE", exit_url, {}, 405),
        ("GET", exit_url, {"Host": "evil.example"}, 403),
        ("GET", exit_url, {"Sec-Fetch-Site": "cross-site"}, 200),
        ("GET", f"/exit/elsewhere?status_query_token={TOKEN}", {}, 404),
    ):
        assert (await browser.ask(method, path, headers=headers)).status == status
        assert (f">{TOKEN}<" in browser.page) == (status == 200)


async def test_the_exit_urls_of_a_sandbox_are_valid_and_lead_to_its_pages(sandbox, browser):
    urls = sandbox.exit_urls
    job = DirectJob(
        title="Lease",
        documents=[Document(title="Lease", content=b"A lease", type=DocumentType.TEXT)],
        signers=[DirectSigner(custom_identifier="customer-42")],
        exit_urls=urls,
    )
    DirectClient(sandbox.client_configuration()).validate(job)
    for url, title in (
        (urls.completion, "<h1>Signed</h1>"),
        (urls.rejection, "<h1>Rejected</h1>"),
        (urls.error, "<h1>Signing failed</h1>"),
    ):
        path = url.removeprefix(browser.root)
        assert (await browser.get(path, headers={"Accept-Language": "en"})).status == 200
        assert title in browser.page
