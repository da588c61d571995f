"""The example fleet as separate processes, with PostgreSQL and Redis: killed, restarted, and its orders counted."""

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest
import redis_process
from example_apps import EXAMPLES, module, variables

from posten_signering import DirectJobStatusResponse, Signature, SignerStatus
from posten_signering.sandbox import Fault, FaultKind, Operation, Sandbox

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("pg_ctl", "redis_server")]

LEASE = timedelta(seconds=3)
EMPTY_QUEUE_WAIT = timedelta(seconds=0.5)
UNTIL_KILLED = 60.0
# Records each time that an order's state is set, which the shop itself does not.
HISTORY = """
create table history (reference text, state text);
create function record() returns trigger language plpgsql as
    'begin insert into history values (new.reference, new.state); return new; end';
create trigger record after update on shop_order for each row execute function record();
"""
FINAL = {"SIGNED", "NOT_SIGNED", "NOT_CREATED"}


@pytest.fixture(scope="module")
async def database():
    """libpq's variables for a running PostgreSQL with the shop's tables."""
    async with module("fleet.start").postgres() as libpq:
        query(libpq, HISTORY)
        yield libpq


def query(libpq, statement: str) -> list[tuple]:
    """Runs a statement in the shop's database, and returns its rows."""
    with psycopg.connect(
        host=libpq["PGHOST"], user=libpq["PGUSER"], dbname=libpq["PGDATABASE"]
    ) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@dataclass
