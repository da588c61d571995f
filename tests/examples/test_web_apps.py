"""The web apps, each from the contract page to the signed PDF, against the real sandbox over loopback.

One set of tests for both: the same flow, whatever the framework.
"""

import asyncio
import logging
import re
import sqlite3
from contextlib import closing

import anyio
import httpx
import pytest
from example_apps import APPS, LEASE, Running, gate, module, running

from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox():
    async with Sandbox(rate_limit=None) as started:
        yield started


@pytest.fixture(params=APPS)
async def app(request, sandbox, tmp_path, monkeypatch):
    async with running(request.param, sandbox, tmp_path, monkeypatch) as started:
        yield started


@pytest.fixture
async def customer(app):
    async with app.customer() as client:
        yield client


async def draft(customer: httpx.AsyncClient, query: str = "") -> str:
    """Begins a contract, and gives the address of its page."""
    answer = await customer.post(f"/contracts{query}")
    assert answer.status_code == 303
    return answer.headers["location"]


async def sent_away(customer: httpx.AsyncClient, page: str, signer: str = "tenant") -> str:
    """Goes on to sign, and gives the redirect URL."""
    answer = await customer.post(f"{page}/signers/{signer}")
    assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
    return answer.headers["location"]


async def back(customer: httpx.AsyncClient, exit_url: str) -> str:
    """Opens an exit URL, and gives the text of the page that it leads to."""
    answer = await customer.get(exit_url)
    assert (answer.status_code, answer.headers["cache-control"]) == (303, "no-store")
    assert "token" not in answer.headers["location"]
    page = await customer.get(answer.headers["location"])
    assert page.status_code == 200
    return page.text


def rows(folder) -> list[sqlite3.Row]:
    with closing(sqlite3.connect(folder / "shop.sqlite3")) as database:
        database.row_factory = sqlite3.Row
        return database.execute("select * from contract").fetchall()


async def test_a_customer_signs_and_gets_the_signed_pdf(app, customer, sandbox, tmp_path, pdfsig):
    assert (await customer.get("/")).status_code == 200
    assert (await customer.get("/lease.pdf")).content == LEASE.read_bytes()
    page = await draft(customer)
    assert "Sign as the tenant" in (await customer.get(page)).text
    assert (await customer.get(f"{page}/signed.pdf")).status_code == 404
    redirect_url = await sent_away(customer, page)
    assert redirect_url.startswith(sandbox.signing_pages_url)
    exit_url = await sandbox.sign(redirect_url)
    assert exit_url.startswith(f"{app.url}/contracts/order-1/signed?")
    text = await back(customer, exit_url)
    assert "Everybody has signed" in text
    assert f'href="{page}/signed.pdf"' in text
    await app.shop.finish()
    signed = await customer.get(f"{page}/signed.pdf")
    assert (signed.status_code, signed.headers["content-type"]) == (200, "application/pdf")
    (tmp_path / "download.pdf").write_bytes(signed.content)
    told = await anyio.run_process([pdfsig, "-nocert", tmp_path / "download.pdf"], check=False)
    assert b"Signature is Valid." in told.stdout
    [received] = sandbox.received
    assert list(received.documents.values()) == [LEASE.read_bytes()]
    [row] = rows(tmp_path)
    assert (row["state"], row["confirmation_url"]) == ("COMPLETED_SUCCESSFULLY", None)
    assert (tmp_path / f"{row['id']}.pdf").read_bytes() == signed.content


async def test_until_it_is_kept_the_signed_pdf_comes_from_the_service(
    app, customer, sandbox, tmp_path
):
    page = await draft(customer)
    await back(customer, await sandbox.sign(await sent_away(customer, page)))
    await app.shop.finish()
    kept = tmp_path / "order-1.pdf"
    content = kept.read_bytes()
    kept.unlink()
    signed = await customer.get(f"{page}/signed.pdf")
    assert (signed.status_code, signed.headers["content-type"]) == (200, "application/pdf")
    assert signed.content == content
    assert int(signed.headers["content-length"]) == len(content)
    assert signed.headers["cache-control"] == "no-store"


