"""A sandbox with a directory continues from the stored state, even if the last sandbox was killed."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import AsyncExitStack, closing
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import bundles
import pytest
from bundles import NOW, SENDER
from callers import caller_of, client_context, holder_in, redirect_urls
from doubles import job

from posten_signering import DirectClient, DirectSigner
from posten_signering.errors import TransportError
from posten_signering.sandbox import Sandbox, SandboxError
from posten_signering.sandbox._state.storage import FILE

pytestmark = pytest.mark.anyio

POLLED = "<status-retrieval-method>POLLING</status-retrieval-method>"
ONE_SIGNER = "<signer><signer-identifier>kunde-42</signer-identifier></signer>"
BROKER = "111222333"


@pytest.fixture
def new_sandbox(tmp_path, clock):
    """Returns a function that creates a sandbox, always with the same directory."""

    def start():
        return Sandbox(directory=tmp_path / "kept", clock=clock, rate_limit=None)

    return start


def on_new_port(url, sandbox):
    """A URL of an earlier start with the present port, because each start uses a new free port."""
    return sandbox.service_root + url.partition("/api")[2]


async def test_jobs_tokens_documents_and_leases_survive_a_restart(new_sandbox, clock, tmp_path):
    async with new_sandbox() as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
        by_token = await sender.create()
        polled = await sender.create(extra=POLLED, signers=ONE_SIGNER)
        exit_url = await sandbox.sign(redirect_urls(by_token)[0])
        await sandbox.sign(redirect_urls(polled)[0])
        change = await sender.get(sender.jobs)
        pades_url = change.text("//s:pades-url/text()")
        pades = (await sender.get(pades_url)).body
        await sender.get(sender.jobs)
        holder = sender.holder
    token = exit_url.rpartition("=")[2]
    async with new_sandbox() as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
        status_url = on_new_port(by_token.text("//s:status-url/text()"), sandbox)
        status = await sender.get(f"{status_url}?status_query_token={token}")
        assert status.texts("//s:status/text()") == ["SIGNED", "WAITING"]
        xades = await sender.get(status.texts("//s:xades-url/text()")[0])
        assert xades.xml.tag == f"{{{bundles.DSIG}}}Signature"
        # The PAdES was made before the restart, and stays the same.
        assert (await sender.get(on_new_port(pades_url, sandbox))).body == pades
        early = await sender.get(sender.jobs)
        assert early.error == (429, "TOO_EAGER_POLLING")
        clock.wait(seconds=30)
        assert (await sender.get(sender.jobs)).status == 204  # still leased
        clock.wait(minutes=10)
        redelivered = await sender.get(sender.jobs)
        assert redelivered.text("//s:signature-job-id/text()") == "2"
        confirmation = redelivered.text("//s:confirmation-url/text()")
        assert (await sender.post(confirmation)).status == 204
        # The first redirect token was used before the restart, the second was not.
        first, second = (url.rpartition("#")[2] for url in redirect_urls(by_token))
        with pytest.raises(SandboxError, match="no longer works"):
            await sandbox.sign(f"{sandbox.signing_pages_url}#{first}")
        await sandbox.sign(f"{sandbox.signing_pages_url}#{second}")
        assert int((await sender.create()).text("//s:signature-job-id/text()")) == 3
        assert sender.holder.certificate == holder.certificate
        assert sandbox.received[0].job_id == 3


async def test_an_early_poll_moves_the_permitted_time_also_after_a_restart(clock, tmp_path):
    settings = {
        "directory": tmp_path / "kept",
        "clock": clock,
        "early_poll_penalty": timedelta(seconds=20),
    }
    for seconds in ((30, 50, 70), (90,)):  # before and after the restart
        async with Sandbox(**settings) as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
            for expected in seconds:
                answer = await sender.get(sender.jobs)
                assert answer.status == (204 if expected == 30 else 429)
                permitted = answer.headers["X-Next-permitted-poll-time"]
                assert datetime.fromisoformat(permitted) == NOW + timedelta(seconds=expected)


async def test_certificates_and_trust_survive_a_restart(new_sandbox, clock, tmp_path):
    async with new_sandbox() as sandbox:
        first = sandbox.enterprise_pkcs12(SENDER)
        ca_pem = sandbox.ca_pem
        sandbox.authorize_broker(SENDER, BROKER)
    async with new_sandbox() as sandbox:
        assert sandbox.enterprise_pkcs12(SENDER) == first
        assert sandbox.ca_pem == ca_pem
        # A different organisation's certificate has a different key.
        other = holder_in(*sandbox.enterprise_pkcs12(BROKER))
        own = holder_in(*first)
        assert other.key.public_key() != own.key.public_key()
        # The old root verifies the server, and the server accepts the old client certificate.
        context = client_context(ca_pem, tmp_path, own)
        address = sandbox.service_root.removeprefix("https://").partition(":")
        _, writer = await asyncio.open_connection(
            address[0], int(address[2].partition("/")[0]), ssl=context
        )
        writer.transport.abort()
        async with DirectClient(sandbox.client_configuration(SENDER)) as client:
            assert SENDER in await client.check_access()
        async with caller_of(sandbox, clock, tmp_path, sender=BROKER) as broker:
            assert (await broker.get(broker.root)).status == 200


async def test_expired_certificates_are_replaced(new_sandbox, clock):
    async with new_sandbox() as sandbox:
        first = sandbox.ca_pem, sandbox.enterprise_pkcs12(SENDER)
    clock.wait(days=101 * 365)
    async with new_sandbox() as sandbox:
        assert sandbox.ca_pem != first[0]
        assert sandbox.enterprise_pkcs12(SENDER) != first[1]


async def test_missing_certificates_are_replaced_and_unreadable_ones_are_an_error(
    new_sandbox, tmp_path
):
    async with new_sandbox() as sandbox:
        first = sandbox.ca_pem
    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as file, file:
        file.execute("DELETE FROM entries WHERE kind = 'keys' AND key = '\"issuing\"'")
    async with new_sandbox() as sandbox:
        assert sandbox.ca_pem != first
    with closing(sqlite3.connect(tmp_path / "kept" / FILE)) as file, file:
        wrong = '{"key": "x", "certificate": "y"}'
        file.execute("UPDATE entries SET value = ? WHERE kind = 'keys'", (wrong,))
    with pytest.raises(
        SandboxError, match=r"certificate or key in .* can't be read: remove the file"
    ):
        await new_sandbox().__aenter__()


async def test_a_clock_that_was_advanced_stays_ahead(new_sandbox, clock, tmp_path):
    async with new_sandbox() as sandbox:
        await sandbox.advance(3600)
    async with new_sandbox() as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
        assert sandbox.overview().now == NOW + timedelta(hours=1)
        assert sandbox.overview().advanced_by == 3600
        empty = await sender.get(sender.jobs)
        permitted = datetime.fromisoformat(empty.headers["X-Next-permitted-poll-time"])
        assert permitted == NOW + timedelta(hours=1, seconds=30)
        await sandbox.reset()
        assert sandbox.overview().now == NOW


async def test_a_reset_survives_a_restart(new_sandbox, clock, tmp_path):
    async with new_sandbox() as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
        created = await sender.create(signers=ONE_SIGNER)
        await sandbox.sign(redirect_urls(created)[0])
        await sandbox.reset()
        assert sandbox.received == ()
    async with new_sandbox() as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
        overview = sandbox.overview()
        assert (overview.jobs, overview.queues, overview.brokers) == ((), (), ())
        job = on_new_port(created.text("//s:status-url/text()"), sandbox)
        assert (await sender.get(job)).error == (404, "NOT_FOUND")
        assert (await sender.create()).text("//s:signature-job-id/text()") == "2"


async def test_a_client_with_open_connections_continues_after_a_restart(tmp_path):
    async with AsyncExitStack() as stack:
        async with Sandbox(directory=tmp_path, rate_limit=None) as first:
            port = urlsplit(first.service_root).port
            client = await stack.enter_async_context(DirectClient(first.client_configuration()))
            changes = client.status_changes()
            assert (await client.create(job())).job_id == 1
            await first.reset()
        with pytest.raises(TransportError, match="can't be reached"):
            await client.get_status_change()
        second = Sandbox(directory=tmp_path, rate_limit=None, port=port)
        await stack.enter_async_context(second)
        polled = job(
            signers=[DirectSigner(custom_identifier="a")], status_retrieval_method="POLLING"
        )
        created = await client.create(polled)
        assert created.job_id == 2
        await second.sign(created.single_signer.redirect_url)
        assert (await anext(changes)).job_id == 2


async def test_deleted_documents_are_gone_from_the_file(new_sandbox, clock, tmp_path):
    marker = b"a document that the file contains until it is deleted"
    text = bundles.File("0000_document.txt", marker, "text/plain", "Vilkår")
    async with new_sandbox() as sandbox, caller_of(sandbox, clock, tmp_path) as sender:
        recipe = bundles.Recipe(files=(text,), holder=sender.holder, signing_time=NOW.isoformat())
        manifest = bundles.manifest_xml((text,), signers=ONE_SIGNER)
        sent = await sender.send(bundles.body_of(recipe.with_(manifest=manifest)))
        await sandbox.reject(redirect_urls(sent)[0])
        kept = tmp_path / "kept"
        assert any(marker in path.read_bytes() for path in kept.iterdir())
        await sandbox.delete_documents(1)
        with pytest.raises(SandboxError, match="deleted already"):
            await sandbox.delete_documents(1)
    async with new_sandbox() as sandbox:
        storage = sandbox._now_running.control.storage
        rows = storage._executor.submit(
            lambda: storage._connection.execute("SELECT count(*) FROM documents").fetchone()
        ).result()
        assert rows == (0,)


async def test_a_failed_write_is_an_error_in_every_response_and_method(
    new_sandbox, clock, tmp_path, caplog
):
    sandbox = new_sandbox()
    await sandbox.__aenter__()
    async with caller_of(sandbox, clock, tmp_path) as sender:
        storage = sandbox._now_running.control.storage
        storage._executor.submit(storage._connection.execute, "PRAGMA query_only = ON").result()
        assert (await sender.send(sender.body())).error == (500, "INTERNAL_ERROR")
        assert "can't write" in caplog.text
        with pytest.raises(SandboxError, match="can't write"):
            await sandbox.advance(1)
    with pytest.raises(SandboxError, match="can't write"):
        await sandbox.__aexit__(None, None, None)


PROGRAM = """
import asyncio, sys
from pathlib import Path
from posten_signering import *
from posten_signering.sandbox import Sandbox