class Fleet:
    """A sandbox, the processes of the fleet, and their customers.

    `signed` has the ids of the jobs that were signed.
    """

    sandbox: Sandbox
    environment: dict[str, str]
    customer: httpx.AsyncClient
    signed: set[int] = field(default_factory=set)
    processes: dict[str, list[asyncio.subprocess.Process]] = field(
        default_factory=lambda: {"fleet.web": [], "fleet.worker": []}
    )

    async def start(self, program: str, count: int = 1) -> None:
        port = str(self.customer.base_url.port) if program == "fleet.web" else "0"
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", program),
                cwd=EXAMPLES,
                env=self.environment | {"PORT": port},
            )
            self.processes[program].append(process)

    async def end(self, program: str, number: signal.Signals) -> list[int]:
        """Sends a signal to each process of a program. Returns the exit statuses."""
        ending, self.processes[program] = self.processes[program], []
        for process in ending:
            with contextlib.suppress(ProcessLookupError):  # it has ended by itself
                process.send_signal(number)
        return [await process.wait() for process in ending]

    def fault(self, kind: FaultKind, operation: Operation, **fields: Any) -> None:
        self.sandbox.faults.add(Fault(kind=kind, operation=operation, times=1, **fields))

    async def order(self) -> httpx.Response:
        return await self.customer.post("/orders")

    async def order_and_sign(self) -> None:
        response = await self.order()
        await self.sandbox.sign(response.headers["location"])
        self.signed.add(self.sandbox.received[-1].job_id)

    async def sign_later(self) -> None:
        """Orders, comes back to the shop, and signs with the button on its page."""
        await self.order()
        page = (await self.customer.get("/")).text
        newest = re.findall(r'action="(/orders/\S+/sign)"', page)[0]
        response = await self.customer.post(newest)
        await self.sandbox.sign(response.headers["location"])
        self.signed.add(self.sandbox.received[-1].job_id)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits until a condition is true of the sandbox."""
        url = f"{self.sandbox.control_url}/events"
        async with self.customer.stream("GET", url) as events:
            async for _ in events.aiter_lines():
                if condition():
                    return

    def waiting_changes(self) -> int:
        return sum(len(queue.changes) for queue in self.sandbox.overview().queues)


@contextlib.asynccontextmanager
async def running_fleet(database, redis_url: str, folder: Path) -> AsyncIterator[Fleet]:
    port = redis_process.free_port()
    shop_url = f"http://127.0.0.1:{port}"
    # The retries wait until the web process accepts connections.
    transport = httpx.AsyncHTTPTransport(retries=8)
    async with (
        Sandbox(lease=LEASE, empty_queue_wait=EMPTY_QUEUE_WAIT, rate_limit=None) as sandbox,
        httpx.AsyncClient(base_url=shop_url, transport=transport, timeout=60) as customer,
    ):
        environment = os.environ | variables(sandbox, folder) | database
        environment |= {
            "SHOP_URL": shop_url,
            "REDIS_URL": redis_url,
            "POSTEN_SIGNERING_DEFAULT_POLL_WAIT": f"{EMPTY_QUEUE_WAIT.total_seconds()}",
        }
        fleet = Fleet(sandbox, environment, customer)
        try:
            yield fleet
        finally:
            for program in fleet.processes:
                await fleet.end(program, signal.SIGKILL)


@pytest.mark.soak
async def test_every_order_ends_once_although_processes_are_killed_and_servers_restart(
    database, redis_server, tmp_path
):
    with contextlib.ExitStack() as servers:
        redis = servers.enter_context(redis_process.running(redis_server, tmp_path))
        async with running_fleet(database, redis.uri, tmp_path) as fleet:
            await fleet.start("fleet.web")
            await fleet.start("fleet.worker", 2)
            await interrupt_creates(fleet)
            await kill_workers(fleet)
            await fleet.start("fleet.worker", 3)

            # A lost confirmation, and a handler that is slower than the lease. Meanwhile the servers restart.
            fleet.fault(FaultKind.RESET, Operation.CONFIRM, after=True)
            fleet.fault(FaultKind.DELAY, Operation.PADES, seconds=1.5 * LEASE.total_seconds())
            for _ in range(3):
                await fleet.order_and_sign()
            await fleet.until(lambda: not fleet.sandbox.faults.pending)
            for job in fleet.sandbox.overview().jobs:
                if job.id not in fleet.signed:
                    await fleet.sandbox.expire(job.id)
            redis.stop()
            await restart_postgres(database)
            servers.enter_context(redis_process.running(redis_server, tmp_path, redis.port))
            await fleet.sign_later()
            await fleet.until(lambda: fleet.waiting_changes() == 0)
            await look_at_the_shop(fleet.customer)
            assert await fleet.end("fleet.worker", signal.SIGTERM) == [0, 0, 0]
            # uvicorn raises the signal again when it has stopped.
            assert await fleet.end("fleet.web", signal.SIGTERM) == [-signal.SIGTERM]
    jobs = {
        job.job_id: "SIGNED" if job.job_id in fleet.signed else "NOT_SIGNED"
        for job in fleet.sandbox.received
    }
    assert len(jobs) == 8
    assert dict(query(database, "select job_id, state from shop_order where job_id > 0")) == jobs
    assert sorted(query(database, "select state from shop_order where job_id is null")) == [
        ("NOT_CREATED",),
        ("OUTCOME_UNKNOWN",),
    ]
    assert ended_more_than_once(database) == []
    assert query(database, "select count(*) from handled_change") == [(len(jobs),)]
    assert query(
        database,
        "select job_id, kind, signer, substr(content, 1, 5) from signed_document"
        " join shop_order using (reference) order by job_id, kind",
    ) == [
        (job_id, *document)
        for job_id in sorted(fleet.signed)
        for document in [("pades", "", b"%PDF-"), ("xades", "tenant", b"<?xml")]
    ]


async def look_at_the_shop(customer: httpx.AsyncClient) -> None:
    page = await customer.get("/")
    [*_, pdf] = re.findall(r'href="(\S+)"', page.text)
    assert (await customer.get(pdf)).content.startswith(b"%PDF-")
    back = await customer.get("/back?status_query_token=a-secret")
    assert (back.status_code, back.headers["location"]) == (303, "/")
    for path, status in {
        "/live": 200,
        "/ready": 200,
        "/orders/unknown/signed.pdf": 404,
    }.items():
        assert (await customer.get(path)).status_code == status
    assert (await customer.post("/orders/unknown/sign")).status_code == 404


async def interrupt_creates(fleet: Fleet) -> None:
    """Places four orders whose jobs are refused, not received, and created without a stored response."""
    fleet.fault(FaultKind.ERROR_DOCUMENT, Operation.CREATE, code="FEATURE_NOT_AVAILABLE")
    assert (await fleet.order()).status_code == 502
    fleet.fault(FaultKind.RESET, Operation.CREATE)
    assert (await fleet.order()).headers["location"] == "/"
    fleet.fault(FaultKind.RESET, Operation.CREATE, after=True)
    assert (await fleet.order()).headers["location"] == "/"
    # The web process is killed while it waits for the response.
    fleet.fault(FaultKind.DELAY, Operation.CREATE, after=True, seconds=UNTIL_KILLED)
    interrupted = asyncio.create_task(fleet.order())
    await fleet.until(lambda: len(fleet.sandbox.received) == 2)
    await fleet.end("fleet.web", signal.SIGKILL)
    with pytest.raises(httpx.TransportError):
        await interrupted
    await fleet.start("fleet.web")


async def kill_workers(fleet: Fleet) -> None:
    """Kills the workers before the transaction of one change, and between that of another and its confirmation."""
    for operation in (Operation.PADES, Operation.CONFIRM):
        fleet.fault(FaultKind.DELAY, operation, seconds=UNTIL_KILLED)
    await fleet.order_and_sign()
    await fleet.order_and_sign()
    await fleet.until(lambda: not fleet.sandbox.faults.pending)
    await fleet.end("fleet.worker", signal.SIGKILL)


@pytest.fixture
async def orders(database, monkeypatch):
    for name, value in database.items():
        monkeypatch.setenv(name, value)
    async with module("fleet.orders").open_orders() as opened:
        yield opened


async def created(orders, reference: str) -> None:
    await orders.job_created(reference, 1, "https://signer.example")


async def not_created(orders, reference: str) -> None:
    await orders.job_not_created(reference)


def stored(status: str) -> Callable[..., Awaitable[None]]:
    async def store(orders, reference: str) -> None:
        await orders.store(change(reference, status), [])

    return store


def change(reference: str, status: str) -> DirectJobStatusResponse:
    # The key of a change depends on the job and the signers, not on the reference.
    signature = Signature(signer=reference, status=SignerStatus.SIGNED)
    return DirectJobStatusResponse(
        job_id=1, reference=reference, status=status, signatures=[signature]
    )


SIGNED, FAILED = stored("COMPLETED_SUCCESSFULLY"), stored("FAILED")


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        ([], "OUTCOME_UNKNOWN"),
        ([created], "READY_TO_SIGN"),
        ([not_created], "NOT_CREATED"),
        ([SIGNED], "SIGNED"),
        ([created, FAILED], "NOT_SIGNED"),
        ([stored("IN_PROGRESS"), SIGNED], "SIGNED"),
        ([SIGNED, stored("IN_PROGRESS")], "SIGNED"),
        ([FAILED, created], "NOT_SIGNED"),
        ([SIGNED, not_created], "SIGNED"),
    ],
)
async def test_an_order_ends_in_its_first_final_state(steps, state, orders, database):
    reference = await orders.place()
    for step in steps:
        await step(orders, reference)
    assert query(database, f"select state from shop_order where reference = '{reference}'") == [
        (state,)
    ]
    assert reference not in ended_more_than_once(database)


async def test_an_order_that_ended_twice_is_reported(orders, database):
    reference = await orders.place()
    await SIGNED(orders, reference)
    query(database, f"update shop_order set state = 'SIGNED' where reference = '{reference}'")
    assert reference in ended_more_than_once(database)


async def test_a_change_that_two_workers_store_at_once_is_stored_once(orders, database):
    reference = await orders.place()
    documents = [
        [module("fleet.orders").SignedDocument("xades", signer, b"content")]
        for signer in ("first", "second")
    ]
    completed = change(reference, "COMPLETED_SUCCESSFULLY")
    assert not await orders.is_stored(completed)
    results = await asyncio.gather(*(orders.store(completed, signed) for signed in documents))
    assert sorted(results) == [False, True]
    assert await orders.is_stored(completed)
    assert reference not in ended_more_than_once(database)
    assert len(documents_of(reference, database)) == 1


@pytest.mark.parametrize(
    ("reference", "status", "error"),
    [
        (None, "FAILED", psycopg.errors.NotNullViolation),
        ("of a different shop", "FAILED", psycopg.errors.ForeignKeyViolation),
        ("order", "A_NEW_STATUS", KeyError),
    ],
)
async def test_a_change_that_does_not_fit_an_order_is_not_stored(reference, status, error, orders):
    unknown = change(reference, status)
    with pytest.raises(error):
        await orders.store(unknown, [])
    assert not await orders.is_stored(unknown)


async def test_a_change_that_is_set_aside_can_be_completed_by_a_person(orders, database):
    failing = replace(
        change("of a different shop", "COMPLETED_SUCCESSFULLY"), pades_url="https://pades.example"
    )
    for _ in range(2):
        await orders.set_aside(failing)
    assert query(database, "select job_id, pades_url, xades_urls from dead_letter") == [
        (1, "https://pades.example", [])
    ]


@pytest.mark.parametrize(("minutes", "status"), [(14, 200), (16, 503)])
async def test_a_worker_is_alive_until_its_poll_is_long_overdue(minutes, status, caplog):
    worker = SimpleNamespace(health=SimpleNamespace(overdue_for=timedelta(minutes=minutes)))
    caplog.set_level("INFO", logger="worker")
    async with module("fleet.worker").liveness_endpoint(worker, 0), httpx.AsyncClient() as probe:
        [url] = re.findall(r"http://\S+", caplog.text)
        assert (await probe.get(url)).status_code == status


async def test_a_change_is_not_stored_without_its_documents(orders, database):
    reference = await orders.place()
    completed = change(reference, "COMPLETED_SUCCESSFULLY")
    document = module("fleet.orders").SignedDocument
    with pytest.raises(psycopg.errors.NotNullViolation):
        await orders.store(completed, [document("pades", "", b"a"), document("xades", "", None)])
    assert not await orders.is_stored(completed)
    assert documents_of(reference, database) == []


def documents_of(reference: str, database) -> list[tuple]:
    return query(database, f"select kind from signed_document where reference = '{reference}'")


async def restart_postgres(database) -> None:
    """Ends PostgreSQL as a crash would, and starts it again."""
    folder = Path(database["PGHOST"])
    await module("fleet.start").pg_ctl(
        folder, "restart", "--mode=immediate", f"--log={folder / 'log'}"
    )


def ended_more_than_once(database) -> list[str]:
    """The references of the orders that were set to a final state more than once."""
    states = query(database, "select reference, state from history")
    ended = [reference for reference, state in states if state in FINAL]
    return sorted({reference for reference in ended if ended.count(reference) > 1})
