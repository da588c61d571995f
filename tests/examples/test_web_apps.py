"""The web apps from the contract page to the signed PDF, against a sandbox over loopback.

The same tests run for both frameworks.
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


@pytest.fixture(scope="module")
async def shared_sandbox():
    async with Sandbox(rate_limit=None) as started:
        yield started


@pytest.fixture
async def sandbox(shared_sandbox):
    await shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture(params=APPS)
async def app(request, sandbox, tmp_path, monkeypatch):
    async with running(request.param, sandbox, tmp_path, monkeypatch) as started:
        yield started


@pytest.fixture
async def customer(app):
    async with app.customer() as client:
        yield client


async def draft(customer: httpx.AsyncClient, query: str = "") -> str:
    """Adds a contract. Returns the path of its page."""
    response = await customer.post(f"/contracts{query}")
    assert response.status_code == 303
    return response.headers["location"]


async def start_signing(customer: httpx.AsyncClient, page: str, signer: str = "tenant") -> str:
    """Clicks the signer's button. Returns the redirect URL."""
    response = await customer.post(f"{page}/signers/{signer}")
    assert (response.status_code, response.headers["cache-control"]) == (303, "no-store")
    return response.headers["location"]


async def open_exit_url(customer: httpx.AsyncClient, exit_url: str) -> str:
    """Opens an exit URL. Returns the text of the page that it redirects to."""
    response = await customer.get(exit_url)
    assert (response.status_code, response.headers["cache-control"]) == (303, "no-store")
    assert "token" not in response.headers["location"]
    page = await customer.get(response.headers["location"])
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
    redirect_url = await start_signing(customer, page)
    assert redirect_url.startswith(sandbox.signing_pages_url)
    exit_url = await sandbox.sign(redirect_url)
    assert exit_url.startswith(f"{app.url}/contracts/order-1/signed?")
    text = await open_exit_url(customer, exit_url)
    assert "Everybody has signed" in text
    assert f'href="{page}/signed.pdf"' in text
    await app.shop.wait_for_tasks()
    signed = await customer.get(f"{page}/signed.pdf")
    assert (signed.status_code, signed.headers["content-type"]) == (200, "application/pdf")
    (tmp_path / "download.pdf").write_bytes(signed.content)
    verification = await anyio.run_process(
        [pdfsig, "-nocert", tmp_path / "download.pdf"], check=False
    )
    assert b"Signature is Valid." in verification.stdout
    [received] = sandbox.received
    assert list(received.documents.values()) == [LEASE.read_bytes()]
    [row] = rows(tmp_path)
    assert (row["state"], row["confirmation_url"]) == ("COMPLETED_SUCCESSFULLY", None)
    assert (tmp_path / f"{row['id']}.pdf").read_bytes() == signed.content


async def test_until_it_is_stored_the_signed_pdf_comes_from_the_service(
    app, customer, sandbox, tmp_path
):
    page = await draft(customer)
    await open_exit_url(customer, await sandbox.sign(await start_signing(customer, page)))
    await app.shop.wait_for_tasks()
    stored = tmp_path / "order-1.pdf"
    content = stored.read_bytes()
    stored.unlink()
    signed = await customer.get(f"{page}/signed.pdf")
    assert (signed.status_code, signed.headers["content-type"]) == (200, "application/pdf")
    assert signed.content == content
    assert int(signed.headers["content-length"]) == len(content)
    assert signed.headers["cache-control"] == "no-store"


async def test_each_redirect_of_a_signer_uses_a_new_redirect_url(customer, sandbox):
    page = await draft(customer)
    first, second = await start_signing(customer, page), await start_signing(customer, page)
    assert first != second
    assert len(sandbox.received) == 1
    await sandbox.sign(second)


async def test_a_signer_who_has_signed_gets_the_page_and_not_an_error(customer, sandbox):
    page = await draft(customer, "?with_landlord=true")
    await open_exit_url(customer, await sandbox.sign(await start_signing(customer, page)))
    from_an_old_page = await customer.post(f"{page}/signers/tenant")
    assert (from_an_old_page.status_code, from_an_old_page.headers["location"]) == (303, page)
    landlord = await start_signing(customer, page, "landlord")
    await open_exit_url(customer, await sandbox.reject(landlord))
    from_an_old_page = await customer.post(f"{page}/signers/landlord")
    assert from_an_old_page.headers["location"] == page


