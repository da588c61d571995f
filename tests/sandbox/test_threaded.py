"""The class `ThreadedSandbox`: the methods of `Sandbox` for synchronous programs."""

import asyncio
import socket
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from urllib.parse import urlsplit

import bundles
import pytest
from bundles import NOW, SENDER

from posten_signering import (
    DirectClient,
    DirectJob,
    DirectSigner,
    Document,
    ExitUrls,
    Sender,
    StatusRetrievalMethod,
)
from posten_signering.sandbox import Fault, FaultKind, Sandbox, SandboxError, ThreadedSandbox

BROKER = "111222333"


@pytest.fixture
def sandbox(clock):
    with ThreadedSandbox(clock=clock, rate_limit=None) as running:
        yield running


def job(**changes):
    urls = ExitUrls(
        completion="https://example.com/1",
        rejection="https://example.com/2",
        error="https://example.com/3",
    )
    fields = {
        "title": "Lease",
        "documents": [Document(title="Lease", content=bundles.pdf())],
        "signers": [DirectSigner(custom_identifier="kunde-42")],
        "exit_urls": urls,
    }
    return DirectJob(**fields | changes)


def call(sandbox, action, **configuration):
    """The result of a client's operation, which runs in a new event loop."""

    async def run():
        async with DirectClient(sandbox.client_configuration(**configuration)) as client:
            return await action(client)

    return asyncio.run(run())


def create(sandbox, **changes):
    return call(sandbox, lambda client: client.create(job(**changes)))


@pytest.mark.parametrize(("act", "address"), [("sign", "/1"), ("reject", "/2"), ("fail", "/3")])
def test_signers_act_without_an_event_loop(sandbox, act, address):
    url = create(sandbox).single_signer.redirect_url
    token = sandbox.status_query_token(url)
    exit_url = urlsplit(getattr(sandbox, act)(url))
    assert exit_url.path == address
    assert exit_url.query == f"status_query_token={token}"
    with pytest.raises(SandboxError, match="no longer works"):
        getattr(sandbox, act)(url)


def test_a_traceback_with_locals_shows_no_token(sandbox):
    url = create(sandbox).single_signer.redirect_url
    sandbox.sign(url)
    for verb in (sandbox.sign, sandbox.reject, sandbox.fail, sandbox.status_query_token):
        with pytest.raises(SandboxError) as caught:
            verb(url)
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        # The first frame belongs to this test.
        ours = "".join(traceback.StackSummary.from_list(shown.stack[1:]).format())
        assert "redirect_url" in ours
        assert url.rpartition("/")[2] not in ours


def test_it_has_every_method_of_the_sandbox(sandbox):
    missing = {name for name in vars(Sandbox) if not name.startswith("_")} - set(
        vars(ThreadedSandbox)
    )
    assert missing == set()
    assert sandbox.service_root.startswith("https://127.0.0.1:")
    assert sandbox.control_url == f"{sandbox.signing_pages_url}control"
    assert sandbox.overview_url.startswith(sandbox.signing_pages_url)
    assert sandbox.ca_certificates["root"] == sandbox.ca_pem
    assert len(sandbox.ca_certificates) == 2
    assert sandbox.enterprise_pkcs12(SENDER) == sandbox.enterprise_pkcs12(SENDER)


def test_it_controls_jobs_queues_and_the_clock(sandbox):
    create(sandbox, status_retrieval_method=StatusRetrievalMethod.POLLING)
    create(sandbox)
    sandbox.expire(1)
    change = call(sandbox, lambda client: client.get_status_change()).change
    assert change.job_id == 1
    sandbox.end_lease(1, 1)
    assert call(sandbox, lambda client: client.get_status_change()).change.job_id == 1
    sandbox.delete_documents(1)
    sandbox.advance(3600)
    assert (sandbox.overview().now - NOW).total_seconds() == 3600
    assert len(sandbox.received) == 2
    assert sandbox.counters["123456789"].calls["create"] == 2
    sandbox.reset()
    assert sandbox.overview().jobs == sandbox.received == ()


def test_a_client_in_another_thread_follows_the_clock(sandbox, clock, caplog):
    created = create(sandbox, status_retrieval_method=StatusRetrievalMethod.POLLING)

    async def wait_for_a_change(client):
        assert (await client.get_status_change()).change is None
        sandbox.sign(created.single_signer.redirect_url)
        sandbox.advance(3600)
        assert client.configuration.clock() == clock() + timedelta(hours=1)
        await client.create(job())
        return await anext(client.status_changes())

    assert call(sandbox, wait_for_a_change).job_id == created.job_id
    assert [record for record in caplog.records if record.name == "posten_signering"] == []


def test_a_broker_is_authorised(sandbox):
    sandbox.authorize_broker(BROKER, SENDER)
    sender = Sender(organization_number=SENDER)
    message = call(
        sandbox,
        lambda client: client.check_access(),
        organization_number=BROKER,
        sender=sender,
    )
    assert "on behalf of" in message
    with pytest.raises(SandboxError, match="nine digits"):
        sandbox.authorize_broker(BROKER, "x")


def test_faults_can_be_added_from_any_thread(sandbox):
    with ThreadPoolExecutor(8) as threads:
        numbers = list(
            threads.map(
                lambda _: sandbox.faults.add(Fault(kind=FaultKind.DELAY, seconds=0)), range(40)
            )
        )
    assert sorted(numbers) == list(range(1, 41))
    assert sandbox.faults.remove(7)
    assert not sandbox.faults.remove(7)
    assert len(sandbox.faults.pending) == 39
    sandbox.faults.clear()
    assert sandbox.faults.pending == ()


def test_it_can_be_used_inside_a_running_event_loop(sandbox):
    async def run():
        async with DirectClient(sandbox.client_configuration()) as client:
            created = await client.create(job())
            exit_url = sandbox.sign(created.single_signer.redirect_url)
            return await client.get_status(created, exit_url.rpartition("=")[2])

    assert asyncio.run(run()).status == "COMPLETED_SUCCESSFULLY"


def test_a_stopped_sandbox_raises_when_it_is_used():
    sandbox = ThreadedSandbox()
    with pytest.raises(SandboxError, match="is not running"):
        sandbox.reset()
    with pytest.raises(SandboxError, match="is not running"):
        _ = sandbox.service_root
    with sandbox:
        with pytest.raises(SandboxError, match="is already running"), sandbox:
            pass
        sandbox.reset()
    with pytest.raises(SandboxError, match="is not running"):
        sandbox.overview()
    with sandbox:  # it can be started a second time
        sandbox.reset()


NEVER_STOPPED = """
from posten_signering.sandbox import ThreadedSandbox
sandbox = ThreadedSandbox()
sandbox.__enter__()
configuration = ThreadedSandbox().__enter__().client_configuration()
sandbox.reset()
"""


def test_a_program_that_never_stops_the_sandbox_can_end():
    subprocess.run([sys.executable, "-c", NEVER_STOPPED], check=True, timeout=60)


def test_a_failed_start_raises_and_leaves_no_thread():
    before = threading.active_count()
    with socket.create_server(("127.0.0.1", 0)) as other_server:
        sandbox = ThreadedSandbox(port=other_server.getsockname()[1])
        with pytest.raises(OSError, match="in use"), sandbox:
            pass
    assert threading.active_count() == before
    with ThreadedSandbox() as other:
        other.reset()
    assert threading.active_count() == before
