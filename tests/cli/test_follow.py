"""The commands `status` and `poll`."""

import json
import os
import re
import signal

import pytest
from doubles import PDF

from posten_signering._cli import follow
from posten_signering.sandbox import Fault, FaultKind, Operation, SandboxError

NUMBER = "17885599999"
pytestmark = pytest.mark.usefixtures("variables")


@pytest.fixture
def create(command, tmp_path):
    """Creates a job and returns its JSON."""
    (tmp_path / "contract.pdf").write_bytes(PDF)

    def call(*options):
        return command(
            *("create", "contract.pdf", "--title=Lease", "--signer=customer-42"),
            *("--exit-url=https://shop.example/done", "--json", *options),
        ).value

    return call


@pytest.fixture
def polled(create, sandbox):
    """Creates a signed job whose status change is in the queue of this name."""

    def call(queue):
        job = create("--status-retrieval-method=polling", "--polling-queue", queue)
        sandbox.sign(job["signers"][0]["redirect_url"])
        return job["job_id"]

    return call


# status


@pytest.mark.parametrize("as_url", [True, False])
def test_the_status_of_a_job_is_read_with_the_token_in_an_exit_url(
    command, create, sandbox, as_url
):
    job = create("--signer-number", NUMBER, "--reference=order-77")
    [signer] = [signer for signer in job["signers"] if signer["custom_identifier"]]
    exit_url = sandbox.sign(signer["redirect_url"])
    token = exit_url if as_url else exit_url.rpartition("=")[2]
    ran = command("status", job["status_url"], stdin=f"{token}\n")
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    assert lines[:2] == [f"Job {job['job_id']}: IN_PROGRESS", "Reference: order-77"]
    assert re.search(r"^Signer \d: customer-42: SIGNED since \d{4}-\S+$", ran.out, re.MULTILINE)
    assert re.search(r"^  XAdES URL: https://", ran.out, re.MULTILINE)
    assert re.search(r"^Signer \d: \(national identity number\): WAITING", ran.out, re.MULTILINE)
    assert NUMBER not in ran.out


def test_the_status_as_json_has_every_value(command, create, sandbox):
    job = create()
    exit_url = sandbox.sign(job["signers"][0]["redirect_url"])
    ran = command("status", "--json", stdin=f"{job['status_url']}\n{exit_url}\n")
    value = ran.value
    assert set(value) == {
        *("job_id", "reference", "status", "signatures"),
        *("confirmation_url", "delete_documents_url", "pades_url"),
    }
    assert value["status"] == "COMPLETED_SUCCESSFULLY"
    [signature] = value["signatures"]
    assert set(signature) == {"signer", "status", "since", "xades_url"}
    assert (signature["signer"], signature["status"]) == ("customer-42", "SIGNED")
    assert value == command("status", job["status_url"], "--json", "--token", exit_url).value


@pytest.mark.parametrize(
    ("token", "status", "message"),
    [
        ("wrong-canary", 5, "INVALID_STATUS_QUERY_TOKEN"),
        ("https://shop.example/?x=canary", 3, "The URL has no status_query_token"),
        ("", 2, "Standard input has no exit URL or token."),
    ],
)
def test_a_token_that_the_service_did_not_issue_is_an_error(
    command, create, token, status, message
):
    ran = command("status", create()["status_url"], stdin=f"{token}\n")
    assert (ran.status, ran.out) == (status, "")
    assert message in ran.err
    assert "canary" not in ran.err


def test_the_status_of_a_signer_who_has_not_finished_is_not_available_yet(command, create, sandbox):
    job = create()
    token = sandbox.status_query_token(job["signers"][0]["redirect_url"])
    assert command("status", job["status_url"], "--token", token).status == 3


# poll


def test_an_empty_queue_has_its_own_status_and_the_next_permitted_time(command):
    value = command("poll", "--polling-queue=empty-json", "--json").value
    assert value["change"] is None
    assert value["wait_seconds"] >= 0
    ran = command("poll", "--polling-queue=empty")
    assert ran.status == 3
    assert re.fullmatch(
        r"The queue is empty.\nThe next poll is permitted at \S+\+00:00\.\n", ran.out
    )
    early = command("poll", "--polling-queue=empty")
    assert (early.status, early.out) == (3, "")
    assert "polled too early" in early.err


def test_a_change_is_delivered_again_unless_it_was_confirmed(command, polled, sandbox):
    job = polled("once")
    options = ["poll", "--polling-queue=once"]
    first = command(*options)
    assert first.status == 0
    assert first.out.startswith(f"Job {job}: COMPLETED_SUCCESSFULLY\n")
    assert "Confirmation URL: https://" in first.out
    assert "PAdES URL: https://" in first.out
    sandbox.end_lease(job, 1)
    second = command(*options, "--confirm", "--json")
    assert second.value["change"]["job_id"] == job
    assert (second.status, second.err) == (0, "Confirmed.\n")
    with pytest.raises(SandboxError, match="has no leased status change"):
        sandbox.end_lease(job, 1)


class _EndsAtFirst(dict):
    """The texts for polls without a change. Its first use ends the command."""

    def __getitem__(self, result):
        os.kill(os.getpid(), signal.SIGTERM)
        return super().__getitem__(result)


@pytest.fixture
def _sigterm_without_a_change(monkeypatch):
    monkeypatch.setattr(follow, "_RESULTS", _EndsAtFirst(follow._RESULTS))


@pytest.mark.usefixtures("_sigterm_without_a_change")
@pytest.mark.parametrize("confirm", [True, False])
def test_follow_prints_each_change_until_sigterm(command, polled, confirm):
    queue = f"follow-{confirm}"
    jobs = [polled(queue), polled(queue)]
    ran = command(
        *("poll", "--follow", "--json", "--polling-queue", queue),
        *(["--confirm"] if confirm else []),
    )
    assert ran.status == 130
    assert [json.loads(line)["change"]["job_id"] for line in ran.out.splitlines()] == jobs
    assert ran.err.count("Confirmed.") == (2 if confirm else 0)
    assert re.search(r"The queue is empty\. The next poll is at \d\d:\d\d:\d\d\.\n", ran.err)


@pytest.mark.usefixtures("_sigterm_without_a_change")
def test_follow_shows_a_failure_and_when_it_polls_again(command, sandbox):
    sandbox.faults.add(Fault(kind=FaultKind.SERVER_ERROR, operation=Operation.POLL, times=1))
    ran = command("poll", "--follow", "--polling-queue=failing")
    assert ran.status == 130
    assert "The poll failed. The next poll is at " in ran.err