async def test_two_signers_sign_one_after_the_other(customer, sandbox):
    page = await draft(customer, "?with_landlord=true")
    text = await open_exit_url(
        customer, await sandbox.sign(await start_signing(customer, page, "landlord"))
    )
    assert "The landlord has signed" in text
    assert "The tenant has not signed" in text
    assert "Sign as the tenant" in text
    assert "Sign as the landlord" not in text
    text = await open_exit_url(customer, await sandbox.sign(await start_signing(customer, page)))
    assert "Everybody has signed" in text
    assert "Sign as" not in text


@pytest.mark.parametrize(
    ("act", "outcome", "expected"),
    [("reject", "rejected", "did not want to sign"), ("fail", "failed", "could not sign")],
)
async def test_the_page_shows_that_a_job_was_not_signed(
    app, customer, sandbox, act, outcome, expected
):
    page = await draft(customer, "?with_landlord=true")
    exit_url = await getattr(sandbox, act)(await start_signing(customer, page))
    assert exit_url.startswith(f"{app.url}/contracts/order-1/{outcome}?")
    text = await open_exit_url(customer, exit_url)
    assert "The lease was not signed" in text
    assert expected in text
    assert "does not have to sign any more" in text
    assert (await customer.get(f"{page}/signed.pdf")).status_code == 404
    await app.shop.wait_for_tasks()
    assert (await app.shop.contracts.with_key(page.rpartition("/")[2])).confirmation_url is None


async def test_the_status_counts_and_not_the_exit_url_that_was_opened(customer, sandbox):
    page = await draft(customer)
    exit_url = await sandbox.reject(await start_signing(customer, page))
    assert "was not signed" in await open_exit_url(
        customer, exit_url.replace("/rejected", "/signed")
    )


async def test_an_older_status_does_not_replace_an_outcome(app, customer, sandbox):
    """When two signers return at the same time, the first one's status may be recorded last."""
    page = await draft(customer, "?with_landlord=true")
    first = await sandbox.sign(await start_signing(customer, page))
    contract = await app.shop.contracts.with_key(page.rpartition("/")[2])
    [token] = httpx.URL(first).params.get_list("status_query_token")
    older_status = await app.shop.client.get_status(contract.status_url, token)
    await open_exit_url(
        customer, await sandbox.sign(await start_signing(customer, page, "landlord"))
    )
    assert not await app.shop.contracts.record_status(contract.id, older_status)
    assert "Everybody has signed" in (await customer.get(page)).text


async def test_an_exit_url_without_a_valid_token_is_refused(customer, sandbox):
    page = await draft(customer)
    redirect_url = await start_signing(customer, page)
    token_before_signing = sandbox.status_query_token(redirect_url)
    for query in (
        "",
        "?status_query_token=",
        "?status_query_token=x",
        f"?status_query_token={token_before_signing}",
    ):
        response = await customer.get(f"/contracts/order-1/signed{query}")
        assert (response.status_code, response.headers["cache-control"]) == (400, "no-store")
        assert "does not belong to a completed signing" in response.text
    assert "is ready to be signed" in (await customer.get(page)).text


async def test_a_guessed_exit_url_does_not_reveal_the_url_of_the_page(customer, sandbox):
    async def return_with(token: str) -> tuple[int, str | None]:
        response = await customer.get(f"/contracts/order-1/signed?status_query_token={token}")
        return response.status_code, response.headers.get("location")

    page, other = await draft(customer), await draft(customer)
    assert await return_with("x") == (400, None)  # there is no job yet
    exit_url = await sandbox.sign(await start_signing(customer, page))
    exit_url_of_other = await sandbox.sign(await start_signing(customer, other))
    assert await return_with("x") == (400, None)
    assert await return_with(exit_url_of_other.rpartition("=")[2]) == (400, None)
    # A signer of this contract is redirected to the page.
    assert await return_with(exit_url.rpartition("=")[2]) == (303, page)


async def test_a_path_that_does_not_exist_gives_an_error_page(customer):
    page = await draft(customer)
    for path in (
        f"{page}/nope",
        f"{page}/nope?status_query_token=x",
        f"{page}/signed",
        f"{page}/signed/nope",
        f"{page}/signed.pdf",
        "/contracts/x",
        "/contracts/order-1",
        "/contracts/order-1/nope",
        "/contracts/order-1/signed.pdf",
        "/contracts/x/signed?status_query_token=x",
        "/nope",
    ):
        response = await customer.get(path)
        headers = response.headers
        assert (path, response.status_code, headers["cache-control"]) == (path, 404, "no-store")
        assert headers["content-type"].startswith("text/html")
        assert "This page does not exist" in response.text