async def test_every_time_a_signer_is_sent_away_the_redirect_url_is_fresh(customer, sandbox):
    page = await draft(customer)
    first, second = await sent_away(customer, page), await sent_away(customer, page)
    assert first != second
    assert len(sandbox.received) == 1
    await sandbox.sign(second)


async def test_two_signers_sign_one_after_the_other(customer, sandbox):
    page = await draft(customer, "?with_landlord=true")
    text = await back(customer, await sandbox.sign(await sent_away(customer, page, "landlord")))
    assert "The landlord has signed" in text
    assert "The tenant has not signed" in text
    assert "Sign as the tenant" in text
    assert "Sign as the landlord" not in text
    text = await back(customer, await sandbox.sign(await sent_away(customer, page)))
    assert "Everybody has signed" in text
    assert "Sign as" not in text


@pytest.mark.parametrize(
    ("act", "outcome", "told"),
    [("reject", "rejected", "did not want to sign"), ("fail", "failed", "could not sign")],
)
async def test_a_job_that_was_not_signed_is_told_so(app, customer, sandbox, act, outcome, told):
    page = await draft(customer, "?with_landlord=true")
    exit_url = await getattr(sandbox, act)(await sent_away(customer, page))
    assert exit_url.startswith(f"{app.url}/contracts/order-1/{outcome}?")
    text = await back(customer, exit_url)
    assert "The lease was not signed" in text
    assert told in text
    assert "does not have to sign any more" in text
    assert (await customer.get(f"{page}/signed.pdf")).status_code == 404
    await app.shop.finish()
    assert (await app.shop.contracts.with_key(page.rpartition("/")[2])).confirmation_url is None


async def test_what_counts_is_the_status_and_not_the_exit_url_that_was_opened(customer, sandbox):
    page = await draft(customer)
    exit_url = await sandbox.reject(await sent_away(customer, page))
    assert "was not signed" in await back(customer, exit_url.replace("/rejected", "/signed"))


async def test_an_outcome_is_not_replaced_by_an_older_answer(app, customer, sandbox):
    """Two signers come back at once: the answer to the first may be written after the second's."""
    page = await draft(customer, "?with_landlord=true")
    first = await sandbox.sign(await sent_away(customer, page))
    contract = await app.shop.contracts.with_key(page.rpartition("/")[2])
    [token] = httpx.URL(first).params.get_list("status_query_token")
    older = await app.shop.client.get_status(contract.status_url, token)
    await back(customer, await sandbox.sign(await sent_away(customer, page, "landlord")))
    assert not await app.shop.contracts.learned(contract.id, older)
    assert "Everybody has signed" in (await customer.get(page)).text


async def test_an_exit_url_that_somebody_made_up_is_refused(customer, sandbox):
    page = await draft(customer)
    redirect_url = await sent_away(customer, page)
    early = sandbox.status_query_token(redirect_url)
    for query in (
        "",
        "?status_query_token=",
        "?status_query_token=x",
        f"?status_query_token={early}",
    ):
        answer = await customer.get(f"/contracts/order-1/signed{query}")
        assert (answer.status_code, answer.headers["cache-control"]) == (400, "no-store")
        assert "does not lead to a signing" in answer.text
    assert "is ready to be signed" in (await customer.get(page)).text


async def test_whoever_guesses_an_exit_url_does_not_learn_the_address_of_the_page(
    customer, sandbox
):
    async def tried(token: str) -> tuple[int, str | None]:
        answer = await customer.get(f"/contracts/order-1/signed?status_query_token={token}")
        return answer.status_code, answer.headers.get("location")

    page, other = await draft(customer), await draft(customer)
    assert await tried("x") == (400, None)  # there is no job yet
    exit_url = await sandbox.sign(await sent_away(customer, page))
    exit_url_of_other = await sandbox.sign(await sent_away(customer, other))
    assert await tried("x") == (400, None)
    assert await tried(exit_url_of_other.rpartition("=")[2]) == (400, None)
    # The twin: a signer of this contract learns it.
    assert await tried(exit_url.rpartition("=")[2]) == (303, page)


