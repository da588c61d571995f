"""The data of the overview page: bounded in size, and selected by the query of the page's URL."""

import json

import pytest
from bundles import PERSON, SENDER
from callers import Clock, caller_of, redirect_urls
from visitors import visitor

from posten_signering.sandbox import Sandbox
from posten_signering.sandbox._control.excerpt import CHANGES, JOBS, ORGANIZATIONS, QUEUES, REQUESTS

pytestmark = pytest.mark.anyio

OTHER = "987654321"
POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"


REJECTED, RUNNING = CHANGES + 1, JOBS
TOTAL = REJECTED + RUNNING + 1


@pytest.fixture(scope="module")
async def data(tmp_path_factory):
    """Requests the data of a sandbox with more jobs, queues, changes and requests than the page shows at once."""
    clock, folder = Clock(), tmp_path_factory.mktemp("callers")
    async with (
        Sandbox(clock=clock, rate_limit=None) as sandbox,
        visitor(sandbox) as browser,
        caller_of(sandbox, clock, folder) as sender,
        caller_of(sandbox, clock, folder, certificate=OTHER, sender=OTHER) as other_sender,
    ):
        for _ in range(REJECTED):
            await sandbox.reject(redirect_urls(await sender.create(extra=POLLED))[0])
        for _ in range(RUNNING):
            await sender.create()
        for url in redirect_urls(await other_sender.create(sender=OTHER)):
            await sandbox.sign(url)
        for number in range(QUEUES):
            await sender.get(f"{sender.jobs}?polling_queue=queue-{number}")
        for number in range(ORGANIZATIONS):
            path = f"/api/{100_000_000 + number}/direct/signature-jobs"
            await sender.get(sender.sandbox.service_root.removesuffix("/api") + path)

        async def get(query):
            answer = await browser.get(f"/overview/data?{query}")
            assert answer.status == 200
            assert PERSON not in browser.page
            return json.loads(browser.page)

        get.browser = browser
        yield get


NEWEST = list(range(TOTAL, TOTAL - JOBS, -1))
RUNNING_IDS = list(range(REJECTED + RUNNING, REJECTED, -1))
REJECTED_IDS = list(range(REJECTED, 0, -1))


@pytest.mark.parametrize(
    ("query", "expected", "found", "shown_page"),
    [
        ("", NEWEST, TOTAL, 1),
        ("page=2", list(range(TOTAL - JOBS, TOTAL - 2 * JOBS, -1)), TOTAL, 2),
        ("page=99", [1], TOTAL, 3),
        ("page=0&requests=-1", NEWEST, TOTAL, 1),
        ("page=two", NEWEST, TOTAL, 1),
        ("page=%D9%A3", NEWEST, TOTAL, 1),  # a digit that is not ASCII
        (f"page={'9' * 5000}", NEWEST, TOTAL, 1),
        ("state=FAILED", REJECTED_IDS, REJECTED, 1),
        ("state=IN_PROGRESS", RUNNING_IDS, RUNNING, 1),
        ("state=COMPLETED_SUCCESSFULLY", [TOTAL], 1, 1),
        ("state=unconfirmed", [TOTAL, *REJECTED_IDS][:JOBS], REJECTED + 1, 1),
        (f"state=unconfirmed&organization={SENDER}", REJECTED_IDS, REJECTED, 1),
        (f"organization={OTHER}", [TOTAL], 1, 1),
        ("organization=111111111", [], 0, 1),
        ("state=NONSENSE", [], 0, 1),
        ("job=3&lang=nb", [3], 1, 1),
        ("job=99", [], 0, 1),
        ("job=three", [], 0, 1),
    ],
)
async def test_the_query_selects_jobs_newest_first(data, query, expected, found, shown_page):
    page = await data(query)
    assert [job["id"] for job in page["jobs"]] == expected
    place = page["jobs_place"]
    assert (place["found"], place["page"]) == (found, shown_page)
    assert page["jobs_total"] == TOTAL
    assert page["organizations"] == [OTHER, SENDER]


async def test_requests_have_pages_too(data):
    first, last = await data("page=2"), await data("requests=99")
    place = first["requests_place"]
    assert place["found"] == TOTAL + QUEUES + ORGANIZATIONS
    assert (place["page"], place["pages"]) == (1, -(-place["found"] // REQUESTS))
    assert len(first["requests"]) == REQUESTS
    assert first["requests"][0]["operation"] == "poll"
    assert last["requests"][-1]["number"] == 1


async def test_queues_show_their_beginning_until_the_reader_asks_for_everything(data):
    page = await data("")
    excerpt = page["queues"][0]
    assert [change["job_id"] for change in excerpt["queue"]["changes"]] == REJECTED_IDS[:0:-1]
    assert (excerpt["left_out"], len(page["queues"]), page["queues_left_out"]) == (1, QUEUES, 1)
    page = await data("queues=all")
    excerpt = page["queues"][0]
    assert [change["job_id"] for change in excerpt["queue"]["changes"]] == REJECTED_IDS[::-1]
    assert (excerpt["left_out"], len(page["queues"]), page["queues_left_out"]) == (0, QUEUES + 1, 0)


async def test_the_counters_of_many_organisations_are_bounded(data):
    page = await data("")
    assert len(page["counters"]) == ORGANIZATIONS
    assert page["counters_left_out"] == 2
    page = await data(f"organization={OTHER}")
    assert list(page["counters"]) == [OTHER]
    assert page["counters_left_out"] == ORGANIZATIONS + 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
    ],
)
async def test_only_the_sandboxs_own_page_gets_the_data(data, headers, status):
    assert (await data.browser.get("/overview/data", headers=headers)).status == status
    assert ("organizations" in data.browser.page) == (status == 200)