async def test_no_reference_log_or_file_name_contains_the_key_of_a_contract(
    app, customer, sandbox, tmp_path, caplog
):
    caplog.set_level(logging.DEBUG)
    page = await draft(customer)
    key = page.rpartition("/")[2]
    assert len(key) == 22
    sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, operation=Operation.CREATE, times=1))
    assert (await customer.post(f"{page}/signers/tenant")).headers["location"] == page
    exit_url = await sandbox.sign(await start_signing(customer, page))
    refused = await customer.get("/contracts/order-1/signed?status_query_token=x")
    assert refused.status_code == 400
    (tmp_path / "order-1.pdf").mkdir()  # so that the signed PDF can't be stored
    await open_exit_url(customer, exit_url)
    await app.shop.wait_for_tasks()
    for message in (
        ": the job may exist",
        ": the service gave no",
        " returned: signed",
        ": not stored",
    ):
        assert f"order-1{message}" in caplog.text
    [received] = sandbox.received
    assert b"order-1-2" in received.request
    assert key.encode() not in received.request
    logged = [caplog.handler.format(record) for record in caplog.records if record.name == "shop"]
    assert [line for line in logged if key in line] == []
    assert [path for path in tmp_path.iterdir() if key in path.name] == []


async def test_two_clicks_make_one_job(customer, sandbox):
    page = await draft(customer)
    responses = await asyncio.gather(*(customer.post(f"{page}/signers/tenant") for _ in range(3)))
    assert len(sandbox.received) == 1
    locations = {response.headers["location"] for response in responses}
    redirect_urls = {location for location in locations if "redirect" in location}
    assert redirect_urls
    assert locations - redirect_urls <= {page}


# With a proxy that can withhold the service's responses.


@pytest.fixture
async def proxy():
    async with gate() as started:
        yield started


@pytest.fixture(params=APPS)
async def gated(request, sandbox, proxy, tmp_path, monkeypatch) -> Running:
    variables = {"POSTEN_SIGNERING_PROXY": proxy.url}
    async with running(request.param, sandbox, tmp_path, monkeypatch, **variables) as started:
        async with started.customer() as customer:
            # Opens the connection to the service, so that it exists when the proxy is shut.
            await start_signing(customer, await draft(customer))
        yield started


async def disconnect_during(gated, proxy, method: str, address: str) -> None:
    """A customer sends a request, and disconnects while the service's response is withheld."""
    async with gated.customer() as customer:
        proxy.shut()
        request = asyncio.create_task(customer.request(method, address))
        await proxy.withheld.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request


