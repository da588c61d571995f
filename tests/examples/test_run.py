"""One command starts the sandbox and an example, and one signal stops both."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from example_apps import EXAMPLES, module
from redis_process import free_port


def start(*arguments: str, program: str = "run", **variables: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", program, *arguments],
        cwd=EXAMPLES,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    output = ""
    for line in process.stdout:
        output += line
        if re.search(pattern, line):
            return output
    raise AssertionError(f"the process ended without printing {pattern}:\n{output}")


@pytest.mark.parametrize(
    ("name", "ready"),
    [
        ("fastapi", "Uvicorn running on"),
        ("aiohttp", "Running on"),
        ("django", "Listening at"),
    ],
)
def test_a_web_app_runs_until_a_signal_stops_it(name, ready):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with start(name, "--port", str(port)) as process:
        try:
            assert f"http://127.0.0.1:{port}" in read_until(process, ready)
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as customer:
                page = customer.post("/contracts").headers["location"]
                redirect_url = customer.post(f"{page}/signers/tenant").headers["location"]
                assert "#/redirect/" in redirect_url
                refused = customer.get("/contracts/order-1/signed?status_query_token=a-secret")
                assert refused.status_code == 400
            process.send_signal(signal.SIGINT)
            remaining_output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "Traceback" not in remaining_output
    assert "a-secret" not in remaining_output


@pytest.mark.parametrize(
    ("name", "counted"),
    [
        ("worker", "Handled 3, confirmed 3, failed 0"),
        ("worker-in-fastapi", "Handled 3, confirmed 3"),
    ],
)
def test_a_worker_handles_three_jobs_and_stops_at_a_signal(name, counted):
    with start(name, "--port", str(free_port())) as process:
        try:
            output = "".join(read_until(process, r"Job \d+: .* documents") for _ in range(3))
            process.send_signal(signal.SIGTERM)
            remaining_output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "Three jobs are waiting" in output
    assert "COMPLETED_SUCCESSFULLY, 2 documents" in output
    assert process.returncode == 0
    assert counted in remaining_output


def test_celery_creates_a_job_handles_three_and_stops_at_a_signal(redis_server):
    with start("celery") as process:
        try:
            output = read_until(process, "order-1: CREATED")
            output += read_until(process, "Job 3: FAILED")
            process.send_signal(signal.SIGINT)
            remaining_output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert "Job 1: COMPLETED_SUCCESSFULLY" in output
    assert process.returncode == 0
    assert "Traceback" not in output + remaining_output


@pytest.mark.usefixtures("pg_ctl", "redis_server")
@pytest.mark.soak
def test_the_fleet_restarts_a_killed_worker_and_leaves_no_process_behind():
    port = str(free_port())
    mark, children = f"MARK={uuid4()}", list[str]()
    with start("--port", port, "--workers", "1", program="fleet.start", MARK=mark[5:]) as process:
        try:
            output = read_until(process, "Ctrl-C stops everything")
            output += read_until(process, "stored COMPLETED_SUCCESSFULLY and 2 documents")
            [worker] = set(re.findall(r"worker (\d+): ", output))
            os.kill(int(worker), signal.SIGKILL)
            read_until(process, f"Signal 9 ended fleet.worker {worker}")
            assert len(processes_with(mark)) >= 4
            # Redis overwrites its environment, so it is known only as a child.
            children = children_of(process.pid)
            process.send_signal(signal.SIGINT)
            remaining_output, _ = process.communicate(timeout=30)
            remaining_processes = {*processes_with(mark), *filter(is_running, children)}
        finally:
            # A failed test must not leave the servers and the workers running.
            started = {*processes_with(mark), *children_of(process.pid), *children}
            process.kill()
            for number in started:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(number), signal.SIGKILL)
    assert f"Open http://127.0.0.1:{port}/" in output
    assert process.returncode == 0
    assert "Traceback" not in output + remaining_output
    assert remaining_processes == set()


def children_of(process: int) -> list[str]:
    with contextlib.suppress(OSError):  # it has ended
        return Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return []


def is_running(process: str) -> bool:
    return Path("/proc", process).exists()


def processes_with(variable: str) -> list[str]:
    """The processes that were started with an environment variable."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # the process has ended, or belongs to another user
            if variable.encode() in path.read_bytes().split(b"\0"):
                found.append(path.parent.name)
    return found


@pytest.mark.parametrize(("status", "exit_status"), [(-signal.SIGTERM, 0), (1, 1)])
@pytest.mark.usefixtures("redis_server")
def test_without_an_order_celery_does_not_start(status, exit_status, monkeypatch):
    """A signal, or a broker that can't be reached, ended the program that places the order."""
    run = module("run")
    programs = []

    async def end(arguments, environment):
        programs.append(arguments)
        return status

    async def create_no_jobs(sandbox):
        pass

    monkeypatch.setattr(run, "run_program", end)
    monkeypatch.setattr(run, "create_jobs", create_no_jobs)
    assert run.main(["celery"]) == exit_status
    assert [arguments[1:] for arguments in programs] == [["celery_app.py", "order-1"]]


def test_the_script_waits_for_a_signer_until_a_signal_stops_it():
    with start("script") as process:
        try:
            output = read_until(process, "Open this page to sign")
            root, token = re.search(r"(http://\S+)/#/redirect/(\S+)", output).groups()
            with httpx.Client(base_url=root, trust_env=False, follow_redirects=True) as signer:
                signer.post("/signing", data={"token": token})
                page = signer.post("/signing/1/1", data={"act": "sign"}).text
                [exit_url] = re.findall('content="0; url=([^"]+)"', page)
                assert exit_url.startswith(f"{root}/exit/completed?")
                assert signer.get(exit_url).status_code == 200
            process.send_signal(signal.SIGINT)
            remaining_output, _ = process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 0
    # The script ends by itself if its first poll came after the signature.
    assert remaining_output in {"", "The job has ended: COMPLETED_SUCCESSFULLY\n"}
