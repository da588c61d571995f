"""The command `create`."""

import errno
import io
import os
import signal
import stat
import threading
import zipfile

import pytest
from doubles import PDF

from posten_signering import DirectJob, Sender
from posten_signering._cli.create import _sender
from posten_signering._cli.options import ServiceOptions
from posten_signering.sandbox import Fault, FaultKind, Operation

NUMBER = "17885599999"
DONE = "https://shop.example/done"
pytestmark = pytest.mark.usefixtures("variables")


@pytest.fixture
def arguments(tmp_path):
    (tmp_path / "contract.pdf").write_bytes(PDF)
    return ["create", "contract.pdf", "--title", "Lease", "--exit-url", DONE]


def test_a_job_is_created_and_its_urls_are_printed(command, arguments, sandbox):
    ran = command(
        *arguments, "--signer-numbers-file", "-", "--signer=customer-42", "--reference=order-77",
        stdin=f"{NUMBER}\n",
    )  # fmt: skip
    assert (ran.status, ran.err) == (0, "")
    lines = ran.out.splitlines()
    job = lines[0].removeprefix("Created job ")
    url = f"{sandbox.service_root}/123456789/direct/signature-jobs/{job}"
    assert lines[1:5] == [
        "Reference: order-77",
        f"Status URL: {url}/status",
        "Signer 1: customer-42",
        lines[4],
    ]
    assert lines[4].startswith(
        f"  Redirect URL (works once): {sandbox.signing_pages_url}#/redirect/"
    )
    assert lines[6] == "Signer 2: (national identity number)"
    assert NUMBER not in ran.out
    assert sandbox.received[-1].documents == {"0000_document.pdf": PDF}


def test_json_has_every_value_also_the_identity_numbers(command, arguments):
    value = command(
        *arguments, "--signer-number", NUMBER, "--status-retrieval-method=polling", "--json"
    ).value
    assert set(value) == {"job_id", "reference", "status_url", "signers"}
    assert (value["reference"], value["status_url"]) == (None, None)
    [signer] = value["signers"]
    assert signer.pop("redirect_url").startswith("http://")
    assert signer.pop("signer_url").startswith("https://")
    assert signer == {"personal_identification_number": NUMBER, "custom_identifier": None}


def test_a_job_file_can_come_from_standard_input(command, arguments, tmp_path, sandbox):
    text = f"title: x\ndocuments: [contract.pdf]\nsigners: [{{custom_identifier: a}}]\nexit_urls: {DONE}"
    assert command("create", "--job", "-", stdin=text).status == 0
    ran = command("create", "--job", "-", stdin=f"{text}\n{NUMBER}: x")
    assert ran.status == 2
    assert ran.err.startswith("standard input: the job: unknown key")


def test_a_job_that_breaks_a_rule_is_not_sent_and_the_document_is_named(
    command, arguments, sandbox
):
    before = len(sandbox.received)
    ran = command(*arguments, "missing.pdf", "--signer=a", "--signer=a")
    assert ran.status == 2
    assert "documents[1].content: " in ran.err
    assert ran.err.endswith("documents[1] is missing.pdf.\n")
    assert "signers" in ran.err
    assert "documents[0]" not in ran.err
    assert len(sandbox.received) == before


# A dry run


def test_a_dry_run_writes_the_container_and_sends_nothing(command, arguments, tmp_path, sandbox):
    before = len(sandbox.counters), len(sandbox.received)
    ran = command(*arguments, "--signer=a", "--dry-run", "--json")
    path = tmp_path / "job.asice"
    assert ran.value == {"container": "job.asice"}
    assert zipfile.ZipFile(io.BytesIO(path.read_bytes())).read("0000_document.pdf") == PDF
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert (len(sandbox.counters), len(sandbox.received)) == before


def test_a_dry_run_needs_no_service(command, arguments, monkeypatch):
    monkeypatch.setenv("POSTEN_SIGNERING_SERVICE_ROOT", "https://127.0.0.1:1/api")
    ran = command(*arguments, "--signer=a", "--dry-run", "--container=x.asice")
    assert ran.out == "The job is valid. Nothing was sent. The container is in x.asice.\n"
    assert command(*arguments, "--signer=a").status == 4  # without --dry-run, it needs it