async def test_a_customer_who_disconnects_while_the_job_is_created_finds_it_later(
    gated, proxy, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        await disconnect_during(gated, proxy, "POST", f"{page}/signers/tenant")
        text = (await customer.get(page)).text
        assert "is being sent" in text
        assert 'http-equiv="refresh"' in text
        proxy.release()
        await gated.shop.wait_for_tasks()
        assert "is ready to be signed" in (await customer.get(page)).text
        text = await open_exit_url(
            customer, await sandbox.sign(await start_signing(customer, page))
        )
    assert "Everybody has signed" in text
    assert len(sandbox.received) == 2  # including the job of the fixture


async def test_a_request_that_the_server_cancels_does_not_interrupt_the_creation(
    sandbox, proxy, tmp_path, monkeypatch
):
    """A middleware with a timeout or a stopping server cancels requests."""
    variables = {"POSTEN_SIGNERING_PROXY": proxy.url}
    async with running("fastapi", sandbox, tmp_path, monkeypatch, **variables) as app:
        transport = httpx.ASGITransport(module("fastapi_app").app)
        async with httpx.AsyncClient(transport=transport, base_url=app.url) as customer:
            await start_signing(customer, await draft(customer))
            page = await draft(customer)
            proxy.shut()
            request = asyncio.create_task(customer.post(f"{page}/signers/tenant"))
            await proxy.withheld.wait()
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
            proxy.release()
            await app.shop.wait_for_tasks()
            assert "is ready to be signed" in (await customer.get(page)).text
            assert len(sandbox.received) == 2


async def test_without_its_own_task_the_creation_would_be_interrupted(gated, proxy, sandbox):
    """Shows what a cancellation does to a creation that runs in the request's task."""
    async with gated.customer() as customer:
        await draft(customer)
    proxy.shut()
    creation = asyncio.create_task(gated.shop._create("order-2"))
    await proxy.withheld.wait()
    creation.cancel()
    with pytest.raises(asyncio.CancelledError):
        await creation
    proxy.release()
    contract = await gated.shop.contracts.get("order-2")
    assert (contract.state, contract.signer_urls, len(sandbox.received)) == ("CREATING", {}, 2)
    # After the next start of the app, the outcome is unknown.
    await gated.shop.contracts.open()
    assert (await gated.shop.contracts.get(contract.id)).state == "OUTCOME_UNKNOWN"


async def test_the_status_is_recorded_when_a_signer_disconnects_at_the_exit_url(
    gated, proxy, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        exit_url = await sandbox.sign(await start_signing(customer, page))
        await disconnect_during(gated, proxy, "GET", exit_url)
        proxy.release()
        await gated.shop.wait_for_tasks()
        assert "Everybody has signed" in (await customer.get(page)).text


async def test_a_customer_can_disconnect_during_a_download(gated, proxy, sandbox, tmp_path):
    async with gated.customer() as customer:
        page = await draft(customer)
        await open_exit_url(customer, await sandbox.sign(await start_signing(customer, page)))
        await gated.shop.wait_for_tasks()
        stored = tmp_path / "order-2.pdf"
        content = stored.read_bytes()
        stored.unlink()
        await disconnect_during(gated, proxy, "GET", f"{page}/signed.pdf")
        proxy.release()
        assert (await customer.get(f"{page}/signed.pdf")).content == content


async def test_after_an_unknown_outcome_the_next_attempt_uses_a_different_reference(
    gated, proxy, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        proxy.shut()
        request = asyncio.create_task(customer.post(f"{page}/signers/tenant"))
        await proxy.withheld.wait()
        proxy.cut()
        assert (await request).headers["location"] == page
        assert "We do not know whether" in (await customer.get(page)).text
        assert "Everybody has signed" in await open_exit_url(
            customer, await sandbox.sign(await start_signing(customer, page))
        )
    references = [
        re.search(b"<[^>]*reference>([^<]*)<", job.request)[1] for job in sandbox.received[1:]
    ]
    assert references == [b"order-2-1", b"order-2-2"]


async def test_when_the_service_is_down_no_job_is_created_and_the_customer_sees_an_error(
    gated, proxy, sandbox
):
    async with gated.customer() as customer:
        page = await draft(customer)
        signing = await draft(customer)
        exit_url = await sandbox.sign(await start_signing(customer, signing))
        proxy.down()
        response = await customer.post(f"{page}/signers/tenant")
        assert (response.status_code, response.headers["location"]) == (303, page)
        assert "Nothing has been signed yet" in (await customer.get(page)).text
        response = await customer.get(exit_url)
        assert response.status_code == 502
        assert "Please reload" in response.text
        proxy.up()
        # The token is still valid.
        assert "Everybody has signed" in await open_exit_url(customer, exit_url)
        assert "Everybody has signed" in await open_exit_url(
            customer, await sandbox.sign(await start_signing(customer, page))
        )


@pytest.mark.parametrize("name", APPS)
async def test_a_signed_pdf_that_was_not_stored_is_stored_at_the_next_start(
    name, sandbox, proxy, tmp_path, monkeypatch
):
    variables = {"POSTEN_SIGNERING_PROXY": proxy.url}
    async with (
        running(name, sandbox, tmp_path, monkeypatch, **variables) as app,
        app.customer() as customer,
    ):
        page = await draft(customer)
        exit_url = await sandbox.sign(await start_signing(customer, page))
        contract = await app.shop.contracts.with_key(page.rpartition("/")[2])
        [token] = httpx.URL(exit_url).params.get_list("status_query_token")
        status = await app.shop.client.get_status(contract.status_url, token)
        # The app stops after this, before it stores the PDF.
        await app.shop.contracts.record_status(contract.id, status)
    [row] = rows(tmp_path)
    assert row["confirmation_url"] is not None
    async with running(name, sandbox, tmp_path, monkeypatch) as app:
        await app.shop.wait_for_tasks()
        assert app.shop.signed_path(contract).exists()
    [row] = rows(tmp_path)
    assert row["confirmation_url"] is None
