"""A worker in the lifespan of a web app: it handles changes, stops with the app, and reports its failure."""

import asyncio
import contextlib
import logging
import sqlite3
from contextlib import closing

import httpx
import loopback
import pytest
from aiohttp.test_utils import TestClient, TestServer
from docs_pages import ROOT, blocks_of
from example_apps import LEASE, importable, module, variables

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    StatusRetrievalMethod,
)
from posten_signering.sandbox import Sandbox

pytestmark = pytest.mark.anyio


@pytest.fixture
async def sandbox():
    async with Sandbox(rate_limit=None, organizations=frozenset({"123456789"})) as started:
        yield started


@pytest.fixture
async def client(sandbox):
    async with DirectClient(sandbox.client_configuration()) as opened:
        yield opened


@pytest.fixture
def environment(sandbox, tmp_path, monkeypatch):
    """The environment variables of an app that runs in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    for name, value in variables(sandbox, tmp_path).items():
        monkeypatch.setenv(name, value)
    return monkeypatch


async def sign_job(client, sandbox):
    job = DirectJob(
        title="Lease",
        documents=[Document(title="Lease", content=LEASE)],
        signers=[DirectSigner(custom_identifier="tenant")],
        exit_urls=sandbox.exit_urls,
        status_retrieval_method=StatusRetrievalMethod.POLLING,
    )
    created = await client.create(job)
    await sandbox.sign(created.single_signer.redirect_url)


@contextlib.asynccontextmanager
async def fastapi_app():
    app = module("worker_in_fastapi").app
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as probe,
    ):
        yield app.state.worker, probe


async def test_the_worker_stores_and_confirms_what_was_signed(
    environment, client, sandbox, tmp_path
):
    await sign_job(client, sandbox)
    async with fastapi_app() as (worker, probe):
        await loopback.until(lambda: worker.counts.confirmed == 1)
        assert (await probe.get("/live")).status_code == 200
        [queue] = (await probe.get("/worker")).json()["queues"]
        assert queue["error_type"] is None
    assert not worker.health.running
    with closing(sqlite3.connect(tmp_path / "worker.sqlite3")) as database:
        assert database.execute("select kind from document order by kind").fetchall() == [
            ("pades",),
            ("xades",),
        ]


async def test_the_app_serves_without_its_worker_and_the_probe_reports_it(
    environment, sandbox, caplog
):
    environment.setenv("POSTEN_SIGNERING_ORGANIZATION_NUMBER", "987654321")  # gave no access
    async with fastapi_app() as (_, probe):
        await loopback.until(lambda: "polling failed permanently" in caplog.text)
        assert (await probe.get("/live")).status_code == 503
        assert (await probe.get("/worker")).json()["running"] is False


async def test_a_handler_in_flight_finishes_when_the_app_stops(client, sandbox, caplog):
    caplog.set_level(logging.INFO, "worker")
    await sign_job(client, sandbox)
    started, may_end = asyncio.Event(), asyncio.Event()

    async def handle(_change):
        started.set()
        await may_end.wait()

    async def serve():
        async with module("worker_lifespan").running_worker(client, handle) as worker:
            workers.append(worker)
            await started.wait()

    workers = []
    app = asyncio.create_task(serve())
    await started.wait()
    await loopback.until(lambda: not workers[0].health.running)
    assert not app.done()
    may_end.set()
    await app
    assert "Handled 1, confirmed 1" in caplog.text


async def test_the_app_stops_when_an_error_ends_it(client, caplog):
    caplog.set_level(logging.INFO, "worker")

    async def handle(_change):
        pytest.fail("there is no change")

    with pytest.raises(OSError, match="the port is in use"):
        async with module("worker_lifespan").running_worker(client, handle):
            raise OSError("the port is in use")
    assert "Handled 0, confirmed 0" in caplog.text


async def test_the_example_with_a_worker_in_aiohttp_runs(environment, client, sandbox, tmp_path):
    page = ROOT / "docs" / "guides" / "worker-in-a-web-server.md"
    [code] = [block.code for block in blocks_of(page) if "cleanup_ctx" in block.code]
    names = {"__name__": "page"}
    with importable():
        exec(compile(code, page.name, "exec"), names)
    await sign_job(client, sandbox)
    async with TestClient(TestServer(names["app"])) as probe:
        worker = names["app"][names["WORKER"]]
        await loopback.until(lambda: worker.counts.confirmed == 1)
        assert (await probe.get("/live")).status == 200
        worker.stop()
        await loopback.until(lambda: not worker.health.running)
        assert (await probe.get("/live")).status == 503
    assert sorted(path.name for path in tmp_path.glob("signed/*/*")) == [
        "pades.pdf",
        "xades-1.xml",
    ]