@pytest.mark.parametrize(
    "address",
    [
        "{page}/nope",
        "{page}/nope?status_query_token=x",
        "{page}/signed",
        "{page}/signed/nope",
        "{page}/signed.pdf",
        "/contracts/x",
        "/contracts/order-1",
        "/contracts/order-1/nope",
        "/contracts/order-1/signed.pdf",
        "/contracts/x/signed?status_query_token=x",
        "/nope",
    ],
)
async def test_an_address_that_is_none_is_told_to_a_customer(customer, address):
    page = await draft(customer)
    answer = await customer.get(address.format(page=page))
    assert (answer.status_code, answer.headers["cache-control"]) == (404, "no-store")
    assert answer.headers["content-type"].startswith("text/html")
    assert "There is no such page" in answer.text


async def test_the_key_to_a_contracts_page_is_in_no_reference_no_log_and_no_file_name(
    app, customer, sandbox, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    page = await draft(customer)
    key = page.rpartition("/")[2]
    assert len(key) == 22
    sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, operation=Operation.CREATE, times=1))
    assert (await customer.post(f"{page}/signers/tenant")).headers["location"] == page
    exit_url = await sandbox.sign(await sent_away(customer, page))
    wrong = await customer.get("/contracts/order-1/signed?status_query_token=x")
    assert wrong.status_code == 400
    (tmp_path / "order-1.pdf").mkdir()  # so that it can't be kept
    await back(customer, exit_url)
    await app.shop.finish()
    said = caplog.text
    for line in ("may have a job", "has no new status", "came back: signed", "is not kept"):
        assert f"order-1 {line}" in said
    [received] = sandbox.received
    assert b"order-1-2" in received.request
    assert key.encode() not in received.request
    shop_said = [caplog.handler.format(each) for each in caplog.records if each.name == "shop"]
    assert [each for each in shop_said if key in each] == []
    assert [path for path in tmp_path.iterdir() if key in path.name] == []


async def test_two_clicks_make_one_job(customer, sandbox):
    page = await draft(customer)
    answers = await asyncio.gather(*(customer.post(f"{page}/signers/tenant") for _ in range(3)))
    assert len(sandbox.received) == 1
    away = [each.headers["location"] for each in answers if "redirect" in each.headers["location"]]
    assert away
    assert {each.headers["location"] for each in answers} - set(away) <= {page}


# Behind a gate that withholds the service's answers.


@pytest.fixture
async def shut():
    async with gate() as made:
        yield made


@pytest.fixture(params=APPS)
async def gated(request, sandbox, shut, tmp_path, monkeypatch) -> Running:
    proxy = {"POSTEN_SIGNERING_PROXY": shut.url}
    async with running(request.param, sandbox, tmp_path, monkeypatch, **proxy) as started:
        async with started.customer() as warm:
            await sent_away(warm, await draft(warm))  # a connection stands from now on
        yield started


async def cut_off(gated, shut, method: str, address: str) -> None:
    """Somebody asks, and goes away while the service's answer is on its way."""
    async with gated.customer() as gone:
        shut.shut()
        asking = asyncio.create_task(gone.request(method, address))
        await shut.withheld.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking


async def test_a_customer_who_goes_away_while_the_job_is_created_finds_it_later(
    gated, shut, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        await cut_off(gated, shut, "POST", f"{page}/signers/tenant")
        text = (await customer.get(page)).text
        assert "on its way" in text
        assert 'http-equiv="refresh"' in text
        shut.release()
        await gated.shop.finish()
        assert "is ready to be signed" in (await customer.get(page)).text
        text = await back(customer, await sandbox.sign(await sent_away(customer, page)))
    assert "Everybody has signed" in text
    assert len(sandbox.received) == 2  # with the one that warmed up


async def test_a_request_that_the_server_cancels_does_not_touch_the_creation(
    sandbox, shut, tmp_path, monkeypatch
):
    """As a middleware with a time limit would, or a server that stops."""
    proxy = {"POSTEN_SIGNERING_PROXY": shut.url}
    async with running("fastapi", sandbox, tmp_path, monkeypatch, **proxy) as app:
        transport = httpx.ASGITransport(module("fastapi_app").app)
        async with httpx.AsyncClient(transport=transport, base_url=app.url) as customer:
            await sent_away(customer, await draft(customer))
            page = await draft(customer)
            shut.shut()
            asking = asyncio.create_task(customer.post(f"{page}/signers/tenant"))
            await shut.withheld.wait()
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            shut.release()
            await app.shop.finish()
            assert "is ready to be signed" in (await customer.get(page)).text
            assert len(sandbox.received) == 2


async def test_without_a_task_of_its_own_the_creation_would_be_cut_off(gated, shut, sandbox):
    """The twin: what the cancellation does where nothing protects from it."""
    async with gated.customer() as customer:
        await draft(customer)
    shut.shut()
    bare = asyncio.create_task(gated.shop._create("order-2"))
    await shut.withheld.wait()
    bare.cancel()
    with pytest.raises(asyncio.CancelledError):
        await bare
    shut.release()
    contract = await gated.shop.contracts.get("order-2")
    assert (contract.state, contract.signer_urls, len(sandbox.received)) == ("CREATING", {}, 2)
    # It is in doubt from the next start on.
    await gated.shop.contracts.open()
    assert (await gated.shop.contracts.get(contract.id)).state == "DOUBTFUL"


async def test_a_signer_who_goes_away_at_the_exit_url_has_come_back_all_the_same(
    gated, shut, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        exit_url = await sandbox.sign(await sent_away(customer, page))
        await cut_off(gated, shut, "GET", exit_url)
        shut.release()
        await gated.shop.finish()
        assert "Everybody has signed" in (await customer.get(page)).text


async def test_a_download_may_be_broken_off(gated, shut, sandbox, tmp_path):
    async with gated.customer() as customer:
        page = await draft(customer)
        await back(customer, await sandbox.sign(await sent_away(customer, page)))
        await gated.shop.finish()
        kept = tmp_path / "order-2.pdf"
        content = kept.read_bytes()
        kept.unlink()
        await cut_off(gated, shut, "GET", f"{page}/signed.pdf")
        shut.release()
        assert (await customer.get(f"{page}/signed.pdf")).content == content


async def test_after_a_doubtful_creation_the_customer_tries_again_under_another_reference(
    gated, shut, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        shut.shut()
        asking = asyncio.create_task(customer.post(f"{page}/signers/tenant"))
        await shut.withheld.wait()
        shut.cut()
        assert (await asking).headers["location"] == page
        assert "no clear answer" in (await customer.get(page)).text
        assert "Everybody has signed" in await back(
            customer, await sandbox.sign(await sent_away(customer, page))
        )
    references = [
        re.search(b"<[^>]*reference>([^<]*)<", each.request)[1] for each in sandbox.received[1:]
    ]
    assert references == [b"order-2-1", b"order-2-2"]


async def test_when_the_service_is_away_nothing_is_created_and_the_customer_is_told(
    gated, shut, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        signing = await draft(customer)
        exit_url = await sandbox.sign(await sent_away(customer, signing))
        shut.down()
        answer = await customer.post(f"{page}/signers/tenant")
        assert (answer.status_code, answer.headers["location"]) == (303, page)
        assert "Nothing has been signed yet" in (await customer.get(page)).text
        told = await customer.get(exit_url)
        assert told.status_code == 502
        assert "Please reload" in told.text
        shut.up()
        assert "Everybody has signed" in await back(customer, exit_url)  # the token is good still
        assert "Everybody has signed" in await back(
            customer, await sandbox.sign(await sent_away(customer, page))
        )


@pytest.mark.parametrize("name", APPS)
async def test_what_was_not_kept_is_kept_at_the_next_start(
    name, sandbox, shut, tmp_path, monkeypatch
):
    proxy = {"POSTEN_SIGNERING_PROXY": shut.url}
    async with (
        running(name, sandbox, tmp_path, monkeypatch, **proxy) as app,
        app.customer() as customer,
    ):
        page = await draft(customer)
        exit_url = await sandbox.sign(await sent_away(customer, page))
        contract = await app.shop.contracts.with_key(page.rpartition("/")[2])
        [token] = httpx.URL(exit_url).params.get_list("status_query_token")
        status = await app.shop.client.get_status(contract.status_url, token)
        await app.shop.contracts.learned(contract.id, status)  # and then the power went
    [row] = rows(tmp_path)
    assert row["confirmation_url"] is not None
    async with running(name, sandbox, tmp_path, monkeypatch) as app:
        await app.shop.finish()
        assert app.shop.signed(contract).exists()
    [row] = rows(tmp_path)
    assert row["confirmation_url"] is None
