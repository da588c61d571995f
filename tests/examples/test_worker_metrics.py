"""The example worker with metrics stores what was signed, and Prometheus can read its metrics."""

import asyncio
import signal
import sys

import doubles
import httpx
import loopback
import pytest
from example_apps import EXAMPLES, variables

from posten_signering import DirectClient, DirectSigner, StatusRetrievalMethod
from posten_signering.sandbox import Sandbox

pytestmark = pytest.mark.anyio


async def test_the_worker_serves_metrics_of_a_signed_job(tmp_path):
    signer = DirectSigner(custom_identifier="customer-42")
    job = doubles.job(signers=[signer], status_retrieval_method=StatusRetrievalMethod.POLLING)
    port = loopback.free_port()
    async with (
        Sandbox(rate_limit=None) as sandbox,
        DirectClient(sandbox.client_configuration()) as client,
        httpx.AsyncClient(trust_env=False) as prometheus,
    ):
        created = await client.create(job)
        await sandbox.sign(created.single_signer.redirect_url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", EXAMPLES / "worker_metrics.py"),
            env=variables(sandbox, tmp_path) | {"METRICS_PORT": str(port)},
            cwd=tmp_path,
            stderr=asyncio.subprocess.PIPE,
        )
        output = b""
        while b"Confirmed a status change" not in output:
            line = await process.stderr.readline()
            assert line, output.decode()
            output += line
        metrics = ""
        async with asyncio.timeout(30):
            # The client writes the log line before it calls the observer that counts the change.
            while "signing_change_seconds_count 1.0" not in metrics:
                metrics = (await prometheus.get(f"http://127.0.0.1:{port}/metrics")).text
        process.send_signal(signal.SIGTERM)
        rest = await process.stderr.read()
        assert await process.wait() == 0, (output + rest).decode()
    assert (tmp_path / "signed" / str(created.job_id) / "pades.pdf").exists()
    assert 'signing_handler_seconds_count{result="returned"} 1.0' in metrics
    assert 'signing_polls_total{organization="123456789",queue="",result="change"} 1.0' in metrics
    assert "signing_changes_handling " in metrics
