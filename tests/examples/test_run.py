"""One command starts the sandbox and the example, and one signal stops both."""

import re
import signal
import socket
import subprocess
import sys

import httpx
import pytest
from example_apps import EXAMPLES


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", EXAMPLES / "run.py", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    said = ""
    for line in process.stdout:
        said += line
        if re.search(pattern, line):
            return said
    raise AssertionError(f"it ended without saying {pattern}:\n{said}")


@pytest.mark.parametrize(
    ("name", "ready"), [("fastapi", "Uvicorn running on"), ("aiohttp", "Running on")]
)
def test_a_web_app_runs_until_a_signal_stops_it(name, ready):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with start(name, "--port", str(port)) as process:
        try:
            assert f"http://127.0.0.1:{port}/" in read_until(process, ready)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as customer:
                page = customer.post("/contracts").headers["location"]
                away = customer.post(f"{page}/signers/tenant").headers["location"]
                assert "#/redirect/" in away
                wrong = customer.get("/contracts/order-1/signed?status_query_token=a-secret")
                assert wrong.status_code == 400
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, "Traceback" in rest, "a-secret" in rest) == (0, False, False)


def test_the_worker_finds_jobs_and_stops():
    with start("worker") as process:
        try:
            said = read_until(process, "COMPLETED_SUCCESSFULLY, 2 documents")
            process.send_signal(signal.SIGTERM)
            rest, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "Three jobs are waiting" in said
    assert process.returncode == 0
    assert "Handled 3, confirmed 3, failed 0" in rest