async def main(directory):
    async with Sandbox(directory=Path(directory), rate_limit=None) as sandbox:
        async with DirectClient(sandbox.client_configuration()) as client:
            urls = ExitUrls(completion="https://x.example", rejection="https://x.example", error="https://x.example")
            while True:
                created = await client.create(DirectJob(
                    title="Lease", exit_urls=urls,
                    documents=[Document(title="Lease", content=b"A lease", type=DocumentType.TEXT)],
                    signers=[DirectSigner(custom_identifier="kunde-42")],
                    status_retrieval_method=StatusRetrievalMethod.POLLING,
                ))
                await sandbox.sign(created.single_signer.redirect_url)
                change = (await client.get_status_change()).change
                await client.confirm(change)
                print(created.job_id, flush=True)

asyncio.run(main(sys.argv[1]))
"""


def run_and_kill(directory, jobs):
    """Kills the program after this many jobs. Returns the id of the last job that it printed."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, directory], stdout=subprocess.PIPE, text=True
    ) as process:
        printed = [process.stdout.readline() for _ in range(jobs)]
        os.kill(process.pid, signal.SIGKILL)
        printed += process.stdout.read().split()
    return int(printed[-1])


async def test_sigkill_loses_nothing_that_a_response_reported(tmp_path):
    kept = tmp_path / "kept"
    for jobs in (3, 7):
        last_printed = await asyncio.to_thread(run_and_kill, kept, jobs)
        async with Sandbox(directory=kept) as sandbox:
            overview = sandbox.overview()
            signed = [job for job in overview.jobs if job.status == "COMPLETED_SUCCESSFULLY"]
            assert {job.id for job in signed} >= set(range(1, last_printed + 1))
            [queue] = overview.queues
            # Confirmed changes stay confirmed. Only the job that was being handled may have one left.
            assert {change.job_id for change in queue.changes} <= {last_printed + 1}
            async with DirectClient(sandbox.client_configuration()) as client:
                root = f"{sandbox.service_root}/123456789/direct/signature-jobs"
                pdf = await client.get_pades(f"{root}/{last_printed}/pades")
                assert pdf.startswith(b"%PDF-")
            assert max(job.id for job in overview.jobs) <= last_printed + 1
