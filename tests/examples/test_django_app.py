"""The example app on Django, and an app that shares a client between event loops, both under gunicorn."""

import asyncio
import contextlib
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import httpx
import pytest
from example_apps import EXAMPLES, variables
from redis_process import free_port

from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox

pytestmark = pytest.mark.anyio

DJANGO = ("--config", "django_gunicorn.py", "django_app:application")
SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
async def sandbox():
    async with Sandbox(rate_limit=None) as started:
        yield started


@contextlib.asynccontextmanager
async def gunicorn(folder: Path, sandbox: Sandbox, tmp_path: Path, *arguments: str):
    """Runs an app of a folder under gunicorn until SIGTERM. Yields an HTTP client of it."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = variables(sandbox, tmp_path) | {
        "PYTHONPATH": str(SUPPORT),
        "SHOP_URL": url,
        "SHOP_FOLDER": str(tmp_path),
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "gunicorn", "--no-control-socket", "--preload"),
        *("--bind", f"127.0.0.1:{port}", *arguments),
        cwd=folder,
        env=os.environ | environment,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        while b"Booting worker" not in (line := await process.stderr.readline()):
            assert line, "gunicorn ended before it had a worker"
        reading = asyncio.create_task(process.stderr.read())
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30) as customer:
            yield customer
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        output = await reading
        assert b"status_query_token" not in output
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def sign_and_return(customer: httpx.AsyncClient, sandbox: Sandbox) -> str:
    """Signs a new contract and opens the exit URL. Returns the path of the contract's page."""
    page = (await customer.post("/contracts")).headers["location"]
    assert "Sign as the tenant" in (await customer.get(page)).text
    response = await customer.post(f"{page}/signers/tenant")
    assert (response.status_code, response.headers["cache-control"]) == (303, "no-store")
    returned = await customer.get(await sandbox.sign(response.headers["location"]))
    assert (returned.status_code, returned.headers["location"]) == (303, page)
    return page


async def test_customers_sign_concurrently_and_the_shop_closes_after_the_last_confirmation(
    sandbox, tmp_path
):
    async with gunicorn(EXAMPLES, sandbox, tmp_path, *DJANGO) as customer:
        pages = await asyncio.gather(*(sign_and_return(customer, sandbox) for _ in range(3)))
        for page in pages:
            assert "Everybody has signed" in (await customer.get(page)).text
            assert (await customer.get(f"{page}/signed.pdf")).content.startswith(b"%PDF-")
    assert len(sandbox.received) == 3
    assert len(list(tmp_path.glob("order-*.pdf"))) == 3
    with closing(sqlite3.connect(tmp_path / "shop.sqlite3")) as database:
        rows = database.execute("select state, confirmation_url from contract").fetchall()
    assert rows == [("COMPLETED_SUCCESSFULLY", None)] * 3


async def test_errors_have_a_page_and_an_unknown_outcome_is_not_retried(sandbox, tmp_path):
    async with gunicorn(EXAMPLES, sandbox, tmp_path, *DJANGO) as customer:
        assert (await customer.get("/contracts/no-such-key")).status_code == 404
        page = (await customer.post("/contracts")).headers["location"]
        sandbox.faults.add(
            Fault(kind=FaultKind.RESET, operation=Operation.CREATE, after=True, times=1)
        )
        assert (await customer.post(f"{page}/signers/tenant")).headers["location"] == page
        assert "We do not know whether" in (await customer.get(page)).text
        assert len(sandbox.received) == 1
        refused = await customer.get("/contracts/order-1/signed?status_query_token=a-secret")
        assert (refused.status_code, refused.headers["cache-control"]) == (400, "no-store")


async def test_a_client_that_async_views_share_under_wsgi_raises_and_creates_no_job(
    sandbox, tmp_path
):
    async with gunicorn(SUPPORT, sandbox, tmp_path, "shared_client_app:application") as customer:
        assert (await customer.get("/enter")).status_code == 200
        response = await customer.get("/create")
        assert (response.status_code, response.text[:16]) == (500, "ClientStateError")
        assert len(sandbox.received) == 0
        assert (await customer.get("/create-with-own-client")).status_code == 200
        assert len(sandbox.received) == 1