def test_a_dry_run_finds_the_errors_that_a_create_finds(command, arguments, tmp_path):
    ran = command(*arguments, "--signer=a", "--signer=a", "--dry-run")
    assert ran.status == 2
    assert not (tmp_path / "job.asice").exists()


def test_a_dry_run_replaces_no_file(command, arguments, tmp_path):
    (tmp_path / "job.asice").write_text("kept")
    ran = command(*arguments, "--signer=a", "--dry-run")
    assert ran.status == 2
    assert ran.err.startswith("--container=job.asice: the file exists.")
    assert (tmp_path / "job.asice").read_text() == "kept"


def test_a_dry_run_reports_a_directory_that_does_not_exist(command, arguments):
    ran = command(*arguments, "--signer=a", "--dry-run", "--container=x/job.asice")
    assert (ran.status, ran.err) == (1, f"x/job.asice: {os.strerror(errno.ENOENT)}\n")


# When the outcome is not known


@pytest.mark.parametrize(
    ("option", "advice"),
    [("--reference=order-77", "can't be looked up"),
     ("--status-retrieval-method=polling", "status change with this reference in the polling queue")],
)  # fmt: skip
def test_an_unknown_outcome_has_its_own_status_and_says_what_to_look_for(
    command, arguments, sandbox, option, advice
):
    sandbox.faults.add(Fault(kind=FaultKind.RESET, operation=Operation.CREATE, times=1))
    ran = command(*arguments, "--signer=a", option)
    assert (ran.status, ran.out) == (7, "")
    assert "It is not known whether the job" in ran.err
    assert advice in ran.err
    assert "use a different --reference" in ran.err


def test_a_create_that_is_interrupted_in_flight_warns_that_the_job_may_exist(
    command, arguments, sandbox
):
    before = len(sandbox.received)
    sandbox.faults.add(
        Fault(kind=FaultKind.DELAY, operation=Operation.CREATE, times=1, seconds=600, after=True)
    )

    def interrupt():
        while len(sandbox.received) == before:
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    ran = command(*arguments, "--signer=a", "--reference=order-77")
    thread.join()
    assert (ran.status, ran.out) == (130, "")
    assert "job with reference 'order-77' was cancelled while it was in flight" in ran.err


# Secrets


def test_with_verbose_no_log_line_has_a_secret(command, arguments, sandbox):
    ran = command(*arguments, "--signer-number", NUMBER, "--json", "--verbose")
    assert "create" in ran.err
    token = ran.value["signers"][0]["redirect_url"].rpartition("/")[2]
    assert NUMBER not in ran.err
    assert token not in ran.err


# The sender


IN_FILE = Sender(organization_number="111111111", polling_queue="of-file")
IN_VARIABLES = Sender(organization_number="222222222", polling_queue="of-variables")


@pytest.mark.parametrize(
    ("in_file", "configured", "options", "sender"),
    [
        (None, None, {}, None),
        (None, IN_VARIABLES, {}, IN_VARIABLES),
        (IN_FILE, None, {}, IN_FILE),
        (IN_FILE, IN_VARIABLES, {}, IN_FILE),
        (IN_FILE, IN_VARIABLES, {"organization_number": "222222222", "polling_queue": "of-variables"},
         IN_VARIABLES),
        (IN_FILE, IN_VARIABLES, {"polling_queue": "x"},
         Sender(organization_number="111111111", polling_queue="x")),
    ],
)  # fmt: skip
def test_the_sender_is_that_of_an_option_else_of_the_file_else_of_a_variable(
    in_file, configured, options, sender
):
    class Configuration:
        pass

    Configuration.sender = configured
    job = DirectJob(title="t", documents=[], signers=[], exit_urls=None, sender=in_file)
    assert _sender(job, Configuration, ServiceOptions(**options)) == sender
